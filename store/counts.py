"""The counts that totals are made of, and the one-file datasets that follow from them. Functions on values: no I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from contract.columns import UTC_MICROSECONDS
from contract.ticket import PRIORITIES, REQUEST_TYPES, URGENT, RequestType
from store.datasets import BY_HOUR, BY_PRIORITY, BY_TEAM, BY_TYPE, METRICS, Dataset


class HourCount(msgspec.Struct, frozen=True, array_like=True):
    """How many tickets of one type and priority, assigned to one team, were created in one hour (UTC)."""

    hour: datetime
    request_type: RequestType
    priority: str
    team: str
    count: int


class Totals(msgspec.Struct, frozen=True):
    """Counts since the output began."""

    tickets: int = 0
    rejected: int = 0
    unique_clients: int = 0
    by_type: dict[str, int] = {}
    by_priority: dict[str, int] = {}
    by_team: dict[str, int] = {}
    unknown: dict[str, Any] = {}

    @property
    def urgent(self) -> int:
        """How many tickets are of high or critical priority."""
        return sum(self.by_priority.get(priority, 0) for priority in URGENT)

    def add(self, hours: Iterable[HourCount], rejected: int, new_clients: int) -> "Totals":
        """Return these totals with one batch added."""
        by_type, by_priority, by_team = Counter(self.by_type), Counter(self.by_priority), Counter(self.by_team)
        for row in hours:
            by_type[row.request_type] += row.count
            by_priority[row.priority] += row.count
            by_team[row.team] += row.count
        return msgspec.structs.replace(
            self,
            tickets=by_type.total(),
            rejected=self.rejected + rejected,
            unique_clients=self.unique_clients + new_clients,
            by_type=dict(by_type),
            by_priority=dict(by_priority),
            by_team=dict(by_team),
        )


def count_by_hour(assigned: pa.Table) -> list[HourCount]:
    """Count tickets, in the schema of tickets_with_assignment, for each hour (UTC), request type, priority and team."""
    # Round without the zone (UTC): otherwise Arrow needs the machine's time zone database, which may be missing.
    hours = pc.floor_temporal(assigned["created_at"].cast(pa.timestamp("us")), unit="hour").cast(UTC_MICROSECONDS)
    columns = ["request_type", "priority", "assigned_team"]
    keys = assigned.select(columns).append_column("hour", hours)
    counted = keys.group_by(["hour", *columns]).aggregate([([], "count_all")])
    values = (counted[name].to_pylist() for name in ("hour", *columns, "count_all"))
    return [HourCount(*row) for row in zip(*values, strict=True)]


def merge_hours(known: pa.Table, new: Iterable[HourCount]) -> pa.Table:
    """Return tickets_by_hour with ``new`` added to ``known``, ordered by hour, request type and priority.

    A negative count removes tickets; a row whose count becomes zero is dropped.
    """
    rows = list(new)
    added = pa.table(
        {
            "hour": pa.array([row.hour for row in rows], UTC_MICROSECONDS),
            "request_type": pa.array([row.request_type for row in rows], pa.string()),
            "priority": pa.array([row.priority for row in rows], pa.string()),
            "count": pa.array([row.count for row in rows], pa.int64()),
        },
        schema=BY_HOUR.schema,
    )
    keys = ["hour", "request_type", "priority"]
    merged = pa.concat_tables([known, added]).group_by(keys).aggregate([("count", "sum")])
    counted = merged.rename_columns({"count_sum": "count"}).sort_by([(key, "ascending") for key in keys])
    return counted.filter(pc.not_equal(counted["count"], 0)).cast(BY_HOUR.schema)


def summaries(
    totals: Totals, hours: pa.Table, batch_id: int, updated_at: datetime, teams: Iterable[str]
) -> dict[Dataset, pa.Table]:
    """Return the one-file datasets; ``hours`` is tickets_by_hour, which does not follow from ``totals``.

    ``teams`` are those of the rules that apply now; they are listed even if they have no ticket.
    """
    every_team = tuple(dict.fromkeys([*teams, *totals.by_team]))
    return {
        METRICS: _metrics(totals, batch_id, updated_at),
        BY_TYPE: _largest_first(totals.by_type, REQUEST_TYPES, BY_TYPE),
        BY_PRIORITY: _largest_first(totals.by_priority, PRIORITIES, BY_PRIORITY),
        # A team of earlier rules keeps its count.
        BY_TEAM: _largest_first(totals.by_team, every_team, BY_TEAM),
        BY_HOUR: hours,
    }


def _metrics(totals: Totals, batch_id: int, updated_at: datetime) -> pa.Table:
    row = {
        "total_tickets": totals.tickets,
        **{f"{name}_count": totals.by_type.get(name, 0) for name in REQUEST_TYPES},
        **{f"{name}_priority_count": totals.by_priority.get(name, 0) for name in PRIORITIES},
        "unique_clients": totals.unique_clients,
        "rejected_messages": totals.rejected,
        "batch_id": batch_id,
        "updated_at": updated_at.astimezone(UTC),
    }
    return pa.Table.from_pylist([row], schema=METRICS.schema)


def _largest_first(counts: dict[str, int], names: Sequence[str], dataset: Dataset) -> pa.Table:
    ordered = sorted(names, key=lambda name: -counts.get(name, 0))
    columns = [pa.array(ordered, pa.string()), pa.array([counts.get(name, 0) for name in ordered], pa.int64())]
    return pa.Table.from_arrays(columns, schema=dataset.schema)
