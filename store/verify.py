"""Whether what is published is what the ledger says, and all datasets and totals follow from its rows.

Everything is read, and nothing is believed: names, sizes, checksums and rows of all files, and each count, made once
more from the rows (``store.recount``, ``store.differences``). Only schemas, ledger and readers are those of the code
that is checked.

No lock is taken, so a processor may work meanwhile. A look at the output holds for the ledger that it began with. When
that changes, the next look reads only what is new: a published file never changes. Memory: 32 bytes for each ticket
that is urgent, 16 for any other one and for a rejected message, 8 for each client of each file, beside the columns of
two row groups, or of 64 MiB of JSON.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from runtime.errors import DataConflict, OutputUnavailable, SettingError
from runtime.settings.location import OutputLocation
from store import differences, recount
from store.datasets import (
    BY_HOUR,
    BY_PRIORITY,
    BY_TEAM,
    BY_TYPE,
    DATASETS,
    HIGH_PRIORITY,
    METRICS,
    REJECTED,
    TICKETS,
    Dataset,
)
from store.differences import Difference, Rows
from store.files import Disk, read_if_there, reading
from store.formats import WRITERS
from store.manifest import MANIFEST_NAME, Manifest, PublishedFile, Source, manifest_from_json, read_manifest
from store.recount import Hashes, Tally
from store.reread import Contents, Examined, RejectedRows, examine, read_clients

# A ledger that changes more often while it is read is not waited for.
_MOST_LOOKS = 10
# A commit takes milliseconds. One that takes longer than this was interrupted.
_PATIENCE_S = 10.0
_PAUSE_S = 0.1

_REPEATS_TOLD = 10


class DatasetReport(msgspec.Struct, frozen=True):
    """What the ledger says of a dataset, and how many differences were found in its files and rows."""

    dataset: str
    files: int
    rows: int
    bytes: int
    differences: int


class Repeat(msgspec.Struct, frozen=True):
    """A ticket id that occurs more than once."""

    ticket_id: str
    tickets: int


class Report(msgspec.Struct, frozen=True):
    """What was found in an output as of one commit. ``repeated`` is how many tickets repeat the id of another one."""

    output: str
    commit: int
    commit_id: str
    batch_id: int
    updated_at: datetime
    format: str
    source: Source
    next_offsets: dict[int, int]
    datasets: list[DatasetReport]
    tickets: int
    unique_clients: int
    rejected: int
    differences: list[Difference]
    notes: list[str]
    repeated: int = 0
    repeats: list[Repeat] = []


# By dataset and name.
_Found = dict[tuple[str, str], Examined]


@dataclass(frozen=True, slots=True)
class View:
    """A ledger, and where its files are. ``staged`` says where one (``dataset/name``) waits that is not published yet.

    ``leaving`` are files that go and are still there.
    """

    manifest: Manifest
    staged: Mapping[str, Path] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    note: str = ""


def verify(location: OutputLocation, disk: Disk | None = None, sleep: Callable[[float], None] = time.sleep) -> Report:
    """Return what was found in the output.

    Raises SettingError when there is none, DataConflict when its ledger cannot be understood, OutputUnavailable when
    something cannot be read, or changes all the time.
    """
    return _Verification(location.folder, disk or Disk(), sleep).run()


class _Verification:
    def __init__(self, root: Path, disk: Disk, sleep: Callable[[float], None]) -> None:
        self._root = root
        self._disk = disk
        self._sleep = sleep
        self._state = root / ".pipeline"
        # What was found in order in an earlier look, and is still in the ledger.
        self._sound: dict[tuple[str, str], tuple[PublishedFile, Examined]] = {}
        self._ids: list[Hashes] = []

    def run(self) -> Report:
        """Look until the ledger stays the same, and then for repeated ids, which takes longest."""
        report = self._settle()
        repeated, examples = recount.repeats(self._ids, _REPEATS_TOLD)
        return msgspec.structs.replace(report, repeated=repeated, repeats=[Repeat(*each) for each in examples])

    def _settle(self) -> Report:
        """Look until the ledger stays the same from the beginning of a look to its end."""
        patience = _PATIENCE_S
        sound: Report | None = None
        for _ in range(_MOST_LOOKS):
            record, ledger = self._read()
            interrupted = record if patience <= 0 else None
            try:
                view = _finished(self._root, self._disk, ledger, interrupted) if interrupted else View(ledger)
            except DataConflict:
                # Both were read one after the other, and may be of different moments.
                if self._read() != (record, ledger):
                    continue
                raise
            report = self._look(view)
            if self._read() != (record, ledger):
                # Nothing differed from the ledger that it began with, or from what came after: go on with that.
                sound = None if report.differences else report
                continue
            if record is None or patience <= 0:
                return report
            decided = _finished(self._root, self._disk, ledger, record)
            if not report.differences:
                return msgspec.structs.replace(report, notes=[decided.note, *report.notes])
            # A commit is under way: files of it may be there that the ledger does not name yet.
            while patience > 0 and self._read() == (record, ledger):
                self._sleep(_PAUSE_S)
                patience -= _PAUSE_S
        if sound is not None:
            return sound
        raise OutputUnavailable(
            f"{self._root} changed {_MOST_LOOKS} times while it was read; stop its processor, or give it a longer "
            "--interval, and verify it again"
        )

    def _read(self) -> tuple[bytes | None, Manifest]:
        """Return the commit record and the ledger.

        In this order: where no record is found, a commit is over, and its ledger in place, or has not begun.
        """
        path = self._state / "commit.json"
        with reading(path):
            record = read_if_there(self._disk, path)
        manifest = read_manifest(self._disk, self._root)
        if manifest is None:
            raise _nothing_there(self._disk, self._root)
        if manifest.format not in WRITERS:
            raise DataConflict(f"{self._root / MANIFEST_NAME} contradicts itself: its format is {manifest.format!r}")
        return record, manifest

    def _look(self, view: View) -> Report:
        manifest = view.manifest
        found = self._examine_all(view)
        sums = _add_up(found)
        strange, notes = self._strangers(view)
        of_teams, routed = differences.of_teams(sums.rows)
        of_clients, known = self._clients(manifest, sums.clients)
        # The cause before what follows from it.
        differing = [
            *differences.of_ledger(manifest),
            *(Difference("/".join(key), each.problem) for key, each in found.items() if each.problem),
            *strange,
            *differences.of_values(sums.wrong),
            *differences.of_totals(manifest, sums.rows),
            *of_teams,
            *differences.of_rejected(manifest, sums.rejected.partitions, sums.rejected.offsets),
            *differences.of_urgent(_hashes(found, TICKETS), _hashes(found, HIGH_PRIORITY)),
            *_of_one_file(found, manifest, sums),
            *of_clients,
        ]
        self._ids = sums.ids
        return Report(
            output=str(self._root),
            commit=manifest.commit,
            commit_id=manifest.commit_id,
            batch_id=manifest.batch_id,
            updated_at=manifest.updated_at,
            format=manifest.format,
            source=manifest.source,
            next_offsets=manifest.next_offsets,
            datasets=[_summed_up(dataset, manifest, differing) for dataset in DATASETS],
            tickets=sums.rows.tickets,
            unique_clients=sums.rows.clients,
            rejected=sums.rows.rejected,
            differences=differing,
            notes=[note for note in (view.note, *notes, *routed, *known) if note],
        )

    def _examine_all(self, view: View) -> _Found:
        """Read each file of the ledger that no earlier look has read."""
        files = {
            (d.name, name): file for d in DATASETS for name, file in view.manifest.contents.get(d.name, {}).items()
        }
        self._sound = {key: sound for key, sound in self._sound.items() if files.get(key) == sound[0]}
        # Checksums and decoding leave Python free for a second thread; reading JSON does not.
        pool = ThreadPoolExecutor(2 if view.manifest.format == "parquet" else 1)
        try:
            waiting: dict[tuple[str, str], Future[Examined]] = {
                (d.name, name): pool.submit(
                    examine, self._disk, self._place(view, d, name), view.manifest.format, d, files[d.name, name]
                )
                for d in DATASETS
                for name in view.manifest.contents.get(d.name, {})
                if (d.name, name) not in self._sound
            }
            new = {key: future.result() for key, future in waiting.items()}
        finally:
            pool.shutdown(cancel_futures=True)
        found = {key: new[key] if key in new else self._sound[key][1] for key in files}
        self._sound |= {key: (files[key], examined) for key, examined in new.items() if examined.problem is None}
        return found

    def _place(self, view: View, dataset: Dataset, name: str) -> Path:
        return view.staged.get(f"{dataset.name}/{name}", self._root / dataset.name / name)

    def _strangers(self, view: View) -> tuple[list[Difference], list[str]]:
        """Return the files that lie in a dataset folder and are not part of the output: those that readers count."""
        counted, notes = list[Difference](), list[str]()
        suffixes = tuple(f".{name}" for name in WRITERS)
        for dataset in DATASETS:
            folder = self._root / dataset.name
            with reading(folder):
                present = self._disk.names(folder) if self._disk.look(folder, follow=True) else []
            leaving = {name.partition("/")[2] for name in view.leaving if name.startswith(f"{dataset.name}/")}
            named = {*view.manifest.contents.get(dataset.name, {}), *leaving}
            strangers = differences.of_folder(present, named, suffixes)
            read = [name for name in strangers if name.endswith(suffixes)]
            if read:
                counted.append(
                    Difference(
                        dataset.name,
                        f"holds {len(read):,} files that the ledger does not name and every reader of the folder "
                        f"counts, the first is {read[0]!r}",
                    )
                )
            if others := strangers[len(read) :]:
                notes.append(f"{dataset.name} holds {others[0]!r}, which is not ours")
        return counted, notes

    def _clients(self, manifest: Manifest, published: Hashes) -> tuple[list[Difference], list[str]]:
        path = self._state / "clients.sqlite"
        with reading(path):
            if self._disk.look(path) is None:
                return [], ["clients.sqlite is not there: the next start fills it from the tickets"]
        found = read_clients(path, manifest.commit)
        if found is None:
            return [], ["clients.sqlite was in use or cannot be read; a processor fills it anew where it has to"]
        return differences.of_clients(found, manifest, published)


def _nothing_there(disk: Disk, root: Path) -> Exception:
    """Return the error for an output without a ledger."""
    with reading(root):
        for dataset in DATASETS:
            folder = root / dataset.name
            names = disk.names(folder) if disk.look(folder, follow=True) else []
            if any(name.endswith(tuple(f".{f}" for f in WRITERS)) for name in names):
                return DataConflict(
                    f"{folder} holds files, but {root / MANIFEST_NAME} is missing: nobody knows which messages they "
                    "cover; put a backup of the whole output folder into an empty folder and verify that"
                )
    # A wrong path is the likeliest reason, and it must not look like an output that is in order.
    return SettingError(
        f"there is no output in {root} to verify: nothing was published there yet; correct --output-path, or start the "
        "processor first"
    )


def _finished(root: Path, disk: Disk, ledger: Manifest, record: bytes) -> View:
    """Return what the output becomes when an interrupted commit is finished, as the next start does."""
    path = root / ".pipeline" / "commit.json"
    try:
        raw = msgspec.json.decode(record, type=dict[str, Any])
        decided = manifest_from_json(raw["manifest"])
        renames = {each["published"]: root / each["staged"] for each in raw["renames"]}
        removals = frozenset(raw["removals"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataConflict(
            f"{path} is damaged ({len(record):,} bytes: {error}): it decides a commit that may be published in part"
        ) from None
    if decided.commit_id == ledger.commit_id:
        return View(
            ledger,
            leaving=removals,
            note=f"commit {ledger.commit} is made, but for old files that are still to be removed",
        )
    if decided.follows != ledger.commit_id:
        raise DataConflict(
            f"{path} decides commit {decided.commit}, but it does not follow what is there (commit {ledger.commit}): "
            "one of the two comes from a copy of another moment"
        )
    with reading(root):
        staged = {published: path for published, path in renames.items() if disk.look(path) is not None}
    note = (
        f"commit {decided.commit} is decided, and some of it not published: that is under way, or was interrupted, and "
        "the next start does the rest"
    )
    return View(decided, staged, removals, note)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the rows of all files add up to."""

    rows: Rows
    kinds: Tally
    clients: Hashes
    ids: list[Hashes]
    rejected: RejectedRows
    wrong: Mapping[str, int]


