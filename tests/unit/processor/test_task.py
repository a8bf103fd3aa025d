"""What one task makes of the messages that it is given, without Spark."""

import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from contract.routing import DEFAULT
from contract.ticket import encode
from processor.consume import Piece
from processor.duplicates import Duplicates
from processor.outcome import ConsumeFailed, Failure, FailureKind, RangeRead
from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt, read_by_partition, require_complete
from processor.rejections import Rejections
from processor.task import StagingTask, Work
from runtime.settings.setting import ROOT
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.formats import read_tables
from store.staging import read_clients, read_ids
from tests.support import golden
from tests.support.staging import NIGHT_SHIFT, RECEIVED_AT, messages, stage, staging, ticket

FORMATS = ("parquet", "json")


def rows(folder: Path, receipt: Receipt, file_format: str, dataset: Dataset) -> list[dict[str, object]]:
    """Return the rows that a receipt names for a dataset."""
    found = []
    for name in (file.name for file in receipt.files if file.dataset == dataset.name):
        with (folder / name).open("rb") as file:
            found += [row for table in read_tables(file_format, file, dataset) for row in table.to_pylist()]
    return found


def position(name: str) -> int:
    return next(number for number, example in enumerate(golden.rejected()) if example.name == name)


@pytest.mark.parametrize("file_format", FORMATS)
def test_each_golden_message_becomes_a_ticket_or_a_rejected_message(tmp_path: Path, file_format: str) -> None:
    valid, bad = golden.tickets(), golden.rejected()
    mixed = [*valid, *(entry.message for entry in bad)]
    receipt = stage(staging(tmp_path, file_format), [messages(mixed, partition=3, first_offset=100)])

    require_complete([OffsetRange(3, 100, 100 + len(mixed))], [receipt])
    assert receipt.failure is None
    assert receipt.reads == [RangeRead(3, 100, 100 + len(mixed), 100 + len(mixed), len(mixed))]
    assert receipt.rejected == {3: len(bad)}
    assert sum(found.count for found in receipt.reasons.values()) == len(bad)
    assert receipt.reasons["not UTF-8"] == Rejections(1, 3, 100 + len(valid) + position("not UTF-8"))
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
def test_a_ticket_is_stored_unchanged_with_its_team(tmp_path: Path, file_format: str) -> None:
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


def test_the_rules_of_the_task_assign_the_teams_of_rows_and_counts(tmp_path: Path) -> None:
    urgent = ticket(0, request_type="technical", priority="critical")
    receipt = stage(staging(tmp_path), [messages([encode(urgent), encode(ticket(1))])], routing=NIGHT_SHIFT)
    teams = [row["assigned_team"] for row in rows(tmp_path, receipt, "parquet", TICKETS)]
    assert teams == ["Night Shift", "Billing Team"]
    assert [row["assigned_team"] for row in rows(tmp_path, receipt, "parquet", HIGH_PRIORITY)] == ["Night Shift"]
    assert sorted((row.team, row.count) for row in receipt.hours) == [("Billing Team", 1), ("Night Shift", 1)]


@pytest.mark.parametrize("file_format", FORMATS)
def test_known_duplicates_are_rejected_and_the_ids_of_the_other_tickets_are_staged(
    tmp_path: Path, file_format: str
) -> None:
    known = Duplicates(np.array([2, 2]), np.array([4, 7]), np.array([-1, 0]), np.array([-1, 90]))
    values = [*map(encode, map(ticket, (2, 1))), b"bad", *map(encode, map(ticket, (0, 5, 3)))]
    folder = staging(tmp_path, file_format)
    receipt = stage(folder, [messages(values[:4], 2, 3), messages(values[4:], 2, 7)], known)

    require_complete([OffsetRange(2, 3, 9)], [receipt])
    assert read_by_partition([receipt]) == {2: PartitionRead(6, rejected=1, duplicates=2)}
    assert sum(found.count for found in receipt.reasons.values()) == 1
    # In the order of the topic.
    found = rows(tmp_path, receipt, file_format, REJECTED)
    assert [(row["offset"], row["payload"]) for row in found] == [(4, values[1]), (5, b"bad"), (7, values[4])]
    assert [row["reason"] for row in found][::2] == [
        "duplicate: the ticket_id was published earlier",
        "duplicate: the ticket_id is that of an earlier message, found at partition 0, offset 90",
    ]
    assert receipt.ids is not None
    staged = read_ids(folder, receipt.ids)
    assert (staged.high.tolist(), staged.partition.tolist()) == ([0x3E476C382A7F4D89] * 3, [2, 2, 2])
    assert [low & 0xFFFF for low in staged.low.tolist()] == [0, 2, 3]
    assert staged.offset.tolist() == [6, 3, 8]


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
def test_a_receipt_says_how_large_each_file_is_and_what_its_checksum_is(tmp_path: Path, file_format: str) -> None:
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


