"""Decisions about watermarks."""

import json
from datetime import date, datetime
from decimal import Decimal

import pytest

from producer.sources.sql import SqlSource, bound, read_back, written
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
