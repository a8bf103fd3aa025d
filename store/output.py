"""The output folder and its commit protocol: a commit becomes visible as a whole or not at all.

    <output>/_manifest.json         the ledger
    <output>/<dataset>/…            finished files only
    <output>/.pipeline/lock         held while a processor works here
    <output>/.pipeline/staging/…    files of a commit that is not decided yet
    <output>/.pipeline/commit.json  a decided commit whose files are being renamed
    <output>/.pipeline/replaced/…   folders of datasets that were exchanged, for ten minutes

Writing the commit record is the commit point. If a crash comes before it, only staging is left, which the next start
removes. If it comes after it, the next start finishes the renames. Every step can be repeated. A record names the
commit that it follows, and is valid only after that one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from runtime.errors import DataConflict, OutputUnavailable, PipelineError
from runtime.process.clock import Clock
from runtime.process.failpoint import failpoint
from runtime.settings.location import OutputLocation
from store import exchange
from store.check import require_folder, require_no_datasets, require_none_counted, require_sound
from store.datasets import DATASETS
from store.files import (
    NO_LOCKS,
    Disk,
    make_folders,
    read_if_there,
    reading,
    remove_if_there,
    replace_content,
    writing,
)
from store.manifest import (
    MANIFEST_NAME,
    UNREADABLE_MANIFEST,
    VERSION,
    WAY_OUT,
    CommitRecord,
    Exchange,
    Manifest,
    Rename,
    commit_id_of,
    decode_manifest,
    encode,
    new_id,
    version_of,
)
from store.reader import Reader
from store.recovery import examine
from store.replaced import ReplacedFolders
from store.staging import Change, Staging
from store.upgrade import decode_version_1, upgrade_version_1

_log = logging.getLogger(__name__)


class Output:
    """One output folder, locked for one processor at a time."""

    def __init__(self, location: OutputLocation, disk: Disk | None = None, clock: Clock | None = None) -> None:
        self.disk = disk or Disk()
        self.root = location.folder
        self.state = self.root / ".pipeline"
        self._manifest_file = self.root / MANIFEST_NAME
        self._record_file = self.state / "commit.json"
        self._staging = self.state / "staging"
        self._lock_file = self.state / "lock"
        self._clock = clock or Clock()
        self.replaced = ReplacedFolders(self.state / "replaced", self.disk, self._clock)
        self._held: tuple[object, object] | None = None

    @contextmanager
    def locked(self) -> Iterator["Output"]:
        """Create the folder and hold its lock. Raises OutputUnavailable when another processor holds it."""
        with writing(self.root):
            make_folders(self.disk, self.state)
            lock = self._lock()
        with lock:
            self._held = self._identity()
            try:
                yield self
            except (PipelineError, OSError):
                # If the folder is gone, that is the cause of the error, so report it instead.
                self._require_own()
                raise

    def _lock(self) -> BinaryIO:
        try:
            return self.disk.lock(self._lock_file)
        except BlockingIOError:
            raise OutputUnavailable(
                f"another processor is writing {self.root}; wait until it is done, stop it, or choose another "
                "--output-path"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise OutputUnavailable(
                f"cannot lock {self._lock_file}: {error.strerror}; its file system does not support locks (flock), or "
                "the lock service of its network is not running; choose an --output-path on a file system with locks: "
                "nothing was changed"
            ) from None

    def _identity(self) -> tuple[object, object]:
        """Return the identity of the folder and of its lock, to notice when another one takes its place."""
        with reading(self.root):
            folder, lock = self.disk.look(self.root, follow=True), self.disk.look(self._lock_file)
        return folder and folder.identity, lock and lock.identity

    def recover(self) -> Manifest | None:
        """Finish a decided commit, remove an undecided one, and return the manifest (None for a new output).

        An output of an earlier version is upgraded. Raises DataConflict, and changes nothing, when ledger, record and
        files do not belong together; OutputUnavailable when they cannot be read or written.
        """
        self._require_one_file_system()
        content = self._read(self._manifest_file)
        record = self._read(self._record_file)
        if record is not None:
            decided = examine(self.disk, self.root, self._record_file, record, content)
            with writing(self.root):
                # If the ledger is already that of the record, only the cleaning up is left to do.
                if not decided.in_force:
                    self._publish(decided.renames, decided.exchanges, decided.manifest)
                self._clean_up(decided.removals, decided.exchanges)
            content = decided.manifest
        manifest = self._checked(content)
        self.discard_staging()
        self.replaced.remove_old()
        if manifest is not None and manifest.commit == 0:
            manifest = self._commit_upgrade(manifest)
        return manifest

    def _read(self, path: Path) -> bytes | None:
        with reading(path):
            return read_if_there(self.disk, path)

    def _checked(self, content: bytes | None) -> Manifest | None:
        """Return the manifest in ``content`` after checking it against the folder."""
        if content is None:
            require_no_datasets(self.disk, self.root)
            return None
        version = version_of(self._manifest_file, content, UNREADABLE_MANIFEST)
        if version == 1:
            old = decode_version_1(self._manifest_file, content)
            return upgrade_version_1(self.disk, self.root, old, content)
        manifest = decode_manifest(self._manifest_file, content)
        require_sound(manifest, self._manifest_file)
        require_folder(self.disk, self.root, manifest)
        if version < VERSION:
            _warn_of_upgrade(version)
        return manifest

    def _commit_upgrade(self, manifest: Manifest) -> Manifest:
        _warn_of_upgrade(1)
        upgraded = msgspec.structs.replace(manifest, commit=1, commit_id=new_id(), follows=manifest.commit_id)
        with writing(self.root):
            # Force the removal of a finished version 1 record to the disk before the new ledger: after a power loss
            # the record must not be there beside it.
            self.disk.sync_folder(self.state)
            # Only the manifest changes, in one step, so no record is needed.
            replace_content(self.disk, self._manifest_file, encode(upgraded))
        return upgraded

    def reader(self, manifest: Manifest) -> Reader:
        """Return a reader of the output as of ``manifest``."""
        return Reader(self.root, manifest, self.disk)

    def begin(self, before: Manifest | None, kind: str, file_format: str) -> Change:
        """Return the next commit. Its staging folder has a new name, so no task of an earlier run can write there."""
        commit = before.commit + 1 if before else 1
        folder = self._staging / f"{kind}-{commit:06d}-{new_id()[:8]}"
        with writing(folder):
            self._require_own()
            make_folders(self.disk, folder, safe=self.state)
        return Change(self.root, Staging(folder, file_format, self.disk), before, kind)

    def discard_staging(self) -> None:
        """Remove all staged files that were not committed. What cannot be removed now, the next start removes."""
        try:
            if self.disk.look(self._staging) is not None:
                self.disk.remove_folder(self._staging)
        except OSError as error:
            # A task of a killed run may still write into its folder. That does no harm: the name is not used again.
            _log.debug("staging is not empty yet: %s", error)

    def commit(self, record: CommitRecord) -> None:
        """Decide a commit and publish it. The staged files must be on the disk already.

        Raises OutputUnavailable or DataConflict. Until the commit record is written, nothing is changed.
        """
        failpoint("staged")
        self.require_unchanged(record.manifest.follows)
        self._require_one_file_system()
        with writing(self.root):
            staged = [*(r.staged for r in record.renames), *(e.prepared for e in record.exchanges)]
            # The record must not reach the disk before the names of the staged files that it speaks of.
            for folder in sorted({(self.root / name).parent for name in staged}):
                self.disk.sync_folder(folder)
            self._require_nobodys_files(record)
            replace_content(self.disk, self._record_file, encode(record))
            failpoint("committed")
            self._publish(record.renames, record.exchanges, encode(record.manifest))
            self._clean_up(record.removals, record.exchanges)
        self.discard_staging()

    def remove_replaced(self) -> None:
        """Remove folders that were swapped out more than ten minutes ago."""
        if self.is_own():
            self.replaced.remove_old()

    def exchange_refusal(self) -> str | None:
        """Return why folders of datasets cannot be exchanged as a whole here, None if they can."""
        with writing(self._staging):
            if self.disk.look(self._staging) is None:
                self.disk.make_folder(self._staging)
            folders = [self.root / dataset.name for dataset in DATASETS]
            return exchange.refusal(self.disk, self._staging, folders)

    def exchange_folders(self, change: Change) -> None:
        """Let each dataset that loses files by ``change`` change as a whole. Call it once all files are named.

        Raises OutputUnavailable where the file system does not exchange folders: then nothing was changed.
        """
        with writing(change.staging.folder):
            refused = change.exchange_folders()
        if refused:
            self.discard_staging()
            raise OutputUnavailable(
                f"{self.root} cannot be changed while it may be read ({refused}): its file system does not exchange "
                "folders; stop whatever reads the output, then run this again with --readers-stopped: nothing was "
                "changed"
            )

    def _require_nobodys_files(self, record: CommitRecord) -> None:
        """Raise DataConflict if a folder to exchange holds a file that readers count but the ledger does not have."""
        for each in record.exchanges:
            folder = self.root / each.dataset
            known = {*record.manifest.contents[each.dataset], *each.old}
            require_none_counted(
                folder, [name for name in self.disk.names(folder) if name not in known], record.manifest.batch_id
            )

    def _publish(self, renames: list[Rename], exchanges: list[Exchange], manifest: bytes) -> None:
        folders = [self.root / dataset.name for dataset in DATASETS]
        missing = [folder for folder in folders if self.disk.look(folder, follow=True) is None]
        for folder in missing:
            self.disk.make_folder(folder)
        if missing:
            # Force the new folders to the disk before a file is renamed into one of them: otherwise a power loss could
            # lose the file with its folder.
            self.disk.sync_folder(self.root)
        touched: set[Path] = set()
        for number, rename in enumerate(renames):
            if number == 1:
                failpoint("between-renames")
            staged, published = self.root / rename.staged, self.root / rename.published
            # If the commit is being repeated after a crash, some files are in their place already.
            if self.disk.look(staged) is not None:
                self.disk.replace(staged, published)
            touched.add(published.parent)
        for folder in sorted(touched):
            self.disk.sync_folder(folder)
        for number, each in enumerate(exchanges):
            if number == 1:
                failpoint("between-exchanges")
            exchange.carry_out(self.disk, self.root, each, self.replaced)
        failpoint("before-manifest")
        replace_content(self.disk, self._manifest_file, manifest)

    def _clean_up(self, removals: list[str], exchanges: list[Exchange]) -> None:
        """Remove the files that the manifest no longer names, then the record, because it says what to remove.

        If a power loss brings the record back, the next start removes it again: the ledger is already at its commit.
        """
        for name in removals:
            remove_if_there(self.disk, self.root / name)
        for folder in sorted({(self.root / name).parent for name in removals}):
            self.disk.sync_folder(folder)
        if exchanges:
            self._clock.sleep(exchange.LISTING_S)
        for each in exchanges:
            exchange.remove_placeholders(self.disk, self.root, each)
        remove_if_there(self.disk, self._record_file)

    def require_unchanged(self, commit_id: str | None) -> None:
        """Raise if the folder or the lock was replaced since ``locked``, or the ledger is not at ``commit_id``."""
        self._require_own()
        content = self._read(self._manifest_file)
        found = None if content is None else commit_id_of(self._manifest_file, content)
        if found != commit_id:
            raise DataConflict(
                f"{self._manifest_file} was replaced while this processor worked on {self.root}: it ends with another "
                f"commit than the last one made here; {WAY_OUT}"
            )
        with reading(self.root):
            gone = [d.name for d in DATASETS if self.disk.look(self.root / d.name, follow=True) is None]
        if content is not None and gone:
            raise DataConflict(
                f"{self.root / gone[0]} was removed while this processor worked on {self.root}; {WAY_OUT}"
            )

    def is_own(self) -> bool:
        """Whether the folder and the lock are still those that ``locked`` opened."""
        return self._held is None or self._identity() == self._held

    def _require_own(self) -> None:
        if self.is_own():
            return
        with reading(self.root):
            folder = self.disk.look(self.root, follow=True)
        if folder is None:
            raise OutputUnavailable(
                f"{self.root} was removed while this processor worked on it; start again: a new output is filled from "
                "what the topic still holds; if its file system was only unmounted, mount it first"
            )
        if self._held is not None and folder.identity != self._held[0]:
            raise OutputUnavailable(
                f"{self.root} was removed or exchanged while this processor worked on it, and another folder is in its "
                "place, where nothing was written; check that it is the right one, and mounted, then start again: if "
                "it is empty, a new output is filled from what the topic still holds"
            )
        raise OutputUnavailable(
            f"{self.state} was removed or exchanged while this processor worked on {self.root}; nothing more is "
            f"written there; start again: the next start goes on from {MANIFEST_NAME}, or, if that is gone too, fills "
            "a new output from what the topic still holds"
        )

    def _require_one_file_system(self) -> None:
        """Raise OutputUnavailable if files cannot be renamed into a dataset, as it lies on another file system."""
        with reading(self.root):
            ours = (self.state, self._staging, self.replaced.folder)
            folders = [self.root, *ours, *(self.root / dataset.name for dataset in DATASETS)]
            mounts = {f: self.disk.mount(f) for f in folders if self.disk.look(f, follow=True) is not None}
        for folder, mount in mounts.items():
            if mount != mounts[self.root]:
                raise OutputUnavailable(
                    f"{folder} lies on another file system than {self.root}, so that files cannot be renamed into it; "
                    "mount or link the output folder as a whole; nothing was changed"
                )


def _warn_of_upgrade(version: int) -> None:
    _log.warning(
        "upgrading the ledger from version %d to version %d; older releases can no longer use it",
        version,
        VERSION,
    )
