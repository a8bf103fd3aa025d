"""All access to the disk goes through here, and here its errors are explained.

``Disk`` is passed to all code that touches a file of an output. It has no state, so a task on another machine gets a
copy, and a test can replace it with a disk that is full, or that loses what was not forced to it. Only SQLite writes
its file without it; what that file holds can be derived again.
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

# Constants of Linux, for renameat2.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# Python 3.12 has a type for this: collections.abc.Buffer.
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
        """Return the content of a file as a memory map: only the pages that are used are read."""
        with path.open("rb") as file:
            # An empty file cannot be mapped.
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
            # Some network and FUSE file systems do not support fsync of a folder, and keep names safe by other means.
            # PostgreSQL ignores the same two errors. Any other error means that names may be lost.
            if error.errno not in (errno.EINVAL, errno.EBADF):
                raise
        finally:
            os.close(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename a file, replacing another one of that name."""
        old.replace(new)

    def exchange(self, one: Path, other: Path) -> None:
        """Swap two folders in one step. If that is not possible here, the error has a number in ``NO_EXCHANGE``."""
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
        """Return what ``path`` names, None if there is nothing; a link is followed only with ``follow``."""
        try:
            found = path.stat() if follow else path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = found.st_mode
        return Entry(stat.S_ISREG(mode), stat.S_ISDIR(mode), found.st_size, (found.st_dev, found.st_ino))

    def mount(self, folder: Path) -> str:
        """Return a text that is the same for two folders if a file can be renamed from one to the other.

        The device number is not enough: a folder can be mounted a second time, and a rename between two mounts of one
        device fails.
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
    """A file that is written from start to end; its checksum and size are known once it is complete."""

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
        """Return True: Arrow asks before it writes."""
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
        """Close the file and ignore later writes: an abandoned Parquet writer writes a footer when it is collected."""
        self._abandoned = True
        # On a full disk, close fails again with what is still in the buffer. The file is given up, so ignore that.
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
    """Return the content of a file, None if there is no file."""
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
        # On a full disk, the part that was written takes space that others need.
        with suppress(OSError):
            disk.unlink(new)
        raise
    disk.replace(new, path)
    disk.sync_folder(path.parent)


def make_folders(disk: Disk, path: Path, safe: Path | None = None) -> None:
    """Make a folder and the missing ones above it, so that a power loss loses none of them.

    A folder that exists may come from a run that was killed before the folder's name was forced to the disk, so its
    name is forced to the disk now. ``safe`` and the folders above it are known to be on the disk.
    """
    if path == safe:
        return
    found = disk.look(path, follow=True)
    if found is not None and found.is_folder:
        # If this user may not open the parent, no run of this user has made the folder, so there is nothing to force.
        with suppress(PermissionError):
            disk.sync_folder(path.parent)
        return
    if path.parent != path:
        make_folders(disk, path.parent, safe)
    try:
        disk.make_folder(path)
    except FileExistsError:
        # Another process may have made the folder just now, which is fine. A file of that name stays an error.
        again = disk.look(path, follow=True)
        if again is None or not again.is_folder:
            raise
    disk.sync_folder(path.parent)


def remove_if_there(disk: Disk, path: Path) -> None:
    """Remove a file, or do nothing if it is not there."""
    try:
        disk.unlink(path)
    except FileNotFoundError:
        return


# Errors of ``Disk.exchange`` and ``Disk.link`` if the file system, or the rights of a file, do not allow them.
NO_EXCHANGE = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EXDEV, errno.EMLINK}
)

# Errors of ``Disk.lock`` if the file system, or the lock service of a network, does not support ``flock``.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})

_LOST = "the file system went away; mount it again"
_REFUSED = "the file system does not support a call that the output needs; choose another --output-path"
_REMEDIES = {
    errno.ENOENT: "it, or a folder above it, is missing; check whether it was removed, or its file system not mounted",
    errno.EEXIST: "a file is in the place of a folder; move it away",
    errno.ENOTDIR: "a file is in the place of this folder, or of one above it; move it away",
    errno.EISDIR: "a folder is in the place of a file; move it away",
    errno.ELOOP: "symbolic links form a loop; remove one of them",
    errno.ENAMETOOLONG: "choose a shorter --output-path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
    errno.ENOMEM: "free memory",
    errno.EIO: "the disk reports an error; look into the system's log",
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
    errno.EFBIG: "the file would exceed a limit of this user (ulimit -f) or of the file system; raise the limit",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "the file system is read-only; choose another --output-path",
    errno.EXDEV: "it lies on another file system; mount or link the output folder as a whole",
    errno.EBUSY: "another program uses it; stop that program",
}
# By SQLite's primary code: it does not report the error number of the system.
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space there",
    sqlite3.SQLITE_IOERR: "the disk reports an error; look into the system's log",
    sqlite3.SQLITE_CANTOPEN: "check that its folder is there, and that this user may write there",
    sqlite3.SQLITE_READONLY: "give this user the right to write there",
    sqlite3.SQLITE_BUSY: "another program has it open; stop that program",
    sqlite3.SQLITE_PROTOCOL: "the file system does not support locks; choose another --output-path",
}


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an error of writing to the disk into OutputUnavailable; what is published stays as it is."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputUnavailable(cannot_write(error, place)) from error


def cannot_write(error: OSError | sqlite3.OperationalError, place: Path) -> str:
    """Return what could not be written, why, and what would help; ``place`` is for errors without a file name."""
    if isinstance(error, OSError):
        remedy = _WRITING_REMEDIES.get(error.errno or 0)
    else:
        remedy = _SQLITE_REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    return f"cannot write {_told(error, place, remedy)}: what is published stays as it is"


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """Turn an error of reading from the disk into OutputUnavailable."""
    try:
        yield
    except OSError as error:
        remedy = _READING_REMEDIES.get(error.errno or 0)
        raise OutputUnavailable(f"cannot read {_told(error, place, remedy)}: nothing was changed") from error


def _told(error: Exception, place: Path, remedy: str | None) -> str:
    file, reason = getattr(error, "filename", None) or place, getattr(error, "strerror", None) or error
    if renamed := getattr(error, "filename2", None):
        # Name both files of a rename: the system does not say which of them is missing or cannot be accessed.
        file = f"{renamed} (from {file})"
    return f"{file}: {reason}; {remedy}, then start again" if remedy else f"{file}: {reason}; fix that and start again"
