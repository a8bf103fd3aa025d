"""The counts that totals are made of, and the one-file datasets that follow from them."""

from datetime import UTC, datetime, timedelta, timezone

from contract.routing import DEFAULT
from store.counts import HourCount, Totals, merge_hours, summaries
from store.datasets import BY_HOUR, BY_PRIORITY, BY_TEAM, BY_TYPE, METRICS

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, tzinfo=UTC)
NO_HOURS = BY_HOUR.schema.empty_table()


def test_hours_are_added_to_what_is_known_and_sorted() -> None:
    known = merge_hours(
        NO_HOURS,
        [HourCount(TEN, "billing", "low", "Billing Team", 5), HourCount(NINE, "general", "high", "General Support", 1)],
    )
    merged = merge_hours(
        known,
        [
            HourCount(TEN, "billing", "low", "Billing Team", 2),
            HourCount(NINE, "account", "low", "Account Management", 3),
            HourCount(NINE, "account", "low", "Account Management", 1),
        ],
    )
    assert [tuple(row.values()) for row in merged.to_pylist()] == [
        (NINE, "account", "low", 4),
        (NINE, "general", "high", 1),
        (TEN, "billing", "low", 7),
    ]
    assert merged.schema == BY_HOUR.schema


def test_no_hours_make_an_empty_table_with_the_schema() -> None:
    merged = merge_hours(NO_HOURS, [])
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
        HourCount(NINE, "billing", "low", "Billing Team", 2),
        HourCount(TEN, "billing", "high", "Billing Team", 1),
        HourCount(NINE, "general", "low", "General Support", 4),
    ]
    assert before.add(hours, rejected=5, new_clients=6) == Totals(
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
    table = summaries(totals, NO_HOURS, 42, elsewhere, DEFAULT.teams)[METRICS]
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
    tables = summaries(totals, NO_HOURS, 1, NINE, DEFAULT.teams)
    assert tables[BY_TYPE].to_pylist() == [
        {"request_type": "technical", "count": 9},
        {"request_type": "general", "count": 2},
        {"request_type": "account", "count": 0},
        {"request_type": "billing", "count": 0},
    ]
    assert tables[BY_PRIORITY].to_pylist() == [
        {"priority": "medium", "count": 1},
        {"priority": "critical", "count": 1},
        {"priority": "low", "count": 0},
        {"priority": "high", "count": 0},
    ]
    assert tables[BY_TEAM].to_pylist() == [
        {"assigned_team": "Night Shift", "count": 5},
        {"assigned_team": "General Support", "count": 2},
        {"assigned_team": "Account Management", "count": 0},
        {"assigned_team": "Billing Team", "count": 0},
        {"assigned_team": "Technical Support", "count": 0},
    ]


def test_a_batch_keeps_what_a_newer_release_wrote_into_the_totals() -> None:
    before = Totals(tickets=1, by_type={"billing": 1}, unknown={"spam": 7})
    assert before.add([HourCount(NINE, "billing", "low", "Billing Team", 1)], rejected=0, new_clients=0) == Totals(
        tickets=2,
        by_type={"billing": 2},
        by_priority={"low": 1},
        by_team={"Billing Team": 1},
        unknown={"spam": 7},
    )


def test_tickets_are_counted_for_the_team_that_they_were_assigned_to() -> None:
    hours = [HourCount(NINE, "billing", "low", "Night Shift", 2), HourCount(NINE, "billing", "low", "Billing Team", 1)]
    totals = Totals().add(hours, rejected=0, new_clients=0)
    assert totals.by_team == {"Night Shift": 2, "Billing Team": 1}
    assert merge_hours(NO_HOURS, hours).to_pylist() == [
        {"hour": NINE, "request_type": "billing", "priority": "low", "count": 3}
    ]


def test_high_and_critical_tickets_are_urgent() -> None:
    assert Totals(by_priority={"low": 1, "medium": 2, "high": 4, "critical": 8}).urgent == 12
    assert Totals().urgent == 0


def test_the_summaries_pass_on_the_hours_and_each_has_the_schema_of_its_dataset() -> None:
    hours = merge_hours(NO_HOURS, [HourCount(NINE, "billing", "low", "Billing Team", 1)])
    tables = summaries(Totals(), hours, 1, NINE, DEFAULT.teams)
    assert [dataset.name for dataset in tables] == [
        "metrics",
        "tickets_by_type",
        "tickets_by_priority",
        "tickets_by_team",
        "tickets_by_hour",
    ]
    assert tables[BY_HOUR] is hours
    assert all(table.schema == dataset.schema for dataset, table in tables.items())
