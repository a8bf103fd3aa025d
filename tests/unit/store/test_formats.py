"""Files of every dataset in both formats, with whatever a ticket may hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.datasets import DATASETS, HIGH_PRIORITY, METRICS, REJECTED, TICKETS, Dataset
from store.formats import WRITERS, FileWriter, read_tables, write_file

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
    """Return a table of the dataset in which each column goes round its hostile values."""
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


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_dataset_comes_back_to_the_letter(tmp_path: Path, file_format: str, dataset: Dataset) -> None:
    table = hostile_rows(dataset)
    write_file(file_format, tmp_path / "file", dataset, table)
    back = pa.concat_tables(read_tables(file_format, tmp_path / "file", dataset))
    assert back.schema.equals(dataset.schema, check_metadata=True)
    assert back.combine_chunks() == table


@pytest.mark.parametrize("file_format", FORMATS)
def test_tables_written_one_after_the_other_are_read_in_that_order(tmp_path: Path, file_format: str) -> None:
    table = hostile_rows(TICKETS)
    writer: FileWriter = WRITERS[file_format](tmp_path / "file", TICKETS)
    for start in (0, 10, 20):
        writer.write(table.slice(start, 10))
    writer.close()
    assert pa.concat_tables(read_tables(file_format, tmp_path / "file", TICKETS)).combine_chunks() == table.slice(0, 30)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_without_rows_reads_as_no_rows(tmp_path: Path, file_format: str, dataset: Dataset) -> None:
    write_file(file_format, tmp_path / "file", dataset, dataset.schema.empty_table())
    assert sum(table.num_rows for table in read_tables(file_format, tmp_path / "file", dataset)) == 0


@pytest.mark.parametrize("rows", [0, 36])
@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_parquet_holds_exactly_the_schema(tmp_path: Path, dataset: Dataset, rows: int) -> None:
    write_file("parquet", tmp_path / "file.parquet", dataset, hostile_rows(dataset).slice(0, rows))
    assert pq.read_schema(tmp_path / "file.parquet").equals(dataset.schema, check_metadata=True)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.name)
def test_every_parquet_column_is_zstd_and_only_the_named_ones_have_a_dictionary(
    tmp_path: Path, dataset: Dataset
) -> None:
    write_file("parquet", tmp_path / "file.parquet", dataset, hostile_rows(dataset))
    group = pq.read_metadata(tmp_path / "file.parquet").row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert {column.path_in_schema for column in columns if column.has_dictionary_page} == set(dataset.dictionary)


def test_a_large_table_is_split_into_row_groups_that_a_reader_can_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.formats.ROW_GROUP_ROWS", 16)
    write_file("parquet", tmp_path / "file.parquet", TICKETS, hostile_rows(TICKETS))
    metadata = pq.read_metadata(tmp_path / "file.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [16, 16, 4]


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
    write_file("json", tmp_path / "file.json", HIGH_PRIORITY, table)
    assert (tmp_path / "file.json").read_bytes().decode().splitlines() == [
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
    write_file("json", tmp_path / "file.json", REJECTED, pa.Table.from_pylist([row], REJECTED.schema))
    assert json.loads((tmp_path / "file.json").read_text()) == {
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
    write_file("json", tmp_path / "file.json", TICKETS, table)
    pieces = list(read_tables("json", tmp_path / "file.json", TICKETS))
    assert len(pieces) > 2
    assert pa.concat_tables(pieces).combine_chunks() == table


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_missing_folder_is_an_os_error(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(file_format, tmp_path / "missing" / "file", METRICS, METRICS.schema.empty_table())
