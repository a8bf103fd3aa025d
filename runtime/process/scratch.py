"""A temporary folder that is always removed: at the end of the run, or at the next start if the run was killed."""

import errno
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from runtime.process.trusted import require_trusted, why_not_trusted

_log = logging.getLogger(__name__)

_OF_THE_MACHINE = (Path("/tmp"), Path("/var/tmp"))
_LOCK = "lock"
_TRIES = 5


class Scratch:
    """A new folder ``<prefix>…`` in ``folder``, locked until ``remove`` or the end of the process.

    Without ``folder`` it is made in the system's folder for temporary files. Making one also removes folders with the
    same place, prefix and user whose lock is free: their run was killed. If a child process inherits ``lock_fd``, the
    folder stays locked as long as the child lives. Usable as a context manager.

    Raises OSError when no file can be written there, SettingError when another user could replace the folder. For the
    system's own folder for temporary files that is only a warning, because containers mount theirs like that.
    """

    def __init__(self, prefix: str, folder: Path | None = None) -> None:
        place = folder or Path(tempfile.gettempdir())
        if place not in _OF_THE_MACHINE:
            require_trusted(place)
        elif problem := why_not_trusted(place):
            _log.warning("other users of this machine could replace temporary files: %s", problem)
        remove_abandoned(prefix, place)
        self.path, self.lock_fd = _create(prefix, place)
        self._removed = False

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and its files; the next start removes what cannot be removed now."""
        if not self._removed:
            self._removed = True
            # Unlock it only afterwards, so that no other start removes the same files at the same time.
            _remove(self.path)
            os.close(self.lock_fd)


def remove_abandoned(prefix: str, place: Path) -> None:
    """Remove the folders of killed runs in ``place``: with this prefix, owned by this user, with a free lock."""
    for folder in _ours(prefix, place):
        lock = _lock(folder)
        if lock is not None:
            _remove(folder)
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove the lock file last, and only if the folder is empty: later starts skip a folder without a lock file."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink(missing_ok=True)
        if [path.name for path in folder.iterdir()] == [_LOCK]:
            shutil.rmtree(folder)


def _create(prefix: str, place: Path) -> tuple[Path, int]:
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        lock = _lock(path, create=True)
        if lock is not None:
            return path, lock
        # Another start took the lock first, because it found the new folder unlocked, and removes it: try again.
    raise OSError(errno.ENOLCK, f"no file can be locked in {place}")


def _ours(prefix: str, place: Path) -> Iterator[Path]:
    for path in place.glob(f"{prefix}*"):
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            yield path


def _lock(folder: Path, create: bool = False) -> int | None:
    """Return a descriptor that holds the lock of ``folder``; None if another process holds it or there is no file."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process that held the lock may have removed the file; then this lock protects nothing.
        if os.fstat(lock).st_nlink:
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
