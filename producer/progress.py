"""How far a run got, and how people get to see it."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runtime.process.heartbeat import Heartbeat

_log = logging.getLogger(__name__)

LOG_EVERY_S = 5.0
STALLED_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of tickets. ``failed`` ones the client gave up; those in flight are undecided."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(self.sent + other.sent, self.acknowledged + other.acknowledged, self.failed + other.failed)

    @property
    def in_flight(self) -> int:
        """How many are undecided."""
        return self.sent - self.acknowledged - self.failed

    @property
    def unacknowledged(self) -> int:
        """How many are not known to be in the topic."""
        return self.sent - self.acknowledged


class Display(Protocol):
    """Shows one line of progress."""

    every_s: float

    def show(self, line: str) -> None:
        """Show ``line`` instead of the one before, or below it."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class LogDisplay:
    """A line in the log every few seconds."""

    every_s = LOG_EVERY_S

    def show(self, line: str) -> None:
        """Log the line."""
        _log.info("%s", line)

    def close(self) -> None:
        """Nothing to put back."""


class TerminalDisplay:
    """One line at the bottom of the terminal, below the log."""

    every_s = 0.5

    def __init__(self) -> None:
        from rich.console import Console

        # Drawn no more often than it changes: at low rates the drawing takes more time than the tickets.
        self._status = Console(stderr=True).status("connected", refresh_per_second=1 / self.every_s)
        self._status.start()
        # rich prints above its line what goes through the sys.stderr that it put in place.
        self._redirect_log()

    def show(self, line: str) -> None:
        """Replace the line."""
        self._status.update(line)

    def close(self) -> None:
        """Remove the line."""
        self._status.stop()
        self._redirect_log()

    def _redirect_log(self) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr)


class Reporter:
    """Takes the counts as they come; shows them, warns once when the broker is silent, and beats the heart.

    Rates are those of acknowledged tickets, from the first counts to the last ones: what a run does before and after,
    such as closing the client, is not part of them.
    """

    def __init__(
        self, display: Display, heartbeat: Heartbeat, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._display = display
        self._heartbeat = heartbeat
        self._rest_s = rest_s
        self._clock = clock
        self._started: float | None = None
        self._shown_at = self._moved_at = self._counted_at = clock()
        self._shown = self._latest = Progress()
        self._stalled = False

    def update(self, progress: Progress) -> None:
        """Take the current counts."""
        now = self._counted_at = self._clock()
        if self._started is None:
            self._started = self._shown_at = now
        if progress.acknowledged > self._latest.acknowledged or not progress.in_flight:
            self._moves(progress, now)
        elif now - self._moved_at > STALLED_AFTER_S and not self._stalled:
            self._stalled = True
            _log.warning(
                "no acknowledgement for %.0f s, %s tickets in flight; the client keeps trying",
                STALLED_AFTER_S,
                f"{progress.in_flight:,}",
            )
        self._latest = progress
        if now - self._shown_at >= self._display.every_s:
            current = (progress.acknowledged - self._shown.acknowledged) / (now - self._shown_at)
            self._display.show(f"{_counts(progress)}, {current:,.1f}/s now, {self._overall(progress, now)}")
            self._shown, self._shown_at = progress, now

    def close(self) -> None:
        """Stop showing, and log the final counts."""
        self._display.close()
        _log.info("done: %s, %s", _counts(self._latest), self._overall(self._latest, self._counted_at))

    def _moves(self, progress: Progress, now: float) -> None:
        if progress.acknowledged > self._latest.acknowledged:
            self._heartbeat.beat(self._rest_s)
            if self._stalled:
                _log.info("the broker acknowledges again after %.0f s", now - self._moved_at)
        self._stalled = False
        self._moved_at = now

    def _overall(self, progress: Progress, now: float) -> str:
        elapsed = now - (now if self._started is None else self._started)
        return f"{progress.acknowledged / elapsed if elapsed else 0:,.1f}/s since the start"


def _counts(progress: Progress) -> str:
    return f"sent {progress.sent:,}, acknowledged {progress.acknowledged:,}, failed {progress.failed:,}"


def choose_display() -> Display:
    """Return a line on the terminal where there is one, else lines in the log."""
    return TerminalDisplay() if sys.stderr.isatty() else LogDisplay()
