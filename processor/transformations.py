"""From tickets to what is published of them. Pure functions on Arrow tables and numbers: no I/O, no Spark."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from contract.routing import TEAMS
from contract.ticket import FIELDS, PRIORITIES, REQUEST_TYPES, Ticket
from processor.receipt import HourCount
from store.datasets import BY_HOUR, BY_PRIORITY, BY_TEAM, BY_TYPE, METRICS, TICKETS, UTC_MICROSECONDS
from store.manifest import Totals

_TYPES = pa.array(TEAMS.keys())
_TEAMS = pa.array(TEAMS.values())
_URGENT = pa.array(["high", "critical"])


class Transformations:
    """The steps between a batch of tickets and the datasets."""

    @staticmethod
    def tabulate(tickets: Sequence[Ticket]) -> pa.Table:
        """Return the tickets as a table of their six fields, ``created_at`` in UTC."""
        return pa.table(
            {name: pa.array([getattr(t, name) for t in tickets], TICKETS.schema.field(name).type) for name in FIELDS}
        )

    @staticmethod
    def assign_team(tickets: pa.Table) -> pa.Table:
        """Return ``tickets`` with the column ``assigned_team``, in the schema of tickets_with_assignment."""
        teams = _TEAMS.take(pc.index_in(tickets["request_type"], _TYPES))
        return tickets.append_column("assigned_team", teams).cast(TICKETS.schema)

    @staticmethod
    def high_priority(assigned: pa.Table) -> pa.Table:
        """Return the rows whose priority is high or critical."""
        return assigned.filter(pc.is_in(assigned["priority"], _URGENT))

    @staticmethod
    def count_by_hour(tickets: pa.Table) -> list[HourCount]:
        """Count the tickets for each hour of creation (UTC), request type and priority."""
        # Rounded without its zone, which is UTC: Arrow would ask the machine for its time zones, and it may have none.
        hours = pc.floor_temporal(tickets["created_at"].cast(pa.timestamp("us")), unit="hour").cast(UTC_MICROSECONDS)
        keys = tickets.select(["request_type", "priority"]).append_column("hour", hours)
        counted = keys.group_by(["hour", "request_type", "priority"]).aggregate([([], "count_all")])
        columns = (counted[name].to_pylist() for name in ("hour", "request_type", "priority", "count_all"))
        return [HourCount(*row) for row in zip(*columns, strict=True)]

    @staticmethod
    def merge_hours(known: pa.Table, new: Iterable[HourCount]) -> pa.Table:
        """Return tickets_by_hour with ``new`` added to ``known``, ordered by hour, request type and priority."""
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
        return (
            merged.rename_columns({"count_sum": "count"})
            .sort_by([(key, "ascending") for key in keys])
            .cast(BY_HOUR.schema)
        )

    @staticmethod
    def add_totals(totals: Totals, hours: Iterable[HourCount], rejected: int, new_clients: int) -> Totals:
        """Return ``totals`` with one batch added."""
        by_type, by_priority, by_team = Counter(totals.by_type), Counter(totals.by_priority), Counter(totals.by_team)
        for row in hours:
            by_type[row.request_type] += row.count
            by_priority[row.priority] += row.count
            by_team[TEAMS[row.request_type]] += row.count
        return Totals(
            tickets=by_type.total(),
            rejected=totals.rejected + rejected,
            unique_clients=totals.unique_clients + new_clients,
            by_type=dict(by_type),
            by_priority=dict(by_priority),
            by_team=dict(by_team),
        )

    @staticmethod
    def metrics(totals: Totals, batch_id: int, updated_at: datetime) -> pa.Table:
        """Return the one row of metrics."""
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

    @staticmethod
    def by_type(totals: Totals) -> pa.Table:
        """Return all request types with their counts, largest first."""
        return _largest_first(totals.by_type, REQUEST_TYPES, BY_TYPE.schema)

    @staticmethod
    def by_priority(totals: Totals) -> pa.Table:
        """Return all priorities with their counts, largest first."""
        return _largest_first(totals.by_priority, PRIORITIES, BY_PRIORITY.schema)

    @staticmethod
    def by_team(totals: Totals) -> pa.Table:
        """Return all teams with their counts, largest first; a team of the past keeps its count."""
        return _largest_first(totals.by_team, tuple(dict.fromkeys([*TEAMS.values(), *totals.by_team])), BY_TEAM.schema)


def _largest_first(counts: dict[str, int], names: Sequence[str], schema: pa.Schema) -> pa.Table:
    ordered = sorted(names, key=lambda name: -counts.get(name, 0))
    return pa.Table.from_arrays(
        [pa.array(ordered, pa.string()), pa.array([counts.get(name, 0) for name in ordered], pa.int64())], schema=schema
    )
