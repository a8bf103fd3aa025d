"""What a whole process costs, with all that it starts: wall time, CPU, memory.

``python -m benchmarks.whole_process COMMAND …`` runs the command, waits for everything that it leaves behind, and
prints one line of JSON. It is a process of its own that adopts orphans: the CPU seconds of a worker whose parent was
killed would otherwise be counted nowhere.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.settings.setting import ROOT

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_EVERY_S = 0.25
# What is left of a process tree that long after its head has ended is not going to end by itself.
_ORPHANS_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Cost:
    """``wall_s`` until the head of the tree ended, CPU of all of it, and the most memory that it had at one time.

    Memory is the sum of the proportional set sizes (PSS), in MiB, looked at four times a second.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


class CommandFailed(Exception):
    """A measured command did not end with exit code 0; the text holds the end of what it printed."""


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[Cost, str]:
    """Run ``command`` in the folder of the repository; return its cost and what it printed. Raises CommandFailed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.whole_process", *command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    *printed, told = done.stdout.splitlines()
    return Cost(**json.loads(told)), "\n".join(printed) + done.stderr


class _Memory:
    """The most memory that all our descendants had at one time."""

    def __init__(self) -> None:
        self.peak_kib = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(_LOOK_EVERY_S):
            self.peak_kib = max(self.peak_kib, sum(map(_pss_kib, _descendants(os.getpid()))))

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def _descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children[_parent(entry)].append(int(entry.name))
    found = list(children[ancestor])
    for process in found:
        found += children[process]
    return found


def _parent(process: Path) -> int:
    """Read the fourth field of proc(5)'s stat; the second is a name in brackets, with whatever in it."""
    try:
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _pss_kib(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _reap(head: int) -> tuple[int, float, float]:
    """Wait for the whole tree; return the exit code of its head, when that ended, and the CPU seconds of all."""
    cpu_s, code, ended = 0.0, 0, 0.0
    while True:
        try:
            process, status, used = os.wait4(-1, os.WNOHANG if ended else 0)
        except ChildProcessError:
            return code, ended, cpu_s
        if process == 0:
            if time.monotonic() > ended + _ORPHANS_END_S:
                for orphan in _descendants(os.getpid()):
                    os.kill(orphan, signal.SIGKILL)
            time.sleep(0.01)
            continue
        # It holds the seconds of the children that the process has waited for itself.
        cpu_s += used.ru_utime + used.ru_stime
        if process == head:
            code, ended = os.waitstatus_to_exitcode(status), time.monotonic()


def main(command: Sequence[str]) -> int:
    """Run ``command``, print its cost, return its exit code."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    memory = _Memory()
    began = time.monotonic()
    code, ended, cpu_s = _reap(os.posix_spawnp(command[0], tuple(command), os.environ))
    memory.stop()
    cost = Cost(round(ended - began, 3), round(cpu_s, 3), round(memory.peak_kib / 1024, 1))
    print(json.dumps(asdict(cost)))
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
