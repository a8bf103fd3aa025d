"""Decisions about watermarks."""

import json
from datetime import date, datetime
from decimal import Decimal

import pytest

from producer.sources.sql import bound, read_back, written
from runtime.errors import SettingError

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
