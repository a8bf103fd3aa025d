"""What is said of a long batch, and when."""

import pytest

from processor.progress import ReadingProgress, how_far, is_due, span
from tests.support.screen import Screen


def test_a_line_has_messages_total_rate_and_time_left() -> None:
    assert str(how_far(3, 1_250_000, 4_000_000, 1_250_000, 10.0)) == (
        "batch 3: 1,250,000 of 4,000,000 messages (31 %), 125,000/s, about 22 s left"
    )


def test_what_was_read_before_counts_as_read_but_not_for_the_rate() -> None:
    assert str(how_far(1, 3_000_000, 4_000_000, 500_000, 10.0)) == (
        "batch 1: 3,000,000 of 4,000,000 messages (75 %), 50,000/s, about 20 s left"
    )


@pytest.mark.parametrize(("read", "seconds"), [(0, 10.0), (100, 0.0)])
def test_without_a_rate_the_line_has_no_time_left(read: int, seconds: float) -> None:
    assert str(how_far(1, read, 200, read, seconds)) == f"batch 1: {read} of 200 messages"


def test_a_line_of_a_large_batch_fits_into_80_columns() -> None:
    line = str(how_far(999, 9_750_000, 10_000_000, 9_750_000, 45.0))
    assert line == "batch 999: 9,750,000 of 10,000,000 messages (97 %), 216,667/s, about 2 s left"
    assert len(line) == 77


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "1 s"),
        (59.0, "59 s"),
        (59.1, "1 min 0 s"),
        (133, "2 min 13 s"),
        (3_599.5, "1 h 0 min"),
        (7_261, "2 h 2 min"),
    ],
)
def test_the_time_left_is_rounded_up(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("since_last_s", "messages", "due"), [(4.9, 10, False), (5.0, 10, True), (60.0, 99, True), (60.0, 100, False)]
)
def test_a_line_is_due_after_a_while_unless_all_is_read(since_last_s: float, messages: int, due: bool) -> None:
    assert is_due(since_last_s, 5.0, messages, 100) is due


def test_finished_ranges_are_shown_no_more_often_than_the_display_wants_and_a_short_batch_not_at_all() -> None:
    now, screen = [100.0], Screen()
    long = ReadingProgress(screen, lambda: now[0], 2, 0, 1_000)
    for now[0], read in ((101.0, 0), (102.0, 250), (106.0, 500), (109.0, 750), (112.0, 1_000)):
        long.update(read)
    long.close()
    short = ReadingProgress(screen, lambda: now[0], 3, 0, 20)
    short.update(20)
    short.close()
    assert screen.lines == ["batch 2: 500 of 1,000 messages (50 %), 100/s, about 5 s left", "closed", "closed"]