def test_many_batches_of_several_partitions_make_one_file_a_dataset(tmp_path: Path) -> None:
    values = [encode(ticket(number, priority="high")) for number in range(4)]
    batches = [
        messages([*values[:2], b"bad"], partition=0, first_offset=5),
        messages(values[2:], partition=1, first_offset=0),
        messages([None, values[0]], partition=0, first_offset=20),
        messages([]),
    ]
    receipt = stage(staging(tmp_path), batches)
    assert read_by_partition([receipt]) == {0: PartitionRead(5, 2), 1: PartitionRead(2, 0)}
    assert Counter({file.dataset: file.rows for file in receipt.files}) == {
        "tickets_with_assignment": 5,
        "high_priority_tickets": 5,
        "rejected_messages": 2,
    }
    assert receipt.hours == [HourCount(datetime(2026, 1, 31, 9, tzinfo=UTC), "billing", "high", "Billing Team", 5)]
    assert [row["offset"] for row in rows(tmp_path, receipt, "parquet", REJECTED)] == [7, 20]
    (name,) = (file.name for file in receipt.files if file.dataset == "tickets_with_assignment")
    # One row group holds all rows, however small the pieces were.
    assert pq.read_metadata(tmp_path / name).num_row_groups == 1
    # The folder holds only the files of the receipt and the list of clients.
    assert len(list(tmp_path.iterdir())) == 4


def test_one_piece_may_hold_several_partitions(tmp_path: Path) -> None:
    pieces = [messages([b"x", encode(ticket())], 1, 7), messages([encode(ticket(1))], 0, 3), messages([b"y"], 1, 11)]
    mixed = Piece(
        [message for piece in pieces for message in piece.messages],
        [value for piece in pieces for value in piece.values],
        [read for piece in pieces for read in piece.read],
    )
    receipt = stage(staging(tmp_path), [mixed])
    assert read_by_partition([receipt]) == {0: PartitionRead(1, 0), 1: PartitionRead(3, 2)}
    assert [(row["partition"], row["offset"]) for row in rows(tmp_path, receipt, "parquet", REJECTED)] == [
        (1, 7),
        (1, 11),
    ]


def test_a_rejected_record_with_an_invalid_timestamp_has_no_received_at(tmp_path: Path) -> None:
    for kind, stamp in (
        (TIMESTAMP_NOT_AVAILABLE, 0),
        (TIMESTAMP_CREATE_TIME, -(2**62)),
        (TIMESTAMP_CREATE_TIME, 2**61),
    ):
        message = Message(partition=0, offset=0, value=b"bad", timestamp=(kind, stamp))
        piece = Piece([message], [b"bad"], [RangeRead(0, 0, 1, 1, 1)])
        for file_format in FORMATS:
            receipt = stage(staging(tmp_path, file_format), [piece])
            assert [row["received_at"] for row in rows(tmp_path, receipt, file_format, REJECTED)] == [None]


@pytest.mark.parametrize("batches", [[], [messages([])]])
def test_a_task_without_messages_leaves_no_file(tmp_path: Path, batches: list[Piece]) -> None:
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


def test_what_could_not_be_read_is_reported_in_the_receipt(tmp_path: Path) -> None:
    failure = Failure(FailureKind.OFFSET_GONE, "partition 0, offset 7")

    def consume(*arguments: object) -> Generator[Piece, None, None]:
        yield messages([encode(ticket())])
        raise ConsumeFailed(failure)

    task = StagingTask(staging(tmp_path), "localhost:9092", {}, "client_tickets", DEFAULT, consume)
    assert task([OffsetRange(0, 0, 9)]) == Receipt(failure=failure)


def test_an_unexpected_error_is_raised_and_the_reading_is_closed(tmp_path: Path) -> None:
    closed: list[bool] = []

    def consume(*arguments: object) -> Generator[Piece, None, None]:
        try:
            yield Piece([], [b"a value without its message"], [])
        finally:
            closed.append(True)

    with pytest.raises(IndexError):
        StagingTask(staging(tmp_path), "localhost:9092", {}, "client_tickets", DEFAULT, consume)([])
    assert closed == [True]


def test_the_secrets_of_a_task_are_not_shown(tmp_path: Path) -> None:
    task = StagingTask(staging(tmp_path), "localhost:9092", {"sasl.password": "hunter2"}, "client_tickets", DEFAULT)
    assert "hunter2" not in repr(task)
    assert "hunter2" not in repr(Work(task, 0, []))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("value", [b"bad", encode(ticket())])
def test_a_missing_staging_folder_is_reported_in_the_receipt(tmp_path: Path, file_format: str, value: bytes) -> None:
    receipt = stage(staging(tmp_path / "missing", file_format), [messages([value])])
    assert receipt.failure is not None
    assert receipt.failure.kind == FailureKind.DISK
    assert receipt.failure.detail.startswith(f"cannot write {tmp_path}/missing/")
    assert "No such file or directory; it, or a folder above it, is missing" in receipt.failure.detail
    assert receipt.files == []


# A file size limit simulates a full disk: it needs no mount, and each write beyond it fails in the same place.
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
    print(stage(staging(Path(sys.argv[1]), file_format), [messages(values)]).failure.detail)
"""


def test_a_full_disk_is_reported_in_the_receipt(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    for failure in done.stdout.splitlines():
        assert "File too large; the file would exceed a limit of this user (ulimit -f)" in failure
        assert "free space" not in failure


def test_a_task_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    task = StagingTask(
        staging(tmp_path, "json"), "localhost:9092", {"sasl.password": "hunter2"}, "client_tickets", NIGHT_SHIFT
    )
    sent = pickle.loads(pickle.dumps(task))
    assert sent == replace(task, staging=sent.staging)
    assert sent.routing.assignments() == NIGHT_SHIFT.assignments()
    assert sent.security == {"sasl.password": "hunter2"}
    assert (sent.staging.folder, sent.staging.file_format) == (tmp_path, "json")
