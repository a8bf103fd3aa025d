"""Verify that what is published is what the ledger says, and that all datasets and totals follow from the rows.

Everything is read and counted again from the rows (``store.recount``, ``store.differences``): names, sizes, checksums
and rows of all files, and each total. Only schemas, ledger and readers are shared with the code that is checked.

No lock is taken, so a processor may work meanwhile. A pass over the output is valid for the ledger that it began with.
If the ledger changes, the next pass reads only new files, because a published file never changes. Memory: 32 bytes for
each urgent ticket, 16 for any other one and for a rejected message, 8 for each client of each file, beside the columns
of two row groups, or of 64 MiB of JSON.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from runtime.errors import DataConflict, OutputUnavailable
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
from store.differences import Difference, FoundIds, Rows
from store.files import Disk, reading
from store.formats import WRITERS
from store.manifest import Manifest, PublishedFile, Source, Window
from store.recount import Hashes, Tally
from store.reread import Contents, Examined, RejectedRows, examine, read_clients, read_ids
from store.view import View, finished, read_state

# If the ledger changes more often than this while the output is read, verification gives up.
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
    """What was found in an output as of one commit. ``repeated`` is how many tickets repeat the id of another one.

    Repeated ids are a difference only if ``deduped_from`` is 1.
    """

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
    deduped_from: int | None = None
    window: Window | None = None
    repeated: int = 0
    repeats: list[Repeat] = []


# By dataset and file name.
_Found = dict[tuple[str, str], Examined]


def verify(location: OutputLocation, disk: Disk | None = None, sleep: Callable[[float], None] = time.sleep) -> Report:
    """Return what was found in the output.

    Raises SettingError when there is no output, DataConflict when its ledger cannot be decoded, OutputUnavailable when
    something cannot be read, or the ledger changes all the time.
    """
    return _Verification(location.folder, disk or Disk(), sleep).run()


class _Verification:
    def __init__(self, root: Path, disk: Disk, sleep: Callable[[float], None]) -> None:
        self._root = root
        self._disk = disk
        self._sleep = sleep
        self._state = root / ".pipeline"
        # Files that an earlier pass found in order and that are still in the ledger.
        self._sound: dict[tuple[str, str], tuple[PublishedFile, Examined]] = {}
        self._ids: list[Hashes] = []

    def run(self) -> Report:
        """Make passes until the ledger stays the same during one; then search for repeated ids, which takes longest."""
        report, manifest = self._settle()
        repeated, examples = recount.repeats(self._ids, _REPEATS_TOLD)
        differing = [
            *report.differences,
            *differences.of_repeats(manifest, repeated, examples[0][0] if examples else ""),
        ]
        return msgspec.structs.replace(
            report,
            datasets=[_summed_up(dataset, manifest, differing) for dataset in DATASETS],
            repeated=repeated,
            repeats=[Repeat(*each) for each in examples],
            differences=differing,
        )

    def _settle(self) -> tuple[Report, Manifest]:
        """Make passes over the output until the ledger stays the same during one."""
        patience = _PATIENCE_S
        sound: tuple[Report, Manifest] | None = None
        for _ in range(_MOST_LOOKS):
            record, ledger = read_state(self._disk, self._root)
            interrupted = record if patience <= 0 else None
            try:
                view = finished(self._root, self._disk, ledger, interrupted) if interrupted else View(ledger)
            except DataConflict:
                # Record and ledger were read one after the other, so a commit in between may explain the conflict.
                if read_state(self._disk, self._root) != (record, ledger):
                    continue
                raise
            report = self._look(view)
            if read_state(self._disk, self._root) != (record, ledger):
                # The ledger changed, but if the pass found no difference, its report is valid for the ledger it began
                # with. Keep it in case no later pass is left alone.
                sound = None if report.differences else (report, view.manifest)
                continue
            if record is None or patience <= 0:
                return report, view.manifest
            decided = finished(self._root, self._disk, ledger, record)
            if not report.differences:
                return msgspec.structs.replace(report, notes=[decided.note, *report.notes]), view.manifest
            # A commit is under way, so there may be files that the ledger does not name yet: wait until it is over.
            while patience > 0 and read_state(self._disk, self._root) == (record, ledger):
                self._sleep(_PAUSE_S)
                patience -= _PAUSE_S
        if sound is not None:
            return sound
        raise OutputUnavailable(
            f"{self._root} changed {_MOST_LOOKS} times while it was read; stop its processor, or give it a longer "
            "--interval, and verify it again"
        )

    def _look(self, view: View) -> Report:
        manifest = view.manifest
        found = self._examine_all(view)
        sums = _add_up(found)
        strange, notes = self._strangers(view)
        of_teams, routed = differences.of_teams(manifest, sums.teams)
        of_clients, known = self._clients(manifest, sums.clients)
        of_ids, indexed = self._id_set(manifest, sums.ids)
        # In this order, a cause is listed before its consequences.
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
            *of_ids,
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
            deduped_from=manifest.deduped_from,
            window=manifest.window,
            datasets=[],
            tickets=sums.rows.tickets,
            unique_clients=sums.rows.clients,
            rejected=sums.rows.rejected,
            differences=differing,
            notes=[note for note in (view.note, *notes, *routed, *known, *indexed) if note],
        )

    def _examine_all(self, view: View) -> _Found:
        """Read each file of the ledger that no earlier pass has found in order."""
        files = {
            (d.name, name): file for d in DATASETS for name, file in view.manifest.contents.get(d.name, {}).items()
        }
        self._sound = {key: sound for key, sound in self._sound.items() if files.get(key) == sound[0]}
        # Checksums and decoding Parquet release Python's global lock, so a second thread helps. JSON does not.
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
        """Return files in the dataset folders that are not part of the output: those that readers count, and notes."""
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
                notes.append(f"{dataset.name} holds {others[0]!r}, which is not part of the output")
        return counted, notes

    def _clients(self, manifest: Manifest, published: Hashes) -> tuple[list[Difference], list[str]]:
        path = self._state / "clients.sqlite"
        with reading(path):
            if self._disk.look(path) is None:
                return [], ["clients.sqlite is not there: the next start fills it from the tickets"]
        found = read_clients(path, manifest.commit)
        if found is None:
            return [], ["clients.sqlite was in use or cannot be read; a processor fills it again if needed"]
        return differences.of_clients(found, manifest, published)

    def _id_set(self, manifest: Manifest, ids: Sequence[Hashes]) -> tuple[list[Difference], list[str]]:
        if manifest.deduped_from is None:
            return [], []
        found = read_ids(self._state / "ids", manifest.commit_id)
        if found is None:
            return [], ["the set of known ticket ids is missing or damaged: the next batch makes it again"]
        total = 0
        for of_file in ids:
            total = recount.fingerprint(of_file[:, 0], of_file[:, 1], total)
        published = FoundIds(sum(map(len, ids)), total)
        return list(differences.of_ids(found, published)), []


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the rows of all files add up to."""

    rows: Rows
    kinds: Tally
    clients: Hashes
    ids: list[Hashes]
    rejected: RejectedRows
    wrong: Mapping[str, int]
    teams: Mapping[str, Mapping[tuple[str, str, str], int]]


