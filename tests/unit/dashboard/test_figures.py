"""The figures of the page, on small tables with literal results."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from contract.columns import UTC_MICROSECONDS
from contract.routing import DEFAULT
from dashboard import figures
from dashboard.choice import Choice
from dashboard.figures import HOUR, MINUTE, Count
from store.counts import Totals
from store.datasets import BY_HOUR, REJECTED, TICKETS
from store.manifest import Gap, Manifest, Partition, RuleSet
from tests.support.staging import NIGHT_SHIFT, SOURCE

# A Saturday.
AS_OF = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
TEAM = {"billing": "Billing Team", "technical": "Technical Support"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def hours(*rows: tuple[str, str, str, int]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(BY_HOUR.schema.names, (at(hour), *rest), strict=True)) for hour, *rest in rows], BY_HOUR.schema
    )


def ticket(number: int, created: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "ticket_id": f"3e476c38-2a7f-4d89-a08f-{number:012x}",
        "client_id": "CLIENT_1",
        "created_at": at(created),
        "request": "The invoice is wrong",
        "request_type": "billing",
        "priority": "low",
        "assigned_team": "Billing Team",
    }
    return {**plain, **changes}


def tickets(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), TICKETS.schema)


THREE = tickets(
    ticket(1, "2026-01-31T11:29:59"),
    ticket(2, "2026-01-31T11:45:00"),
    ticket(3, "2026-01-31T12:29:30"),
    ticket(4, "2026-01-31T12:31:00"),
)
THEIR_HOURS = hours(("2026-01-31T11:00:00", "billing", "low", 2), ("2026-01-31T12:00:00", "billing", "low", 2))


def test_the_last_hour_and_minute_are_exact_where_the_hours_prove_that_no_ticket_is_missing() -> None:
    assert figures.created_in(THEIR_HOURS, THREE, HOUR, AS_OF) == Count(2, exact=True)
    assert figures.created_in(THEIR_HOURS, THREE, MINUTE, AS_OF) == Count(1, exact=True)
    assert figures.created_in(hours(), tickets(), HOUR, AS_OF) == Count(0, exact=True)


def test_where_tickets_are_missing_the_last_hour_is_a_lower_bound() -> None:
    # The hour that began at 11:00 is only partly within; the current hour is completely within, listed or not.
    more = hours(("2026-01-31T11:00:00", "billing", "low", 9), ("2026-01-31T12:00:00", "billing", "low", 102))
    assert figures.created_in(more, THREE, HOUR, AS_OF) == Count(102, exact=False)
    assert figures.created_in(more, THREE, MINUTE, AS_OF) == Count(1, exact=False)
    # The minute lies in the current hour.
    early = hours(("2026-01-31T11:00:00", "billing", "low", 9), ("2026-01-31T12:00:00", "billing", "low", 2))
    assert figures.created_in(early, THREE, MINUTE, AS_OF) == Count(1, exact=True)


LOAD = hours(
    ("2026-01-30T09:00:00", "billing", "low", 5),
    ("2026-01-31T09:00:00", "billing", "high", 2),
    ("2026-01-31T12:00:00", "technical", "critical", 3),
)


def rows_of(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in columns) for row in table.to_pylist()]


def test_load_lists_every_name_also_without_tickets_and_its_share() -> None:
    found = figures.load(LOAD, "priority", ["low", "medium", "high"])
    assert rows_of(found, "name", "tickets", "share") == [
        ("low", 5, 0.5),
        ("medium", 0, 0.0),
        ("high", 2, 0.2),
        ("critical", 3, 0.3),
    ]


def test_a_period_ends_with_the_running_hour_and_has_as_many_hours_as_it_says() -> None:
    table = hours(
        ("2026-01-30T12:00:00", "billing", "low", 1),
        ("2026-01-30T13:00:00", "billing", "low", 2),
        ("2026-01-31T12:00:00", "billing", "low", 4),
        ("2026-01-31T13:00:00", "billing", "low", 8),
    )
    day = Choice(period="24 hours")
    assert day.rows(table, "hour", AS_OF)["count"].to_pylist() == [2, 4]
    week = figures.heatmap(table, day, AS_OF)
    assert week["times"].to_pylist() == [1] * 24
    assert sum(week["tickets"].to_pylist()) == 6


@pytest.mark.parametrize(
    ("chosen", "priorities"),
    [
        (Choice(), {"low": 5, "high": 2, "critical": 3}),
        (Choice(types=("billing",)), {"low": 5, "high": 2}),
        (Choice(priorities=("critical", "low")), {"low": 5, "critical": 3}),
        # The current hour and the 23 before it: from 13:00 of the day before.
        (Choice(period="24 hours"), {"high": 2, "critical": 3}),
        (Choice(types=("billing",), period="24 hours"), {"high": 2}),
    ],
)
def test_filters_leave_what_was_chosen(chosen: Choice, priorities: dict[str, int]) -> None:
    found = figures.load(chosen.rows(LOAD, "hour", AS_OF), "priority", [])
    assert dict(rows_of(found, "name", "tickets")) == priorities


def test_a_choice_is_told_in_words() -> None:
    assert Choice().describe() == "since the output began"
    chosen = Choice(("billing",), ("high", "critical"), "7 days")
    assert chosen.describe() == "created in the last 7 days, billing, high or critical"


TOTALS = Totals(tickets=10, by_type={"billing": 7, "technical": 3}, by_team={"Billing Team": 7, "Technical Support": 3})


def ledger(*routing: RuleSet, totals: Totals = TOTALS) -> Manifest:
    return Manifest("o", 1, "c", None, "batch", "json", 9, AS_OF, SOURCE, {}, totals, {}, routing=list(routing))


def test_teams_share_a_choice_as_types_and_priorities_do() -> None:
    chosen = Choice(period="24 hours")
    found = figures.load_of_teams(chosen.rows(LOAD, "hour", AS_OF), ledger(), chosen)
    assert found is not None
    assert rows_of(found, "name", "tickets") == [
        ("Account Management", 0),
        ("Billing Team", 2),
        ("Technical Support", 3),
        ("General Support", 0),
    ]


def test_only_what_went_to_two_teams_cannot_be_counted_by_team() -> None:
    moved = msgspec.structs.replace(TOTALS, by_team={"Billing Team": 7, "Night Shift": 1, "Technical Support": 2})
    changed = ledger(RuleSet(1, list(DEFAULT.rules)), RuleSet(4, list(NIGHT_SHIFT.rules)), totals=moved)

    def load_of(manifest: Manifest, *chosen: Any) -> list[Any] | None:
        choice = Choice(*chosen)
        found = figures.load_of_teams(choice.rows(LOAD, "hour", AS_OF), manifest, choice)
        return None if found is None else rows_of(found, "name", "tickets")

    assert load_of(changed, (), ("critical",)) is None
    assert load_of(changed, ("billing",)) == [
        ("Night Shift", 0),
        ("Account Management", 0),
        ("Billing Team", 7),
        ("Technical Support", 0),
        ("General Support", 0),
    ]
    every = load_of(changed)
    assert every is not None
    assert ("Night Shift", 1) in every
    always = load_of(ledger(RuleSet(1, list(NIGHT_SHIFT.rules))), (), ("critical",))
    assert always is not None
    assert always[0] == ("Night Shift", 3)


def test_a_young_pipeline_moves_by_minute() -> None:
    moved = figures.movement(THEIR_HOURS, THREE, Choice(), AS_OF, "priority")
    assert (moved.unit, moved.outside) == ("minute", 0)
    assert rows_of(moved.table, "start", "end", "name", "tickets") == [
        (at("2026-01-31T11:29:00"), at("2026-01-31T11:30:00"), "low", 1),
        (at("2026-01-31T11:45:00"), at("2026-01-31T11:46:00"), "low", 1),
        (at("2026-01-31T12:29:00"), at("2026-01-31T12:30:00"), "low", 1),
        (at("2026-01-31T12:31:00"), at("2026-01-31T12:32:00"), "low", 1),
    ]


def test_it_moves_by_hour_where_a_ticket_is_missing_among_the_newest() -> None:
    moved = figures.movement(THEIR_HOURS, THREE.slice(1), Choice(), AS_OF, "request_type")
    assert moved.unit == "hour"
    assert rows_of(moved.table, "start", "name", "tickets") == [
        (at("2026-01-31T11:00:00"), "billing", 2),
        (at("2026-01-31T12:00:00"), "billing", 2),
    ]


def test_a_longer_time_moves_by_hour_and_then_by_day() -> None:
    week = hours(("2026-01-24T00:00:00", "billing", "low", 1), ("2026-01-31T12:00:00", "billing", "low", 2))
    assert figures.movement(week, tickets(), Choice(), AS_OF, "priority").unit == "hour"
    month = hours(
        ("2026-01-01T05:00:00", "billing", "low", 1),
        ("2026-01-31T09:00:00", "billing", "low", 2),
        ("2026-01-31T12:00:00", "billing", "high", 4),
    )
    by_day = figures.movement(month, tickets(), Choice(), AS_OF, "priority")
    assert by_day.unit == "day"
    assert rows_of(by_day.table, "start", "end", "name", "tickets") == [
        (at("2026-01-01T00:00:00"), at("2026-01-02T00:00:00"), "low", 1),
        (at("2026-01-31T00:00:00"), at("2026-02-01T00:00:00"), "high", 4),
        (at("2026-01-31T00:00:00"), at("2026-02-01T00:00:00"), "low", 2),
    ]


def test_tickets_of_the_year_1_and_9999_are_left_out_and_counted() -> None:
    odd = hours(
        ("0001-01-01T00:00:00", "billing", "low", 3),
        ("2026-01-31T12:00:00", "billing", "low", 1),
        ("9999-12-31T23:00:00", "billing", "low", 4),
    )
    moved = figures.movement(odd, tickets(), Choice(), AS_OF, "priority")
    assert moved.outside == 7
    assert rows_of(moved.table, "start", "tickets") == [(at("2026-01-31T12:00:00"), 1)]
    assert figures.heatmap(odd, Choice(), AS_OF).num_rows == 1
    assert figures.movement(odd.slice(0, 1), tickets(), Choice(), AS_OF, "priority").table.num_rows == 0
    assert figures.heatmap(odd.slice(0, 1), Choice(), AS_OF).num_rows == 0


def test_the_heatmap_averages_over_the_times_that_an_hour_has_come() -> None:
    # Two Saturdays at twelve, only one with tickets; Friday at noon occurred once.
    table = hours(
        ("2026-01-24T12:00:00", "billing", "low", 6),
        ("2026-01-30T12:00:00", "technical", "low", 5),
    )
    week = figures.heatmap(table, Choice(), AS_OF)
    cells = {(row["weekday"], row["hour"]): (row["average"], row["tickets"], row["times"]) for row in week.to_pylist()}
    assert len(cells) == 168
    assert cells["Sat", 12] == (3.0, 6, 2)
    assert cells["Fri", 12] == (5.0, 5, 1)
    assert cells["Sat", 13] == (0.0, 0, 1)
    one_type = figures.heatmap(table, Choice(types=("technical",)), AS_OF).to_pylist()
    assert sum(row["tickets"] for row in one_type) == 5


def test_the_busiest_clients_come_first_those_with_more_urgent_tickets_before_others() -> None:
    table = tickets(
        ticket(1, "2026-01-31T10:00:00", client_id="A"),
        ticket(2, "2026-01-31T10:00:00", client_id="B", priority="critical"),
        ticket(3, "2026-01-31T10:00:00", client_id="C", priority="high"),
        ticket(4, "2026-01-31T10:00:00", client_id="C"),
        ticket(5, "2026-01-20T10:00:00", client_id="A"),
    )
    chosen = Choice(period="24 hours")
    assert rows_of(figures.busiest(table, chosen, AS_OF, 2), "client_id", "tickets", "urgent") == [
        ("C", 2, 1),
        ("B", 1, 1),
    ]


SEARCHED = tickets(
    ticket(1, "2026-01-31T10:00:00", priority="high", request="Invoice <b>7</b> is wrong"),
    ticket(2, "2026-01-31T11:00:00", priority="critical", client_id="CLIENT_77"),
    ticket(3, "2026-01-31T12:00:00", priority="low", request="invoice (again) [a-z]"),
    ticket(
        4,
        "2026-01-31T09:00:00",
        priority="high",
        request="É",
        request_type="technical",
        assigned_team="Technical Support",
    ),
)


@pytest.mark.parametrize(
    ("chosen", "text", "numbers"),
    [
        (Choice(), "", [2, 1, 4]),
        (Choice(), " INVOICE ", [2, 1]),
        (Choice(), "client_77", [2]),
        (Choice(), "<B>7", [1]),
        (Choice(), "technical sup", [4]),
        (Choice(), "000000000004", [4]),
        (Choice(), "é", [4]),
        (Choice(priorities=("low",)), "(again) [A-Z]", [3]),
        (Choice(types=("technical",)), "", [4]),
        (Choice(), ".*", []),
    ],
)
def test_a_search_finds_plain_text_in_four_columns_the_newest_first(
    chosen: Choice, text: str, numbers: list[int]
) -> None:
    found = figures.searched(SEARCHED, chosen, text, AS_OF)
    assert [int(row["ticket_id"][-1]) for row in found.to_pylist()] == numbers


def test_reasons_come_with_their_newest_example() -> None:
    time = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
    schema = REJECTED.schema.remove(REJECTED.schema.get_field_index("key"))
    rejected = pa.Table.from_pylist(
        [
            {"partition": 0, "offset": 1, "received_at": time, "reason": "empty", "payload": b""},
            {"partition": 1, "offset": 2, "received_at": None, "reason": "not JSON", "payload": b"<script>1"},
            {"partition": 1, "offset": 9, "received_at": time, "reason": "not JSON", "payload": b"<script>2"},
        ],
        schema,
    )
    assert rows_of(figures.reasons(rejected), "reason", "messages", "example", "partition", "offset") == [
        ("not JSON", 2, "<script>2", 1, 9),
        ("empty", 1, "", 0, 1),
    ]
    assert figures.reasons(rejected.slice(0, 0)).num_rows == 0


def test_duplicates_forgotten_messages_and_gaps_are_told_where_there_are_any() -> None:
    partitions = {0: Partition(0, 10, duplicates=2, gaps=3), 1: Partition(0, 9, duplicates=1)}
    gaps = [Gap(0, 4, 7, 12)]
    manifest = Manifest("o", 1, "c", None, "batch", "json", 1, AS_OF, SOURCE, partitions, Totals(), {}, gaps)
    assert figures.losses(manifest) == {"duplicates": 3, "gaps": 3}
    assert figures.gaps(manifest).to_pylist() == [{"partition": 0, "from offset": 4, "to offset": 6, "batch": 12}]
    assert figures.losses(msgspec.structs.replace(manifest, partitions={0: Partition(0, 10)})) == {}


def test_times_keep_their_type_to_the_microsecond() -> None:
    moved = figures.movement(THEIR_HOURS, THREE, Choice(), AS_OF, "priority").table
    assert moved.schema.field("start").type == UTC_MICROSECONDS
    assert moved["end"][0].as_py() - moved["start"][0].as_py() == timedelta(minutes=1)
