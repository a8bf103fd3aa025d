"""The folder of a dataset is exchanged as a whole, once, whatever interrupts it; files of others are not lost."""

import errno
import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.json
import pyarrow.parquet as pq
import pytest

import store.exchange
from contract.ticket import encode as encode_ticket
from runtime.errors import DataConflict, OutputUnavailable
from runtime.process.clock import Clock
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.datasets import HIGH_PRIORITY, TICKETS, Dataset
from store.exchange import waiting as waiting_files
from store.files import NO_EXCHANGE, Disk
from store.manifest import CommitRecord, Manifest, encode, read_manifest
from store.output import Output
from store.recovery import decode_record
from store.staging import Change
from store.verify import verify
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

# Commits the record in its second argument to the output in its first, or recovers that, until a failpoint kills it.
COMMIT = """
import sys
from pathlib import Path
from runtime.settings.location import OutputLocation
from store.output import Output
from store.recovery import decode_record
output = Output(OutputLocation(Path(sys.argv[1])))
if len(sys.argv) == 2:
    output.recover()
else:
    record = Path(sys.argv[2])
    output.commit(decode_record(record, record.read_bytes()))
"""
MERGED = "batch-000001-0000-to-000002-000004.parquet"
KEPT = "batch-000003-0000.parquet"


def merge(change: Change, output: Output, before: Manifest, dataset: Dataset, names: Sequence[str]) -> None:
    """Merge neighbouring files into one."""
    reader = output.reader(before)
    with change.staging.writer(dataset, f"{dataset.name}-merged") as writer:
        for name in names:
            for table in reader.tables_of(dataset, name):
                writer.write(table)
        staged = writer.finish()
    change.rewrite(dataset, names, staged, rewrites=1)


def prepare(output: Output, before: Manifest) -> CommitRecord:
    """Return the record that merges the first two files of two datasets."""
    change = output.begin(before, "compaction", before.format)
    for dataset in (TICKETS, HIGH_PRIORITY):
        merge(change, output, before, dataset, list(before.contents[dataset.name])[:2])
    assert change.exchange_folders() is None
    return change.record(UPDATED_AT)


