"""How far the output is behind the topic, as values. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from processor.plan import Bounds


@dataclass(frozen=True, slots=True)
class Lag:
    """Where a partition stands: ``next_offset`` is read next, ``end_offset`` lies behind the last message."""

    next_offset: int
    end_offset: int

    @property
    def messages(self) -> int:
        """How many offsets are still to be read. Never below 0, also where the topic was replaced by a shorter one."""
        return max(0, self.end_offset - self.next_offset)


def lag_of(next_offsets: Mapping[int, int], bounds: Mapping[int, Bounds]) -> dict[int, Lag]:
    """Return the lag of each partition that the topic holds, by its number.

    ``next_offsets`` is what the ledger says; a partition that it does not know starts at its first message.
    """
    return {number: Lag(next_offsets.get(number, held.first), held.end) for number, held in sorted(bounds.items())}


def total(lags: Mapping[int, Lag]) -> int:
    """Return how many offsets of all partitions together are still to be read."""
    return sum(lag.messages for lag in lags.values())
