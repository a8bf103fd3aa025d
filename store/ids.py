"""The ids of all published tickets, to find duplicates at a cost that depends on the new tickets only.

    ids/<commit_id>.json                  which runs hold the ids of the tickets after that commit
    ids/<name>.high, ids/<name>.low       a run: ids in ascending order, their high and their low 64 bits

No file is ever changed. The files of a commit are written before the output is committed, beside those of the commit
before it. If the commit is not made, the earlier files still count, and the new ones are removed. If the files for the
commit of the ledger are missing or changed, the set is made again from the published tickets. So it is a cache that can
be deleted, and nothing of it is forced to the disk.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from contract.arrays import Mask
from contract.uuids import Ids, ids_of
from runtime.errors import DataConflict
from store.check import is_file_name
from store.datasets import TICKETS
from store.files import ChecksummedFile, Disk, Entry, checksum, make_folders, read_if_there, reading, writing
from store.manifest import WAY_OUT, Manifest, new_id
from store.output import Output
from store.sorted_ids import contains, order_of, pieces

_log = logging.getLogger(__name__)

# How many ids are sorted at a time.
PIECE = 1 << 18
# How many ids make a run when the set is made again. Each takes some 60 bytes of memory meanwhile.
_FILL = 1 << 20
# How many runs of about the same size are merged into one. Runs larger than _LARGE are not merged, so a merge writes at
# most 268 MB.
_MERGED = 4
_LARGE = 1 << 22
_BYTES = 8
# Files with other suffixes in the folder are not ours, so they are not removed.
_SUFFIXES = (".json", *(f".{half}" for half in Ids._fields))


class Run(msgspec.Struct, frozen=True):
    """A sorted run on the disk, with the checksums of its two files."""

    name: str
    ids: int
    high: str
    low: str


class _Index(msgspec.Struct, frozen=True):
    runs: list[Run]


class RunWriter:
    """Writes a run from ascending ids. As a context manager it closes the files, finished or not."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._name = new_id()[:16]
        self._disk = disk
        self._files = [ChecksummedFile(disk.create(folder / f"{self._name}.{half}")) for half in Ids._fields]
        self._ids = 0

    def append(self, ids: Ids) -> None:
        """Write ``ids``, which are ascending and above all ids before."""
        for file, column in zip(self._files, ids, strict=True):
            file.write(np.ascontiguousarray(column, "<u8").data.cast("B"))
        self._ids += len(ids.high)

    def finish(self) -> Run:
        """Close the files and return their description."""
        for file in self._files:
            file.close()
        return Run(self._name, self._ids, *(file.checksum for file in self._files))

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.abandon()