def _add_up(found: _Found) -> _Sums:
    tickets = [contents.tickets for _, contents in _contents(found, TICKETS)]
    kinds = Tally.sum(of.kinds for of in tickets)
    clients = np.unique(np.concatenate([np.empty(0, np.uint64), *(of.clients for of in tickets)]))
    rejected = [RejectedRows(), *(contents.rejected for _, contents in _contents(found, REJECTED))]
    offsets = np.concatenate([of.offsets for of in rejected])
    by_team: Counter[str] = Counter()
    for of in tickets:
        for (_, _, team), count in of.teams.items():
            by_team[team] += count
    rows = Rows(
        tickets=sum(of.rows for of in tickets),
        clients=len(clients),
        rejected=len(offsets),
        by_type=recount.by_type(kinds),
        by_priority=recount.by_priority(kinds),
        by_team=by_team,
    )
    return _Sums(
        rows,
        kinds,
        clients,
        [of.ids for of in tickets],
        RejectedRows(np.concatenate([of.partitions for of in rejected]), offsets),
        sum((of.wrong for of in tickets), Counter()),
        {name: contents.tickets.teams for name, contents in _contents(found, TICKETS)},
    )


def _hashes(found: _Found, dataset: Dataset) -> dict[str, Hashes]:
    """Return the hashes of the urgent rows of a dataset, by file name."""
    return {
        name: contents.tickets.urgent if dataset is TICKETS else contents.urgent
        for name, contents in _contents(found, dataset)
    }


def _contents(found: _Found, dataset: Dataset) -> list[tuple[str, Contents]]:
    """Return what is kept of the files of a dataset, in the order of the ledger."""
    return [(name, examined.contents) for (of, name), examined in found.items() if of == dataset.name]


def _of_one_file(found: _Found, manifest: Manifest, sums: _Sums) -> Iterator[Difference]:
    """Yield where the one-file datasets are not what the rows of the others add up to."""

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
