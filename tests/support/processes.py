"""Start our commands as real processes, in an environment with no settings of ours except those that a test gives."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from runtime.settings import catalogue
from runtime.settings.setting import ROOT

T = TypeVar("T")

# Variables that a process needs from the machine; all others could change what is tested.
_KEPT = (
    "PATH",
    "HOME",
    "JAVA_HOME",
    "TMPDIR",
    "LANG",
    "CLIENT_TICKETS_CACHE",
    "XDG_CACHE_HOME",
    # The one setting of pip that may have to be the machine's.
    "PIP_CERT",
)


def clean_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process of ours: that of the machine, defaults for every key of ``.env``, ``given``.

    The defaults are set because a developer may have edited ``.env``; the environment overrides it. There is no
    consumer group: many outputs share one broker, and it would belong to the first.
    """
    defaults = {key: str(setting.default) for key, setting in catalogue.ALL.items() if setting.default is not None}
    defaults["CONSUMER_GROUP"] = ""
    machine = {key: os.environ[key] for key in _KEPT if key in os.environ}
    return {**machine, **defaults, **(given or {})}


def wait_for(condition: Callable[[], T], deadline_s: float = 30, what: str = "") -> T:
    """Return the first true value of ``condition``; fail after ``deadline_s`` seconds."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what or getattr(condition, '__name__', 'condition')} not met within {deadline_s} s")
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # It may end while we look.
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def processes_of(session: int) -> set[int]:
    """Return the ids of all processes of a session, which child processes inherit."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # It may end while we look.
            with suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    found.add(int(entry.name))
    return found


class Running:
    """One process that a test started; its output is kept in files, see ``stdout`` and ``stderr``."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, cwd: Path, new_group: bool = False
    ) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0 if new_group else None,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """All output, for the message of a failed assertion."""
        return f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, deadline_s: float = 120) -> int:
        """Return its exit code; fail, with its output, if it does not end in time."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"process {self.pid} still runs after {deadline_s} s\n{self.output}") from None

    def wait_for_stdout(self, text: str, deadline_s: float = 60) -> str:
        """Return standard output once ``text`` is in it; fail at once if the process ends without it."""
        return self._wait_for_text(lambda: self.stdout, text, deadline_s)

    def wait_for_stderr(self, text: str, deadline_s: float = 60) -> str:
        """Return standard error once ``text`` is in it; fail at once if the process ends without it."""
        return self._wait_for_text(lambda: self.stderr, text, deadline_s)

    def _wait_for_text(self, read: Callable[[], str], text: str, deadline_s: float) -> str:
        def seen() -> str:
            ended = self.process.poll() is not None
            written = read()
            if text in written:
                return written
            assert not ended, f"process ended with {self.process.returncode} without {text!r}\n{self.output}"
            return ""

        return wait_for(seen, deadline_s, f"{text!r} in the output")

    def end(self) -> None:
        """End the process: SIGTERM, and SIGKILL if it still runs after 30 s."""
        if self.process.poll() is None:
            # A stopped process would not handle the SIGTERM.
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Processes:
    """Starts processes and ends them all at teardown; the fixture of the same name gives one to a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._count = 0

    def start(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> Running:
        """Start ``python ARGUMENTS`` (``"producer/ticket_producer.py", "--count", "5"`` or ``"-m", …``)."""
        return self.start_command([sys.executable, *map(str, arguments)], env, cwd)

    def start_in_a_group(self, *arguments: str | Path) -> Running:
        """Start ``python ARGUMENTS`` as the leader of a process group, as a shell does."""
        return self.start_command([sys.executable, *map(str, arguments)], new_group=True)

    def start_command(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        new_group: bool = False,
    ) -> Running:
        """Start any command in the clean environment."""
        self._count += 1
        folder = self._folder / f"process-{self._count}"
        folder.mkdir(parents=True)
        running = Running(command, clean_environment(env), folder, cwd, new_group)
        self._stack.callback(running.end)
        return running

    def run(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        deadline_s: float = 120,
        expect: int | None = 0,
    ) -> Running:
        """Run ``python ARGUMENTS`` to its end; fail, with its output, unless it exits with ``expect`` (None: any)."""
        running = self.start(*arguments, env=env, cwd=cwd)
        code = running.wait(deadline_s)
        assert expect in (None, code), f"exit code {code} instead of {expect}\n{running.output}"
        return running

    def end_all(self) -> None:
        """End what still runs, last started first."""
        self._stack.close()
