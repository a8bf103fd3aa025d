"""Standard input as a source: its lines are handed on as they arrive, not only when there are many."""

import os
import select
import sys
from typing import Any

from runtime.errors import SettingError

_CHUNK = 1 << 16


def standard_input() -> Any:
    """Return standard input, to read bytes. Raises SettingError if the process has none."""
    if sys.stdin is None:
        raise SettingError("standard input is closed; redirect a file to it: --source - < tickets.csv")
    # Not sys.stdin.buffer: Python aborts at its end if a thread still waits for input there.
    return os.fdopen(0, "rb", closefd=False)


class ArrivingLines:
    """The lines of a pipe that another program may still be writing to."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._kept = b""

    def readline(self) -> bytes:
        """Return the next line; without a line break at the end, and empty after it."""
        while b"\n" not in self._kept:
            # A read of more than the size of the handle's buffer leaves nothing in that buffer, where ``waiting`` would
            # not see it.
            chunk = self._handle.read1(_CHUNK)
            if not chunk:
                break
            self._kept += chunk
        line, line_break, self._kept = self._kept.partition(b"\n")
        return line + line_break

    def waiting(self) -> bool:
        """Whether the next line has not been written yet."""
        return b"\n" not in self._kept and not select.select([self._handle], [], [], 0)[0]
