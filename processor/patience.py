"""When to give up reading: what librdkafka tells of connections and topics, against the time without a message."""

from collections.abc import Callable, Collection
from itertools import islice

from confluent_kafka import KafkaError, KafkaException

from processor.outcome import ConsumeFailed, Failure, FailureKind

# Seconds without a message after which ranges are given up. A broker restarts and a leader changes in less.
PATIENCE_S = 30.0
# Seconds for which a refused login or an unknown topic may be the passing state of a broker that restarts.
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
    """Tells a broker that is away for a moment from a range that will never be read."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._heard = ""
        self._doubt: FailureKind | None = None
        self._doubt_since = 0.0
        self.progress()

    def progress(self) -> None:
        """Start to wait anew: something arrived, or the time before was not spent on waiting."""
        self._since = self._clock()
        self._heard = ""
        self._doubt = None

    def hear(self, error: KafkaError) -> None:
        """Take in an event that concerns connections or the topic. Raises KafkaException for a fatal one."""
        if error.fatal():
            raise KafkaException(error)
        # It comes after the event that says what happened to the last broker, and says less.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return
        self._heard = error.str()
        kind = KINDS.get(error.code())
        # librdkafka reports a login that a restarting broker cut off like one that was refused. So such an event is
        # believed only when nothing else comes; the same one may come again.
        if kind != self._doubt:
            self._doubt, self._doubt_since = kind, self._clock()

    def check(self, waiting_for: Collection[object]) -> None:
        """Raise ConsumeFailed when it is time to give up; ``waiting_for`` says what did not come."""
        now = self._clock()
        if self._doubt and now - self._doubt_since >= min(DOUBT_S, self._limit_s):
            raise ConsumeFailed(Failure(self._doubt, self._heard))
        if now - self._since >= self._limit_s:
            missing = ", ".join(map(str, islice(waiting_for, _NAMED)))
            more = f" and {len(waiting_for) - _NAMED} more" if len(waiting_for) > _NAMED else ""
            heard = f"; the last event was: {self._heard}" if self._heard else ""
            detail = f"nothing arrived for {self._limit_s:g} s of {missing}{more}{heard}"
            raise ConsumeFailed(Failure(FailureKind.NO_PROGRESS, detail))
