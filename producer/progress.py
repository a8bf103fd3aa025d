"""The counts of a run, and how they are shown and logged."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from producer.events import Done, Resumed, Sending, Stalled
from runtime.process.display import Display
from runtime.process.heartbeat import Heartbeat
from runtime.process.logs import tell

_log = logging.getLogger(__name__)

STALLED_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of tickets. ``failed``: given up by the client. Tickets in flight are neither acknowledged nor failed."""

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(self.sent + other.sent, self.acknowledged + other.acknowledged, self.failed + other.failed)

    @property
    def in_flight(self) -> int:
        """How many are neither acknowledged nor failed."""
        return self.sent - self.acknowledged - self.failed

    @property
    def unacknowledged(self) -> int:
        """How many were sent but may not be in the topic."""
        return self.sent - self.acknowledged


class Reporter:
    """Shows the counts as they come, warns once if the broker does not acknowledge, and updates the heartbeat.

    Rates are those of acknowledged tickets, from the first counts to the last ones. What a run does before and after,
    such as closing the client, is not included.
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
            tell(_log, Stalled(progress.in_flight, STALLED_AFTER_S))
        self._latest = progress
        if now - self._shown_at >= self._display.every_s:
            current = (progress.acknowledged - self._shown.acknowledged) / (now - self._shown_at)
            self._display.show(
                Sending(
                    *(progress.sent, progress.acknowledged, progress.failed, progress.in_flight),
                    rate=current,
                    rate_overall=self._overall(progress, now),
                )
            )
            self._shown, self._shown_at = progress, now

    def close(self) -> None:
        """Stop showing, and log the final counts."""
        self._display.close()
        last = self._latest
        tell(
            _log,
            Done(
                *(last.sent, last.acknowledged, last.failed),
                seconds=self._elapsed(self._counted_at),
                rate=self._overall(last, self._counted_at),
            ),
        )

    def _moves(self, progress: Progress, now: float) -> None:
        if progress.acknowledged > self._latest.acknowledged:
            self._heartbeat.beat(self._rest_s)
            if self._stalled:
                tell(_log, Resumed(now - self._moved_at))
        self._stalled = False
        self._moved_at = now

    def _overall(self, progress: Progress, now: float) -> float:
        elapsed = self._elapsed(now)
        return progress.acknowledged / elapsed if elapsed else 0.0

    def _elapsed(self, now: float) -> float:
        return now - (now if self._started is None else self._started)
