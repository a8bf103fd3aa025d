"""The output folder and its commit protocol: a batch becomes visible as a whole or not at all.

    <output>/_manifest.json         the ledger
    <output>/<dataset>/…            finished files only
    <output>/.pipeline/lock         held while a processor works here
    <output>/.pipeline/staging/…    files of a batch that is not decided yet
    <output>/.pipeline/commit.json  a decided batch whose files are being renamed

Writing the commit record is the commit point. Before it a crash leaves nothing but staging, which the next start
removes; after it the next start finishes the renames. Every step can be repeated.
"""

import fcntl
import logging
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import DataConflict, OutputUnavailable
from runtime.process.failpoint import failpoint
from store.datasets import DATASETS
from store.formats import sync
from store.manifest import MANIFEST_NAME, CommitRecord, Manifest, encode, read_manifest, read_record

_log = logging.getLogger(__name__)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn the error of a disk that is full or not ours to write into OutputUnavailable."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        file = getattr(error, "filename", None) or place
        raise OutputUnavailable(
            f"cannot write {file}: {getattr(error, 'strerror', None) or error}; free space or give this user the "
            "right to write there, then start again: what is published stays as it is"
        ) from error


class Output:
    """One output folder, locked for one processor at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".pipeline"
        self._staging = self.state / "staging"
        self._record = self.state / "commit.json"

    @contextmanager
    def locked(self) -> Iterator["Output"]:
        """Create the folder and hold its lock. Raises OutputUnavailable when another processor holds it."""
        with writing(self.root):
            self.state.mkdir(parents=True, exist_ok=True)
            lock = (self.state / "lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputUnavailable(
                    f"another processor is writing {self.root}; wait until it is done, stop it, or choose another "
                    "--output-path"
                ) from None
            yield self

    def recover(self) -> Manifest | None:
        """Finish a decided batch, remove an undecided one, and return the manifest (None for a new output).

        Raises DataConflict when manifest and datasets do not belong together, OutputUnavailable when they cannot be
        read.
        """
        with writing(self.root):
            if self._record.exists():
                record = read_record(self._record)
                _log.warning("finishing batch %d, which an earlier run had decided", record.manifest.batch_id)
                self._publish(record)
            if self._staging.exists():
                shutil.rmtree(self._staging)
            manifest = read_manifest(self.root)
            if manifest is None:
                self._require_no_files()
            else:
                self._require_files(manifest)
        return manifest

    def new_staging(self, batch_id: int) -> Path:
        """Return a new folder for the files of a batch. Its name never repeats: no straggler can write into it."""
        staging = self._staging / f"batch-{batch_id:06d}-{uuid.uuid4().hex[:8]}"
        with writing(staging):
            staging.mkdir(parents=True)
        return staging

    def discard_staging(self) -> None:
        """Remove everything that was staged and not committed."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def commit(self, record: CommitRecord) -> None:
        """Decide the batch and publish it. The staged files must be on the disk already."""
        failpoint("staged")
        with writing(self.root):
            for folder in sorted({(self.root / rename.staged).parent for rename in record.renames}):
                sync(folder)
            _replace(self._record, encode(record))
            failpoint("committed")
            self._publish(record)
        self.discard_staging()

    def _publish(self, record: CommitRecord) -> None:
        touched = {self.root}
        for dataset in DATASETS:
            (self.root / dataset.name).mkdir(exist_ok=True)
        for number, rename in enumerate(record.renames):
            if number == 1:
                failpoint("between-renames")
            staged, published = self.root / rename.staged, self.root / rename.published
            if staged.exists():
                staged.replace(published)
            elif not published.exists():
                raise DataConflict(
                    f"batch {record.manifest.batch_id} was decided, but its file {staged} is gone: restore it, or "
                    "choose another --output-path to read the topic again from its start"
                )
            touched.add(published.parent)
        for folder in sorted(touched):
            sync(folder)
        failpoint("before-manifest")
        _replace(self.root / MANIFEST_NAME, encode(record.manifest))
        for name in record.removals:
            (self.root / name).unlink(missing_ok=True)
        self._record.unlink()
        sync(self.state)

    def _require_no_files(self) -> None:
        for dataset in DATASETS:
            folder = self.root / dataset.name
            if folder.is_dir() and any(folder.iterdir()):
                raise DataConflict(
                    f"{folder} holds files, but {self.root / MANIFEST_NAME} is missing: nobody knows which messages "
                    "they cover; restore the manifest, or move the folder away, or choose another --output-path"
                )

    def _require_files(self, manifest: Manifest) -> None:
        for dataset, names in manifest.files.items():
            present = (
                {entry.name for entry in os.scandir(self.root / dataset)} if (self.root / dataset).is_dir() else set()
            )
            if lost := sorted(set(names) - present):
                raise DataConflict(
                    f"{self.root / dataset} lacks {len(lost)} published files, the first is {lost[0]}: restore them, "
                    "or choose another --output-path to read the topic again from its start"
                )


def _replace(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a crash leaves the old or the new file, never a part of one."""
    new = path.parent / f".{path.name}.new"
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)
