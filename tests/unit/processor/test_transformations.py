"""From tickets to the rows that are published of them."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pyarrow as pa
import pytest

from contract.ticket import Ticket
from processor.receipt import HourCount
from processor.transformations import Transformations
from store.datasets import BY_HOUR, METRICS, TICKETS
from store.manifest import Totals
from tests.support.staging import ticket

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, tzinfo=UTC)


def assigned(*tickets: Ticket) -> pa.Table:
    return Transformations.assign_team(Transformations.tabulate(tickets))


def test_a_ticket_becomes_a_row_with_its_six_fields_to_the_letter() -> None:
    hostile = ticket(7, client_id="../\u202ex", request="\x00=cmd()<script>🎫")
    assert Transformations.tabulate([hostile]).to_pylist() == [
        {
            "ticket_id": "3e476c38-2a7f-4d89-a08f-000000000007",
            "client_id": "../\u202ex",
            "created_at": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
            "request": "\x00=cmd()<script>🎫",
            "request_type": "billing",
            "priority": "low",
        }
    ]


def test_a_time_in_another_zone_becomes_utc() -> None:
    elsewhere = datetime(2026, 2, 1, 0, 15, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert Transformations.tabulate([ticket(created_at=elsewhere)])["created_at"].to_pylist() == [
        datetime(2026, 1, 31, 18, 30, 0, 123456, tzinfo=UTC)
    ]


@pytest.mark.parametrize(
    ("request_type", "team"),
    [
        ("account", "Account Management"),
        ("billing", "Billing Team"),
        ("technical", "Technical Support"),
        ("general", "General Support"),
    ],
)
def test_each_type_has_its_team(request_type: str, team: str) -> None:
    table = assigned(ticket(request_type=request_type))
    assert table["assigned_team"].to_pylist() == [team]
    assert table.schema == TICKETS.schema


def test_no_tickets_make_an_empty_table_with_the_schema() -> None:
    table = assigned()
    assert table.num_rows == 0
    assert table.schema == TICKETS.schema
    assert Transformations.high_priority(table).schema == TICKETS.schema
    assert Transformations.count_by_hour(table) == []


def test_high_priority_is_high_and_critical_in_the_order_they_came() -> None:
    table = assigned(*(ticket(n, priority=p) for n, p in enumerate(["critical", "low", "high", "medium", "critical"])))
    urgent = Transformations.high_priority(table)
    assert urgent["priority"].to_pylist() == ["critical", "high", "critical"]
    assert [name[-1] for name in urgent["ticket_id"].to_pylist()] == ["0", "2", "4"]


def test_tickets_are_counted_by_hour_type_and_priority() -> None:
    table = assigned(
        ticket(created_at=NINE),
        ticket(created_at=NINE + timedelta(minutes=59, seconds=59, microseconds=999_999)),
        ticket(created_at=NINE, priority="high"),
        ticket(created_at=NINE, request_type="general"),
        ticket(created_at=TEN),
    )
    assert sorted(Transformations.count_by_hour(table), key=msgspec.structs.astuple) == [
        HourCount(NINE, "billing", "high", 1),
        HourCount(NINE, "billing", "low", 2),
        HourCount(NINE, "general", "low", 1),
        HourCount(TEN, "billing", "low", 1),
    ]


def test_the_first_and_the_last_hour_of_the_calendar_are_counted() -> None:
    table = assigned(
        ticket(created_at=datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ticket(created_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    )
    assert sorted(row.hour for row in Transformations.count_by_hour(table)) == [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, tzinfo=UTC),
    ]


def test_hours_are_added_to_what_is_known_and_sorted() -> None:
    known = Transformations.merge_hours(
        BY_HOUR.schema.empty_table(), [HourCount(TEN, "billing", "low", 5), HourCount(NINE, "general", "high", 1)]
    )
    merged = Transformations.merge_hours(
        known,
        [
            HourCount(TEN, "billing", "low", 2),
            HourCount(NINE, "account", "low", 3),
            HourCount(NINE, "account", "low", 1),
        ],
    )
    assert [tuple(row.values()) for row in merged.to_pylist()] == [
        (NINE, "account", "low", 4),
        (NINE, "general", "high", 1),
        (TEN, "billing", "low", 7),
    ]
    assert merged.schema == BY_HOUR.schema


def test_no_hours_make_an_empty_table_with_the_schema() -> None:
    merged = Transformations.merge_hours(BY_HOUR.schema.empty_table(), [])
    assert merged.num_rows == 0
    assert merged.schema == BY_HOUR.schema


def test_a_batch_is_added_to_the_totals() -> None:
    before = Totals(
        tickets=3,
        rejected=1,
        unique_clients=2,
        by_type={"billing": 3},
        by_priority={"low": 3},
        by_team={"Billing Team": 3},
    )
    hours = [
        HourCount(NINE, "billing", "low", 2),
        HourCount(TEN, "billing", "high", 1),
        HourCount(NINE, "general", "low", 4),
    ]
    assert Transformations.add_totals(before, hours, rejected=5, new_clients=6) == Totals(
        tickets=10,
        rejected=6,
        unique_clients=8,
        by_type={"billing": 6, "general": 4},
        by_priority={"low": 9, "high": 1},
        by_team={"Billing Team": 6, "General Support": 4},
    )


def test_the_metrics_are_one_row_with_every_count() -> None:
    totals = Totals(
        tickets=10,
        rejected=6,
        unique_clients=8,
        by_type={"billing": 6, "general": 4},
        by_priority={"low": 9, "high": 1},
    )
    elsewhere = datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=1)))
    table = Transformations.metrics(totals, 42, elsewhere)
    assert table.to_pylist() == [
        {
            "total_tickets": 10,
            "account_count": 0,
            "billing_count": 6,
            "technical_count": 0,
            "general_count": 4,
            "low_priority_count": 9,
            "medium_priority_count": 0,
            "high_priority_count": 1,
            "critical_priority_count": 0,
            "unique_clients": 8,
            "rejected_messages": 6,
            "batch_id": 42,
            "updated_at": NINE,
        }
    ]
    assert table.schema == METRICS.schema


def test_summaries_list_everything_largest_first() -> None:
    totals = Totals(
        by_type={"general": 2, "technical": 9},
        by_priority={"critical": 1, "medium": 1},
        by_team={"Night Shift": 5, "General Support": 2},
    )
    assert Transformations.by_type(totals).to_pylist() == [
        {"request_type": "technical", "count": 9},
        {"request_type": "general", "count": 2},
        {"request_type": "account", "count": 0},
        {"request_type": "billing", "count": 0},
    ]
    assert Transformations.by_priority(totals).to_pylist() == [
        {"priority": "medium", "count": 1},
        {"priority": "critical", "count": 1},
        {"priority": "low", "count": 0},
        {"priority": "high", "count": 0},
    ]
    assert Transformations.by_team(totals).to_pylist() == [
        {"assigned_team": "Night Shift", "count": 5},
        {"assigned_team": "General Support", "count": 2},
        {"assigned_team": "Account Management", "count": 0},
        {"assigned_team": "Billing Team", "count": 0},
        {"assigned_team": "Technical Support", "count": 0},
    ]
