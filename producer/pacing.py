"""When the next ticket is due. Pure: time comes in as seconds of a monotonic clock."""

import math

# After a stall, missed tickets are sent at this multiple of the rate, never all at once: any 100 ms hold at most
# CATCH_UP * (100 ms + BURST_S) / 100 ms = 1.38 times their share.
CATCH_UP = 1.15
BURST_S = 0.02

# Tickets that were due longer ago than this are dropped, not caught up.
MAX_BACKLOG_S = 10.0

# The shortest wait, so that 5,000 tickets a second do not mean 5,000 wake-ups.
SHORTEST_PAUSE_S = 0.002

UNPACED_CHUNK = 500


class Pacer:
    """Spreads tickets over time: ticket ``n``, counted from 0, is due at ``start + n / rate``.

    Rate 0 means without pause. After each call of ``due``, call ``spend`` with the number of tickets really sent.
    """

    def __init__(self, rate: float, start: float) -> None:
        self._rate = rate
        self._start = start
        self._looked = start
        self._sent = 0
        self._credit = 1.0

    def due(self, now: float) -> int:
        """Return how many tickets may be sent now."""
        if not self._rate:
            return UNPACED_CHUNK
        most = max(1.0, self._rate * BURST_S * CATCH_UP)
        self._credit = min(most, self._credit + (now - self._looked) * self._rate * CATCH_UP)
        self._looked = now
        behind = self._scheduled(now) - self._sent
        forgiven = behind - max(1.0, self._rate * MAX_BACKLOG_S)
        if forgiven > 0:
            self._start += forgiven / self._rate
            behind = self._scheduled(now) - self._sent
        return max(0, min(behind, int(self._credit)))

    def spend(self, sent: int) -> None:
        """Count tickets that were sent."""
        self._sent += sent
        self._credit -= sent

    def pause(self, now: float) -> float:
        """Return the seconds to wait before the next call of ``due``, 0 if a ticket is due."""
        if not self._rate:
            return 0.0
        until_due = self._start + self._sent / self._rate - now
        until_credit = (1 - self._credit) / (self._rate * CATCH_UP)
        pause = max(until_due, until_credit)
        return max(pause, SHORTEST_PAUSE_S) if pause > 0 else 0.0

    def _scheduled(self, now: float) -> int:
        # Add a little, so that a rounding error does not miss a ticket that is due right now.
        return math.floor((now - self._start) * self._rate + 1e-6) + 1


def planned(rate: float, duration: float) -> int:
    """Return how many tickets are due within ``duration`` seconds; the first one is due at once."""
    return math.ceil(rate * duration - 1e-6)
