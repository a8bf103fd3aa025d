"""The ids of all published tickets, whatever happens to the files that hold them."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from contract.ticket import encode
from contract.uuids import Ids
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.ids import IdSet, carry_ids, forget_ids, ids_folder
from store.manifest import Manifest
from store.output import Output
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

# The high half of each id that tests/support/staging.py makes.
HIGH = 0x3E476C382A7F4D89
LOW = 0xA08F << 48


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def ids(numbers: Iterable[int]) -> Ids:
    """Return the ids of tickets with these numbers, which share their high half."""
    low = np.array(sorted(LOW + number for number in numbers), np.uint64)
    return Ids(np.full(len(low), HIGH, np.uint64), low)


def publish(output: Output, before: Manifest | None, *numbers: int) -> Manifest:
    """Publish tickets with these numbers as one batch."""
    at = before.next_offsets[0] if before else 0
    return publish_batch(output, before, "parquet", [[messages([encode(ticket(n)) for n in numbers], first_offset=at)]])


def opened(output: Output, manifest: Manifest | None) -> IdSet:
    known = IdSet(ids_folder(output), output.disk)
    known.open(output, manifest)
    return known


def publish_with_ids(output: Output, before: Manifest | None, *numbers: int) -> Manifest:
    """Publish a batch as the processor does with --dedupe all."""
    known = opened(output, before)
    run = known.write([ids(numbers)])
    manifest = publish(output, before, *numbers)
    known.prepare(manifest.commit_id, run)
    return manifest


def known_numbers(known: IdSet, numbers: Iterable[int]) -> list[int]:
    wanted = ids(numbers)
    return [int(low) - LOW for low in wanted.low[known.contains(wanted)]]


def is_filled(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the set was made again since the last call."""
    said = any(record.getMessage().startswith("making the set of known ticket ids") for record in caplog.records)
    caplog.clear()
    return said


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def two_batches(output: Output) -> tuple[Manifest, Manifest]:
    """Give an output of two batches, with tickets 1, 2, 3 and 4, 5, and the set of their ids."""
    first = publish_with_ids(output, None, 1, 2, 3)
    return first, publish_with_ids(output, first, 4, 5)


