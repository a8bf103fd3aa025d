"""One cache for all visitors, of an output that changes meanwhile."""

import shutil
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest

from contract.ticket import encode
from dashboard import snapshot
from dashboard.snapshot import Look, Snapshots
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.datasets import BY_HOUR
from store.files import Disk
from store.manifest import Manifest
from store.output import Output
from store.status import StatusFile
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket


class CountingDisk(Disk):
    """Counts how often each file is opened, and can call a function before that."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.before: dict[str, object] = {}

    def open(self, path: Path) -> BinaryIO:
        self.opened[path.name] += 1
        action = self.before.pop(path.name, None)
        if callable(action):
            action()
        return super().open(path)


class Watch:
    """A clock that advances only if the code waits, or if a test sets it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits = 0

    def read(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.seconds += seconds


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


@pytest.fixture
def disk() -> CountingDisk:
    return CountingDisk()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def snapshots(output: Output, disk: CountingDisk, watch: Watch) -> Snapshots:
    return Snapshots(OutputLocation(output.root), disk, watch.read, watch.wait)


def publish(output: Output, before: Manifest | None, first: int, count: int, file_format: str = "parquet") -> Manifest:
    values: list[bytes | None] = [encode(ticket(number)) for number in range(first, first + count)]
    start = before.next_offsets[0] if before else 0
    return publish_batch(output, before, file_format, [[messages([*values, b"bad"], first_offset=start)]])


def later(watch: Watch, snapshots: Snapshots) -> Look:
    watch.seconds += 10
    return snapshots.look()


def numbers(look: Look) -> list[int]:
    assert look.snapshot is not None
    return [int(one[-2:]) for one in look.snapshot.tickets["ticket_id"].to_pylist()]


def test_where_nothing_was_published_there_is_neither_a_snapshot_nor_a_problem(snapshots: Snapshots) -> None:
    assert snapshots.look() == Look(None, None, "")


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_after_a_batch_only_new_files_are_read(
    output: Output, snapshots: Snapshots, disk: CountingDisk, watch: Watch, file_format: str
) -> None:
    first = publish(output, None, 1, 2, file_format)
    assert numbers(snapshots.look()) == [1, 2]
    publish(output, first, 3, 2, file_format)
    assert numbers(later(watch, snapshots)) == [1, 2, 3, 4]
    assert later(watch, snapshots).snapshot is later(watch, snapshots).snapshot
    # Tickets and rejected messages are two files of that name.
    assert disk.opened[f"batch-000001-0000.{file_format}"] == 2
    assert disk.opened[f"batch-000002-0000.{file_format}"] == 2
    assert disk.opened[f"tickets_by_hour.{file_format}"] == 2


def test_visitors_share_what_was_read(output: Output, snapshots: Snapshots, disk: CountingDisk) -> None:
    publish(output, None, 1, 2)
    visitors = [threading.Thread(target=snapshots.look) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert disk.opened["_manifest.json"] == 1
    assert disk.opened["tickets_by_hour.parquet"] == 1


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_only_the_newest_rows_are_kept_and_no_file_before_them_is_opened(
    output: Output,
    snapshots: Snapshots,
    disk: CountingDisk,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    file_format: str,
) -> None:
    monkeypatch.setattr(snapshots._tickets, "_rows", 3)
    monkeypatch.setattr(snapshots._rejected, "_rows", 2)
    manifest = publish(output, None, 1, 2, file_format)
    for first in (3, 5):
        manifest = publish(output, manifest, first, 2, file_format)
    look = snapshots.look()
    assert numbers(look) == [4, 5, 6]
    assert look.snapshot is not None
    assert look.snapshot.rejected["offset"].to_pylist() == [5, 8]
    assert disk.opened[f"batch-000001-0000.{file_format}"] == 0
    # Rows that are not among the newest any more are dropped.
    publish(output, manifest, 7, 3, file_format)
    assert numbers(later(watch, snapshots)) == [7, 8, 9]
    assert len(snapshots._tickets._files) == 1


def test_a_file_of_which_too_little_was_read_is_read_again(
    output: Output, snapshots: Snapshots, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(output, None, 1, 5)
    monkeypatch.setattr(snapshots._tickets, "_rows", 2)
    assert numbers(snapshots.look()) == [4, 5]
    monkeypatch.setattr(snapshots._tickets, "_rows", 4)
    snapshots._look = Look(None, None)
    assert numbers(later(watch, snapshots)) == [2, 3, 4, 5]


def test_a_file_that_was_written_again_under_its_name_is_read_again(
    output: Output, snapshots: Snapshots, watch: Watch
) -> None:
    publish(output, None, 1, 2)
    assert numbers(snapshots.look()) == [1, 2]
    shutil.rmtree(output.root)
    publish(output, None, 5, 2)
    assert numbers(later(watch, snapshots)) == [5, 6]


def test_a_conversion_while_reading_makes_it_read_the_ledger_again(
    output: Output, snapshots: Snapshots, disk: CountingDisk
) -> None:
    manifest = publish(output, None, 1, 2)
    # The conversion ends after the ledger was read, and before its first file is opened.
    disk.before["tickets_by_hour.parquet"] = lambda: convert(output, manifest, "json", UPDATED_AT)
    look = snapshots.look()
    assert look.problem == ""
    assert numbers(look) == [1, 2]
    assert look.snapshot is not None
    assert look.snapshot.manifest.format == "json"


def test_figures_of_two_commits_are_never_mixed(
    output: Output, snapshots: Snapshots, disk: CountingDisk, watch: Watch
) -> None:
    first = publish(output, None, 1, 2)
    hours = output.root / "tickets_by_hour/tickets_by_hour.parquet"
    old = hours.read_bytes()
    publish(output, first, 3, 2)
    new = hours.read_bytes()
    # As between two renames: the ledger names the second batch, the file is still that of the first.
    hours.write_bytes(old)

    def go_on(seconds: float) -> None:
        hours.write_bytes(new)

    watching = Snapshots(OutputLocation(output.root), disk, watch.read, go_on)
    look = watching.look()
    assert numbers(look) == [1, 2, 3, 4]
    assert look.snapshot is not None
    assert pa.compute.sum(look.snapshot.hours["count"]).as_py() == 4


def test_a_missing_file_keeps_the_earlier_snapshot_and_gives_the_reason(
    output: Output, snapshots: Snapshots, watch: Watch
) -> None:
    first = publish(output, None, 1, 2)
    snapshots.look()
    publish(output, first, 3, 1)
    gone = output.root / "tickets_with_assignment/batch-000002-0000.parquet"
    kept = gone.rename(output.root / "kept")
    look = later(watch, snapshots)
    assert numbers(look) == [1, 2]
    assert f"cannot read {gone}" in look.problem
    assert watch.waits == 4
    kept.rename(gone)
    look = later(watch, snapshots)
    assert (numbers(look), look.problem) == ([1, 2, 3], "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}", "is damaged"),
        (b'{"version": 99}', "a newer release wrote it"),
        (b'{"version": 1}', "start the processor"),
    ],
)
def test_a_ledger_that_cannot_be_read_is_a_problem_in_words(
    output: Output, snapshots: Snapshots, watch: Watch, content: bytes, said: str
) -> None:
    publish(output, None, 1, 1)
    snapshots.look()
    (output.root / "_manifest.json").write_bytes(content)
    look = later(watch, snapshots)
    assert look.snapshot is None
    assert said in look.problem


def test_the_status_is_read_also_before_the_first_batch(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    StatusFile(tmp_path, 5.0, Disk(), lambda: now).set("waiting for broker")
    status = Snapshots(OutputLocation(tmp_path)).look().status
    assert status is not None
    assert status.state == "waiting for broker"


def test_of_a_rejected_message_only_the_beginning_is_kept(output: Output, snapshots: Snapshots) -> None:
    publish_batch(output, None, "parquet", [[messages([b"x" * 100_000, None])]])
    look = snapshots.look()
    assert look.snapshot is not None
    assert look.snapshot.rejected.column_names == ["partition", "offset", "received_at", "reason", "payload"]
    assert look.snapshot.rejected["payload"].to_pylist() == [b"x" * 300, None]


def test_the_newest_200_000_are_looked_at() -> None:
    assert snapshot.NEWEST_TICKETS == 200_000
    assert BY_HOUR.appended is False
