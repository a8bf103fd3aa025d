"""Show how much of a batch has been read."""

import math
from collections.abc import Callable

from runtime.process.display import Display


def tell(batch_id: int, messages: int, of: int, read: int, seconds: float) -> str:
    """Return a line of progress: ``messages`` of ``of`` offsets are read, ``read`` of them in the last ``seconds``."""
    line = f"batch {batch_id}: {messages:,} of {of:,} messages"
    if not read or seconds <= 0:
        return line
    rate = read / seconds
    return f"{line} ({100 * messages // of} %), {rate:,.0f}/s, about {span((of - messages) / rate)} left"


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
            self._display.show(tell(self._batch_id, messages, self._of, read, now - self._began))
            self._shown_at = now

    def close(self) -> None:
        """Remove the line."""
        self._display.close()
