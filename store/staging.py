"""Files that are complete but not published yet, and the commit that is made of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from contract.arrays import Integers
from contract.uuids import Halves, Ids
from store import exchange
from store.datasets import DATASETS, Dataset
from store.files import NO_EXCHANGE, ChecksummedFile, Disk
from store.formats import WRITERS, TableWriter
from store.manifest import CommitRecord, Exchange, Manifest, PublishedFile, Rename, new_id


class StagedFile(msgspec.Struct, frozen=True):
    """A complete file in the staging folder, and what the ledger will say of it."""

    dataset: str
    name: str
    rows: int
    bytes: int
    checksum: str


class StagedWriter:
    """Writes one staged file, which is complete and forced to the disk once ``finish`` returned. All raise OSError.

    As a context manager it closes the file, also after an error.
    """

    def __init__(self, disk: Disk, path: Path, file_format: str, dataset: Dataset) -> None:
        self._disk = disk
        self._path = path
        self._dataset = dataset
        self._rows = 0
        self._file: BinaryIO = disk.create(path)
        self._sums = ChecksummedFile(self._file)
        self._writer: TableWriter = WRITERS[file_format](self._sums, dataset)

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table``, which has the schema of the dataset."""
        self._writer.write(table)
        self._rows += table.num_rows

    def __enter__(self) -> "StagedWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._sums.abandon()

    def finish(self) -> StagedFile:
        """Complete the file, force it to the disk, and return its description."""
        with self._file:
            self._writer.finish()
            self._disk.sync(self._file)
        return StagedFile(self._dataset.name, self._path.name, self._rows, self._sums.bytes, self._sums.checksum)


@dataclass(frozen=True, slots=True)
class Staging:
    """The staging folder of one commit. A task on another machine gets a copy of this object."""

    folder: Path
    file_format: str
    disk: Disk

    def writer(self, dataset: Dataset, name: str) -> StagedWriter:
        """Begin a file; ``name`` is without suffix. Raises OSError."""
        return StagedWriter(self.disk, self.folder / f"{name}.{self.file_format}", self.file_format, dataset)

    def write(self, dataset: Dataset, name: str, table: pa.Table) -> StagedFile:
        """Write ``table`` as one file. Raises OSError."""
        with self.writer(dataset, name) as writer:
            writer.write(table)
            return writer.finish()


def write_clients(staging: Staging, name: str, client_ids: Collection[str]) -> None:
    """Write client ids to a file that only the driver reads; it is not published. Raises OSError."""
    with staging.disk.create(staging.folder / name) as file:
        file.write(_encode_clients(list(client_ids)))


def read_clients(staging: Staging, name: str) -> list[str]:
    """Return the client ids that ``write_clients`` wrote. Raises OSError."""
    with staging.disk.open(staging.folder / name) as file:
        return _decode_clients(file.read())


_encode_clients = msgspec.msgpack.Encoder().encode
_decode_clients = msgspec.msgpack.Decoder(list[str]).decode


class TicketIds(NamedTuple):
    """The ids of tickets, and the place of each in the topic; columns of equal length."""

    high: Halves
    low: Halves
    partition: Integers
    offset: Integers

    @property
    def ids(self) -> Ids:
        """The ids without their places."""
        return Ids(self.high, self.low)

    def at(self, rows: slice | Integers) -> "TicketIds":
        """Return the given rows."""
        return TicketIds(self.high[rows], self.low[rows], self.partition[rows], self.offset[rows])


_ID_COLUMNS = ("<u8", "<u8", "<i8", "<i8")
_ID_BYTES = 32


def write_ids(staging: Staging, name: str, ids: TicketIds) -> None:
    """Write ids, column by column, to a file that only the driver reads; it is not published. Raises OSError."""
    with staging.disk.create(staging.folder / name) as file:
        for column, kind in zip(ids, _ID_COLUMNS, strict=True):
            file.write(np.ascontiguousarray(column, kind).data.cast("B"))


def read_ids(staging: Staging, name: str) -> TicketIds:
    """Return the ids that ``write_ids`` wrote, as a memory map, so that only used pages are read. Raises OSError."""
    content = staging.disk.map(staging.folder / name)
    count, start, columns = len(content) // _ID_BYTES, 0, []
    for kind in _ID_COLUMNS:
        columns.append(np.frombuffer(content, kind, count, start))
        start += columns[-1].nbytes
    return TicketIds(*columns)


