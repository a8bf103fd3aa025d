"""Which process holds a lock or listens on a port, as /proc of Linux tells; nothing is locked or opened for it.

Standard library only. Where /proc tells nothing (other systems, processes of other users), neither does this.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, with the words it was started with; ``pid`` is None for one that /proc does not let us see."""

    pid: int | None
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "a process of another user or container"
        # A command line of Java goes on for a page.
        shown = self.command if len(self.command) <= 60 else f"{self.command[:60]}…"
        return f"process {self.pid} ({shown})" if shown else f"process {self.pid}"


def locked_by(locks: str, device: int, inode: int) -> int | None:
    """Return the process that holds an exclusive ``flock``, in the text of /proc/locks; None when none does.

    Each line is ``1: FLOCK  ADVISORY  WRITE 4711 fe:00:7127311 0 EOF``, with the device in hexadecimal digits.
    """
    file = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in locks.splitlines():
        words = line.split()
        if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5] == file:
            return int(words[4])
    return None


def holder_of_lock(path: Path, proc: Path = PROC) -> Holder | None:
    """Return who holds the lock on a file, None when nobody does. Raises OSError when that cannot be told."""
    found = path.stat()
    pid = locked_by((proc / "locks").read_text(encoding="ascii"), found.st_dev, found.st_ino)
    if pid is None:
        return None
    return Holder(pid, _command(proc, pid)) if pid > 0 else Holder(None)


def sockets_on(table: str, port: int) -> list[int]:
    """Return the inodes of the sockets that listen on ``port``, in the text of /proc/net/tcp or tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) == port:
            found.append(int(words[9]))
    return found


def holder_of_port(port: int, proc: Path = PROC) -> Holder:
    """Return who listens on a port that is taken."""
    inodes: set[int] = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            inodes.update(sockets_on((proc / "net" / name).read_text(encoding="ascii"), port))
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in _processes(proc):
        # It may end, or belong to somebody else.
        with suppress(OSError):
            for handle in (proc / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    if str(handle.readlink()) in wanted:
                        return Holder(pid, _command(proc, pid))
    return Holder(None)


def _processes(proc: Path) -> Iterator[int]:
    with suppress(OSError):
        for entry in proc.iterdir():
            if entry.name.isdigit():
                yield int(entry.name)


def _command(proc: Path, pid: int) -> str:
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
