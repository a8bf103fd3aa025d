"""The one way to the disk, and what its errors mean.

``Disk`` is handed to whoever touches a file of an output. It keeps no state, so a task on another machine gets a copy,
and a test can put a disk in its place that is full, or that forgets what was not forced to it. Two things go past it:
SQLite writes its file itself, and what it holds can be derived again.
"""

import ctypes
import errno
import fcntl
import hashlib
import io
import mmap
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtime.errors import OutputUnavailable

_PIECE_BYTES = 1 << 20

# From Linux, for renameat2.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# What Python 3.12 calls a buffer.
Buffer = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path names. A link is not followed: it is neither a file nor a folder."""

    is_file: bool
    is_folder: bool
    bytes: int
    identity: tuple[int, int]


class Disk:
    """The calls that an output needs. Each raises OSError as the system does."""

    def open(self, path: Path) -> BinaryIO:
        """Open a file to read it."""
        return path.open("rb")

    def map(self, path: Path) -> Buffer:
        """Return the content of a file, of which only what is looked at is read."""
        with path.open("rb") as file:
            # The system maps no file without content.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""

    def create(self, path: Path) -> BinaryIO:
        """Create a file, or empty it, to write it."""
        return path.open("wb")

    def sync(self, file: BinaryIO) -> None:
        """Force what was written to an open file to the disk."""
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Force the names in a folder to the disk."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            # Some file systems, of networks and of FUSE, know no such call for a folder and keep names safe by other
            # means. PostgreSQL takes the same two errors for that; any other one says that names may be lost.
            if error.errno not in (errno.EINVAL, errno.EBADF):
                raise
        finally:
            os.close(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file, over another one where there is one."""
        old.replace(new)

    def exchange(self, one: Path, other: Path) -> None:
        """Let two folders change places in one step. What may stand in ``NO_EXCHANGE`` is raised where it cannot be."""
        paths = os.fsencode(one), os.fsencode(other)
        try:
            renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        except AttributeError:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other)) from None
        if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(one), None, str(other))

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        os.link(old, new, follow_symlinks=False)

    def make_alike(self, folder: Path, model: Path) -> None:
        """Give a folder the owner, mode and extended attributes (access lists among them) of another one."""
        found, wanted = folder.stat(), model.stat()
        if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
            os.chown(folder, wanted.st_uid, wanted.st_gid)
        shutil.copystat(model, folder)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_folder(self, path: Path) -> None:
        """Make one folder in an existing one."""
        path.mkdir()

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with all that it holds."""
        shutil.rmtree(path)

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(entry.name for entry in folder.iterdir())

    def look(self, path: Path, follow: bool = False) -> Entry | None:
        """Return what ``path`` names, None when there is nothing; a link is followed only when asked."""
        try:
            found = path.stat() if follow else path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = found.st_mode
        return Entry(stat.S_ISREG(mode), stat.S_ISDIR(mode), found.st_size, (found.st_dev, found.st_ino))

    def mount(self, folder: Path) -> str:
        """Return a mark that two folders share if a file can be renamed from one to the other.

        The number of the device is not enough: a folder can be mounted a second time, and a rename between two mounts
        of one device fails.
        """
        handle = os.open(folder, os.O_RDONLY)
        try:
            device = str(os.fstat(handle).st_dev)
            try:
                told = Path(f"/proc/self/fdinfo/{handle}").read_text(encoding="ascii")
            except OSError:
                return device
            mounts = [line.split()[1] for line in told.splitlines() if line.startswith("mnt_id:")]
            return f"{device}, mount {mounts[0]}" if mounts else device
        finally:
            os.close(handle)

    def lock(self, path: Path) -> BinaryIO:
        """Open a file and lock it for this process. Raises BlockingIOError when another one holds it."""
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file


class ChecksummedFile(io.RawIOBase):
    """A file that is written from its start to its end, and whose checksum and size are known once it is complete."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._abandoned = False
        self.bytes = 0

    @property
    def checksum(self) -> str:
        """``sha256:`` and the hexadecimal digest of what was written, as ``sha256sum`` prints it."""
        return f"sha256:{self._hash.hexdigest()}"

    def writable(self) -> bool:
        """Say yes: that is what it is for."""
        return True

    def write(self, content: bytes | memoryview) -> int:  # type: ignore[override]
        """Append ``content``."""
        size = memoryview(content).nbytes
        if self._abandoned:
            return size
        self._hash.update(content)
        self._file.write(content)
        self.bytes += size
        return size

    def abandon(self) -> None:
        """Let go of the file: a Parquet writer that is given up still writes its footer when it is collected."""
        self._abandoned = True
        # On a full disk, closing it would try once more to write what a buffer holds. Nobody needs that now.
        with suppress(OSError):
            self._file.close()

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.bytes


