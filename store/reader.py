"""Read an output: which files belong to it, and what they hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import maxsize
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from runtime.errors import DataConflict, PipelineError
from runtime.settings.location import OutputLocation
from store.datasets import Dataset
from store.files import Disk, checksum, reading
from store.formats import Damaged, read_last_tables, read_tables
from store.manifest import WAY_OUT, Manifest, PublishedFile, read_manifest

T = TypeVar("T")


class Reader:
    """The rows of an output as of the commit of ``manifest``.

    A later batch adds files and replaces one-file datasets, so the reader stays usable. A conversion, compaction or
    erasure removes files: then read the manifest again. All methods raise DataConflict when a file is gone or damaged,
    OutputUnavailable when it cannot be read. ``staged`` maps files (``dataset/name``) of a decided commit that are not
    published yet to where they are.
    """

    def __init__(self, root: Path, manifest: Manifest, disk: Disk, staged: Mapping[str, Path] | None = None) -> None:
        self.manifest = manifest
        self._staged = staged or {}
        self._root = root
        self._disk = disk

    def files(self, dataset: Dataset) -> dict[str, PublishedFile]:
        """Return the files of a dataset, by name, in the order in which they were published."""
        return self.manifest.contents[dataset.name]

    def path(self, dataset: Dataset, name: str) -> Path:
        """Return the path of a file, which may still be in staging."""
        return self._staged.get(f"{dataset.name}/{name}", self._root / dataset.name / name)

    def table(self, dataset: Dataset) -> pa.Table:
        """Return all rows of a dataset."""
        return pa.concat_tables([dataset.schema.empty_table(), *self.tables(dataset)])

    def intact_table(self, dataset: Dataset) -> pa.Table:
        """Return all rows of a dataset, once its files were found to be what was published."""
        for name in self.files(dataset):
            self.require_intact(dataset, name)
        return self.table(dataset)

    def rows(self, dataset: Dataset) -> list[dict[str, Any]]:
        """Return all rows of a dataset, as Python values."""
        found: list[dict[str, Any]] = self.table(dataset).to_pylist()
        return found

    def tables(self, dataset: Dataset, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a dataset in pieces of bounded size; only ``columns``, if given."""
        for name in self.files(dataset):
            yield from self.tables_of(dataset, name, columns)

    def tables_of(self, dataset: Dataset, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of one file in pieces of bounded size."""
        with self._opened(dataset, name) as file:
            yield from read_tables(self.manifest.format, file, dataset, columns)

    def last_tables_of(
        self, dataset: Dataset, name: str, rows: int, columns: Sequence[str] | None = None, bytes_at_most: int = maxsize
    ) -> Iterator[pa.Table]:
        """Yield the last ``rows`` rows of one file; fewer, but at least one, if they take ``bytes_at_most``."""
        with self._opened(dataset, name) as file:
            yield from read_last_tables(self.manifest.format, file, dataset, rows, columns, bytes_at_most)

    @contextmanager
    def _opened(self, dataset: Dataset, name: str) -> Iterator[BinaryIO]:
        path = self.path(dataset, name)
        try:
            with reading(path), self._disk.open(path) as file:
                yield file
        except Damaged as damage:
            raise DataConflict(f"{path} is damaged ({damage}); {WAY_OUT}") from None

    def require_intact(self, dataset: Dataset, name: str) -> None:
        """Raise DataConflict unless a file is, to the byte, the one that was published. It is read whole."""
        path = self.path(dataset, name)
        with reading(path):
            if self._disk.look(path) is None:
                raise DataConflict(f"{path} was published and is gone; {WAY_OUT}")
            found = checksum(self._disk, path)
        if found != self.files(dataset)[name].checksum:
            raise DataConflict(f"{path} is not the file that was published: its checksum differs; {WAY_OUT}")


def open_output(location: OutputLocation, disk: Disk | None = None) -> Reader | None:
    """Return a reader of the output as it is now; None if nothing was published yet.

    No lock is taken. Raises DataConflict when the ledger cannot be decoded, OutputUnavailable when it cannot be read.
    """
    disk = disk or Disk()
    manifest = read_manifest(disk, location.folder)
    return None if manifest is None else Reader(location.folder, manifest, disk)


def read_current(location: OutputLocation, read: Callable[[Reader], T], disk: Disk | None = None) -> T | None:
    """Return what ``read`` makes of the output as it is now; None when nothing was published yet.

    A processor may work meanwhile: if files go because of another commit, those of that one are read. Raises what
    ``open_output`` and ``read`` raise.
    """
    before = None
    while reader := open_output(location, disk):
        try:
            return read(reader)
        except PipelineError:
            if before == reader.manifest.commit_id:
                raise
            before = reader.manifest.commit_id
    return None
