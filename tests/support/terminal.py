"""A terminal in which a test starts a command and types Ctrl-C."""

import fcntl
import os
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

from runtime.settings.setting import ROOT
from tests.support.processes import clean_environment, wait_for

_CTRL_C = b"\x03"


class Terminal:
    """``python ARGUMENTS`` as the foreground process group of a new terminal; ended with the ``with`` block."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._master, slave = os.openpty()
        self._written = bytearray()
        try:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                env=clean_environment(env),
                cwd=ROOT,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        finally:
            os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        """Read until the last process on the terminal has ended: if its buffer is full, they block."""
        try:
            while piece := os.read(self._master, 65_536):
                self._written += piece
        except OSError:
            # Linux raises this once no process has the other end open.
            pass

    @property
    def screen(self) -> str:
        """All that was written to the terminal."""
        return bytes(self._written).decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, text: str, deadline_s: float = 90) -> None:
        """Wait until ``text`` was written; fail at once if the process ends without it."""

        def seen() -> bool:
            ended = self.process.poll() is not None
            if text in self.screen:
                return True
            assert not ended, f"it ended with {self.process.returncode} without {text!r}\n{self.screen}"
            return False

        wait_for(seen, deadline_s, f"{text!r} on the terminal")

    def type_ctrl_c(self) -> None:
        """Type Ctrl-C, so that the terminal sends SIGINT to the whole foreground process group."""
        os.write(self._master, _CTRL_C)

    def wait(self, deadline_s: float = 60) -> int:
        """Return the exit code; fail, with the output, if it does not end in time."""
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {deadline_s} s\n{self.screen}") from None
