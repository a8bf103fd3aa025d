"""The clock, as an object that is passed in, so that tests can replace it."""

import time
from datetime import UTC, datetime


class Clock:
    """The clock of this machine."""

    def seconds(self) -> float:
        """Return seconds from an arbitrary start; they never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """Return the date and time in UTC; it goes back if somebody sets the clock back."""
        return datetime.now(UTC)
