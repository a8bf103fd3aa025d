"""How much memory the machine or the container gives this process."""

from pathlib import Path

_MIB = 1024 * 1024

# cgroup v2, then v1. In a container each shows the container's own limit.
_CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit_mib(root: Path = Path("/")) -> int | None:
    """Return the memory in MiB that this process may use: the smaller of container limit and machine memory.

    None if neither can be read (not Linux). ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    limits = [_cgroup_limit(root / name) for name in _CGROUP_LIMITS] + [_machine_memory(root / "proc/meminfo")]
    return min((limit for limit in limits if limit is not None), default=None)


def _cgroup_limit(file: Path) -> int | None:
    """Read a limit in bytes. Without a limit the file holds ``max`` (v2) or a number larger than any machine (v1)."""
    text = _read(file).strip()
    return int(text) // _MIB if text.isdigit() else None


def _machine_memory(file: Path) -> int | None:
    """Read ``MemTotal:  16384 kB``."""
    for line in _read(file).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) // 1024
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