def _add_up(found: _Found) -> _Sums:
    tickets = [contents.tickets for _, contents in _contents(found, TICKETS)]
    kinds = Tally.sum(of.kinds for of in tickets)
    clients = np.unique(np.concatenate([np.empty(0, np.uint64), *(of.clients for of in tickets)]))
    rejected = [RejectedRows(), *(contents.rejected for _, contents in _contents(found, REJECTED))]
    offsets = np.concatenate([of.offsets for of in rejected])
    rows = Rows(
        tickets=sum(of.rows for of in tickets),
        clients=len(clients),
        rejected=len(offsets),
        by_type=recount.by_type(kinds),
        by_priority=recount.by_priority(kinds),
        teams=sum((of.teams for of in tickets), Counter()),
    )
    return _Sums(
        rows,
        kinds,
        clients,
        [of.ids for of in tickets],
        RejectedRows(np.concatenate([of.partitions for of in rejected]), offsets),
        sum((of.wrong for of in tickets), Counter()),
    )


def _hashes(found: _Found, dataset: Dataset) -> dict[str, Hashes]:
    """Return the hashes of the urgent rows of a dataset by the name of its file."""
    return {
        name: contents.tickets.urgent if dataset is TICKETS else contents.urgent
        for name, contents in _contents(found, dataset)
    }


