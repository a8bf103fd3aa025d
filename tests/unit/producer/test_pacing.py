"""Pacing, on a simulated clock."""

from bisect import bisect_left

import pytest

from producer.pacing import Pacer, planned


def simulate(rate: float, seconds: float, stalls: dict[float, float] | None = None) -> list[float]:
    """Return when each ticket was sent; ``stalls`` maps the time of a stall to its length."""
    now, start, sent = 100.0, 100.0, []
    waiting = sorted((stalls or {}).items())
    pacer = Pacer(rate, start)
    while now < start + seconds:
        due = pacer.due(now)
        sent += [now - start] * due
        pacer.spend(due)
        # A thread never wakes up exactly on time.
        now += max(pacer.pause(now), 0.0001) + 0.0003
        if waiting and now - start >= waiting[0][0]:
            now += waiting.pop(0)[1]
    return sent


def busiest_slot(sent: list[float]) -> int:
    """Return the largest number of tickets in any 100 ms, wherever these begin."""
    return max(bisect_left(sent, moment + 0.1) - first for first, moment in enumerate(sent))


@pytest.mark.parametrize(("rate", "expected"), [(1, 10), (10, 100), (200, 2_000), (5_000, 50_000)])
def test_ten_seconds_hold_ten_times_the_rate_within_one_percent(rate: float, expected: int) -> None:
    assert len(simulate(rate, 10)) == pytest.approx(expected, rel=0.01)


def test_the_first_ticket_is_due_at_once_and_the_next_one_after_an_interval() -> None:
    pacer = Pacer(2, 50.0)

    assert pacer.due(50.0) == 1
    pacer.spend(1)
    assert pacer.due(50.0) == 0
    assert pacer.pause(50.0) == pytest.approx(0.5)
    assert pacer.due(50.49) == 0
    assert pacer.due(50.5) == 1


def test_no_slot_of_100_ms_gets_more_than_one_and_a_half_times_its_share() -> None:
    assert busiest_slot(simulate(200, 10)) <= 22


@pytest.mark.parametrize("stall", [0.05, 0.3, 1.0, 3.0])
def test_a_stall_is_caught_up_without_a_burst(stall: float) -> None:
    sent = simulate(200, 60, {5.0: stall})

    assert busiest_slot(sent) <= 30
    assert len(sent) == pytest.approx(12_000, abs=2)


def test_repeated_stalls_are_caught_up_without_a_burst() -> None:
    sent = simulate(200, 30, {float(second): 0.13 for second in range(1, 20)})

    assert busiest_slot(sent) <= 30
    assert len(sent) == pytest.approx(6_000, abs=2)


def test_what_was_missed_longer_than_ten_seconds_ago_is_not_caught_up() -> None:
    sent = simulate(10, 400, {100.0: 100.0})

    assert len(sent) == pytest.approx(4_000 - 900, abs=15)


def test_a_clock_that_wakes_late_does_not_lower_the_rate() -> None:
    pacer, sent = Pacer(1_000, 0.0), 0
    for step in range(1, 668):
        due = pacer.due(step * 0.015)
        pacer.spend(due)
        sent += due

    assert sent == pytest.approx(10_000, rel=0.01)


def test_tickets_that_could_not_be_sent_stay_due() -> None:
    pacer = Pacer(100, 0.0)

    assert pacer.due(0.0) == 1
    assert pacer.due(0.02) == 2
    assert pacer.pause(0.02) == 0.0


def test_rate_zero_never_waits() -> None:
    pacer = Pacer(0, 0.0)

    assert pacer.due(0.0) == 500
    pacer.spend(500)
    assert pacer.pause(0.0) == 0.0


def test_high_rates_do_not_wake_up_for_every_ticket() -> None:
    assert len(set(simulate(5_000, 1))) < 600


@pytest.mark.parametrize(
    ("rate", "duration", "expected"),
    [(1, 10, 10), (200, 10, 2_000), (3, 0.5, 2), (0.5, 1, 1), (0.1, 10, 1), (0.3, 10, 3)],
)
def test_a_duration_holds_the_tickets_that_are_due_before_its_end(rate: float, duration: float, expected: int) -> None:
    assert planned(rate, duration) == expected
