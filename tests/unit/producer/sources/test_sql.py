"""Decisions about watermarks."""

import json
from datetime import date, datetime
from decimal import Decimal

import pytest
import sqlalchemy

from producer.sources.sql import SqlSource, bound, is_not_a_time, read_back, written
from runtime.errors import SettingError, SourceUnreachable
from tests.support.listeners import free_ports

MOMENT = datetime(2026, 1, 31, 9, 30, 0, 250_000)


@pytest.mark.parametrize(
    ("watermark", "overlap_s", "expected"),
    [
        (MOMENT, 60, datetime(2026, 1, 31, 9, 29, 0, 250_000)),
        (MOMENT, 0, MOMENT),
        (date(2026, 1, 31), 60, date(2026, 1, 30)),
        (date(2026, 1, 31), 0, date(2026, 1, 31)),
        # It is not known how many numbers a minute is.
        (17, 60, 17),
        ("x", 60, "x"),
    ],
)
def test_reading_begins_an_overlap_before_the_watermark(watermark: object, overlap_s: float, expected: object) -> None:
    assert bound(watermark, overlap_s) == expected


@pytest.mark.parametrize("watermark", [MOMENT, date(2026, 1, 31), 17, Decimal("1.50"), "2026", b"\x00\x07"], ids=repr)
def test_a_watermark_is_the_same_after_it_was_kept(watermark: object) -> None:
    again = read_back(json.loads(json.dumps(written(watermark))))
    assert again == watermark
    assert type(again) is type(watermark)


def test_a_type_without_an_order_cannot_be_a_watermark() -> None:
    with pytest.raises(SettingError, match="--watermark must be a column of times, whole numbers, decimals or text"):
        written(1.5)


@pytest.mark.parametrize(
    ("watermark", "expected"),
    [
        ("0000-00-00 00:00:00", True),
        ("0000-00-00", True),
        ("2026-00-15 09:30:00.250000", True),
        ("2026-01-00", True),
        ("2026-01-31 09:30:00", False),
        ("x", False),
        (MOMENT, False),
        (0, False),
    ],
)
def test_a_date_that_no_calendar_has_is_not_a_watermark(watermark: object, expected: bool) -> None:
    assert is_not_a_time(watermark) is expected


class Table(SqlSource):
    """Reads from the memory of this process instead of a server."""

    def fill(self, *rows: tuple[int, str | None]) -> None:
        self._engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE tickets (id INTEGER, updated DATETIME)"))
            for row in rows:
                connection.exec_driver_sql("INSERT INTO tickets VALUES (?, ?)", row)


def test_rows_without_a_watermark_are_not_read_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    table = Table("mysql://reader@db/helpdesk", None, "tickets", False, "updated", "id", 60)
    table.fill((1, None), (2, "0000-00-00 00:00:00"), (3, "2026-01-31 09:30:00"), (4, "2026-01-31 09:31:00"))
    rows = [row for batch in table.read(None) for row in batch]
    table.close()
    assert [row.values["id"] for row in rows] == [3, 4]
    assert caplog.messages == ["2 rows have no updated and are not read"]


def reading(url: str) -> None:
    source = SqlSource(url, "s3cret", "tickets", False, "updated", "id", 60)
    try:
        list(source.read(None))
    finally:
        source.close()


@pytest.mark.parametrize("options", ["compress_all=1", "ssl_ca=/nowhere/ca.pem", "port=abc"])
def test_options_of_the_url_that_cannot_be_used_are_an_error_of_the_setting(options: str) -> None:
    with pytest.raises(SettingError, match=r"the options after '\?' in --source cannot be used"):
        reading(f"mysql://reader@127.0.0.1/helpdesk?{options}")


def test_an_error_shows_where_the_database_is_and_not_the_login() -> None:
    (port,) = free_ports(1)
    with pytest.raises(SourceUnreachable, match=f"^mysql://127.0.0.1:{port}/helpdesk says: Can't connect"):
        reading(f"mariadb://reader@127.0.0.1:{port}/helpdesk?connect_timeout=5")
