"""What one task makes of the messages that it is given, without Spark."""

import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.ticket import encode
from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt, decode_receipt, require_complete
from processor.task import StagingTask
from runtime.settings.setting import ROOT
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.formats import read_tables
from store.staging import read_clients
from tests.support import golden
from tests.support.staging import MESSAGE, RECEIVED_AT, messages, stage, staging, ticket

FORMATS = ("parquet", "json")


def rows(folder: Path, receipt: Receipt, file_format: str, dataset: Dataset) -> list[dict[str, object]]:
    """Return the rows that a receipt names for a dataset."""
    found = []
    for name in (file.name for file in receipt.files if file.dataset == dataset.name):
        with (folder / name).open("rb") as file:
            found += [row for table in read_tables(file_format, file, dataset) for row in table.to_pylist()]
    return found


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_golden_message_becomes_a_ticket_or_a_rejected_message(tmp_path: Path, file_format: str) -> None:
    valid, bad = golden.tickets(), golden.rejected()
    mixed = [*valid, *(entry.message for entry in bad)]
    receipt = stage(staging(tmp_path, file_format), [messages(mixed, partition=3, first_offset=100)])

    require_complete([OffsetRange(3, 100, 100 + len(mixed))], [receipt])
    assert receipt.failure is None
    assert receipt.partitions == [PartitionRead(3, 100, 99 + len(mixed), len(valid), len(bad))]
    assert len(rows(tmp_path, receipt, file_format, TICKETS)) == len(valid)
    assert rows(tmp_path, receipt, file_format, REJECTED) == [
        {
            "partition": 3,
            "offset": 100 + len(valid) + number,
            "received_at": RECEIVED_AT,
            "reason": entry.reason,
            "key": b"key",
            "payload": entry.message,
        }
        for number, entry in enumerate(bad)
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_ticket_is_stored_to_the_letter_with_its_team(tmp_path: Path, file_format: str) -> None:
    hostile = ticket(1, client_id="../\u202e", request="\x00🎫", request_type="technical", priority="critical")
    receipt = stage(staging(tmp_path, file_format), [messages([encode(ticket(0)), encode(hostile)])])
    expected = {
        "ticket_id": "3e476c38-2a7f-4d89-a08f-000000000001",
        "client_id": "../\u202e",
        "created_at": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        "request": "\x00🎫",
        "request_type": "technical",
        "priority": "critical",
        "assigned_team": "Technical Support",
    }
    assert rows(tmp_path, receipt, file_format, TICKETS)[1] == expected
    assert rows(tmp_path, receipt, file_format, HIGH_PRIORITY) == [expected]
    assert rows(tmp_path, receipt, file_format, REJECTED) == []


def test_the_receipt_counts_hours_and_names_each_client_once(tmp_path: Path) -> None:
    ten = datetime(2026, 1, 31, 10, tzinfo=UTC)
    tickets = [
        ticket(0),
        ticket(1, client_id="b", priority="high"),
        ticket(2, created_at=ten),
        ticket(3, client_id="b", created_at=ten),
    ]
    receipt = stage(staging(tmp_path), [messages([encode(t) for t in tickets])])
    nine = datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert sorted(receipt.hours, key=lambda row: (row.hour, row.priority)) == [
        HourCount(nine, "billing", "high", "Billing Team", 1),
        HourCount(nine, "billing", "low", "Billing Team", 1),
        HourCount(ten, "billing", "low", "Billing Team", 2),
    ]
    assert receipt.clients is not None
    assert sorted(read_clients(staging(tmp_path), receipt.clients)) == ["CLIENT_1", "b"]
    assert {(file.dataset, file.rows) for file in receipt.files} == {
        ("tickets_with_assignment", 4),
        ("high_priority_tickets", 1),
    }


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_receipt_says_how_large_each_file_is_and_what_its_checksum_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    # A file that is written in several pieces.
    monkeypatch.setattr("processor.task.ROW_GROUP_ROWS", 2)
    values = [encode(ticket(number, priority="critical")) for number in range(5)]
    batches = [messages([*values[:3], b"bad"]), messages([*values[3:], b"worse"], first_offset=4)]
    receipt = stage(staging(tmp_path, file_format), batches)
    assert sorted(file.dataset for file in receipt.files) == [
        "high_priority_tickets",
        "rejected_messages",
        "tickets_with_assignment",
    ]
    for file in receipt.files:
        content = (tmp_path / file.name).read_bytes()
        assert (file.bytes, file.checksum) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")


@pytest.mark.parametrize(("limit", "row_groups"), [("ROW_GROUP_ROWS", [4, 1]), ("GATHERED_BYTES", [2, 2, 1])])
def test_many_batches_of_several_partitions_make_one_file_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, row_groups: list[int]
) -> None:
    monkeypatch.setattr(f"processor.task.{limit}", 3)
    values = [encode(ticket(number, priority="high")) for number in range(4)]
    batches = [
        messages([*values[:2], b"bad"], partition=0, first_offset=5),
        messages(values[2:], partition=1, first_offset=0),
        messages([None, values[0]], partition=0, first_offset=20),
        messages([]),
    ]
    receipt = stage(staging(tmp_path), batches)
    assert receipt.partitions == [PartitionRead(0, 5, 21, 3, 2), PartitionRead(1, 0, 1, 2, 0)]
    assert Counter({file.dataset: file.rows for file in receipt.files}) == {
        "tickets_with_assignment": 5,
        "high_priority_tickets": 5,
        "rejected_messages": 2,
    }
    assert receipt.hours == [HourCount(datetime(2026, 1, 31, 9, tzinfo=UTC), "billing", "high", "Billing Team", 5)]
    assert [row["offset"] for row in rows(tmp_path, receipt, "parquet", REJECTED)] == [7, 20]
    (name,) = (file.name for file in receipt.files if file.dataset == "tickets_with_assignment")
    written = pq.read_metadata(tmp_path / name)
    assert [written.row_group(number).num_rows for number in range(written.num_row_groups)] == row_groups
    # With what the files hold and the clients, nothing else is in the folder.
    assert len(list(tmp_path.iterdir())) == 4


