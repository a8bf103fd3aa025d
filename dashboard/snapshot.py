"""The data that the page shows: read once for each commit, and shared by all visitors."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from runtime.errors import PipelineError
from runtime.settings.location import OutputLocation
from store.datasets import BY_HOUR, REJECTED, TICKETS, Dataset
from store.files import Disk
from store.manifest import Manifest
from store.reader import Reader, open_output
from store.status import Status, read_status

# Figures that need single tickets use this many of the newest ones.
NEWEST_TICKETS = 200_000
NEWEST_REJECTED = 10_000
# Payloads may be large, so the newest rejected messages are limited to about this size.
_REJECTED_BYTES = 32 << 20
_PAYLOAD_BYTES = 300

# Within this time, all visitors get the same result without another read.
_FRESH_FOR_S = 0.5
_TRIES = 5
_RETRY_S = 0.2


@dataclass(frozen=True)
class Snapshot:
    """An output as of one commit: its ledger, all hours, and the newest tickets and rejected messages.

    ``tickets`` are in the order in which they were published. ``rejected`` has only the beginning of each payload.
    """

    manifest: Manifest
    hours: pa.Table
    tickets: pa.Table
    rejected: pa.Table


@dataclass(frozen=True)
class Look:
    """What was found. If there is neither a snapshot nor a problem, nothing was published yet.

    If there are both, the files of the newest commit could not be read, and the snapshot is that of an earlier one.
    """

    snapshot: Snapshot | None
    status: Status | None
    problem: str = ""


class Snapshots:
    """The newest snapshot of one output, for any number of threads.

    A file of an appended dataset never changes, so the rows of the newest files are kept, and after a commit only new
    files are read.
    """

    def __init__(
        self,
        location: OutputLocation,
        disk: Disk | None = None,
        seconds: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._location = location
        self._disk = disk or Disk()
        self._seconds = seconds
        self._pause = pause
        self._lock = threading.Lock()
        self._look = Look(None, None)
        self._looked_at = float("-inf")
        self._tickets = _Newest(TICKETS, NEWEST_TICKETS)
        self._rejected = _Newest(REJECTED, NEWEST_REJECTED, _REJECTED_BYTES, _with_short_payloads)

    def look(self) -> Look:
        """Return what is there now. Errors of the output are returned as ``problem``, not raised."""
        with self._lock:
            if self._seconds() - self._looked_at >= _FRESH_FOR_S:
                self._look = self._look_again()
                self._looked_at = self._seconds()
            return self._look

    def _look_again(self) -> Look:
        status = read_status(self._disk, self._location.folder)
        for attempt in range(_TRIES):
            if attempt:
                self._pause(_RETRY_S)
            try:
                reader = open_output(self._location, self._disk)
            except PipelineError as error:
                return Look(None, status, str(error))
            if reader is None:
                return Look(None, status)
            try:
                return Look(self._snapshot(reader, last=attempt == _TRIES - 1), status)
            except _BeingPublished:
                continue
            except PipelineError as error:
                # A conversion or compaction may have removed files after this ledger was read: read the new ledger.
                found = str(error)
        return replace(self._look, status=status, problem=found)

    def _snapshot(self, reader: Reader, last: bool) -> Snapshot:
        """Return the snapshot of ``reader``; the previous one if nothing was committed since.

        Raises PipelineError when a file cannot be read. Raises _BeingPublished when the files are those of another
        commit than the ledger, except at the ``last`` attempt.
        """
        before = self._look.snapshot
        if before and not self._look.problem and before.manifest.commit_id == reader.manifest.commit_id:
            return before
        hours = reader.table(BY_HOUR)
        if not last and (pc.sum(hours["count"]).as_py() or 0) != reader.manifest.totals.tickets:
            raise _BeingPublished
        return Snapshot(reader.manifest, hours, self._tickets.read(reader), self._rejected.read(reader))


class _BeingPublished(Exception):
    """The one-file datasets and the ledger are not of the same commit."""


class _Newest:
    """The newest rows of an appended dataset."""

    def __init__(
        self,
        dataset: Dataset,
        rows: int,
        bytes_at_most: int = 1 << 62,
        shorten: Callable[[pa.Table], pa.Table] = lambda table: table,
    ) -> None:
        self._dataset = dataset
        self._rows = rows
        self._bytes_at_most = bytes_at_most
        self._shorten = shorten
        # By name and checksum, because a name alone does not identify the content.
        self._files: dict[tuple[str, str], pa.Table] = {}

    def read(self, reader: Reader) -> pa.Table:
        """Return the last rows of the dataset. Raises PipelineError."""
        files = reader.files(self._dataset)
        missing = self._rows
        kept: dict[tuple[str, str], pa.Table] = {}
        for name in reversed(files):
            if missing <= 0:
                break
            file = files[name]
            key = name, file.checksum
            # The kept rows may be fewer than are wanted now.
            known = self._files.get(key)
            if known is None or known.num_rows < min(missing, file.rows):
                known = self._read_file(reader, name, missing)
            kept[key] = known
            missing -= file.rows
        self._files = kept
        tables = [self._shorten(self._dataset.schema.empty_table()), *reversed(kept.values())]
        return pa.concat_tables(tables).combine_chunks()[-self._rows :]

    def _read_file(self, reader: Reader, name: str, rows: int) -> pa.Table:
        pieces: Iterator[pa.Table] = reader.last_tables_of(self._dataset, name, rows, bytes_at_most=self._bytes_at_most)
        short = [self._shorten(piece) for piece in pieces]
        return pa.concat_tables([self._shorten(self._dataset.schema.empty_table()), *short]).combine_chunks()


def _with_short_payloads(rejected: pa.Table) -> pa.Table:
    """Return rejected messages without keys, and with only the beginning of their payloads."""
    payload = pc.binary_slice(rejected["payload"], 0, _PAYLOAD_BYTES)
    return rejected.drop_columns(["key", "payload"]).append_column("payload", payload)
