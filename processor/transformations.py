"""Turn tickets into the rows that are published. Pure functions on Arrow tables: no I/O, no Spark."""

import pyarrow as pa
import pyarrow.compute as pc

from contract.routing import KINDS, Routing
from contract.ticket import PRIORITIES, REQUEST_TYPES, URGENT
from store.counts import HourCount, count_by_hour
from store.datasets import TICKETS

_TYPES = pa.array(REQUEST_TYPES)
_PRIORITIES = pa.array(PRIORITIES)
_URGENT = pa.array(URGENT)


class Transformations:
    """The steps between a batch of tickets and the datasets."""

    @staticmethod
    def assign_team(tickets: pa.Table, routing: Routing) -> pa.Table:
        """Return ``tickets`` with the column ``assigned_team``, in the schema of tickets_with_assignment."""
        # Each as its place in KINDS.
        of_type = pc.multiply(pc.index_in(tickets["request_type"], _TYPES), len(PRIORITIES))
        kinds = pc.add(of_type, pc.index_in(tickets["priority"], _PRIORITIES))
        assignments = routing.assignments()
        teams = pa.array([assignments[kind] for kind in KINDS], pa.string()).take(kinds)
        return tickets.append_column("assigned_team", teams).cast(TICKETS.schema)

    @staticmethod
    def high_priority(assigned: pa.Table) -> pa.Table:
        """Return the rows whose priority is high or critical."""
        return assigned.filter(pc.is_in(assigned["priority"], _URGENT))

    @staticmethod
    def count_by_hour(assigned: pa.Table) -> list[HourCount]:
        """Count the tickets for each hour of creation (UTC), request type, priority and team."""
        return count_by_hour(assigned)
