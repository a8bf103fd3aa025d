"""A clock that only a test advances."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runtime.process.clock import Clock
from runtime.process.shutdown import Shutdown


class Time(Shutdown, Clock):
    """A clock that only waiting and working advance; at ``stop_at`` a stop is requested."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.stop_at = 1e9
        self.waits: list[float] = []
        self.while_waiting: list[Callable[[], object]] = []

    def seconds(self) -> float:
        """Return the seconds that have passed so far."""
        return self.passed

    def now(self) -> datetime:
        """Return a fixed time in 2026 plus the seconds that have passed."""
        return datetime(2026, 1, 31, 11, tzinfo=UTC) + timedelta(seconds=self.passed)

    def wait(self, seconds: float | None = None) -> bool:
        """Run what is due meanwhile, and return without waiting."""
        assert seconds is not None
        self.waits.append(seconds)
        if self.while_waiting:
            self.while_waiting.pop(0)()
        self.passed += seconds
        if self.passed >= self.stop_at:
            self.ask()
        return self.asked
