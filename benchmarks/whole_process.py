"""What a whole process costs, with all that it starts: wall time, CPU, memory.

``python -m benchmarks.whole_process COMMAND …`` runs the command, waits for everything that it leaves behind, and
prints one line of JSON. It is a process of its own that adopts orphans, so that each process of the tree is found below
it. CPU is read from the processes while they run: what the kernel adds up for a parent lacks children that nobody
waited for, such as Spark's Python workers.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from runtime.settings.setting import ROOT

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_EVERY_S = 0.05
# Memory is dearer to read, so not at each look.
_MEMORY_EVERY = 5
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
    return Cost(**json.loads(told)), "\n".join([*printed, done.stderr])


@contextmanager
def running(command: Sequence[str], log: Path = Path(os.devnull)) -> Iterator[int]:
    """Run ``command`` in the folder of the repository meanwhile, and return its process id; it is asked to end then.

    What it says goes to ``log``.
    """
    with log.open("wb") as said, subprocess.Popen(command, cwd=ROOT, stderr=said) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def tree_mib(head: int) -> float:
    """Return the sum of the proportional set sizes (PSS) of a process and all below it, in MiB."""
    return sum(map(_pss_kib, [head, *(number for number, _ in _descendants(head))])) / 1024


class _Watch:
    """What all our descendants have taken so far."""

    def __init__(self) -> None:
        self.peak_kib = 0
        self._cpu_s: dict[tuple[int, str], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """User and system time of all of them; each had up to _LOOK_EVERY_S more after it was last seen."""
        return sum(self._cpu_s.values())

    def _look(self) -> None:
        turns = 0
        while not self._done.wait(_LOOK_EVERY_S):
            processes = _descendants(os.getpid())
            for process, seconds in processes.items():
                self._cpu_s[process] = seconds
            if turns % _MEMORY_EVERY == 0:
                self.peak_kib = max(self.peak_kib, sum(_pss_kib(number) for number, _ in processes))
            turns += 1

    def stop(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()


def _descendants(ancestor: int) -> dict[tuple[int, str], float]:
    """Return the processes below ``ancestor``: number and start, which no other process has, and CPU seconds so far."""
    stats = [found for entry in Path("/proc").iterdir() if entry.name.isdigit() and (found := _stat(entry))]
    children: dict[int, list[_Stat]] = defaultdict(list)
    for stat in stats:
        children[stat.parent].append(stat)
    below = list(children[ancestor])
    for stat in below:
        below += children[stat.number]
    return {(stat.number, stat.start): stat.cpu_s for stat in below}


class _Stat(NamedTuple):
    number: int
    parent: int
    cpu_s: float
    start: str


def _stat(process: Path) -> _Stat | None:
    """Read fields of proc(5)'s stat, which count from 1; the second is a name in brackets, with whatever in it."""
    try:
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return _Stat(int(process.name), int(fields[1]), cpu_s, fields[19])


def _pss_kib(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _reap(head: int) -> tuple[int, float]:
    """Wait for the whole tree; return the exit code of its head and when that ended."""
    code, ended = 0, 0.0
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG if ended else 0)
        except ChildProcessError:
            return code, ended
        if process == 0:
            if time.monotonic() > ended + _ORPHANS_END_S:
                for orphan, _ in _descendants(os.getpid()):
                    os.kill(orphan, signal.SIGKILL)
            time.sleep(0.01)
        elif process == head:
            code, ended = os.waitstatus_to_exitcode(status), time.monotonic()


def main(command: Sequence[str]) -> int:
    """Run ``command``, print its cost, return its exit code."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watch = _Watch()
    began = time.monotonic()
    code, ended = _reap(os.posix_spawnp(command[0], tuple(command), os.environ))
    watch.stop()
    cost = Cost(round(ended - began, 3), round(watch.cpu_s, 3), round(watch.peak_kib / 1024, 1))
    print(json.dumps(asdict(cost)))
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
