"""Where a service shows how far it is: one line that is drawn anew on a terminal, else lines in the log."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Protocol

_log = logging.getLogger(__name__)

_ERASE = "\r\x1b[K"
_USUAL_COLUMNS = 80


class Display(Protocol):
    """Shows one line of progress, every ``every_s`` seconds at most."""

    every_s: float

    def show(self, line: str) -> None:
        """Show ``line`` instead of the one before, or below it."""

    def close(self) -> None:
        """Leave the terminal as it was; ``show`` begins again."""


class LogDisplay:
    """A line in the log every few seconds."""

    every_s = 5.0

    def show(self, line: str) -> None:
        """Log the line."""
        _log.info("%s", line)

    def close(self) -> None:
        """Nothing to put back."""


class TerminalDisplay:
    """One line at the bottom of the terminal ``stream``; what is logged meanwhile goes above it.

    ``columns`` returns the width of the terminal, which the line never exceeds: a line that wraps cannot be erased.
    """

    every_s = 0.5

    def __init__(self, stream: IO[str], columns: Callable[[], int]) -> None:
        self._stream = stream
        self._columns = columns
        self._line = ""
        # Those who show progress and those who log are different threads.
        self._lock = threading.RLock()

    def show(self, line: str) -> None:
        """Replace the line."""
        with self._lock:
            self._line = line[: max(0, self._columns() - 1)]
            self._stream.write(_ERASE + self._line)
            self._stream.flush()
        _move_log(self._stream, self)

    def close(self) -> None:
        """Remove the line."""
        _move_log(self, self._stream)
        with self._lock:
            if self._line:
                self._stream.write(_ERASE)
                self._stream.flush()
            self._line = ""

    def write(self, text: str) -> int:
        """Take whole lines of the log, and write them above the line."""
        with self._lock:
            return self._stream.write(_ERASE + text + self._line)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._lock:
            self._stream.flush()


def _move_log(old: object, new: Any) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)


def draws_in_place(is_a_terminal: bool, terminal: str) -> bool:
    """Say whether a line can be erased where standard error goes; ``terminal`` is what TERM says."""
    return is_a_terminal and terminal != "dumb"


def choose_display() -> Display:
    """Return a line on the terminal where there is one, else lines in the log."""
    if draws_in_place(sys.stderr.isatty(), os.environ.get("TERM", "")):
        return TerminalDisplay(sys.stderr, _columns)
    return LogDisplay()


def _columns() -> int:
    try:
        # A terminal that nobody looks at may say 0.
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS
