"""Files of every dataset in both formats, with any text that a ticket may contain."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import formats
from store.datasets import BY_TYPE, DATASETS, HIGH_PRIORITY, METRICS, REJECTED, TICKETS, Dataset
from store.files import Disk
from store.formats import Damaged, count_rows, read_last_tables, read_tables
from store.staging import Staging

FORMATS = ("parquet", "json")
HOSTILE = [
    "\x00",
    "\u202etxt.exe",
    "🎫👩‍👩‍👧",
    "../../etc/passwd",
    '"\\\n\r\u2028',
    "=cmd()",
    "<script>",
    "é",
    "e\u0301",
]
TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
]
BYTES = [b"\xff\xfe\x00", b"", None, b"{}\n{}"]


def hostile_rows(dataset: Dataset) -> pa.Table:
    """Return a table of the dataset in which each column cycles through hostile values."""
    values: dict[pa.DataType, list[Any]] = {
        pa.string(): HOSTILE,
        pa.int32(): [0, 2**31 - 1],
        pa.int64(): [0, 2**63 - 1, 2**53 + 1],
        pa.binary(): BYTES,
        pa.timestamp("us", tz="UTC"): TIMES,
    }
    columns = [[values[field.type][row % len(values[field.type])] for row in range(36)] for field in dataset.schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, dataset.schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=dataset.schema)


def write(file_format: str, folder: Path, dataset: Dataset, *tables: pa.Table) -> Path:
    """Write a file as the pipeline does, and return its path."""
    writer = Staging(folder, file_format, Disk()).writer(dataset, "file")
    for table in tables:
        writer.write(table)
    return folder / writer.finish().name


def read(file_format: str, path: Path, dataset: Dataset) -> list[pa.Table]:
    with path.open("rb") as file:
        return list(read_tables(file_format, file, dataset))


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_dataset_is_read_back_unchanged(tmp_path: Path, file_format: str, dataset: Dataset) -> None:
    table = hostile_rows(dataset)
    path = write(file_format, tmp_path, dataset, table)
    back = pa.concat_tables(read(file_format, path, dataset))
    assert back.schema.equals(dataset.schema, check_metadata=True)
    assert back.combine_chunks() == table


@pytest.mark.parametrize("file_format", FORMATS)
def test_tables_written_one_after_the_other_are_read_in_that_order(tmp_path: Path, file_format: str) -> None:
    table = hostile_rows(TICKETS)
    path = write(file_format, tmp_path, TICKETS, *(table.slice(start, 10) for start in (0, 10, 20)))
    assert pa.concat_tables(read(file_format, path, TICKETS)).combine_chunks() == table.slice(0, 30)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_without_rows_reads_as_no_rows(tmp_path: Path, file_format: str, dataset: Dataset) -> None:
    path = write(file_format, tmp_path, dataset, dataset.schema.empty_table())
    assert sum(table.num_rows for table in read(file_format, path, dataset)) == 0


@pytest.mark.parametrize("rows", [0, 36])
@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_parquet_holds_exactly_the_schema(tmp_path: Path, dataset: Dataset, rows: int) -> None:
    path = write("parquet", tmp_path, dataset, hostile_rows(dataset).slice(0, rows))
    assert pq.read_schema(path).equals(dataset.schema, check_metadata=True)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_every_parquet_column_is_zstd_and_only_the_named_ones_have_a_dictionary(
    tmp_path: Path, dataset: Dataset
) -> None:
    path = write("parquet", tmp_path, dataset, hostile_rows(dataset))
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert {column.path_in_schema for column in columns if column.has_dictionary_page} == set(dataset.dictionary)


@pytest.mark.parametrize("rows_at_once", [36, 7])
@pytest.mark.parametrize(
    ("limit", "value", "row_groups"),
    [
        ("ROW_GROUP_ROWS", 16, {36: [16, 16, 4], 7: [16, 16, 4]}),
        ("ROW_GROUP_BYTES", 2_000, {36: [36], 7: [28, 8]}),
    ],
)
def test_many_or_large_rows_are_split_into_row_groups_that_a_reader_can_skip(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    row_groups: dict[int, list[int]],
    rows_at_once: int,
) -> None:
    monkeypatch.setattr(f"store.formats.{limit}", value)
    table = hostile_rows(TICKETS)
    with Staging(tmp_path, "parquet", Disk()).writer(TICKETS, "tickets") as writer:
        for start in range(0, table.num_rows, rows_at_once):
            writer.write(table.slice(start, rows_at_once))
        writer.finish()
    metadata = pq.read_metadata(tmp_path / "tickets.parquet")
    found = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert found == row_groups[rows_at_once]
    assert pq.read_table(tmp_path / "tickets.parquet").equals(table)


def test_a_ticket_in_json_is_one_object_a_line_with_a_z_time(tmp_path: Path) -> None:
    row = {
        "ticket_id": "3e476c38-2a7f-4d89-a08f-9e5f60456fa3",
        "client_id": "../é",
        "created_at": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        "request": "two\nlines",
        "request_type": "billing",
        "priority": "high",
        "assigned_team": "Billing Team",
    }
    table = pa.Table.from_pylist(
        [row, row | {"created_at": datetime(1, 1, 1, 0, 0, 0, 5, tzinfo=UTC)}], HIGH_PRIORITY.schema
    )
    path = write("json", tmp_path, HIGH_PRIORITY, table)
    assert path.read_bytes().decode().splitlines() == [
        '{"ticket_id":"3e476c38-2a7f-4d89-a08f-9e5f60456fa3","client_id":"../é","created_at":"2026-01-31T09:30:00Z",'
        '"request":"two\\nlines","request_type":"billing","priority":"high","assigned_team":"Billing Team"}',
        '{"ticket_id":"3e476c38-2a7f-4d89-a08f-9e5f60456fa3","client_id":"../é","created_at":'
        '"0001-01-01T00:00:00.000005Z",'
        '"request":"two\\nlines","request_type":"billing","priority":"high","assigned_team":"Billing Team"}',
    ]


def test_the_bytes_of_a_rejected_message_are_base64_in_json(tmp_path: Path) -> None:
    row = {
        "partition": 3,
        "offset": 41,
        "received_at": datetime(2026, 1, 31, 9, 30, 0, 250_000, tzinfo=UTC),
        "reason": "not UTF-8",
        "key": None,
        "payload": b"\xff\xfe\x00",
    }
    path = write("json", tmp_path, REJECTED, pa.Table.from_pylist([row], REJECTED.schema))
    assert json.loads(path.read_text()) == {
        "partition": 3,
        "offset": 41,
        "received_at": "2026-01-31T09:30:00.250000Z",
        "reason": "not UTF-8",
        "key": None,
        "payload": "//4A",
    }


def test_json_of_more_than_one_piece_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.formats._JSON_PIECE_BYTES", 500)
    table = hostile_rows(TICKETS)
    path = write("json", tmp_path, TICKETS, table)
    pieces = list(read("json", path, TICKETS))
    assert len(pieces) > 2
    assert pa.concat_tables(pieces).combine_chunks() == table


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_missing_folder_is_an_os_error(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(FileNotFoundError):
        write(file_format, tmp_path / "missing", METRICS, METRICS.schema.empty_table())


@pytest.mark.parametrize("file_format", FORMATS)
def test_only_the_wanted_columns_are_read_in_the_order_of_the_schema(tmp_path: Path, file_format: str) -> None:
    table = hostile_rows(TICKETS)
    with write(file_format, tmp_path, TICKETS, table).open("rb") as file:
        back = pa.concat_tables(read_tables(file_format, file, TICKETS, ["priority", "client_id"])).combine_chunks()
    assert back == table.select(["client_id", "priority"])


@pytest.mark.parametrize("rows", [0, 36])
@pytest.mark.parametrize("file_format", FORMATS)
def test_rows_are_counted_without_decoding_them(tmp_path: Path, file_format: str, rows: int) -> None:
    path = write(file_format, tmp_path, TICKETS, hostile_rows(TICKETS).slice(0, rows))
    with path.open("rb") as file:
        assert count_rows(file_format, file) == rows


def test_a_message_may_lack_the_time_at_which_it_was_received(tmp_path: Path) -> None:
    row = {"partition": 0, "offset": 1, "received_at": None, "reason": "not UTF-8", "key": None, "payload": b""}
    table = pa.Table.from_pylist([row], REJECTED.schema)
    for file_format in FORMATS:
        (back,) = read(file_format, write(file_format, tmp_path, REJECTED, table), REJECTED)
        assert back.to_pylist() == [row]


def test_files_of_an_earlier_release_without_null_received_at_are_read(tmp_path: Path) -> None:
    old = pa.schema([field.with_nullable(field.name in ("key", "payload")) for field in REJECTED.schema])
    table = hostile_rows(REJECTED)
    pq.write_table(table.cast(old), tmp_path / "old.parquet")
    assert pa.concat_tables(read("parquet", tmp_path / "old.parquet", REJECTED)).combine_chunks() == table


@pytest.mark.parametrize(
    ("file_format", "cut", "dataset"),
    [("parquet", 0, TICKETS), ("parquet", -9, TICKETS), ("parquet", 100, TICKETS), ("json", -9, TICKETS)],
)
def test_a_file_that_was_cut_is_damaged(tmp_path: Path, file_format: str, cut: int, dataset: Dataset) -> None:
    path = write(file_format, tmp_path, dataset, hostile_rows(dataset))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(Damaged, match=r"^.+$"):
        read(file_format, path, dataset)


def test_a_file_of_other_columns_is_damaged(tmp_path: Path) -> None:
    for file_format in FORMATS:
        path = write(file_format, tmp_path, METRICS, hostile_rows(METRICS))
        with pytest.raises(Damaged):
            read(file_format, path, TICKETS)


def test_parquet_whose_pages_were_overwritten_is_damaged(tmp_path: Path) -> None:
    path = write("parquet", tmp_path, TICKETS, hostile_rows(TICKETS))
    content = bytearray(path.read_bytes())
    content[4:300] = b"\xff" * 296
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read("parquet", path, TICKETS)


def test_a_forbidden_null_and_a_number_that_is_too_large_are_damage(tmp_path: Path) -> None:
    pq.write_table(pa.table({"request_type": ["a", None], "count": [1, 2]}), tmp_path / "null.parquet")
    with pytest.raises(Damaged, match="null values"):
        read("parquet", tmp_path / "null.parquet", BY_TYPE)
    (tmp_path / "large.json").write_text(f'{{"request_type":"a","count":{2**63}}}\n')
    with pytest.raises(Damaged):
        read("json", tmp_path / "large.json", BY_TYPE)


def read_last(file_format: str, path: Path, dataset: Dataset, rows: int, **limits: Any) -> pa.Table:
    with path.open("rb") as file:
        pieces = read_last_tables(file_format, file, dataset, rows, **limits)
        return pa.concat_tables([dataset.schema.empty_table(), *pieces])


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("rows", [0, 1, 5, 35, 36, 1000])
def test_the_last_rows_of_a_file_come_in_their_order(
    tmp_path: Path, file_format: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small limits, so that rows are in several row groups, and lines in several pieces.
    monkeypatch.setattr(formats, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(formats, "_BACKWARD_BYTES", 7)
    table = hostile_rows(REJECTED)
    path = write(file_format, tmp_path, REJECTED, table)
    assert read_last(file_format, path, REJECTED, rows).equals(table.slice(max(0, 36 - rows)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_last_rows_can_be_asked_for_by_column(tmp_path: Path, file_format: str) -> None:
    path = write(file_format, tmp_path, BY_TYPE, hostile_rows(BY_TYPE))
    with path.open("rb") as file:
        (table,) = read_last_tables(file_format, file, BY_TYPE, 2, ["count"])
    assert table.to_pydict() == {"count": [2**63 - 1, 2**53 + 1]}


@pytest.mark.parametrize("file_format", FORMATS)
def test_large_rows_are_read_up_to_a_size_but_at_least_one(
    tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "ROW_GROUP_ROWS", 1)
    monkeypatch.setattr(formats, "_BACKWARD_BYTES", 64)
    table = hostile_rows(TICKETS)
    path = write(file_format, tmp_path, TICKETS, table)
    assert read_last(file_format, path, TICKETS, 36, bytes_at_most=1).equals(table.slice(35))
    some = read_last(file_format, path, TICKETS, 36, bytes_at_most=2_000)
    assert 1 < some.num_rows < 36
    assert some.equals(table.slice(36 - some.num_rows))


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_last_rows_of_an_empty_file_are_none(tmp_path: Path, file_format: str) -> None:
    path = write(file_format, tmp_path, TICKETS, TICKETS.schema.empty_table())
    assert read_last(file_format, path, TICKETS, 5).num_rows == 0


@pytest.mark.parametrize(("file_format", "content"), [("parquet", b"no Parquet"), ("json", b'{"count": "x"}\n')])
def test_damaged_last_rows_are_reported_as_damaged(tmp_path: Path, file_format: str, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Damaged):
        read_last(file_format, tmp_path / "file", BY_TYPE, 5)
