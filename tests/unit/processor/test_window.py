"""Which part of the topic an output holds: decisions on values."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from processor.config import ProcessorConfig
from processor.plan import Bounds
from processor.window import is_asked_for, require_same, resolve, times_in, timestamp
from runtime.errors import SettingError
from runtime.settings.location import OutputLocation
from store.manifest import Window

HALF_PAST_NINE = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
# In milliseconds since 1970, worked out by hand: 20,484 days and 9 h 30 min, or 10 h.
MS_HALF_PAST_NINE, MS_TEN = 1_769_851_800_000, 1_769_853_600_000

HELD, ENDS = {0: Bounds(2, 10), 1: Bounds(0, 4)}, {0: 10, 1: 4}


def asked(start: str | datetime | None = None, until: datetime | None = None) -> ProcessorConfig:
    return ProcessorConfig("b:1", "t", OutputLocation(Path("/o")), memory="512m", start=start, until=until)


@pytest.mark.parametrize(
    ("start", "until", "part"),
    [
        (None, None, False),
        ("earliest", None, False),
        ("latest", None, True),
        (TEN, None, True),
        (None, TEN, True),
        ("earliest", TEN, True),
    ],
)
def test_the_whole_topic_is_no_part_of_it(start: str | datetime | None, until: datetime | None, part: bool) -> None:
    assert is_asked_for(asked(start, until)) is part


def test_a_time_between_two_milliseconds_is_that_of_the_later_one() -> None:
    assert timestamp(HALF_PAST_NINE) == MS_HALF_PAST_NINE
    assert timestamp(HALF_PAST_NINE + timedelta(microseconds=1)) == MS_HALF_PAST_NINE + 1
    assert timestamp(HALF_PAST_NINE + timedelta(microseconds=1_000)) == MS_HALF_PAST_NINE + 1
    assert timestamp(datetime(2026, 1, 31, 11, 0, tzinfo=timezone(timedelta(hours=1)))) == MS_TEN


def test_a_time_before_1970_asks_the_broker_for_none_of_its_special_offsets() -> None:
    assert timestamp(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == 0
    assert timestamp(datetime(1, 1, 1, tzinfo=UTC)) == 0


def test_only_times_are_asked_for() -> None:
    assert times_in(asked("latest")) == []
    assert times_in(asked("earliest", TEN)) == [MS_TEN]
    assert times_in(asked(HALF_PAST_NINE, TEN)) == [MS_HALF_PAST_NINE, MS_TEN]


def test_latest_is_the_end_of_what_the_topic_holds() -> None:
    assert resolve(asked("latest"), HELD, ENDS, {}) == (Window("latest"), {0: 10, 1: 4})


def test_a_time_is_the_first_message_from_then_on_or_the_end_where_there_is_none() -> None:
    found = {MS_HALF_PAST_NINE: {0: 5}, MS_TEN: {0: 7}}
    assert resolve(asked(HALF_PAST_NINE), HELD, ENDS, found) == (Window("2026-01-31T09:30:00Z"), {0: 5, 1: 4})
    window = Window("2026-01-31T09:30:00Z", "2026-01-31T10:00:00Z", {0: 7, 1: 4})
    assert resolve(asked(HALF_PAST_NINE, TEN), HELD, ENDS, found) == (window, {0: 5, 1: 4})


def test_without_a_beginning_it_is_the_first_message_that_the_topic_still_holds() -> None:
    window = Window("earliest", "2026-01-31T10:00:00Z", {0: 7, 1: 4})
    assert resolve(asked(None, TEN), HELD, ENDS, {MS_TEN: {0: 7}}) == (window, {0: 2, 1: 0})


def test_a_message_that_comes_between_two_answers_is_read_rather_than_skipped() -> None:
    found = {MS_HALF_PAST_NINE: {0: 5, 1: 6}, MS_TEN: {0: 3, 1: 7}}
    window, starts = resolve(asked(HALF_PAST_NINE, TEN), HELD, ENDS, found)
    assert (window.ends, starts) == ({0: 5, 1: 7}, {0: 5, 1: 4})


def test_messages_of_a_transaction_that_is_open_at_the_first_start_are_in_the_part() -> None:
    window, starts = resolve(asked("latest"), HELD, {0: 12, 1: 4}, {})
    assert (window.ends, starts) == ({}, {0: 10, 1: 4})
    found = {MS_HALF_PAST_NINE: {0: 11}, MS_TEN: {1: 3}}
    window, starts = resolve(asked(HALF_PAST_NINE, TEN), HELD, {0: 12, 1: 4}, found)
    assert (window.ends, starts) == ({0: 12, 1: 4}, {0: 10, 1: 4})


@pytest.mark.parametrize(
    ("config", "recorded"),
    [
        (asked(), None),
        (asked("earliest"), None),
        (asked(), Window("latest")),
        (asked("latest"), Window("latest")),
        (asked("latest"), Window("latest", "2026-01-31T10:00:00Z", {0: 5})),
        (asked(until=TEN), Window("latest", "2026-01-31T10:00:00Z", {0: 5})),
        (asked(HALF_PAST_NINE, TEN), Window("2026-01-31T09:30:00Z", "2026-01-31T10:00:00Z", {})),
    ],
)
def test_the_same_may_be_asked_for_again_or_not_at_all(config: ProcessorConfig, recorded: Window | None) -> None:
    require_same(config, recorded)


@pytest.mark.parametrize(
    ("config", "recorded", "said"),
    [
        (asked("latest"), None, "--from asks for latest, but the output in /o begins at earliest"),
        (
            asked("earliest"),
            Window("2026-01-31T09:30:00Z"),
            "--from asks for earliest, but the output in /o begins at 2026-01-31T09:30:00Z",
        ),
        (
            asked(TEN),
            Window("2026-01-31T09:30:00Z"),
            "--from asks for 2026-01-31T10:00:00Z, but the output in /o begins at 2026-01-31T09:30:00Z",
        ),
        (asked(until=TEN), None, "--until asks for 2026-01-31T10:00:00Z, but the output in /o has no end"),
        (
            asked("latest", None),
            Window("earliest", "2026-01-31T10:00:00Z", {}),
            "--from asks for latest, but the output in /o begins at earliest",
        ),
        (
            asked(None, TEN),
            Window("earliest", "2026-01-31T09:30:00Z", {}),
            "--until asks for 2026-01-31T10:00:00Z, but the output in /o ends at 2026-01-31T09:30:00Z",
        ),
    ],
)
def test_something_else_is_refused_with_what_is_recorded_and_what_works(
    config: ProcessorConfig, recorded: Window | None, said: str
) -> None:
    with pytest.raises(SettingError) as caught:
        require_same(config, recorded)
    assert str(caught.value) == (
        f"{said}: that was decided at its first start; leave it out to go on there, or choose another --output-path "
        "for another part of the topic"
    )