def tell(output: Output, file_format: str = "parquet") -> Manifest:
    """Publish three batches, each of three tickets, one of them urgent, and a message that is not a ticket."""
    manifest: Manifest | None = None
    for number in range(3):
        made = [encode_ticket(ticket(3 * number + n, priority=("low", "high", "medium")[n])) for n in range(3)]
        read = [[messages([*made, b"bad"], first_offset=4 * number)]]
        manifest = publish_batch(output, manifest, file_format, read)
    assert manifest is not None
    return manifest


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish the batches once, for copies of them."""
    root = tmp_path_factory.mktemp("told") / "output"
    tell(Output(OutputLocation(root), QuickDisk()))
    return root


@pytest.fixture
def output(told: Path, tmp_path: Path) -> Output:
    shutil.copytree(told, tmp_path / "output")
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


@pytest.fixture
def before(output: Output) -> Manifest:
    manifest = read_manifest(Disk(), output.root)
    assert manifest is not None
    return manifest


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def swapped_out(output: Output) -> dict[str, list[str]]:
    """Return what is in the folders that were swapped out, by their dataset."""
    return {path.name.rsplit("-", 1)[1]: names_in(path) for path in output.replaced.folder.glob("*")}


THREE = [f"batch-00000{number}-0000.parquet" for number in (1, 2, 3)]
BOTH = {"tickets_with_assignment": THREE, "high_priority_tickets": THREE}


def require_merged(output: Output) -> None:
    """Fail unless the output holds all tickets, in two files, and the old folders are whole."""
    for dataset in BOTH:
        assert names_in(output.root / dataset) == [MERGED, KEPT]
    assert swapped_out(output) == BOTH
    assert names_in(output.state) == ["clients.sqlite", "replaced"]
    published = Published(output.root)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 9


def test_files_are_merged_in_place_and_the_old_folder_stays_whole(output: Output, before: Manifest) -> None:
    kept = (output.root / "tickets_with_assignment" / KEPT).stat().st_ino
    record = prepare(output, before)
    output.commit(record)
    require_merged(output)
    # One file on the disk, linked into the new folder and the one that was swapped out.
    (old,) = output.replaced.folder.glob("*tickets_with_assignment")
    assert (output.root / "tickets_with_assignment" / KEPT).stat().st_ino == kept == (old / KEPT).stat().st_ino
    assert record.renames == []
    assert record.removals == []
    found = record.manifest.contents["tickets_with_assignment"]
    assert {name: (f.rows, f.first_batch, f.last_batch, f.commit, f.rewrites) for name, f in found.items()} == {
        MERGED: (6, 1, 2, 4, 1),
        KEPT: (3, 3, 3, 3, 0),
    }
    assert list(found) == [MERGED, KEPT]
    assert output.recover() == record.manifest
    # The rows stay in their order.
    ids = [row["ticket_id"][-1] for row in output.reader(record.manifest).rows(TICKETS)]
    assert ids == [*"012345678"]


def test_a_rewritten_file_keeps_its_place_and_a_file_can_be_removed_without_replacement(
    output: Output, before: Manifest
) -> None:
    change = output.begin(before, "compaction", "parquet")
    merge(change, output, before, TICKETS, THREE[1:2])
    assert change.names(TICKETS) == [THREE[0], "batch-000002-0000-to-000002-000004.parquet", THREE[2]]
    change.rewrite(TICKETS, THREE[:1], None, rewrites=0)
    assert change.names(TICKETS) == ["batch-000002-0000-to-000002-000004.parquet", THREE[2]]
    assert change.exchange_folders() is None
    (exchange,) = change.record(UPDATED_AT).exchanges
    assert (exchange.new, exchange.old) == (["batch-000002-0000-to-000002-000004.parquet"], [THREE[1], THREE[0]])


def test_a_file_that_is_merged_again_is_named_by_its_first_and_its_last_batch(output: Output, before: Manifest) -> None:
    record = prepare(output, before)
    output.commit(record)
    change = output.begin(record.manifest, "compaction", "parquet")
    merge(change, output, record.manifest, TICKETS, [MERGED, KEPT])
    assert change.names(TICKETS) == ["batch-000001-0000-to-000003-000005.parquet"]


def test_an_exchange_that_only_removes_files_can_be_repeated(output: Output, before: Manifest) -> None:
    change = output.begin(before, "compaction", "parquet")
    change.rewrite(TICKETS, THREE[:2], None, rewrites=0)
    assert change.exchange_folders() is None
    (exchange,) = change.record(UPDATED_AT).exchanges
    assert (exchange.new, exchange.old) == ([], THREE[:2])
    prepared = output.root / exchange.prepared
    waiting = {f"tickets_with_assignment/{KEPT}": prepared / KEPT}
    for expected in (waiting, {}):
        assert waiting_files(output.disk, output.root, exchange, [KEPT]) == expected
        output._publish([], [exchange], encode(before))
        # The placeholders, for readers that have listed the old folder.
        assert names_in(output.root / "tickets_with_assignment") == THREE
    output._clean_up([], [exchange])
    assert names_in(output.root / "tickets_with_assignment") == [KEPT]
    assert swapped_out(output) == {"tickets_with_assignment": THREE}


class LateReaders(Clock):
    """A clock that calls a function while it sleeps."""

    def __init__(self, during: Callable[[], None]) -> None:
        self.during = during
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.during()


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_a_reader_that_looks_at_a_name_after_it_is_gone_fails_instead_of_counting_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    monkeypatch.setattr(store.exchange, "LISTING_S", 7.0)
    root = tmp_path / "output"
    tell(Output(OutputLocation(root), QuickDisk()), file_format)
    failed = []

    def read() -> None:
        # As Arrow does: look up each name that was listed before, and read those that are there.
        folder = root / "tickets_with_assignment"
        for name in [path.with_suffix(f".{file_format}").name for path in map(Path, THREE[:2])]:
            assert (folder / name).stat().st_size > 0
            for reads in READERS[file_format]:
                with pytest.raises(Exception, match=NO_DATA):
                    reads(folder / name)
                failed.append(name)

    clock = LateReaders(read)
    output = Output(OutputLocation(root), QuickDisk(), clock)
    before = output.recover()
    assert before is not None
    output.commit(prepare(output, before))
    assert clock.slept == [7.0]
    assert len(failed) == 2 * len(READERS[file_format])
    assert len(names_in(root / "tickets_with_assignment")) == 2
    Published(root).require_agreement()


NO_DATA = "(?i)magic|specification|malformed|tape|JSON|parse|expected|value"
READERS: dict[str, list[Callable[[Path], object]]] = {
    "parquet": [
        pd.read_parquet,
        pq.read_table,
        pl.read_parquet,
        lambda path: duckdb.read_parquet(str(path)).fetchall(),
    ],
    "json": [
        lambda path: pd.read_json(path, lines=True),
        pyarrow.json.read_json,
        pl.read_ndjson,
        lambda path: duckdb.read_json(
            str(path), columns={"client_id": "VARCHAR"}, format="newline_delimited"
        ).fetchall(),
    ],
}


@pytest.mark.parametrize("point", ["staged", "committed", "exchanged", "between-exchanges", "before-manifest"])
def test_a_commit_killed_at_any_point_exchanges_each_folder_once(
    output: Output, before: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str
) -> None:
    record = prepare(output, before)
    (tmp_path / "record.json").write_bytes(encode(record))

    def die(*arguments: object) -> None:
        command = [sys.executable, "-c", COMMIT, str(output.root), *map(str, arguments)]
        killed = subprocess.run(command, cwd=ROOT, env={"CLIENT_TICKETS_FAILPOINT": point}, check=False)
        assert killed.returncode == -signal.SIGKILL

    die(tmp_path / "record.json")
    assert read_manifest(Disk(), output.root) == before
    for dataset in BOTH:
        assert names_in(output.root / dataset) in (THREE, [MERGED, *THREE])
    if point == "staged":
        assert output.recover() == before
        assert not (output.state / "staging").exists()
        Published(output.root).require_agreement()
        return
    # What verifies it now finds the files of both sides of an exchange.
    report = verify(OutputLocation(output.root), sleep=lambda seconds: None)
    assert (report.commit, report.tickets, report.differences) == (3 if point == "committed" else 4, 9, [])
    if point in ("exchanged", "before-manifest"):
        # Kill it again at the same point.
        die()
    with caplog.at_level(logging.WARNING):
        assert output.recover() == record.manifest
    assert "finishing compaction 4, which an earlier run had decided" in caplog.text
    require_merged(output)
    assert output.recover() == record.manifest
    require_merged(output)


class Killed(BaseException):
    """Stands for kill -9: nothing in the process runs any more."""


class Dying(QuickDisk):
    """Does a given number of changing calls, then kills the process. It may lack the exchange."""

    def __init__(self, calls: int, refuses: bool = False) -> None:
        self.left = calls
        self.refuses = refuses

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def exchange(self, one: Path, other: Path) -> None:
        self._count()
        if self.refuses:
            raise OSError(errno.EINVAL, "Invalid argument", str(one), None, str(other))
        super().exchange(one, other)

    def replace(self, old: Path, new: Path) -> None:
        self._count()
        super().replace(old, new)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._count()
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._count()
        super().remove_folder(path)


def recovered(root: Path, disk: Disk) -> tuple[Output, bool]:
    """Recover an output, and return whether the process was killed before that."""
    output = Output(OutputLocation(root), disk)
    try:
        output.recover()
    except Killed:
        return output, True
    return output, False


@pytest.mark.parametrize("refuses", [False, True])
def test_killed_before_each_change_on_the_disk_and_again_in_the_recovery(
    output: Output, before: Manifest, tmp_path: Path, refuses: bool
) -> None:
    record = prepare(output, before)
    for calls in count():
        root = tmp_path / f"killed-{calls}"
        shutil.copytree(output.root, root)
        dying = Dying(calls, refuses)
        try:
            Output(OutputLocation(root), dying).commit(record)
        except Killed:
            pass
        else:
            break
        decided = (root / ".pipeline/commit.json").exists() or read_manifest(Disk(), root) != before
        for again in count():
            shutil.copytree(root, root.with_name("again"))
            _, killed = recovered(root.with_name("again"), Dying(again, refuses))
            last, _ = recovered(root.with_name("again"), Dying(1000, refuses))
            expected = [MERGED, KEPT] if decided else THREE
            for dataset in BOTH:
                assert names_in(last.root / dataset) == expected
            assert read_manifest(Disk(), last.root) == (record.manifest if decided else before)
            if decided:
                assert swapped_out(last) == ({} if refuses else BOTH)
            assert verify(OutputLocation(last.root)).differences == []
            shutil.rmtree(last.root)
            if not killed:
                break
    # The record, two exchanges, two folders that are moved to ``replaced``, the manifest, and removals.
    assert calls >= 9


def test_what_others_have_put_into_the_folder_is_there_afterwards(output: Output, before: Manifest) -> None:
    folder = output.root / "tickets_with_assignment"
    (folder / ".DS_Store").write_bytes(b"finder")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("precious")
    (folder / "link").symlink_to("notes/mine.txt")
    folder.chmod(0o2751)
    os.chown(folder, 12345, 23456) if os.geteuid() == 0 else None
    owner = (folder.stat().st_uid, folder.stat().st_gid)
    output.commit(prepare(output, before))
    assert names_in(folder) == [".DS_Store", MERGED, KEPT, "link", "notes"]
    assert (folder / "notes" / "mine.txt").read_text() == (folder / "link").read_text() == "precious"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2751
    assert (folder.stat().st_uid, folder.stat().st_gid) == owner
    assert swapped_out(output) == BOTH


def test_a_file_that_readers_count_and_the_ledger_does_not_name_stops_the_commit(
    output: Output, before: Manifest
) -> None:
    record = prepare(output, before)
    stranger = output.root / "tickets_with_assignment" / "mine.parquet"
    stranger.write_bytes(b"precious")
    for decided in (False, True):
        if decided:
            (output.state / "commit.json").write_bytes(encode(record))
        with pytest.raises(DataConflict, match="holds 1 files that are not part of the output, the first is mine"):
            output.recover() if decided else output.commit(record)
        assert stranger.read_bytes() == b"precious"
        assert names_in(output.root / "tickets_with_assignment") == [*THREE, "mine.parquet"]
    stranger.unlink()
    assert output.recover() == record.manifest
    require_merged(output)


def test_a_strangers_file_that_appears_at_the_last_moment_is_kept(output: Output, before: Manifest) -> None:
    class Late(QuickDisk):
        def exchange(self, one: Path, other: Path) -> None:
            (other / "mine.parquet").write_bytes(b"precious")
            super().exchange(one, other)

    Output(OutputLocation(output.root), Late()).commit(prepare(output, before))
    assert (output.root / "tickets_with_assignment" / "mine.parquet").read_bytes() == b"precious"
    with pytest.raises(DataConflict, match=r"mine\.parquet"):
        output.recover()


@pytest.mark.parametrize("number", sorted(NO_EXCHANGE))
def test_a_file_system_without_exchange_is_noticed_before_the_commit_is_decided(
    output: Output, before: Manifest, number: int
) -> None:
    class Refusing(QuickDisk):
        def exchange(self, one: Path, other: Path) -> None:
            raise OSError(number, os.strerror(number), str(one))

    refusing = Output(OutputLocation(output.root), Refusing())
    said = f"the file system of {output.state}/staging refuses it ({os.strerror(number)})"
    assert refusing.exchange_refusal() == said
    assert output.exchange_refusal() is None
    assert names_in(output.state / "staging") == []
    # By moving the files one by one the same commit is made.
    change = refusing.begin(before, "compaction", "parquet")
    merge(change, refusing, before, TICKETS, THREE[:2])
    refused = change.exchange_folders()
    assert refused is not None
    assert refused.endswith(f"refuses it ({os.strerror(number)})")
    record = change.record(UPDATED_AT)
    assert (record.exchanges, len(record.renames), len(record.removals)) == ([], 1, 2)
    refusing.commit(record)
    assert names_in(output.root / "tickets_with_assignment") == [MERGED, KEPT]
    assert not output.replaced.folder.exists()
    Published(output.root).require_agreement()


def test_files_that_may_not_be_linked_make_an_exchange_impossible(output: Output, before: Manifest) -> None:
    class Guarded(QuickDisk):
        def link(self, old: Path, new: Path) -> None:
            if old.name == KEPT:
                raise OSError(errno.EPERM, "Operation not permitted", str(old), None, str(new))
            super().link(old, new)

    guarded = Output(OutputLocation(output.root), Guarded())
    change = guarded.begin(before, "compaction", "parquet")
    merge(change, guarded, before, TICKETS, THREE[:2])
    assert change.exchange_folders() == f"{output.root}/tickets_with_assignment/{KEPT}: Operation not permitted"
    guarded.commit(change.record(UPDATED_AT))
    Published(output.root).require_agreement()


def test_other_disk_errors_are_not_taken_for_a_missing_exchange(output: Output) -> None:
    class Broken(QuickDisk):
        def exchange(self, one: Path, other: Path) -> None:
            raise OSError(errno.EIO, "Input/output error", str(one))

    with pytest.raises(OutputUnavailable, match="Input/output error; the disk reports an error"):
        Output(OutputLocation(output.root), Broken()).exchange_refusal()
    assert names_in(output.state / "staging") == []


def test_a_dataset_that_is_a_link_cannot_be_exchanged(output: Output, before: Manifest) -> None:
    folder = output.root / "tickets_with_assignment"
    folder.rename(output.root.parent / "elsewhere")
    folder.symlink_to(output.root.parent / "elsewhere")
    assert output.exchange_refusal() == f"{folder} is a link"
    change = output.begin(before, "compaction", "parquet")
    merge(change, output, before, TICKETS, THREE[:2])
    assert change.exchange_folders() == f"{folder} is a link"


def test_a_published_file_that_was_cut_or_removed_is_not_carried_over(output: Output, before: Manifest) -> None:
    path = output.root / "tickets_with_assignment" / KEPT
    path.write_bytes(b"cut")
    with pytest.raises(DataConflict, match=rf"{KEPT} was published with .* bytes and has 3 now"):
        prepare(output, before)
    path.unlink()
    with pytest.raises(DataConflict, match=rf"{KEPT} was published and is gone"):
        prepare(output, before)


def test_a_prepared_folder_that_lacks_a_file_is_not_exchanged(output: Output, before: Manifest) -> None:
    record = prepare(output, before)
    (output.state / "commit.json").write_bytes(encode(record))
    (output.root / record.exchanges[0].prepared / KEPT).unlink()
    with pytest.raises(DataConflict, match=rf"{KEPT} was published and is gone"):
        output.recover()
    assert names_in(output.root / "tickets_with_assignment") == THREE


TICKETS_FOLDER = ".pipeline/staging/{}/tickets_with_assignment"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "../victims"}, "'../victims' is not a dataset to exchange"),
        (
            {"dataset": "high_priority_tickets"},
            "'high_priority_tickets' is not a dataset to exchange, or is changed twice",
        ),
        ({"prepared": "victims"}, "'victims' is not a staged folder"),
        ({"prepared": ".pipeline/staging/../tickets_with_assignment"}, "is not a staged folder"),
        ({"prepared": ".pipeline/staging/x/high_priority_tickets"}, "is not a staged folder"),
        ({"new": ["../../victim.txt"]}, "exchanges other files than it gains and loses"),
        ({"old": ["../../victim.txt"]}, "exchanges names that are not files of a dataset"),
        ({"old": [KEPT]}, "exchanges other files than it gains and loses"),
        ({"old": []}, "exchanges other files than it gains and loses"),
        (
            {"renames": "tickets_with_assignment"},
            "'tickets_with_assignment' is not a dataset to exchange, or is changed",
        ),
        (
            {"removals": "tickets_with_assignment"},
            "'tickets_with_assignment' is not a dataset to exchange, or is changed",
        ),
        ({"prepared": 5}, "is damaged"),
    ],
)
def test_a_record_that_exchanges_foreign_folders_is_refused(
    output: Output, before: Manifest, change: dict[str, Any], said: str
) -> None:
    raw = json.loads(encode(prepare(output, before)))
    if "renames" in change:
        staged = f"{raw['exchanges'][0]['prepared'].rpartition('/')[0]}/file.parquet"
        raw["renames"] = [{"staged": staged, "published": f"tickets_with_assignment/{KEPT}"}]
    elif "removals" in change:
        raw["removals"] = [f"tickets_with_assignment/{THREE[0]}"]
    else:
        raw["exchanges"][0].update(change)
    (output.state / "commit.json").write_text(json.dumps(raw))
    with pytest.raises(DataConflict, match=r"commit\.json is damaged") as caught:
        output.recover()
    assert said in str(caught.value)
    assert names_in(output.root / "tickets_with_assignment") == THREE


def test_a_record_without_exchanges_is_one_of_an_earlier_release(tmp_path: Path, before: Manifest) -> None:
    raw = json.loads(encode(CommitRecord(before, [], [])))
    del raw["exchanges"]
    record = decode_record(tmp_path, json.dumps(raw).encode())
    assert isinstance(record, CommitRecord)
    assert record.exchanges == []


def test_a_place_for_old_folders_on_another_file_system_is_refused(output: Output, before: Manifest) -> None:
    class Mounted(QuickDisk):
        def mount(self, folder: Path) -> str:
            return "another" if folder.name == "replaced" else super().mount(folder)

    output.replaced.folder.mkdir()
    with pytest.raises(OutputUnavailable, match=r"\.pipeline/replaced lies on another file system than"):
        Output(OutputLocation(output.root), Mounted()).commit(prepare(output, before))
