"""The time, as something that is passed in."""

import time
from datetime import UTC, datetime


class Clock:
    """The clocks of this machine."""

    def seconds(self) -> float:
        """Return seconds that only ever grow; what they count from means nothing."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """Return the date and time in UTC, which somebody may set back."""
        return datetime.now(UTC)
