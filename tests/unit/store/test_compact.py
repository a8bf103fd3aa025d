"""Small files become larger ones; rows, their order and every count stay the same."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from contract.ticket import encode
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from store.compact import Merge, Refused, compact, describe, plan
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS
from store.files import Disk
from store.manifest import Manifest, PublishedFile, read_manifest
from store.manifest import encode as encode_manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

TIERS = ("tickets_with_assignment", "high_priority_tickets", "rejected_messages")


def some(count: int, rows: int = 10, size: int = 1000, rewrites: int = 0, first: int = 1) -> dict[str, PublishedFile]:
    """Return files of consecutive batches, by their names ``a1``, ``a2``, …; another tier has another letter."""
    return {
        f"{'abcd'[rewrites]}{n}": PublishedFile(rows, size, "", n, n, n, rewrites) for n in range(first, first + count)
    }


def planned(files: dict[str, PublishedFile], more_than: int = 3) -> list[str]:
    """Return the names of the tickets that are merged first."""
    merges = plan({"tickets_with_assignment": files, "high_priority_tickets": {}, "rejected_messages": {}}, more_than)
    assert all(merge.dataset == "tickets_with_assignment" for merge in merges)
    return merges[0].names if merges else []


def test_nothing_is_merged_until_there_are_too_many() -> None:
    assert planned({}) == []
    assert planned(some(3)) == []
    assert planned(some(4)) == ["a1", "a2", "a3", "a4"]
    assert planned(some(64), 64) == []
    assert len(planned(some(65), 64)) == 65


def test_only_neighbours_of_one_tier_are_merged_and_lower_tiers_first() -> None:
    assert planned(some(2, rewrites=1) | some(3, first=3)) == []
    assert planned(some(4, rewrites=2) | some(5, rewrites=1, first=5) | some(3, first=10)) == [
        "b5",
        "b6",
        "b7",
        "b8",
        "b9",
    ]
    assert planned(some(4, rewrites=1) | some(4, first=5)) == ["a5", "a6", "a7", "a8"]
    # Two files with a larger one between them are not neighbours.
    assert planned(some(2) | some(1, rows=250_000, first=3) | some(2, first=4)) == []


def test_a_row_is_written_again_three_times_and_no_more() -> None:
    assert planned(some(4, rewrites=2)) == ["c1", "c2", "c3", "c4"]
    assert planned(some(100, rewrites=3)) == []


@pytest.mark.parametrize("large", [{"rows": 250_000}, {"size": 16 << 20}])
def test_a_file_that_is_large_enough_stays_as_it_is(large: dict[str, int]) -> None:
    assert planned(some(10, **large)) == []
    nearly = {key: value - 1 for key, value in large.items()}
    assert len(planned(some(4, **nearly))) == 4


def test_one_commit_merges_a_bounded_number_of_bytes_and_files() -> None:
    assert planned(some(60, size=10 << 20)) == ["a1", "a2", "a3", "a4", "a5", "a6"]
    assert len(planned(some(5000))) == 1000
    # The next dataset gets the bytes that the tickets leave.
    contents = {name: some(5, size=12 << 20) for name in TIERS}
    assert [(merge.dataset, len(merge.names)) for merge in plan(contents, 3)] == [("tickets_with_assignment", 5)]
    contents = {name: some(4, size=6 << 20) for name in TIERS}
    assert [(merge.dataset, len(merge.names)) for merge in plan(contents, 3)] == [
        ("tickets_with_assignment", 4),
        ("high_priority_tickets", 4),
        ("rejected_messages", 2),
    ]


def test_merges_are_described_by_dataset() -> None:
    assert describe([Merge("a", ["x"] * 1200), Merge("b", ["x", "y"])]) == "1,200 files of a, 2 files of b"


def simulate(batches: int, more_than: int) -> tuple[dict[str, PublishedFile], int]:
    """Return the files after so many batches of one small file each, and how many there were at most."""
    files: dict[str, PublishedFile] = {}
    most = 0
    for batch in range(1, batches + 1):
        files[f"batch-{batch}"] = PublishedFile(10, 1000, "", batch, batch, batch)
        if names := planned(files, more_than):
            merged = [files.pop(name) for name in names]
            assert [of.first_batch for of in merged[1:]] == [of.last_batch + 1 for of in merged[:-1]]
            of = PublishedFile(
                sum(m.rows for m in merged),
                1000,
                "",
                merged[0].first_batch,
                merged[-1].last_batch,
                0,
                merged[0].rewrites + 1,
            )
            files = dict(sorted({**files, f"merged-{batch}": of}.items(), key=lambda each: each[1].first_batch))
        most = max(most, len(files))
    return files, most


def test_ten_thousand_batches_end_in_as_few_files_as_a_hundred_could() -> None:
    files, most = simulate(10_000, 64)
    assert sum(of.rows for of in files.values()) == 100_000
    # 64 of the lowest tier, 64 of the next, and one of the third.
    assert len(files) == 80
    assert most == 129
    files, most = simulate(10_000, 4)
    assert max(of.rewrites for of in files.values()) == 3
    # 79 files of the last tier, each of 125 batches, and the files of the other 125 batches.
    assert len(files) == 79 + 4 + 5


def test_the_ledger_of_ten_thousand_batches_is_not_much_larger_than_that_of_a_hundred(output: Output) -> None:
    manifest = publish(output, 1)
    name = "batch-000001-0000-to-000064-000065.parquet"
    (like,) = manifest.contents["tickets_with_assignment"].values()

    def size(batches: int) -> int:
        files, _ = simulate(batches, 64)
        assert sum(of.rows for of in files.values()) == 10 * batches
        contents = manifest.contents | {
            dataset: {f"{number}-{name}": like for number in range(len(files))} for dataset in TIERS
        }
        return len(encode_manifest(msgspec.structs.replace(manifest, contents=contents)))

    # 36 files of each dataset after 100 batches, 80 after 10,000; without merges it would be a hundred times as much.
    assert [len(simulate(batches, 64)[0]) for batches in (100, 10_000)] == [36, 80]
    assert size(10_000) / size(100) < 2.2


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def publish(output: Output, batches: int, file_format: str = "parquet") -> Manifest:
    """Publish batches of three tickets of two clients, one of them urgent, and a message that is not a ticket."""
    manifest: Manifest | None = None
    for number in range(batches):
        made = [
            ticket(3 * number + n, client_id=f"CLIENT_{number % 2}", priority=("low", "high", "medium")[n])
            for n in range(3)
        ]
        read = [[messages([*map(encode, made), b"bad"], first_offset=4 * number)]]
        manifest = publish_batch(output, manifest, file_format, read)
    assert manifest is not None
    return manifest


def all_rows(output: Output, manifest: Manifest) -> list[list[dict[str, object]]]:
    reader = output.reader(manifest)
    return [reader.rows(dataset) for dataset in (TICKETS, HIGH_PRIORITY, REJECTED)]


def merged(output: Output, before: Manifest, more_than: int = 3, readers_stopped: bool = False) -> Manifest:
    """Merge once."""
    merges = plan(before.contents, more_than)
    after = compact(output, before, merges, UPDATED_AT, readers_stopped=readers_stopped)
    assert isinstance(after, Manifest)
    return after


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_rows_and_their_order_stay_and_all_datasets_agree(output: Output, file_format: str) -> None:
    before = publish(output, 5, file_format)
    rows = all_rows(output, before)
    after = merged(output, before)
    name = f"batch-000001-0000-to-000005-000006.{file_format}"
    for dataset in TIERS:
        assert list(after.contents[dataset]) == [name]
        assert sorted(path.name for path in (output.root / dataset).iterdir()) == [name]
    assert all_rows(output, after) == rows
    assert (after.commit, after.kind, after.follows, after.batch_id) == (6, "compaction", before.commit_id, 5)
    assert (after.totals, after.partitions) == (before.totals, before.partitions)
    assert output.recover() == after
    if file_format == "parquet":
        Published(output.root).require_agreement()


def test_the_next_batches_go_on_with_the_same_clients_and_are_merged_in_their_turn(output: Output) -> None:
    after = merged(output, publish(output, 4))
    with closing(sqlite3.connect(output.state / "clients.sqlite")) as database:
        assert database.execute("SELECT commit_id, clients FROM standing").fetchall() == [(after.commit_id, 2)]
    for number in range(4, 8):
        read = [[messages([encode(ticket(100 + number))], first_offset=after.next_offsets[0])]]
        after = publish_batch(output, after, "parquet", read)
    assert output.recover() == after
    after = merged(output, after)
    assert {name: (of.rows, of.rewrites) for name, of in after.contents["tickets_with_assignment"].items()} == {
        "batch-000001-0000-to-000004-000005.parquet": (12, 1),
        "batch-000005-0000-to-000008-000010.parquet": (4, 1),
    }
    after = merged(output, after, more_than=1)
    # No batch after the fourth had a ticket of high priority, or a message that was not a ticket.
    assert {name: (of.rows, of.rewrites) for name, of in after.contents["tickets_with_assignment"].items()} == {
        "batch-000001-0000-to-000008-000011.parquet": (16, 2)
    }
    Published(output.root).require_agreement()


def test_without_exchange_nothing_is_merged_unless_readers_are_stopped(output: Output) -> None:
    class Refusing(QuickDisk):
        def exchange(self, one: Path, other: Path) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(one))

    before = publish(output, 4)
    refusing = Output(OutputLocation(output.root), Refusing())
    refused = compact(refusing, before, plan(before.contents, 3), UPDATED_AT)
    reason = f"the file system of {output.state}/staging refuses it (Invalid argument)"
    assert refused == Refused(reason)
    assert output.recover() == before
    after = merged(refusing, before, readers_stopped=True)
    assert [len(files) for files in after.contents.values()] == [1] * 8
    assert not output.replaced.folder.exists()
    assert output.recover() == after
    Published(output.root).require_agreement()


def test_a_refusal_at_the_end_of_a_merge_changes_nothing_either(output: Output) -> None:
    class Guarded(QuickDisk):
        def link(self, old: Path, new: Path) -> None:
            if old.name.startswith("batch-"):
                raise OSError(errno.EPERM, "Operation not permitted", str(old))
            super().link(old, new)

    before = publish(output, 5)
    merges = [Merge("tickets_with_assignment", list(before.contents["tickets_with_assignment"])[:4])]
    path = output.root / "tickets_with_assignment/batch-000005-0000.parquet"
    refused = compact(Output(OutputLocation(output.root), Guarded()), before, merges, UPDATED_AT)
    assert refused == Refused(f"{path}: Operation not permitted")
    assert not (output.state / "staging").exists()
    assert output.recover() == before
    Published(output.root).require_agreement()


def test_a_merge_can_be_aborted_between_two_files(output: Output) -> None:
    class GivenUp(Exception):
        pass

    calls: Iterator[int] = iter(range(100))

    def between() -> None:
        if next(calls) == 5:
            raise GivenUp

    before = publish(output, 4)
    with pytest.raises(GivenUp):
        compact(output, before, plan(before.contents, 3), UPDATED_AT, between)
    assert output.recover() == before
    assert not (output.state / "staging").exists()
    # Each of the twelve files calls once.
    counted: list[int] = []
    compact(output, before, plan(before.contents, 3), UPDATED_AT, lambda: counted.append(0))
    assert len(counted) == 12


def test_a_disk_that_is_full_leaves_everything_as_it_was(output: Output) -> None:
    class Full(QuickDisk):
        def sync(self, file: BinaryIO) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    before = publish(output, 4)
    with pytest.raises(OutputUnavailable, match="No space left on device; free space there"):
        compact(Output(OutputLocation(output.root), Full()), before, plan(before.contents, 3), UPDATED_AT)
    assert output.recover() == before
    Published(output.root).require_agreement()


def test_a_published_file_that_was_damaged_is_not_merged(output: Output) -> None:
    before = publish(output, 4)
    path = output.root / "rejected_messages" / "batch-000002-0000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataConflict, match=rf"{path} is not the file that was published: its checksum differs"):
        compact(output, before, plan(before.contents, 3), UPDATED_AT)
    assert read_manifest(Disk(), output.root) == before


def test_an_opened_folder_stays_complete_and_a_listed_file_is_gone_after_a_merge(output: Output) -> None:
    before = publish(output, 4)
    folder = output.root / "tickets_with_assignment"
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        listed = sorted(path.name for path in folder.iterdir())
        names = list(before.contents["tickets_with_assignment"])[:3]
        after = compact(output, before, [Merge("tickets_with_assignment", names)], UPDATED_AT)
        assert isinstance(after, Manifest)
        # Opened before the merge: all four old files are still there.
        assert sorted(os.listdir(handle)) == listed  # noqa: PTH208 - a handle, not a path
        for name in listed:
            os.close(os.open(name, os.O_RDONLY, dir_fd=handle))
    finally:
        os.close(handle)
    # Only listed before the merge: an error for each merged file, never only some of the rows.
    found = [(folder / name).exists() for name in listed]
    assert found == [False, False, False, True]
    assert sorted(path.name for path in folder.iterdir()) == [
        "batch-000001-0000-to-000003-000005.parquet",
        "batch-000004-0000.parquet",
    ]