def test_one_arrow_batch_may_hold_several_partitions(tmp_path: Path) -> None:
    pieces = [messages([b"x", encode(ticket())], 1, 7), messages([encode(ticket(1))], 0, 3), messages([b"y"], 1, 11)]
    (mixed,) = pa.Table.from_batches(pieces, MESSAGE).combine_chunks().to_batches()
    receipt = stage(staging(tmp_path), [mixed])
    assert sorted(receipt.partitions, key=lambda read: read.partition) == [
        PartitionRead(0, 3, 3, 1, 0),
        PartitionRead(1, 7, 11, 1, 2),
    ]


@pytest.mark.parametrize("batches", [[], [messages([])]])
def test_a_task_without_messages_leaves_no_file(tmp_path: Path, batches: list[pa.RecordBatch]) -> None:
    assert stage(staging(tmp_path), batches) == Receipt()
    assert list(tmp_path.iterdir()) == []


def test_a_task_without_tickets_names_no_clients(tmp_path: Path) -> None:
    receipt = stage(staging(tmp_path), [messages([b"bad", None])])
    assert receipt.clients is None
    assert receipt.hours == []
    assert [file.dataset for file in receipt.files] == ["rejected_messages"]


def test_a_task_without_urgent_tickets_leaves_no_file_of_them(tmp_path: Path) -> None:
    receipt = stage(staging(tmp_path), [messages([encode(ticket())])])
    assert [file.dataset for file in receipt.files] == ["tickets_with_assignment"]


def test_two_attempts_of_a_task_do_not_touch_each_others_files(tmp_path: Path) -> None:
    first, second = (stage(staging(tmp_path), [messages([encode(ticket()), b"bad"])]) for _ in range(2))
    assert not {file.name for file in first.files} & {file.name for file in second.files}
    assert first.clients != second.clients


@pytest.mark.parametrize(
    "batches",
    [
        [messages([b"a", b"b"], first_offset=5), messages([b"c"], first_offset=6)],
        [messages([b"a"], first_offset=5), messages([b"c"], first_offset=4)],
        [messages([b"a", b"b", b"c"]).take(pa.array([0, 2, 1]))],
        [messages([b"a", b"b"]).take(pa.array([0, 0, 1]))],
    ],
    ids=["read again", "going back", "swapped in a batch", "twice in a batch"],
)
def test_offsets_that_do_not_rise_are_an_error(tmp_path: Path, batches: list[pa.RecordBatch]) -> None:
    with pytest.raises(RuntimeError, match="offsets of partition 0 do not rise"):
        stage(staging(tmp_path), batches)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("value", [b"bad", encode(ticket())])
def test_a_missing_staging_folder_is_reported_in_the_receipt(tmp_path: Path, file_format: str, value: bytes) -> None:
    receipt = stage(staging(tmp_path / "missing", file_format), [messages([value])])
    assert "No such file or directory" in (receipt.failure or "")
    assert receipt.files == []


# A file size limit stands in for a full disk: it needs no mount, and each write beyond it fails in the same place.
FULL_DISK = """
import random, resource, signal, sys
from pathlib import Path
from contract.ticket import encode
from tests.support.staging import messages, stage, staging, ticket
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
chance = random.Random(1)
values = [encode(ticket(n, request=chance.randbytes(2000).hex())) for n in range(50)]
for file_format in ("parquet", "json"):
    print(stage(staging(Path(sys.argv[1]), file_format), [messages(values)]).failure)
"""


def test_a_full_disk_is_reported_in_the_receipt(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    for failure in done.stdout.splitlines():
        assert "File too large" in failure


def test_a_task_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    sent = pickle.loads(pickle.dumps(StagingTask(staging(tmp_path, "json"))))
    (answer,) = sent(iter([messages([encode(ticket())])]))
    (file,) = decode_receipt(answer["receipt"][0].as_py()).files
    assert file.name.startswith("tickets_with_assignment-")
    assert (tmp_path / file.name).suffix == ".json"
    assert (tmp_path / file.name).is_file()
