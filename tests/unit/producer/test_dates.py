"""Dates as helpdesks export them."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from producer.dates import instant

EXPECTED = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T09:30:00Z",
        "2026-01-31 09:30:00 UTC",
        "2026-01-31 09:30:00 GMT",
        "2026-01-31 09:30",
        "2026-01-31T10:30:00.000+0100",
        "2026-01-31 04:30:00 -0500",
        "31/Jan/26 9:30 AM",
        "31/Jan/2026 09:30",
        "Jan 31, 2026 9:30 am",
        "Sat, 31 Jan 2026 09:30:00 +0000",
        "31-01-2026 09:30",
        "31.01.2026 09:30",
        "01/31/2026 09:30 AM",
        "1769851800",
        "1769851800000",
        "202601310930",
        "20260131093000",
        " 2026-01-31 09:30 ",
    ],
)
def test_one_instant_in_many_notations(text: str) -> None:
    assert instant(text).astimezone(UTC) == EXPECTED


def test_a_date_without_a_zone_is_in_the_one_that_was_named() -> None:
    paris = ZoneInfo("Europe/Paris")
    assert instant("2026-01-31 10:30", zone=paris).astimezone(UTC) == EXPECTED
    assert instant("31/Jan/26 10:30 AM", zone=paris).astimezone(UTC) == EXPECTED
    assert instant(datetime(2026, 1, 31, 10, 30), zone=paris).astimezone(UTC) == EXPECTED
    assert instant("2026-01-31 09:30Z", zone=paris) == EXPECTED
    assert instant("2026-07-31 10:30", zone=paris).utcoffset() == timedelta(hours=2)


def test_what_a_database_and_json_hold() -> None:
    assert instant(EXPECTED) == EXPECTED
    assert instant(date(2026, 1, 31)) == datetime(2026, 1, 31, tzinfo=UTC)
    assert instant(1769851800) == EXPECTED
    assert instant(datetime(2026, 1, 31, 10, 30, tzinfo=timezone(timedelta(hours=1)))) == EXPECTED


def test_day_or_month_first_is_asked_for_only_where_it_matters() -> None:
    assert instant("03/04/2026 08:00", "dmy") == datetime(2026, 4, 3, 8, tzinfo=UTC)
    assert instant("03/04/2026 08:00", "mdy") == datetime(2026, 3, 4, 8, tzinfo=UTC)
    assert instant("04-04-26") == datetime(2026, 4, 4, tzinfo=UTC)
    assert instant("13.04.2026", "dmy") == datetime(2026, 4, 13, tzinfo=UTC)
    with pytest.raises(ValueError, match=r"found '03/04/2026 08:00'; set --date-order to dmy or mdy"):
        instant("03/04/2026 08:00")


@pytest.mark.parametrize(
    ("text", "order", "reason"),
    [
        ("yesterday", None, "is not a date"),
        ("", None, "is not a date"),
        ("10", None, "must name day, month and year"),
        ("09:30", None, "must name day, month and year"),
        ("Jan 2026", None, "must name day, month and year"),
        ("2026-01-31 09:30 CST", None, "with its zone as an offset"),
        ("2026-02-30", None, "is not a date"),
        ("04/13/2026", "dmy", "does not fit --date-order dmy"),
        ("13/04/2026", "mdy", "does not fit --date-order mdy"),
    ],
)
def test_ambiguous_dates_are_not_guessed(text: str, order: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        instant(text, order)
