"""Compute the figures of the page from the tables of a snapshot. Functions on values: no clock, no disk, no page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.columns import UTC_MICROSECONDS
from contract.ticket import URGENT
from dashboard.choice import Choice
from store.manifest import Manifest, RuleSet
from store.reasons import count_reasons

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HOURS_OF_A_WEEK = 7 * 24

# Charts and heatmap cover at most this: longer ones are useless, and a ticket may have any year from 1 to 9999.
LONGEST = timedelta(days=365)
_BY_MINUTE_UP_TO, _BY_HOUR_UP_TO = timedelta(hours=3), timedelta(days=8)
_MICROSECOND = timedelta(microseconds=1)

Unit = Literal["minute", "hour", "day"]
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_REASONS = pa.schema(
    [
        ("reason", pa.string()),
        ("messages", pa.int64()),
        ("example", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("received_at", UTC_MICROSECONDS),
    ]
)


@dataclass(frozen=True)
class Count:
    """A number of tickets; if it is not ``exact``, there may be more."""

    tickets: int
    exact: bool


def hour_of(time: datetime) -> datetime:
    """Return the beginning of the hour of ``time``."""
    return time.replace(minute=0, second=0, microsecond=0)


def per_hour(hours: pa.Table) -> dict[datetime, int]:
    """Return how many tickets were created in each hour."""
    sums = hours.group_by("hour").aggregate([("count", "sum")])
    return dict(zip(sums["hour"].to_pylist(), sums["count_sum"].to_pylist(), strict=True))


def created_in(hours: pa.Table, tickets: pa.Table, length: timedelta, as_of: datetime) -> Count:
    """Return how many tickets were created in the ``length`` before ``as_of``.

    They are counted among the newest ``tickets``, and ``hours`` prove that none is missing there. If some are missing,
    hours that lie completely in the period are still counted from ``hours``.
    """
    counted = per_hour(hours)
    start, exact, found = as_of - length, True, 0
    hour = hour_of(start)
    while hour <= as_of:
        seen = _within(tickets, "created_at", hour, hour + HOUR)
        times = seen["created_at"]
        after = pc.greater(times, pa.scalar(start, UTC_MICROSECONDS))
        inside = pc.sum(pc.and_(after, pc.less_equal(times, pa.scalar(as_of, UTC_MICROSECONDS)))).as_py() or 0
        missing = counted.get(hour, 0) - seen.num_rows
        exact = exact and missing <= 0
        found += inside + (missing if hour > start else 0)
        hour += HOUR
    return Count(found, exact)


def teams_of_kinds(rule_sets: Sequence[RuleSet]) -> dict[tuple[str, str], str | None]:
    """Return the team of each request type and priority; None if the rules changed it."""
    found: dict[tuple[str, str], set[str]] = {}
    for rules in rule_sets:
        for kind, team in rules.routing.assignments().items():
            found.setdefault(kind, set()).add(team)
    return {kind: min(teams) if len(teams) == 1 else None for kind, teams in found.items()}


def load(hours: pa.Table, column: str, names: Sequence[str]) -> pa.Table:
    """Return ``name``, ``tickets`` for each of ``names``, then for each other value of the column."""
    sums = hours.group_by(column).aggregate([("count", "sum")])
    found = dict(zip(sums[column].to_pylist(), sums["count_sum"].to_pylist(), strict=True))
    return counts_table({name: found.get(name, 0) for name in dict.fromkeys([*names, *sorted(found)])})


def load_of_teams(hours: pa.Table, manifest: Manifest, chosen: Choice) -> pa.Table | None:
    """Return ``name``, ``tickets`` for each team; None if the chosen tickets cannot be counted by team.

    Teams follow from types and priorities, unless a change of the rules concerned some of the chosen tickets.
    """
    sums: Counter[str] = Counter(dict.fromkeys(manifest.rule_sets[-1].routing.teams, 0))
    if chosen == Choice():
        return counts_table({**sums, **manifest.totals.by_team})
    teams = teams_of_kinds(manifest.rule_sets)
    counted = hours.group_by(["request_type", "priority"]).aggregate([("count", "sum")])
    for row in counted.to_pylist():
        team = teams.get((row["request_type"], row["priority"]))
        if team is None:
            return None
        sums[team] += row["count_sum"]
    return counts_table(sums)


def counts_table(counts: Mapping[str, int]) -> pa.Table:
    """Return ``name``, ``tickets`` and ``share``, from 0 to 1."""
    whole = sum(counts.values())
    return pa.table(
        {
            "name": pa.array(list(counts), pa.string()),
            "tickets": pa.array(list(counts.values()), pa.int64()),
            "share": pa.array([value / whole if whole else 0.0 for value in counts.values()], pa.float64()),
        }
    )


@dataclass(frozen=True)
class Movement:
    """``table`` has ``start``, ``end``, ``name``, ``tickets``; ``outside`` counts the tickets before and after it."""

    unit: Unit
    table: pa.Table
    outside: int


def movement(hours: pa.Table, tickets: pa.Table, chosen: Choice, as_of: datetime, by: str) -> Movement:
    """Return how many of the chosen tickets were created over time, split by the column ``by``.

    By minute if all of them lie within three hours and are among the newest ``tickets``; by hour up to eight days;
    otherwise by day.
    """
    shown = chosen.rows(hours, "hour", as_of)
    everything = pc.sum(shown["count"]).as_py() or 0
    shown = _within(shown, "hour", hour_of(as_of) - LONGEST, hour_of(as_of) + HOUR)
    outside = everything - (pc.sum(shown["count"]).as_py() or 0)
    if shown.num_rows == 0:
        return Movement("hour", _stacked(shown, "hour", by, HOUR), outside)
    first, last = pc.min(shown["hour"]).as_py(), pc.max(shown["hour"]).as_py()
    if last - first <= _BY_MINUTE_UP_TO:
        single = _within(chosen.rows(tickets, "created_at", as_of), "created_at", first, last + HOUR)
        if single.num_rows == pc.sum(shown["count"]).as_py():
            single = single.append_column("count", pa.array(np.ones(single.num_rows, np.int64)))
            return Movement("minute", _stacked(single, "created_at", by, MINUTE), outside)
    if last - first <= _BY_HOUR_UP_TO:
        return Movement("hour", _stacked(shown, "hour", by, HOUR), outside)
    return Movement("day", _stacked(shown, "hour", by, DAY), outside)


def _within(table: pa.Table, time: str, start: datetime, end: datetime) -> pa.Table:
    kind = table.schema.field(time).type
    inside = pc.and_(pc.greater_equal(table[time], pa.scalar(start, kind)), pc.less(table[time], pa.scalar(end, kind)))
    return table.filter(inside)


def _stacked(table: pa.Table, time: str, by: str, step: timedelta) -> pa.Table:
    micros = table[time].cast(pa.int64()).to_numpy()
    size = step // _MICROSECOND
    start = pa.array(micros // size * size, pa.int64())
    summed = (
        pa.table({"start": start, "name": table[by], "count": table["count"]})
        .group_by(["start", "name"])
        .aggregate([("count", "sum")])
        .sort_by([("start", "ascending"), ("name", "ascending")])
    )
    return pa.table(
        {
            "start": summed["start"].cast(UTC_MICROSECONDS),
            "end": pc.add(summed["start"], pa.scalar(size, pa.int64())).cast(UTC_MICROSECONDS),
            "name": summed["name"].cast(pa.string()),
            "tickets": summed["count_sum"].cast(pa.int64()),
        }
    )


def heatmap(hours: pa.Table, chosen: Choice, as_of: datetime) -> pa.Table:
    """Return ``weekday``, ``hour``, ``average``, ``tickets``, ``times`` for each hour of the week (UTC) that occurred.

    ``times`` is how often this hour of the week occurred since the first chosen ticket, or since the period began, up
    to the current hour; ``average`` is ``tickets`` divided by ``times``.
    """
    shown = _within(chosen.rows(hours, "hour", as_of), "hour", hour_of(as_of) - LONGEST, hour_of(as_of) + HOUR)
    counted = per_hour(shown)
    begin = chosen.first_hour(as_of)
    known = _within(hours, "hour", hour_of(as_of) - LONGEST, hour_of(as_of) + HOUR)
    if known.num_rows == 0:
        return _heat([])
    first = pc.min(known["hour"]).as_py()
    begin = first if begin is None else max(first, begin)
    times: Counter[tuple[int, int]] = Counter()
    found: Counter[tuple[int, int]] = Counter()
    hour = begin
    while hour <= as_of:
        slot = hour.weekday(), hour.hour
        times[slot] += 1
        found[slot] += counted.get(hour, 0)
        hour += HOUR
    return _heat([(slot, found[slot], times[slot]) for slot in sorted(times)])


def _heat(cells: Sequence[tuple[tuple[int, int], int, int]]) -> pa.Table:
    return pa.table(
        {
            "weekday": pa.array([WEEKDAYS[day] for (day, _), _, _ in cells], pa.string()),
            "hour": pa.array([hour for (_, hour), _, _ in cells], pa.int64()),
            "average": pa.array([found / times for _, found, times in cells], pa.float64()),
            "tickets": pa.array([found for _, found, _ in cells], pa.int64()),
            "times": pa.array([times for _, _, times in cells], pa.int64()),
        }
    )


def busiest(tickets: pa.Table, chosen: Choice, as_of: datetime, most: int) -> pa.Table:
    """Return ``client_id``, ``tickets``, ``urgent`` of the clients with most tickets; ``urgent``: high or critical."""
    shown = chosen.rows(tickets, "created_at", as_of)
    urgent = pc.is_in(shown["priority"], pa.array(URGENT, pa.string())).cast(pa.int64())
    sums = (
        pa.table({"client_id": shown["client_id"], "urgent": urgent})
        .group_by("client_id")
        .aggregate([("urgent", "count"), ("urgent", "sum")])
        .rename_columns({"urgent_count": "tickets", "urgent_sum": "urgent"})
    )
    keys = [("tickets", "descending"), ("urgent", "descending"), ("client_id", "ascending")]
    return sums.select(["client_id", "tickets", "urgent"]).take(pc.select_k_unstable(sums, k=most, sort_keys=keys))


def searched(tickets: pa.Table, chosen: Choice, text: str, as_of: datetime) -> pa.Table:
    """Return the chosen tickets with ``text`` in request, client, id or team, the last created first.

    If no priority was chosen, only those of high and critical priority. Upper and lower case are the same.
    """
    if not chosen.priorities:
        chosen = Choice(chosen.types, URGENT, chosen.period)
    shown = chosen.rows(tickets, "created_at", as_of)
    wanted = text.strip()
    if wanted:
        columns = ("request", "client_id", "ticket_id", "assigned_team")
        hits = [pc.match_substring(shown[column], wanted, ignore_case=True) for column in columns]
        shown = shown.filter(pc.or_(pc.or_(hits[0], hits[1]), pc.or_(hits[2], hits[3])))
    return shown.sort_by([("created_at", "descending"), ("ticket_id", "ascending")])


def reasons(rejected: pa.Table) -> pa.Table:
    """Return ``reason``, ``messages``; of the newest one ``example``, ``partition``, ``offset``, ``received_at``."""
    rows = [msgspec.structs.asdict(reason) for reason in count_reasons([rejected])]
    return pa.Table.from_pylist(rows, _REASONS)


def losses(manifest: Manifest) -> dict[str, int]:
    """Return the counts of other offsets, those above zero, by name: duplicates, forgotten messages, gaps."""
    sums = {
        "duplicates": sum(part.duplicates for part in manifest.partitions.values()),
        "forgotten": sum(part.forgotten for part in manifest.partitions.values()),
        "gaps": sum(part.gaps for part in manifest.partitions.values()),
    }
    return {name: value for name, value in sums.items() if value}


def gaps(manifest: Manifest) -> pa.Table:
    """Return ``partition``, ``from offset``, ``to offset`` and ``batch`` of each gap; both offsets are missing."""
    rows = [
        {"partition": gap.partition, "from offset": gap.start, "to offset": gap.end - 1, "batch": gap.batch_id}
        for gap in manifest.gaps
    ]
    return pa.Table.from_pylist(rows)