def checksum(disk: Disk, path: Path) -> str:
    """Return the checksum of a file, in the form of ``ChecksummedFile.checksum``."""
    digest = hashlib.sha256()
    with disk.open(path) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def read_if_there(disk: Disk, path: Path) -> bytes | None:
    """Return the content of a file, None when there is none."""
    try:
        with disk.open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def replace_content(disk: Disk, path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a crash leaves the old or the new file, never a part of one."""
    new = path.with_name(f".{path.name}.new")
    try:
        with disk.create(new) as file:
            file.write(content)
            disk.sync(file)
    except OSError:
        # What a full disk took of it takes space that others need.
        with suppress(OSError):
            disk.unlink(new)
        raise
    disk.replace(new, path)
    disk.sync_folder(path.parent)


def make_folders(disk: Disk, path: Path, safe: Path | None = None) -> None:
    """Make a folder and those above it that are missing, so that a power loss forgets none of them.

    A folder that is there may come from a run that was killed before it had forced its name to the disk, so that is
    done now; only of ``safe``, and of what is above it, it is known to be done.
    """
    if path == safe:
        return
    found = disk.look(path, follow=True)
    if found is not None and found.is_folder:
        # A folder that this user may not open is not one that a run of this user has made another one in.
        with suppress(PermissionError):
            disk.sync_folder(path.parent)
        return
    if path.parent != path:
        make_folders(disk, path.parent, safe)
    try:
        disk.make_folder(path)
    except FileExistsError:
        # A file of that name stays an error; a folder may have been made by somebody else just now.
        again = disk.look(path, follow=True)
        if again is None or not again.is_folder:
            raise
    disk.sync_folder(path.parent)


def remove_if_there(disk: Disk, path: Path) -> None:
    """Remove a file, if there is one."""
    try:
        disk.unlink(path)
    except FileNotFoundError:
        return


# What ``Disk.exchange`` and ``Disk.link`` meet where a file system, or the owner of a file, does not let them.
NO_EXCHANGE = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EXDEV, errno.EMLINK}
)

# What ``Disk.lock`` meets where a file system, or the lock service of a network, knows no ``flock``.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

_LOST = "the file system went away; mount it again"
_REFUSED = "the file system does not know a call that the output needs; choose another --output-path"
_REMEDIES = {
    errno.ENOENT: "it, or a folder above it, is not there; see whether it was removed, or its file system not mounted",
    errno.EEXIST: "see that it is a folder",
    errno.ENOTDIR: "see that it, and what is above it, are folders",
    errno.EISDIR: "a folder is in the place of a file; move it away",
    errno.ELOOP: "links lead in a circle; mend them",
    errno.ENAMETOOLONG: "choose a shorter --output-path",
    errno.EMFILE: "raise the number of open files that are allowed (ulimit -n)",
    errno.ENFILE: "raise the number of open files that the system allows",
    errno.ENOMEM: "free memory",
    errno.EIO: "the disk reports an error; see the log of the system",
    errno.ESTALE: _LOST,
    errno.ENOTCONN: _LOST,
    errno.ENODEV: _LOST,
    errno.ENXIO: _LOST,
    errno.ETIMEDOUT: _LOST,
    errno.EHOSTDOWN: _LOST,
    errno.EINVAL: _REFUSED,
    errno.ENOSYS: _REFUSED,
    errno.EOPNOTSUPP: _REFUSED,
    errno.ENOTSUP: _REFUSED,
}
_READING_REMEDIES = _REMEDIES | {
    errno.EACCES: "give this user the right to read it",
    errno.EPERM: "give this user the right to read it",
}
_WRITING_REMEDIES = _REMEDIES | {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or raise the quota",
    errno.EFBIG: "a limit of this user (ulimit -f) or of the file system allows no larger file; raise it",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "the file system is read-only; choose another --output-path",
    errno.EXDEV: "it lies on another file system; mount or link the output folder as a whole",
    errno.EBUSY: "something else uses it; end that",
}
# By the primary code: SQLite tells no number of the system.
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space there",
    sqlite3.SQLITE_IOERR: "the disk reports an error; see the log of the system",
    sqlite3.SQLITE_CANTOPEN: "see that its folder is there, and that this user may write there",
    sqlite3.SQLITE_READONLY: "give this user the right to write there",
    sqlite3.SQLITE_BUSY: "another program has it open; end that",
    sqlite3.SQLITE_PROTOCOL: "the file system refuses locks; choose another --output-path",
}


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn the error of a disk that cannot be written into OutputUnavailable; what is published stays as it is."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputUnavailable(cannot_write(error, place)) from error


def cannot_write(error: OSError | sqlite3.OperationalError, place: Path) -> str:
    """Say what could not be written, why, and what would help; ``place`` is for errors that name no file."""
    if isinstance(error, OSError):
        remedy = _WRITING_REMEDIES.get(error.errno or 0)
    else:
        remedy = _SQLITE_REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return f"cannot write {_told(error, place, remedy)}: what is published stays as it is"


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Turn the error of a file that cannot be read into OutputUnavailable."""
    try:
        yield
    except OSError as error:
        remedy = _READING_REMEDIES.get(error.errno or 0)
        raise OutputUnavailable(f"cannot read {_told(error, place, remedy)}: nothing was changed") from error


def _told(error: Exception, place: Path, remedy: str | None) -> str:
    file, reason = getattr(error, "filename", None) or place, getattr(error, "strerror", None) or error
    if renamed := getattr(error, "filename2", None):
        # Only one of the two is missing or out of reach, and the system does not say which.
        file = f"{renamed} (from {file})"
    return f"{file}: {reason}; {remedy}, then start again" if remedy else f"{file}: {reason}; mend that and start again"
