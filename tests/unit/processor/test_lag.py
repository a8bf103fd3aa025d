"""How far the output is behind the topic."""

from processor.lag import Lag, lag_of, total
from processor.plan import Bounds


def test_the_lag_is_what_lies_between_the_next_offset_and_the_end() -> None:
    lags = lag_of({0: 4, 1: 9}, {0: Bounds(0, 10), 1: Bounds(2, 9)})
    assert lags == {0: Lag(4, 10), 1: Lag(9, 9)}
    assert {number: lag.messages for number, lag in lags.items()} == {0: 6, 1: 0}
    assert total(lags) == 6


def test_a_partition_that_was_never_read_is_behind_by_all_that_it_holds() -> None:
    lags = lag_of({0: 4}, {1: Bounds(7, 9), 0: Bounds(0, 4)})
    assert list(lags) == [0, 1]
    assert lags[1] == Lag(next_offset=7, end_offset=9)
    assert total(lags) == 2


def test_a_topic_that_ends_before_what_was_read_takes_nothing_from_the_lag_of_others() -> None:
    lags = lag_of({0: 100, 1: 0}, {0: Bounds(0, 5), 1: Bounds(0, 5)})
    assert (lags[0].messages, total(lags)) == (0, 5)


def test_a_topic_that_nobody_looked_at_yet_has_no_lag() -> None:
    assert lag_of({0: 4}, {}) == {}
    assert total({}) == 0
