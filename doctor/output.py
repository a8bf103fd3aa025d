"""The output folder: its owner, who works there, its ledger, its files by name and size, what killed runs left."""

import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from doctor.disk import called, existing, not_writable
from doctor.finding import Finding, from_error, ok, problem, warning
from doctor.holders import PROC, Holder, holder_of_lock
from processor import window
from runtime.errors import DataConflict, OutputUnavailable, PipelineError, SettingError
from runtime.process.words import span, things
from runtime.settings.catalogue import COMPACT_FILES
from runtime.settings.location import OutputLocation
from store import compact
from store.check import require_file, require_no_datasets, require_none_counted, require_sound
from store.condition import condition
from store.datasets import DATASETS
from store.files import Disk, read_if_there, reading
from store.manifest import (
    MANIFEST_NAME,
    READABLE,
    UNREADABLE_MANIFEST,
    VERSION,
    Manifest,
    decode_manifest,
    version_of,
)
from store.recovery import examine as examine_record
from store.status import Status, read_status

# At most so many files that are wrong in the same way are named.
_MOST = 5
# File systems on which folders can be exchanged; others are asked at the first merge.
_EXCHANGING = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})
_LOOKS = 3
_MANY_REJECTED = 0.1


def examine(root: Path, wanted_format: str, compact_files: int, now: datetime) -> Iterator[Finding]:
    """Look at everything in an output folder."""
    disk = Disk()
    if not root.is_dir():
        yield ok(f"{root} is not there yet: the first run of the processor makes it, in {existing(root)}")
        return
    yield from rights(root)
    holder, told = working_there(root)
    yield told
    status = read_status(disk, root)
    yield doing(status, holder, now, socket.gethostname(), read(root))
    yield exchange(root, file_system_of(root))
    try:
        yield from _ledger(disk, root, holder, wanted_format, compact_files, now)
    except PipelineError as error:
        yield from_error(error)
    yield from leftovers(disk, root, holder)


