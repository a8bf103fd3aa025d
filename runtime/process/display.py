"""Where a service shows its progress: one line that is redrawn on a terminal, otherwise lines in the log."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import IO, Any, Protocol

from runtime.process.logs import Event, tell

_log = logging.getLogger(__name__)

_ERASE = "\r\x1b[K"
_USUAL_COLUMNS = 80


class Display(Protocol):
    """Shows one line of progress, at most every ``every_s`` seconds."""

    every_s: float

    def show(self, progress: Event) -> None:
        """Show a line in place of the one before, or below it in a log."""

    def close(self) -> None:
        """Remove the line from the terminal; ``show`` may be called again."""


class LogDisplay:
    """Logs the line of progress, every few seconds."""

    every_s = 5.0

    def show(self, progress: Event) -> None:
        """Log the line."""
        tell(_log, progress)

    def close(self) -> None:
        """Do nothing: lines of a log stay."""


class TerminalDisplay:
    """One line at the bottom of the terminal ``stream``; log lines appear above it.

    ``columns`` returns the width of the terminal. The line stays within it, because a line that wraps cannot be erased.
    """

    every_s = 0.5

    def __init__(self, stream: IO[str], columns: Callable[[], int]) -> None:
        self._stream = stream
        self._columns = columns
        self._line = ""
        # Progress and log lines come from different threads.
        self._lock = threading.RLock()

    def show(self, progress: Event) -> None:
        """Replace the line."""
        with self._lock:
            self._line = str(progress)[: max(0, self._columns() - 1)]
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
        """Write whole lines of the log above the line of progress."""
        with self._lock:
            return self._stream.write(_ERASE + text + self._line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._lock:
            self._stream.flush()


def _move_log(old: object, new: Any) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)


def draws_in_place(is_a_terminal: bool, terminal: str) -> bool:
    """Whether a line can be erased: standard error is a terminal, and ``terminal`` (TERM) is not ``dumb``."""
    return is_a_terminal and terminal != "dumb"


def choose_display(log_format: str) -> Display:
    """Return a display on the terminal if standard error is one and the log is text, otherwise in the log."""
    if log_format == "text" and draws_in_place(sys.stderr.isatty(), os.environ.get("TERM", "")):
        return TerminalDisplay(sys.stderr, _columns)
    return LogDisplay()


def _columns() -> int:
    try:
        # A pseudo-terminal without a size says 0.
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS
