"""What the page says about the processor, judged by its status only."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from store.condition import condition, known_up_to, unread
from store.counts import Totals
from store.manifest import Manifest, Partition, Window
from store.status import Progress, State, Status
from tests.support.staging import SOURCE

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def status(state: State = "idle", age_s: float = 0, interval_s: float = 30, since_s: float = 0) -> Status:
    return Status(
        state,
        NOON - timedelta(seconds=since_s or age_s),
        NOON - timedelta(seconds=age_s),
        interval_s,
        "host",
        7,
        {0: 10, 1: 5},
    )


def manifest(*next_offsets: int) -> Manifest:
    partitions = {number: Partition(0, offset) for number, offset in enumerate(next_offsets)}
    ten_past = NOON + timedelta(minutes=-10)
    return Manifest("o", 1, "c", None, "batch", "parquet", 1, ten_past, SOURCE, partitions, Totals(), {})


@pytest.mark.parametrize(
    ("state", "age_s", "interval_s", "words", "level"),
    [
        ("idle", 89, 30, "Waiting for the next batch", "good"),
        ("idle", 91, 30, "Processor gone", "bad"),
        ("idle", 659, 600, "Waiting for the next batch", "good"),
        ("reading", 91, 30, "Processor gone", "bad"),
        ("publishing", 929, 30, "Publishing a batch", "busy"),
        ("publishing", 931, 30, "Processor gone", "bad"),
        ("converting", 929, 30, "Converting to another format", "busy"),
        ("compacting", 929, 30, "Merging small files", "busy"),
        ("erasing", 899, 0, "Erasing clients", "busy"),
        ("retrying", 899, 0, "Retrying rejected messages", "busy"),
        ("indexing", 929, 30, "Looking for known ticket ids", "busy"),
        ("waiting for broker", 6, 30, "Waiting for the broker", "busy"),
        ("stopped", 5, 30, "Processor stopped", "bad"),
        ("stopped", 5, 0, "Single run, ended", "good"),
        ("reading", 59, 0, "Reading a batch", "busy"),
        ("reading", 61, 0, "Processor gone", "bad"),
    ],
)
def test_a_processor_is_gone_if_its_status_is_older_than_interval_and_patience(
    state: State, age_s: float, interval_s: float, words: str, level: str
) -> None:
    found = condition(status(state, age_s, interval_s), NOON)
    assert (found.words, found.level) == (words, level)


def test_without_a_status_the_processor_is_unknown() -> None:
    assert condition(None, NOON).words == "Processor unknown"


@pytest.mark.parametrize(
    ("state", "beat_s", "words"),
    [
        ("reading", 59.0, "Reading a batch"),
        # A planned rest counts from its end.
        ("idle", -20.0, "Waiting for the next batch"),
        ("reading", 91.0, "Processor gone"),
        ("stopped", 1.0, "Processor stopped"),
    ],
)
def test_a_heartbeat_is_a_sign_of_life_too(state: State, beat_s: float, words: str) -> None:
    assert condition(status(state, 3_600), NOON, beat_s=beat_s).words == words


def test_a_status_from_the_future_does_not_count_as_gone() -> None:
    assert condition(status("idle", -3600), NOON).words == "Waiting for the next batch"


def test_a_batch_says_how_far_it_is() -> None:
    at_work = msgspec.structs.replace(status("reading"), progress=Progress(1_042, 250_000, 1_000_000))
    found = condition(at_work, NOON)
    assert found.detail == "Batch 1,042: 250,000 of 1,000,000 messages read."
    assert found.level == "good"


def test_a_wait_says_for_how_long() -> None:
    found = condition(status("waiting for broker", age_s=2, since_s=130), NOON)
    assert found.detail == "For 2 min 10 s. It goes on by itself once the broker answers."


@pytest.mark.parametrize("state", ["idle", "done", "stopped"])
def test_once_a_part_of_the_topic_is_published_no_processor_is_missed(state: State) -> None:
    window = Window("earliest", "2026-01-31T10:00:00Z", {0: 10, 1: 5})
    found = condition(status(state, 9_999), NOON, msgspec.structs.replace(manifest(10, 5), window=window))
    assert (found.level, found.words) == ("good", "Everything published")
    assert found.detail == (
        "This output holds the topic from earliest until 2026-01-31T10:00:00Z, and needs no processor."
    )
    unread_yet = msgspec.structs.replace(manifest(10, 4), window=window)
    assert condition(status("stopped"), NOON, unread_yet).words == "Processor stopped"


def test_unread_counts_the_messages_when_the_topic_was_last_queried() -> None:
    assert unread(manifest(10, 5), status()) == 0
    assert unread(manifest(7, 5), status()) == 3
    assert unread(manifest(7), status()) == 8
    assert unread(manifest(10, 5), None) is None
    assert unread(manifest(10, 5), msgspec.structs.replace(status(), end_offsets={})) is None


def test_the_output_is_known_up_to_the_last_query_only_if_that_found_nothing_new() -> None:
    batch = NOON - timedelta(minutes=10)
    look = NOON - timedelta(seconds=20)
    assert known_up_to(manifest(10, 5), status("idle", 20)) == look
    assert known_up_to(manifest(9, 5), status("idle", 20)) == batch
    assert known_up_to(manifest(10, 5), status("waiting for broker", 20)) == batch
    assert known_up_to(manifest(10, 5), None) == batch