def _contents(found: _Found, dataset: Dataset) -> list[tuple[str, Contents]]:
    """Return what is kept of the files of a dataset, in the order of the ledger."""
    return [(name, examined.contents) for (of, name), examined in found.items() if of == dataset.name]


def _of_one_file(found: _Found, manifest: Manifest, sums: _Sums) -> Iterator[Difference]:
    """Yield where the datasets of one file are not what the rows of the others add up to."""

    def table(dataset: Dataset) -> pa.Table:
        tables = [contents.table for _, contents in _contents(found, dataset) if contents.table is not None]
        return pa.concat_tables([dataset.schema.empty_table(), *tables])

    yield from differences.of_metrics(table(METRICS).to_pylist(), manifest, sums.rows)
    summaries = {
        dataset: list(zip(*(column.to_pylist() for column in table(dataset).columns), strict=True))
        for dataset in (BY_TYPE, BY_PRIORITY, BY_TEAM)
    }
    yield from differences.of_summaries(summaries, sums.rows)
    yield from differences.of_hours(table(BY_HOUR), sums.kinds)


def _summed_up(dataset: Dataset, manifest: Manifest, differing: Sequence[Difference]) -> DatasetReport:
    files = manifest.contents.get(dataset.name, {}).values()
    found = [d for d in differing if d.where.partition("/")[0] == dataset.name]
    return DatasetReport(
        dataset.name, len(files), sum(file.rows for file in files), sum(file.bytes for file in files), len(found)
    )
