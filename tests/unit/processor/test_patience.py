"""How long a range is waited for, and what is said then. The clock is a number."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from processor.outcome import ConsumeFailed, Failure, FailureKind
from processor.patience import DOUBT_S, Patience

REFUSED = KafkaError(KafkaError._AUTHENTICATION, "wrong password")
AWAY = KafkaError(KafkaError._TRANSPORT, "connection refused")
ALL_AWAY = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience(30.0, clock)


def given_up(patience: Patience) -> Failure:
    with pytest.raises(ConsumeFailed) as error:
        patience.check(["this", "that"])
    return error.value.failure


def test_no_message_within_the_limit_is_no_progress(patience: Patience, clock: Clock) -> None:
    clock.now += 29.9
    patience.check([])
    clock.now += 0.1

    assert given_up(patience) == Failure(FailureKind.NO_PROGRESS, "nothing arrived for 30 s of this, that")


def test_of_many_ranges_only_a_few_are_named(patience: Patience, clock: Clock) -> None:
    clock.now += 30

    with pytest.raises(ConsumeFailed, match=r"of 0, 1, 2 and 197 more$"):
        patience.check(range(200))


def test_each_message_resets_the_time(patience: Patience, clock: Clock) -> None:
    for _ in range(3):
        clock.now += 29
        patience.check([])
        patience.progress()


def test_connection_events_do_not_shorten_the_limit_but_are_reported(patience: Patience, clock: Clock) -> None:
    for event in (AWAY, ALL_AWAY):
        patience.hear(event)
    clock.now += 29.9
    patience.check([])
    clock.now += 0.1

    failure = given_up(patience)
    assert failure.kind == FailureKind.NO_PROGRESS
    assert failure.detail.endswith("; the last event was: connection refused")


def test_an_event_before_something_arrived_is_forgotten(patience: Patience, clock: Clock) -> None:
    patience.hear(AWAY)
    patience.progress()
    clock.now += 30

    assert given_up(patience).detail == "nothing arrived for 30 s of this, that"


def test_a_refused_login_counts_if_nothing_else_comes_for_a_while(patience: Patience, clock: Clock) -> None:
    clock.now += 20
    for event in (REFUSED, ALL_AWAY):
        patience.hear(event)
    clock.now += DOUBT_S / 2
    patience.check([])
    patience.hear(REFUSED)
    clock.now += DOUBT_S / 2

    assert given_up(patience) == Failure(FailureKind.LOGIN_REFUSED, "wrong password")


@pytest.mark.parametrize("after", ["progress", "another event"])
def test_a_login_that_a_restart_interrupted_does_not_count(after: str, patience: Patience, clock: Clock) -> None:
    patience.hear(REFUSED)
    if after == "progress":
        patience.progress()
    else:
        patience.hear(AWAY)
    clock.now += 29

    patience.check([])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, FailureKind.TOPIC_GONE),
        (KafkaError._UNKNOWN_PARTITION, FailureKind.TOPIC_GONE),
        (KafkaError._UNKNOWN_TOPIC, FailureKind.TOPIC_GONE),
        (KafkaError.UNKNOWN_TOPIC_ID, FailureKind.TOPIC_GONE),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, FailureKind.ACCESS_REFUSED),
    ],
)
def test_the_code_of_an_event_decides_what_it_means(
    code: int, kind: FailureKind, patience: Patience, clock: Clock
) -> None:
    patience.hear(KafkaError(code, "any text"))
    clock.now += DOUBT_S

    assert given_up(patience).kind == kind


def test_a_fatal_error_is_raised_unchanged(patience: Patience) -> None:
    with pytest.raises(KafkaException):
        patience.hear(KafkaError(KafkaError._FATAL, "beyond repair", fatal=True))
