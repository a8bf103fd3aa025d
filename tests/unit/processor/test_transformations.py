"""From tickets to the rows that are published of them."""

from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pytest

from contract.columns import decode_columns
from contract.routing import DEFAULT, KINDS, Routing, Rule
from contract.ticket import Ticket, encode
from processor.transformations import Transformations
from store.counts import HourCount
from store.datasets import TICKETS
from tests.support.staging import ticket

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, tzinfo=UTC)


def assigned(*tickets: Ticket, routing: Routing = DEFAULT) -> pa.Table:
    return Transformations.assign_team(decode_columns([encode(one) for one in tickets]).tickets, routing)


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


def test_rules_tell_every_type_and_priority_apart() -> None:
    each = [f"{request_type} {priority}" for request_type, priority in KINDS]
    rules = Routing(tuple(Rule(" ".join(kind), kind[:1], kind[1:]) for kind in reversed(KINDS)))
    tickets = [ticket(request_type=request_type, priority=priority) for request_type, priority in KINDS]
    assert assigned(*tickets, routing=rules)["assigned_team"].to_pylist() == each
    assert each[:5] == ["account low", "account medium", "account high", "account critical", "billing low"]


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


def test_tickets_are_counted_by_hour_type_priority_and_team() -> None:
    table = assigned(
        ticket(created_at=NINE),
        ticket(created_at=NINE + timedelta(minutes=59, seconds=59, microseconds=999_999)),
        ticket(created_at=NINE, priority="high"),
        ticket(created_at=NINE, request_type="general"),
        ticket(created_at=TEN),
    )
    assert sorted(Transformations.count_by_hour(table), key=msgspec.structs.astuple) == [
        HourCount(NINE, "billing", "high", "Billing Team", 1),
        HourCount(NINE, "billing", "low", "Billing Team", 2),
        HourCount(NINE, "general", "low", "General Support", 1),
        HourCount(TEN, "billing", "low", "Billing Team", 1),
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


def test_each_team_is_counted_for_itself_whatever_the_type_says() -> None:
    billing = assigned(ticket(created_at=NINE), ticket(created_at=NINE), ticket(created_at=NINE))
    rerouted = billing.set_column(6, "assigned_team", pa.array(["Billing Team", "Night Shift", "Billing Team"]))
    assert sorted(Transformations.count_by_hour(rerouted), key=msgspec.structs.astuple) == [
        HourCount(NINE, "billing", "low", "Billing Team", 2),
        HourCount(NINE, "billing", "low", "Night Shift", 1),
    ]
