"""When to give up reading: decided from librdkafka's events and the time without a message."""

from collections.abc import Callable, Collection
from itertools import islice

from confluent_kafka import KafkaError, KafkaException

from processor.outcome import ConsumeFailed, Failure, FailureKind

# Seconds without a message after which reading fails. A broker's restart or a leader's change takes less.
PATIENCE_S = 30.0
# Seconds for which a refused login or an unknown topic may be transient, because a broker is restarting.
DOUBT_S = 3.0

_NAMED = 3

KINDS = {
    KafkaError._AUTO_OFFSET_RESET: FailureKind.OFFSET_GONE,
    KafkaError._LOG_TRUNCATION: FailureKind.OFFSET_GONE,
    KafkaError.OFFSET_OUT_OF_RANGE: FailureKind.OFFSET_GONE,
    KafkaError._UNKNOWN_PARTITION: FailureKind.TOPIC_GONE,
    KafkaError._UNKNOWN_TOPIC: FailureKind.TOPIC_GONE,
    KafkaError.UNKNOWN_TOPIC_OR_PART: FailureKind.TOPIC_GONE,
    KafkaError.UNKNOWN_TOPIC_ID: FailureKind.TOPIC_GONE,
    KafkaError.INCONSISTENT_TOPIC_ID: FailureKind.TOPIC_GONE,
    KafkaError._AUTHENTICATION: FailureKind.LOGIN_REFUSED,
    KafkaError.SASL_AUTHENTICATION_FAILED: FailureKind.LOGIN_REFUSED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: FailureKind.ACCESS_REFUSED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: FailureKind.ACCESS_REFUSED,
}


class Patience:
    """Tells a transient outage of a broker from a range that will never be read."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._heard = ""
        self._doubt: FailureKind | None = None
        self._doubt_since = 0.0
        self.progress()

    def progress(self) -> None:
        """Reset the time without a message: a message arrived, or the time until now was not spent waiting."""
        self._since = self._clock()
        self._heard = ""
        self._doubt = None

    def hear(self, error: KafkaError) -> None:
        """Take in an event that concerns connections or the topic. Raises KafkaException for a fatal one."""
        if error.fatal():
            raise KafkaException(error)
        # It follows the event about the last broker, which says more.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return
        self._heard = error.str()
        kind = KINDS.get(error.code())
        # librdkafka reports a login that a restarting broker interrupted like one that was refused. So such an event
        # counts only if neither a message nor another kind of event comes within DOUBT_S.
        if kind != self._doubt:
            self._doubt, self._doubt_since = kind, self._clock()

    def check(self, waiting_for: Collection[object]) -> None:
        """Raise ConsumeFailed when it is time to give up; ``waiting_for`` are the ranges that did not arrive."""
        now = self._clock()
        if self._doubt and now - self._doubt_since >= min(DOUBT_S, self._limit_s):
            raise ConsumeFailed(Failure(self._doubt, self._heard))
        if now - self._since >= self._limit_s:
            missing = ", ".join(map(str, islice(waiting_for, _NAMED)))
            more = f" and {len(waiting_for) - _NAMED} more" if len(waiting_for) > _NAMED else ""
            heard = f"; the last event was: {self._heard}" if self._heard else ""
            detail = f"nothing arrived for {self._limit_s:g} s of {missing}{more}{heard}"
            raise ConsumeFailed(Failure(FailureKind.NO_PROGRESS, detail))
