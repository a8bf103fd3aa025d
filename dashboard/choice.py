"""The filters that a visitor has chosen. The widgets keep them in the URL of the page."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

PERIODS: dict[str, timedelta | None] = {
    "all": None,
    "24 hours": timedelta(hours=24),
    "7 days": timedelta(days=7),
    "90 days": timedelta(days=90),
}
# Seconds from one refresh to the next; None is paused.
REFRESHES: dict[str, float | None] = {"5 s": 5.0, "30 s": 30.0, "5 min": 300.0, "paused": None}


@dataclass(frozen=True)
class Choice:
    """The filters. If nothing of a kind is chosen, that means all of it. ``period`` is a key of PERIODS."""

    types: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    period: str = "all"

    def first_hour(self, as_of: datetime) -> datetime | None:
        """Return the first hour of the period, whose last hour is that of ``as_of``; None if it has no beginning."""
        length = PERIODS[self.period]
        hour = as_of.replace(minute=0, second=0, microsecond=0)
        return None if length is None else hour - length + timedelta(hours=1)

    def describe(self) -> str:
        """Return the choice in words."""
        period = "since the output began" if self.period == "all" else f"created in the last {self.period}"
        return ", ".join(part for part in (period, " or ".join(self.types), " or ".join(self.priorities)) if part)

    def rows(self, table: pa.Table, time: str, as_of: datetime) -> pa.Table:
        """Return the rows of ``table`` that match; ``time`` is the column to which the period applies."""
        for column, chosen in (("request_type", self.types), ("priority", self.priorities)):
            if chosen:
                table = table.filter(pc.is_in(table[column], pa.array(chosen, pa.string())))
        first = self.first_hour(as_of)
        if first is not None:
            last = as_of.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            kind = table.schema.field(time).type
            after = pc.greater_equal(table[time], pa.scalar(first, kind))
            table = table.filter(pc.and_(after, pc.less(table[time], pa.scalar(last, kind))))
        return table
