"""SIGTERM and SIGINT ask a service to stop; the service stops where that is safe."""

import os
import select
import signal
from types import FrameType


class StopAsked(Exception):
    """Work was abandoned because somebody asked to stop; the text says which work, where that is not obvious."""


class Shutdown:
    """A flag that signals set and loops read.

    The handler never raises: an exception in the middle of any call could leave a JVM gateway or a half-sent batch
    behind. It takes no lock either (threading.Event does), so it may interrupt any line, even one of this class.
    """

    def __init__(self) -> None:
        self._asked = False
        self._reader, self._writer = os.pipe()

    def install(self) -> "Shutdown":
        """Listen to SIGTERM and SIGINT. Must be called from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask to stop from within the process."""
        if not self._asked:
            self._asked = True
            os.write(self._writer, b".")

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        return self._asked

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep up to ``seconds`` or until asked to stop; return whether asked."""
        select.select([self._reader], [], [], seconds)
        return self._asked
