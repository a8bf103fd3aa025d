"""Measure a process with all its descendants: wall time, CPU, memory.

``python -m benchmarks.whole_process COMMAND …`` runs the command, waits for every process that it leaves behind, and
prints one line of JSON. It runs as a process of its own that adopts orphans, so all of the process tree is below it.
CPU is read from the processes while they run, because the kernel's sum for a parent lacks children that it did not wait
for, such as Spark's Python workers.
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
# Reading memory costs more than CPU, so it is read only every fifth time.
_MEMORY_EVERY = 5
# Processes that are left this long after the command has ended will not end by themselves.
_ORPHANS_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Cost:
    """``wall_s`` until the command ended, CPU of its process tree, and the most memory that the tree had at one time.

    Memory is the sum of the proportional set sizes (PSS), in MiB, measured four times a second.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


class CommandFailed(Exception):
    """A measured command did not end with exit code 0; the text is the end of its output."""


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
    """Watches our descendants and sums up the CPU and memory that they have used so far."""

    def __init__(self) -> None:
        self.peak_kib = 0
        self._cpu_s: dict[tuple[int, str], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def cpu_s(self) -> float:
        """User and system time of all of them; up to _LOOK_EVERY_S of each may be missing at its end."""
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
        """Stop watching."""
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
    """Read fields of proc(5)'s stat, which count from 1; the second is a name in brackets that may hold anything."""
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
    """Wait for the whole tree; return the exit code of the command and when it ended."""
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