class IdSet:
    """The ids of the published tickets of an output, as of one commit. Methods raise OutputUnavailable."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._runs: dict[Run, Ids] = {}
        # What lay at the paths of a run when its checksums were verified.
        self._places: dict[Run, list[Entry | None]] = {}

    def open(self, output: Output, manifest: Manifest | None, between: Callable[[], None] = lambda: None) -> None:
        """Load the set as of the commit of ``manifest``; if its files are missing or changed, make it again.

        ``between`` is called now and then: it may report progress, or abort by raising. Raises DataConflict when the
        published tickets were changed.
        """
        commit_id, tickets = (manifest.commit_id, manifest.totals.tickets) if manifest else ("", 0)
        with writing(self._folder):
            make_folders(self._disk, self._folder)
            runs = self._find(commit_id, tickets)
            if runs is None:
                self._runs = {}
                runs = self._fill(output, manifest, between) if manifest and tickets else []
                self._write_index(commit_id, runs)
            self._runs = {run: self._map(run) for run in runs}
            self._forget_others(commit_id)

    def _find(self, commit_id: str, tickets: int) -> list[Run] | None:
        """Return the runs of a commit; None if they are missing, were changed, or belong to another output."""
        with reading(self._folder):
            content = read_if_there(self._disk, self._index(commit_id))
            try:
                runs = msgspec.json.decode(content or b"", type=_Index).runs
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return None
            if sum(run.ids for run in runs) != tickets:
                return None
            return runs if all(map(self._is_sound, runs)) else None

    def _is_sound(self, run: Run) -> bool:
        """Whether the files of a run are as written. Files that were verified before are not read again."""
        if not is_file_name(run.name):
            return False
        paths = self._paths(run.name)
        places = [self._disk.look(path) for path in paths]
        if self._places.get(run) == places:
            return True
        # If the file became shorter, reading its memory map would kill the process (SIGBUS), so drop the map.
        self._runs.pop(run, None)
        self._places.pop(run, None)
        sound = all(place and place.is_file and place.bytes == run.ids * _BYTES for place in places) and all(
            checksum(self._disk, path) == expected for path, expected in zip(paths, (run.high, run.low), strict=True)
        )
        if sound:
            self._places[run] = places
        return sound

    def _map(self, run: Run) -> Ids:
        if run in self._runs:
            return self._runs[run]
        return Ids(*(np.frombuffer(self._disk.map(path), "<u8") for path in self._paths(run.name)))

    def _fill(self, output: Output, manifest: Manifest, between: Callable[[], None]) -> list[Run]:
        _log.info("making the set of known ticket ids from %s published tickets", f"{manifest.totals.tickets:,}")
        runs, found = list[Run](), 0
        for ids in _gathered(_published(output, manifest, between), _FILL):
            order = order_of(ids)
            runs.append(self.write([Ids(ids.high[order], ids.low[order])]))
            found += len(order)
        if found != manifest.totals.tickets:
            raise DataConflict(
                f"{found:,} tickets are published, but the ledger says {manifest.totals.tickets:,}; {WAY_OUT}"
            )
        return self._merged(runs)

    def contains(self, wanted: Ids) -> Mask:
        """Return which of ``wanted`` are ids of published tickets."""
        known = np.zeros(len(wanted.high), bool)
        for ids in self._runs.values():
            known |= contains(ids, wanted)
        return known

    def write(self, ids: Iterable[Ids]) -> Run:
        """Write a run of ids that ascend from one array to the next. It counts once a commit includes it."""
        with writing(self._folder), RunWriter(self._disk, self._folder) as writer:
            for some in ids:
                writer.append(some)
            return writer.finish()

    def prepare(self, commit_id: str, run: Run | None) -> None:
        """Write the set as of the next commit: the known ids, and those of ``run``."""
        with writing(self._folder):
            self._write_index(commit_id, self._merged([*self._runs, *([run] if run and run.ids else [])]))

    def _merged(self, runs: list[Run]) -> list[Run]:
        """Merge runs of about the same size until there are few."""
        while some := _to_merge(runs):
            mapped = [self._map(run) for run in some]
            runs = [*(run for run in runs if run not in some), self.write(_merge(mapped))]
        return runs

    def _write_index(self, commit_id: str, runs: list[Run]) -> None:
        with self._disk.create(self._index(commit_id)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(_Index(runs)), indent=2) + b"\n")

    def _forget_others(self, commit_id: str) -> None:
        """Remove the files of all commits but ``commit_id``."""
        kept = {self._index(commit_id).name, *(path.name for run in self._runs for path in self._paths(run.name))}
        self._places = {run: places for run, places in self._places.items() if run in self._runs}
        for name in self._disk.names(self._folder):
            if name not in kept and name.endswith(_SUFFIXES):
                self._disk.unlink(self._folder / name)

    def _index(self, commit_id: str) -> Path:
        return _index(self._folder, commit_id)

    def _paths(self, name: str) -> list[Path]:
        return [self._folder / f"{name}.{half}" for half in Ids._fields]


def _index(folder: Path, commit_id: str) -> Path:
    return folder / f"{commit_id or 'none'}.json"


def ids_folder(output: Output) -> Path:
    """Return the folder of the ids of an output."""
    return output.state / "ids"


def carry_ids(output: Output, before: str, after: str) -> None:
    """Keep the set of the commit ``before`` for the commit ``after`` too, which has the same tickets."""
    with writing(ids_folder(output)):
        content = read_if_there(output.disk, _index(ids_folder(output), before))
        if content is not None:
            with output.disk.create(_index(ids_folder(output), after)) as file:
                file.write(content)


def forget_ids(output: Output) -> None:
    """Remove the set. Files that cannot be removed now do no harm: they belong to no later commit."""
    with suppress(OSError):
        if output.disk.look(ids_folder(output)) is not None:
            output.disk.remove_folder(ids_folder(output))


def _to_merge(runs: Sequence[Run]) -> list[Run]:
    """Return the smallest runs of about the same size, if there are enough of them to merge."""
    tiers: dict[int, list[Run]] = {}
    for run in runs:
        if run.ids < _LARGE:
            tiers.setdefault((run.ids.bit_length() - 1) // 2, []).append(run)
    return next((tiers[tier][:_MERGED] for tier in sorted(tiers) if len(tiers[tier]) >= _MERGED), [])


def _merge(lists: Sequence[Ids]) -> Iterator[Ids]:
    for slices in pieces(lists, PIECE):
        ids = joined([Ids(of.high[part], of.low[part]) for of, part in zip(lists, slices, strict=True)])
        order = order_of(ids)
        yield Ids(ids.high[order], ids.low[order])


def joined(parts: Sequence[Ids]) -> Ids:
    """Return the ids of all ``parts`` in one."""
    return Ids(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _gathered(parts: Iterable[Ids], enough: int) -> Iterator[Ids]:
    """Yield all ids of ``parts``, about ``enough`` at a time."""
    waiting, count = list[Ids](), 0
    for ids in parts:
        waiting.append(ids)
        count += len(ids.high)
        if count >= enough:
            yield joined(waiting)
            waiting, count = [], 0
    if count:
        yield joined(waiting)


def _published(output: Output, manifest: Manifest, between: Callable[[], None]) -> Iterator[Ids]:
    reader = output.reader(manifest)
    for name in reader.files(TICKETS):
        reader.require_intact(TICKETS, name)
        for table in reader.tables_of(TICKETS, name, ["ticket_id"]):
            yield ids_of(table["ticket_id"])
            between()
