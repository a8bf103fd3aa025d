"""A clock that stands still while a test does not move it on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runtime.process.clock import Clock
from runtime.process.shutdown import Shutdown


class Time(Shutdown, Clock):
    """A clock that only waiting and working move on; a stop is asked for at ``stop_at``."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.stop_at = 1e9
        self.waits: list[float] = []
        self.while_waiting: list[Callable[[], object]] = []

    def seconds(self) -> float:
        """Return what has passed so far."""
        return self.passed

    def now(self) -> datetime:
        """Return the same moment of 2026 at the start of each test, and what has passed since."""
        return datetime(2026, 1, 31, 11, tzinfo=UTC) + timedelta(seconds=self.passed)

    def wait(self, seconds: float | None = None) -> bool:
        """Do what is to happen meanwhile, and be done."""
        assert seconds is not None
        self.waits.append(seconds)
        if self.while_waiting:
            self.while_waiting.pop(0)()
        self.passed += seconds
        if self.passed >= self.stop_at:
            self.ask()
        return self.asked
