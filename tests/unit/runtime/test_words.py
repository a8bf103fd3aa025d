from datetime import UTC, datetime

import pytest

from runtime.process.words import moment, number, of_bytes, share, span, things

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_numbers_have_separators_between_thousands_and_nouns_agree() -> None:
    assert number(1_234_567) == "1,234,567"
    assert things(1, "batch", "batches") == "1 batch"
    assert things(2_000, "batch", "batches") == "2,000 batches"


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [(0, 0, "0 %"), (0, 9, "0 %"), (1, 3, "33 %"), (3, 3, "100 %"), (1, 30, "3.3 %"), (1, 10_000, "< 0.1 %")],
)
def test_a_share_is_zero_percent_only_for_zero(part: int, whole: int, told: str) -> None:
    assert share(part, whole) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (601, "10 min"),
        (3_700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_a_moment_has_its_date_unless_that_is_today() -> None:
    assert moment(datetime(2026, 1, 31, 9, 5, 7, tzinfo=UTC), NOON) == "09:05:07 UTC"
    assert moment(datetime(2026, 1, 30, 9, 5, 7, tzinfo=UTC), NOON) == "2026-01-30 09:05:07 UTC"


def test_a_payload_becomes_one_line_of_text() -> None:
    assert of_bytes(None, 10) == "(no value)"
    assert of_bytes(b"a\nb\tc", 10) == "a⏎b→c"
    assert of_bytes(b"\xff\x00", 20) == "\\xff\\u0000"
    assert of_bytes(b"0123456789", 10) == "0123456789"
    assert of_bytes(b"01234567890", 10) == "012345678…"