class Change:
    """The next commit of an output: which staged files are published under which names, and which files are removed.

    Commits of every kind are made here, so that each names the commit that it follows.
    """

    def __init__(self, root: Path, staging: Staging, before: Manifest | None, kind: str) -> None:
        self._root = root
        self._before = before
        self._kind = kind
        self._contents = {d.name: dict(before.contents.get(d.name, {})) if before else {} for d in DATASETS}
        self._renames: list[Rename] = []
        self._removals: list[str] = []
        self._exchanges: list[Exchange] = []
        self.staging = staging
        self.commit = before.commit + 1 if before else 1
        self.commit_id = new_id()

    def names(self, dataset: Dataset) -> list[str]:
        """Return the files that the dataset has after what was added to this commit so far."""
        return list(self._contents[dataset.name])

    def publish(self, staged: StagedFile, stem: str, batches: tuple[int, int], rewrites: int = 0) -> None:
        """Publish a staged file as ``stem`` with the suffix of its format; ``batches`` are the first and the last."""
        name = f"{stem}.{self.staging.file_format}"
        self._contents[staged.dataset][name] = PublishedFile(
            staged.rows, staged.bytes, staged.checksum, *batches, self.commit, rewrites
        )
        path = (self.staging.folder / staged.name).relative_to(self._root)
        self._renames.append(Rename(str(path), f"{staged.dataset}/{name}"))

    def rewrite(self, dataset: Dataset, names: Sequence[str], staged: StagedFile | None, rewrites: int) -> None:
        """Publish ``staged``, or nothing if None, in the place of neighbouring files of the dataset.

        The new name was never used before, and sorts where the old ones did.
        """
        files = self._contents[dataset.name]
        place = list(files).index(names[0])
        first, last = files[names[0]], files[names[-1]]
        for name in names:
            self.remove(dataset, name)
        if staged is None:
            return
        after = list(files.items())[place:]
        stem = f"{PurePath(names[0]).stem.partition('-to-')[0]}-to-{last.last_batch:06d}-{self.commit:06d}"
        self.publish(staged, stem, (first.first_batch, last.last_batch), rewrites)
        for name, file in after:
            # Append the later files again, so that the order of the dataset stays the same.
            del files[name]
            files[name] = file

    def exchange_folders(self) -> str | None:
        """Exchange as a whole the folder of each dataset that loses files; return why that is not possible, or None.

        Otherwise a reader that lists the folder during the commit may find some old and some new files. Call it once,
        when all files are named. Raises OSError, and DataConflict when a published file was changed.
        """
        waiting = {rename.published: self._root / rename.staged for rename in self._renames}
        losing = _by_dataset(self._removals)
        exchanges: list[Exchange] = []
        folders = [self._root / dataset for dataset in losing]
        if folders and (refused := exchange.refusal(self.staging.disk, self.staging.folder, folders)):
            return refused
        for dataset, old in losing.items():
            new = {name: waiting[f"{dataset}/{name}"] for name in _by_dataset(waiting).get(dataset, [])}
            folder = self.staging.folder / dataset
            files = self._contents[dataset]
            try:
                exchanges.append(exchange.prepare(self.staging.disk, self._root, folder, files, new, old))
            except OSError as error:
                if error.errno not in NO_EXCHANGE:
                    raise
                return f"{error.filename}: {error.strerror}"
        self._exchanges = exchanges
        return None

    def replace(self, tables: Iterable[tuple[Dataset, pa.Table]], batch_id: int) -> None:
        """Write one-file datasets again under the same names, so that readers find one file at any moment.

        Raises OSError.
        """
        for dataset, table in tables:
            staged = self.staging.write(dataset, dataset.name, table)
            self._contents[dataset.name] = {}
            self.publish(staged, dataset.name, (1, batch_id))

    def remove(self, dataset: Dataset, name: str) -> None:
        """Remove a published file once the commit is made."""
        del self._contents[dataset.name][name]
        self._removals.append(f"{dataset.name}/{name}")

    def record(self, updated_at: datetime, **changes: Any) -> CommitRecord:
        """Return the commit record; ``changes`` are the other fields of the manifest that this commit sets."""
        chain: dict[str, Any] = {
            "output_id": self._before.output_id if self._before else new_id(),
            "commit": self.commit,
            "commit_id": self.commit_id,
            "follows": self._before.commit_id if self._before else None,
            "kind": self._kind,
            "format": self.staging.file_format,
            "updated_at": updated_at,
            "contents": self._contents,
        }
        if self._before is None:
            manifest = Manifest(**chain, **changes)
        else:
            manifest = msgspec.structs.replace(self._before, **chain, **changes)
        # Folders that are exchanged bring their files with them, so these are not renamed or removed one by one.
        whole = {each.dataset for each in self._exchanges}
        renames = [rename for rename in self._renames if rename.published.partition("/")[0] not in whole]
        removals = [name for name in self._removals if name.partition("/")[0] not in whole]
        return CommitRecord(manifest, renames, removals, self._exchanges)


def _by_dataset(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of files, given as ``dataset/name``, by dataset."""
    names: dict[str, list[str]] = {}
    for path in paths:
        dataset, _, name = path.partition("/")
        names.setdefault(dataset, []).append(name)
    return names
