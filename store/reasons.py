"""Why messages are in rejected_messages: how many for each kind of reason, and the newest of them as an example.

Functions on tables: no I/O. Reasons and examples hold what somebody else wrote, so they come as text that can be shown.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import msgspec
import numpy as np
import pyarrow as pa

from contract.ticket import kind_of
from runtime.process.foreign_text import on_one_line
from runtime.process.words import of_bytes

# What is read of rejected messages for this.
COLUMNS = ("partition", "offset", "received_at", "reason", "payload")
_EXAMPLE_CHARACTERS = 160


class Reason(msgspec.Struct, frozen=True):
    """A kind of reason, and how many messages were rejected for it. The other fields are of the newest one.

    ``in_full`` is its whole reason, ``example`` the beginning of its payload.
    """

    reason: str
    messages: int
    in_full: str
    example: str
    partition: int
    offset: int
    received_at: datetime | None


def count_reasons(tables: Iterable[pa.Table]) -> list[Reason]:
    """Return the reasons in ``tables``, which have COLUMNS and are in the order of publishing; the commonest first."""
    counts: Counter[str] = Counter()
    newest: dict[str, Reason] = {}
    for table in tables:
        places: dict[str, int] = {}
        for reason, count, place in _last_places(table):
            kind = on_one_line(kind_of(reason))
            counts[kind] += count
            places[kind] = max(place, places.get(kind, 0))
        for kind, row in zip(places, table.take(pa.array(places.values(), pa.int64())).to_pylist(), strict=True):
            newest[kind] = Reason(
                kind,
                0,
                on_one_line(row["reason"]),
                of_bytes(row["payload"], _EXAMPLE_CHARACTERS),
                row["partition"],
                row["offset"],
                row["received_at"],
            )
    return [msgspec.structs.replace(newest[kind], messages=count) for kind, count in _commonest_first(counts)]


def count_kinds(tables: Iterable[pa.Table]) -> dict[str, int]:
    """Return how many messages each kind of reason has, the commonest first; ``tables`` need only the reason."""
    counts: Counter[str] = Counter()
    for table in tables:
        for each in table["reason"].value_counts().to_pylist():
            counts[on_one_line(kind_of(each["values"]))] += each["counts"]
    return dict(_commonest_first(counts))


def _commonest_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _last_places(table: pa.Table) -> Iterable[tuple[str, int, int]]:
    """Return each reason in ``table``, how often it occurs, and in which row it occurs last."""
    rows = pa.array(np.arange(table.num_rows, dtype=np.int64))
    sums = (
        pa.table({"reason": table["reason"], "row": rows})
        .group_by("reason")
        .aggregate([("row", "count"), ("row", "max")])
    )
    return zip(*(sums[name].to_pylist() for name in ("reason", "row_count", "row_max")), strict=True)