def rights(root: Path) -> Iterator[Finding]:
    """Judge the owners, and whether this user may write where a commit writes."""
    user = os.geteuid()
    owner = root.stat().st_uid
    yield ok(f"{root} belongs to {called(owner)}, mode {root.stat().st_mode & 0o7777:o}")
    folders = [root, root / ".pipeline", *(root / dataset.name for dataset in DATASETS)]
    there = [folder for folder in folders if folder.is_dir()]
    barred = [folder for folder in there if not os.access(folder, os.R_OK | os.W_OK | os.X_OK)]
    if barred:
        yield not_writable("the output", barred[0], barred[0].stat().st_uid, user)
    others = [folder for folder in there if folder.stat().st_uid != owner]
    if others:
        yield warning(
            f"{others[0]} belongs to {called(others[0].stat().st_uid)}, and the output to {called(owner)}",
            f"let one user run the processor; give all of it to that one: sudo chown -R {owner} {root}",
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the topic the settings ask for, and where they were set."""

    output: OutputLocation
    start: str | datetime | None
    until: datetime | None
    start_source: str
    until_source: str


def part(asked: Part) -> Iterator[Finding]:
    """Judge, as the processor does at its start, whether the output holds the part of the topic that is asked for."""
    manifest = read(asked.output.folder)
    if manifest is None:
        return
    try:
        window.require_same(asked, manifest.window)
    except SettingError as error:
        yield from_error(error)
    else:
        if manifest.window is not None:
            yield ok(f"it holds a part of the topic, {manifest.window}")


def working_there(root: Path) -> tuple[Holder | None, Finding]:
    """Return the process that holds the lock, without trying to take it, and a finding that says so."""
    lock = root / ".pipeline" / "lock"
    if not lock.exists():
        return None, ok("there is no lock: no processor has worked there yet")
    try:
        holder = holder_of_lock(lock)
    except OSError:
        # A processor may work there, so what is staged does not count as left over.
        return Holder(None), ok(f"this system does not tell who holds {lock}")
    return holder, lock_held(root, holder)


def lock_held(root: Path, holder: Holder | None) -> Finding:
    """Tell who holds the lock of an output."""
    if holder is None:
        return ok("the lock is free: a processor can start")
    return ok(f"the lock is held by {holder}: a second processor on {root} would be refused until that ends")


def doing(
    status: Status | None, holder: Holder | None, now: datetime, host: str, manifest: Manifest | None = None
) -> Finding:
    """Judge what a processor said last of itself; the holder of its lock is seen if it ran on this ``host``."""
    if status is None:
        return ok("_status.json is not there: no processor has run yet")
    found = condition(status, now, manifest)
    age = span((now - status.updated_at).total_seconds())
    told = (
        f"_status.json, written {age} ago by process {status.pid} on {status.host}: "
        f"{found.words.lower()}. {found.detail}"
    ).rstrip(". ")
    # After the end of its window an output needs no processor.
    ended = status.state == "stopped" or (manifest is not None and manifest.is_complete)
    if found.level != "bad" and not ended and holder is None and status.host == host:
        return warning(f"{told}; but no process holds the lock: it was killed", "start it again")
    if found.level != "bad":
        return ok(told)
    if holder is not None:
        return warning(
            f"{told}; but {holder} still holds the lock", "see whether it hangs; if so, end it, and start it again"
        )
    return warning(told, "start it again; the end of its log says why it ended")


def file_system_of(folder: Path, mounts: Path = PROC / "self" / "mountinfo") -> str | None:
    """Return the kind of the file system that holds ``folder``, None where the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    return kind_of(lines, os.path.realpath(folder))


def kind_of(mountinfo: list[str], folder: str) -> str | None:
    """Return the kind of the innermost mount above ``folder``, in lines as /proc/self/mountinfo has them."""
    best, kind = "", None
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        place = left.split()[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        # If two are mounted at one place, the later one is visible.
        if inside and len(place) >= len(best):
            best, kind = place, right.split()[0]
    return kind


def exchange(root: Path, kind: str | None) -> Finding:
    """Judge, by what is known of its file system, whether small files can be merged beside readers."""
    linked = [dataset.name for dataset in DATASETS if (root / dataset.name).is_symlink()]
    if linked:
        return warning(
            f"{root / linked[0]} is a link, so small files are not merged",
            "put the folder itself there, or link the output as a whole",
        )
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        return warning("this system cannot exchange folders, so small files are not merged beside readers", _STOPPED)
    if kind in _EXCHANGING:
        return ok(f"file system {kind}: folders can be exchanged, so small files are merged beside readers")
    return warning(
        f"file system {kind or 'unknown'}: perhaps folders cannot be exchanged there, to merge small files", _STOPPED
    )


_STOPPED = "if the log says so: stop all readers and run the processor with --compact --readers-stopped"


def _ledger(
    disk: Disk, root: Path, holder: Holder | None, wanted_format: str, compact_files: int, now: datetime
) -> Iterator[Finding]:
    path = root / MANIFEST_NAME
    with reading(path):
        content = read_if_there(disk, path)
    if content is None:
        require_no_datasets(disk, root)
        yield ok(f"{MANIFEST_NAME} is not there: nothing was published yet")
        return
    version = version_of(path, content, UNREADABLE_MANIFEST)
    if version < READABLE:
        yield warning(
            f"{path} has version {version}, which an early release wrote",
            "start the processor once: it upgrades the ledger",
        )
        return
    manifest = decode_manifest(path, content)
    require_sound(manifest, path)
    yield from about(manifest, version, wanted_format, now)
    yield from small_files(manifest, compact_files)
    yield from _files(disk, root, manifest, holder)


def read(root: Path) -> Manifest | None:
    """Return the ledger of an output, None where there is none or it cannot be understood."""
    try:
        disk, path = Disk(), root / MANIFEST_NAME
        with reading(path):
            content = read_if_there(disk, path)
        if content is None or version_of(path, content, "") < READABLE:
            return None
        return decode_manifest(path, content)
    except PipelineError:
        return None


def about(manifest: Manifest, version: int, wanted_format: str, now: datetime) -> Iterator[Finding]:
    """Tell what a ledger says of itself, and judge its version and format."""
    totals = manifest.totals
    upgrade = f", which the next commit raises to {VERSION}" if version < VERSION else ""
    yield ok(
        f"ledger of version {version}{upgrade}: commit {manifest.commit:,}, batch {manifest.batch_id:,}, "
        f"{span((now - manifest.updated_at).total_seconds())} ago"
    )
    yield ok(f"{things(totals.tickets, 'ticket', 'tickets')} from topic {manifest.source.topic}")
    if totals.rejected > (totals.tickets + totals.rejected) * _MANY_REJECTED:
        yield warning(
            f"{things(totals.rejected, 'message was', 'messages were')} rejected, more than one in ten",
            "--list-rejected on the processor says why; correct what sends them",
        )
    if manifest.format == wanted_format:
        yield ok(f"format {manifest.format}")
    else:
        yield warning(
            f"format {manifest.format}, but OUTPUT_FORMAT asks for {wanted_format}: the next run converts all of it",
            f"set OUTPUT_FORMAT={manifest.format} to keep the format",
        )


def small_files(manifest: Manifest, compact_files: int) -> Iterator[Finding]:
    """Judge how many small files each dataset has; with ``compact_files`` 0 they are never merged."""
    if due := compact.plan(manifest.contents, compact_files or COMPACT_FILES.default):
        count = len(manifest.contents[due[0].dataset])
        yield warning(
            f"{due[0].dataset} has {count:,} files, many of them small, which makes it slow to read",
            "run the processor with --compact; COMPACT_FILES says from how many on a service does it by itself",
        )
    else:
        count = sum(len(files) for files in manifest.contents.values())
        yield ok(f"{things(count, 'file', 'files')} in {len(manifest.contents)} datasets: few enough")


def _files(disk: Disk, root: Path, manifest: Manifest, holder: Holder | None) -> Iterator[Finding]:
    """Compare the files with the ledger. A batch may be published meanwhile: then look again."""
    for _ in range(_LOOKS):
        found = list(differences(disk, root, manifest))
        pending = (root / ".pipeline" / "commit.json").exists()
        again = read(root)
        if not pending and (again is None or again.commit_id == manifest.commit_id):
            yield from found or [ok("the files are, by name and size, those of the ledger; --verify reads them, too")]
            return
        manifest = again or manifest
    if holder is None:
        yield _record(disk, root)
    else:
        yield warning("a commit is being published just now, so the files were not compared", "run this again")


def _record(disk: Disk, root: Path) -> Finding:
    record, path = root / ".pipeline" / "commit.json", root / MANIFEST_NAME
    with reading(root):
        content, ledger = read_if_there(disk, record), read_if_there(disk, path)
    if content is not None:
        try:
            examine_record(disk, root, record, content, ledger)
        except (DataConflict, OutputUnavailable) as error:
            return from_error(error)
    return ok(f"{record} is a commit that was decided and not published to its end; the next start finishes it")


def differences(disk: Disk, root: Path, manifest: Manifest) -> Iterator[Finding]:
    """Yield how the files differ from the ledger, by name and size alone; no file is read."""
    for dataset in DATASETS:
        folder, files = root / dataset.name, manifest.contents[dataset.name]
        wrong = []
        for name, file in files.items():
            try:
                require_file(disk, folder / name, file, read=False)
            except DataConflict as error:
                wrong.append(from_error(error))
        yield from wrong[:_MOST]
        if len(wrong) > _MOST:
            yield problem(f"{len(wrong) - _MOST} files more of {folder} are gone or of another size", wrong[0].remedy)
        with reading(folder):
            present = disk.names(folder) if disk.look(folder, follow=True) else []
        strangers = [name for name in present if name not in files]
        try:
            require_none_counted(folder, strangers, manifest.batch_id)
        except DataConflict as error:
            yield from_error(error)
        else:
            if strangers:
                yield warning(
                    f"{folder} holds {strangers[0]}, which is not ours; some readers of the folder may fail on it",
                    "move it away",
                )


def leftovers(disk: Disk, root: Path, holder: Holder | None) -> Iterator[Finding]:
    """Tell what runs left that were killed; what a run that works there has made is not that."""
    staging = root / ".pipeline" / "staging"
    names = disk.names(staging) if staging.is_dir() else []
    if names and holder is None:
        yield ok(
            f"a run was killed: {things(len(names), 'folder is', 'folders are')} left in {staging}; the next start "
            "removes all of it"
        )
