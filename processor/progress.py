"""Show how much of a batch has been read."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from runtime.process.display import Display
from runtime.process.logs import Event


@dataclass(frozen=True, slots=True)
class Reading(Event):
    """Of a batch ``read`` offsets of ``of`` are read; ``rate`` is how many a second, None where that is not known."""

    name = "reading"
    batch: int
    read: int
    of: int
    rate: float | None = None

    def __str__(self) -> str:
        """Return how far it is and how long the rest may take."""
        line = f"batch {self.batch}: {self.read:,} of {self.of:,} messages"
        if not self.rate:
            return line
        left = span((self.of - self.read) / self.rate)
        return f"{line} ({100 * self.read // self.of} %), {self.rate:,.0f}/s, about {left} left"


def how_far(batch_id: int, messages: int, of: int, read: int, seconds: float) -> Reading:
    """Return how far a batch is of which ``messages`` offsets of ``of`` are read, ``read`` of them in ``seconds``."""
    return Reading(batch_id, messages, of, read / seconds if seconds > 0 and read else None)


def span(seconds: float) -> str:
    """Return a duration in its two largest units, rounded up to whole seconds, from an hour on to whole minutes."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = math.ceil(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def is_due(since_last_s: float, every_s: float, messages: int, of: int) -> bool:
    """Whether another line is due. The end of a batch has its own line, so the last range needs none."""
    return messages < of and since_last_s >= every_s


class ReadingProgress:
    """Shows the progress of one batch. A batch that is read before a line is due shows none."""

    def __init__(self, display: Display, clock: Callable[[], float], batch_id: int, done: int, of: int) -> None:
        """Start at ``done`` of ``of`` offsets: those were read before, and do not count for the rate."""
        self._display = display
        self._clock = clock
        self._batch_id = batch_id
        self._done = done
        self._of = of
        self._began = self._shown_at = clock()

    def update(self, read: int) -> None:
        """Update to ``read`` offsets since the beginning; 0 says that reading begins now."""
        now = self._clock()
        if not read:
            # Spark has only just started; its start must not lower the rate.
            self._began = self._shown_at = now
            return
        messages = self._done + read
        if is_due(now - self._shown_at, self._display.every_s, messages, self._of):
            self._display.show(how_far(self._batch_id, messages, self._of, read, now - self._began))
            self._shown_at = now

    def close(self) -> None:
        """Remove the line."""
        self._display.close()