def test_a_set_at_the_right_commit_is_used_unchanged(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    assert known_numbers(opened(output, two_batches[1]), range(9)) == [1, 2, 3, 4, 5]
    assert not is_filled(caplog)


def test_an_output_without_tickets_has_no_ids(output: Output, caplog: pytest.LogCaptureFixture) -> None:
    assert known_numbers(opened(output, None), range(3)) == []
    empty = publish_with_ids(output, None)
    assert known_numbers(opened(output, empty), range(3)) == []
    assert not is_filled(caplog)


def test_a_commit_that_was_not_made_is_undone(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    known = opened(output, two_batches[1])
    (ids_folder(output) / "README.txt").write_text("not ours")
    known.prepare("a commit that fails", known.write([ids([6, 7])]))
    for again in (known, opened(output, two_batches[1])):
        again.open(output, two_batches[1])
        assert known_numbers(again, range(9)) == [1, 2, 3, 4, 5]
    assert not is_filled(caplog)
    # Two runs, their index, and a foreign file are left.
    assert len(list(ids_folder(output).iterdir())) == 6


def test_a_set_that_stays_in_one_process_follows_its_commits(output: Output) -> None:
    known, manifest = IdSet(ids_folder(output), output.disk), None
    for number in range(3):
        known.open(output, manifest)
        run = known.write([ids([number])])
        manifest = publish(output, manifest, number)
        known.prepare(manifest.commit_id, run)
    known.open(output, manifest)
    assert known_numbers(known, range(9)) == [0, 1, 2]


Damage = Callable[[Path], object]


def newest(folder: Path, suffix: str) -> Path:
    return max(folder.glob(f"*.{suffix}"), key=lambda path: path.stat().st_mtime_ns)


def swap_two(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[8:16] + content[:8] + content[16:])


def rename_in_index(name: object) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads(newest(folder, "json").read_bytes())
        content["runs"][0]["name"] = name
        newest(folder, "json").write_bytes(json.dumps(content).encode())

    return damage


DAMAGES: dict[str, Damage] = {
    "lost": shutil.rmtree,
    "no index": lambda folder: newest(folder, "json").unlink(),
    "empty index": lambda folder: newest(folder, "json").write_bytes(b""),
    "cut index": lambda folder: newest(folder, "json").write_bytes(newest(folder, "json").read_bytes()[:-9]),
    "garbage index": lambda folder: newest(folder, "json").write_bytes(b"\xff\x00" * 40),
    "index of nothing": lambda folder: newest(folder, "json").write_bytes(b'{"runs": []}'),
    "another name": rename_in_index("0123456789abcdef"),
    "a name that leads away": rename_in_index("../ids/x"),
    "a name that is none": rename_in_index("a\0b"),
    "no name": rename_in_index(None),
    "a run lost": lambda folder: newest(folder, "high").unlink(),
    "a run cut": lambda folder: newest(folder, "low").write_bytes(newest(folder, "low").read_bytes()[:-8]),
    "a run emptied": lambda folder: newest(folder, "low").write_bytes(b""),
    "a run of zeros": lambda folder: newest(folder, "low").write_bytes(bytes(newest(folder, "low").stat().st_size)),
    "a run that does not rise": lambda folder: swap_two(newest(folder, "low")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_set_that_is_lost_or_damaged_is_made_again_from_the_published_tickets(
    output: Output,
    two_batches: tuple[Manifest, Manifest],
    damage: Damage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = opened(output, two_batches[1])
    damage(ids_folder(output))
    again = opened(output, two_batches[1])
    assert known_numbers(again, range(9)) == [1, 2, 3, 4, 5]
    assert is_filled(caplog)
    assert known_numbers(opened(output, two_batches[1]), range(9)) == [1, 2, 3, 4, 5]
    assert not is_filled(caplog)
    # The same holds in a process that has had the files open all the time.
    damage(ids_folder(output))
    known.open(output, two_batches[1])
    assert known_numbers(known, range(9)) == [1, 2, 3, 4, 5]


def test_a_run_that_becomes_shorter_while_it_is_mapped_is_made_again(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    known = opened(output, two_batches[1])
    for path in ids_folder(output).glob("*.low"):
        path.write_bytes(b"")
    known.open(output, two_batches[1])
    assert known_numbers(known, range(9)) == [1, 2, 3, 4, 5]
    assert is_filled(caplog)


def test_a_set_from_another_moment_is_not_used(output: Output, caplog: pytest.LogCaptureFixture) -> None:
    first = publish_with_ids(output, None, 1, 2, 3)
    older = output.root.parent / "older"
    shutil.copytree(ids_folder(output), older)
    second = publish_with_ids(output, first, 4)
    shutil.rmtree(ids_folder(output))
    shutil.copytree(older, ids_folder(output))
    assert known_numbers(opened(output, second), range(9)) == [1, 2, 3, 4]
    assert is_filled(caplog)


def test_a_set_with_another_number_of_ids_than_tickets_is_not_used(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    known = opened(output, two_batches[0])
    known.prepare(two_batches[1].commit_id, known.write([ids([4, 5, 6])]))
    assert known_numbers(opened(output, two_batches[1]), range(9)) == [1, 2, 3, 4, 5]
    assert is_filled(caplog)


def test_the_published_tickets_must_be_as_many_as_the_ledger_says(
    output: Output, two_batches: tuple[Manifest, Manifest]
) -> None:
    totals = msgspec.structs.replace(two_batches[1].totals, tickets=6)
    with pytest.raises(DataConflict, match="5 tickets are published, but the ledger says 6; nothing was changed"):
        opened(output, msgspec.structs.replace(two_batches[1], totals=totals, commit_id="another"))


def test_making_the_set_can_be_aborted(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(Exception):
        pass

    def give_up() -> None:
        raise Stop

    shutil.rmtree(ids_folder(output))
    with pytest.raises(Stop):
        IdSet(ids_folder(output), output.disk).open(output, two_batches[1], give_up)
    assert known_numbers(opened(output, two_batches[1]), range(9)) == [1, 2, 3, 4, 5]


def test_a_set_that_is_made_of_many_tickets_is_sorted_in_parts(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.ids._FILL", 2)
    manifest: Manifest | None = None
    for numbers in ((9, 1), (5,), (7, 3, 0), (8,), (2, 4, 6)):
        manifest = publish(output, manifest, *numbers)
    assert known_numbers(opened(output, manifest), range(20)) == list(range(10))
    # Of two, four and four ids; a file of the output goes as a whole into one of them.
    assert len(list(ids_folder(output).glob("*.high"))) == 3


def test_ids_that_were_published_twice_without_dedupe_are_known(output: Output) -> None:
    manifest = publish(output, None, 1, 2, 2, 1, 2)
    known = opened(output, manifest)
    assert known_numbers(known, range(4)) == [1, 2]
    again = publish_with_ids(output, manifest, 3)
    assert known_numbers(opened(output, again), range(5)) == [1, 2, 3]


def test_runs_of_the_same_size_are_merged_so_that_there_are_few_and_no_id_is_lost(output: Output) -> None:
    known, manifest = IdSet(ids_folder(output), output.disk), publish(output, None)
    known.open(output, manifest)
    most = 0
    for number in range(100):
        # Neighbours of earlier ids, so that each merge has to mix.
        known.prepare(f"commit-{number}", known.write([ids([number, 1000 - number])]))
        totals = msgspec.structs.replace(manifest.totals, tickets=2 * number + 2)
        known.open(output, msgspec.structs.replace(manifest, commit_id=f"commit-{number}", totals=totals))
        most = max(most, len(list(ids_folder(output).glob("*.high"))))
    assert known_numbers(known, range(1001)) == [*range(100), *range(901, 1001)]
    assert most <= 12
    # 200 ids of 16 bytes each, and the index.
    assert sum(path.stat().st_size for path in ids_folder(output).glob("*[!n]")) == 200 * 16


def test_a_commit_with_the_same_tickets_keeps_the_set(
    output: Output, two_batches: tuple[Manifest, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    known = opened(output, two_batches[1])
    converted = convert(output, two_batches[1], "json", UPDATED_AT)
    for each in (known, opened(output, converted)):
        each.open(output, converted)
        assert known_numbers(each, range(9)) == [1, 2, 3, 4, 5]
    assert not is_filled(caplog)


def test_a_commit_without_a_set_keeps_none(output: Output, caplog: pytest.LogCaptureFixture) -> None:
    manifest = publish(output, None, 1)
    converted = convert(output, manifest, "json", UPDATED_AT)
    assert not ids_folder(output).exists()
    assert known_numbers(opened(output, converted), range(3)) == [1]
    assert is_filled(caplog)


def test_the_set_can_be_removed_and_removed_again(output: Output, two_batches: tuple[Manifest, Manifest]) -> None:
    forget_ids(output)
    assert not ids_folder(output).exists()
    forget_ids(output)


def test_a_folder_that_cannot_be_created_is_reported(output: Output) -> None:
    manifest = publish(output, None, 1)
    ids_folder(output).write_bytes(b"a file")
    with pytest.raises(OutputUnavailable, match=r"cannot write .*ids.*a file is in the place of a folder"):
        opened(output, manifest)
    with pytest.raises(OutputUnavailable):
        carry_ids(output, manifest.commit_id, "next")
