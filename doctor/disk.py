"""The disk: free space, free inodes and rights where something of ours is written, and what killed runs left there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from doctor.finding import Finding, from_error, ok, problem, warning
from doctor.holders import holder_of_lock
from runtime.errors import OutputUnavailable
from runtime.java import launch
from runtime.java.jars import cache_folder
from runtime.process.trusted import why_not_trusted

# Below the first number the pipeline soon stops, below the second within days.
LEAST_BYTES, FEW_BYTES = 200 << 20, 2 << 30
LEAST_INODES, FEW_INODES = 1_000, 20_000

_OF_THE_MACHINE = (Path("/tmp"), Path("/var/tmp"))
_SCRATCH = "client-tickets-"


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has free. ``inodes`` 0 means that it does not count them; ``free_inodes`` is of those."""

    free_bytes: int
    inodes: int
    free_inodes: int
    read_only: bool


def temporary_folder(environ: Mapping[str, str]) -> Path:
    """Return where temporary files go. Python's own look-up would write a file to try."""
    return Path(environ.get("TMPDIR") or "/tmp")


def examine(environ: Mapping[str, str], places: Mapping[str, Path]) -> Iterator[Finding]:
    """Look at the file system of each of ``places`` (what is kept there → folder), and at temporary files."""
    temporary = temporary_folder(environ)
    for name, folder in {**places, "temporary files": temporary}.items():
        there = existing(folder)
        yield space(name, folder, _space(there))
        if not os.access(there, os.W_OK | os.X_OK):
            yield not_writable(name, there, there.stat().st_uid, os.geteuid())
    if why := why_not_trusted(temporary):
        yield exchangeable(temporary, why)
    try:
        # As it chooses itself, but without a file that is written to try.
        launch.library_folder([temporary, Path("/var/tmp"), cache_folder(environ).parent])
    except OutputUnavailable as error:
        yield from_error(error)
    if abandoned := list(_abandoned(temporary)):
        yield ok(
            f"{len(abandoned)} folders of killed runs are left in {temporary}, such as {abandoned[0].name}; the next "
            "start removes them"
        )


def existing(folder: Path) -> Path:
    """Return ``folder``, or the nearest one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _space(folder: Path) -> Space:
    told = os.statvfs(folder)
    return Space(told.f_bavail * told.f_frsize, told.f_files, told.f_favail, bool(told.f_flag & os.ST_RDONLY))


def space(name: str, folder: Path, found: Space) -> Finding:
    """Judge a file system on which ``folder`` is or will be."""
    where = f"{name} ({folder})"
    if found.read_only:
        return problem(
            f"{where}: the file system is mounted read-only", "mount it for writing, or choose another folder"
        )
    counted = found.inodes > 0
    told = f"{where}: {found.free_bytes / (1 << 30):,.1f} GiB free" + (
        f", {found.free_inodes:,} inodes free" if counted else ""
    )
    if found.free_bytes < LEAST_BYTES or (counted and found.free_inodes < LEAST_INODES):
        return problem(f"{told}: the disk is full, or nearly", "free space there, or choose a folder on another disk")
    if found.free_bytes < FEW_BYTES or (counted and found.free_inodes < FEW_INODES):
        return warning(f"{told}, which is little", "free space there; docs/operations.md says what is needed")
    return ok(told)


def not_writable(name: str, folder: Path, owner: int, user: int) -> Finding:
    """Say that this user may not write where something is kept."""
    return problem(
        f"{name}: {folder} belongs to {called(owner)} and is not writable for {called(user)}",
        f"give it to this user (sudo chown -R {user} {folder}), or choose another folder",
    )


def called(user: int) -> str:
    """Return how a user is told to people."""
    return "root" if user == 0 else f"user {user}"


def exchangeable(temporary: Path, why: str) -> Finding:
    """Judge a folder for temporary files in which other users could exchange ours."""
    told, remedy = f"other users could exchange temporary files: {why}", "set TMPDIR to a folder of your own"
    # The machine's own is used all the same: containers mount theirs like that.
    return warning(told, remedy) if temporary in _OF_THE_MACHINE else problem(told, remedy)


def _abandoned(temporary: Path) -> Iterator[Path]:
    for folder in sorted(temporary.glob(f"{_SCRATCH}*")):
        # It may end meanwhile, belong to somebody else, or be on a system that does not tell who holds a lock.
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid() and holder_of_lock(folder / "lock") is None:
                yield folder
