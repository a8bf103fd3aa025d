"""From a ticket to the broker's word that it has it."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.partitioner.default import murmur2

from producer.config import ProducerConfig
from producer.progress import Progress
from producer.ticket import Message
from runtime.errors import BrokerError

# The client's own memory limit bounds nothing, so this does: some 20 MB of tickets and futures.
MAX_IN_FLIGHT = 10_000

DELIVERY_TIMEOUT_S = 120
_SEND_TIMEOUT_S = 5
_CLOSE_TIMEOUT_S = 2


class Future(Protocol):
    """What the client gives for a record that it took."""

    is_done: bool
    exception: BaseException | None


class Client(Protocol):
    """The part of KafkaProducer that is used here."""

    def partitions_for(self, topic: str) -> set[int]:
        """Return the partitions that the topic has now. Raises KafkaTimeoutError when it is gone."""

    def send(self, topic: str, value: bytes, key: bytes, *, partition: int) -> Future:
        """Take a record. Raises ValueError when the partition is gone."""

    def close(self, timeout: float) -> None:
        """Give up after ``timeout`` seconds."""


class Delivery:
    """Sends tickets, at most MAX_IN_FLIGHT unacknowledged at a time, and counts what became of them.

    A ticket is handed to the client once; what is sent again, the client sends as the same record.
    """

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        # In the order of sending, each with its number.
        self._pending: deque[tuple[int, Future]] = deque()
        self._first_failed: int | None = None
        self._partitions = 0
        self._sent = 0
        self._acknowledged = 0
        self._failed = 0
        self.cause: BaseException | None = None

    @property
    def room(self) -> int:
        """How many tickets may be sent now."""
        return MAX_IN_FLIGHT - len(self._pending)

    @property
    def progress(self) -> Progress:
        """The counts as of the last ``settle``."""
        return Progress(self._sent, self._acknowledged, self._failed)

    @property
    def confirmed(self) -> int:
        """How many tickets, from the first on and without a gap, are known to be in the topic."""
        undecided = self._pending[0][0] if self._pending else self._sent
        return undecided if self._first_failed is None else min(undecided, self._first_failed)

    def prepare(self) -> None:
        """Learn the partitions of the topic, which takes the first ticket 0.1 s otherwise. Raises BrokerError."""
        self._partitioner()

    def send(self, messages: Iterable[Message]) -> None:
        """Hand messages to the client. Raises BrokerError when the topic is gone or the client is beyond repair."""
        send, topic, remember = self._client.send, self._topic, self._pending.append
        partition_of = self._partitioner()
        for key, value in messages:
            try:
                future = send(topic, value, key, partition=partition_of(key))
            except (KafkaError, ValueError) as error:
                raise self._explained(error) from error
            remember((self._sent, future))
            self._sent += 1

    def settle(self) -> None:
        """Count the tickets that are decided by now."""
        pending = self._pending
        while pending and pending[0][1].is_done:
            self._count(*pending.popleft())
        if not self.room:
            # One slow partition must not hide what the others acknowledged.
            self.settle_all()

    def settle_all(self) -> None:
        """Count every ticket that is decided by now, not only those before the oldest undecided one."""
        waiting = deque[tuple[int, Future]]()
        for number, future in self._pending:
            if future.is_done:
                self._count(number, future)
            else:
                waiting.append((number, future))
        self._pending = waiting

    def close(self) -> None:
        """Let the client go, within seconds also when the broker is away."""
        self._client.close(timeout=_CLOSE_TIMEOUT_S)

    def _partitioner(self) -> Callable[[bytes], int]:
        """Return what gives a key its partition; it remembers keys, as a client writes many tickets."""
        try:
            count = len(self._client.partitions_for(self._topic))
        except KafkaError as error:
            raise self._explained(error) from error
        if count != self._partitions:
            self._partitions = count
            self._partition_of = lru_cache(maxsize=100_000)(partial(_partition, count))
        return self._partition_of

    def _explained(self, error: Exception) -> BrokerError:
        # A ValueError is the client's word for a partition that is gone.
        if isinstance(error, (KafkaTimeoutError, ValueError)):
            return BrokerError(f"topic {self._topic} is gone: was it deleted? Start again to create it")
        return BrokerError(f"the Kafka client cannot go on ({type(error).__name__})")

    def _count(self, number: int, future: Future) -> None:
        if future.exception is None:
            self._acknowledged += 1
        else:
            self._failed += 1
            self._first_failed = number if self._first_failed is None else min(number, self._first_failed)
            self.cause = self.cause or future.exception


class _Client(KafkaProducer):  # type: ignore[misc]
    """A client whose ``close`` keeps its time limit: the original raises half-way when something is undecided."""

    def __str__(self) -> str:
        """Name the client in its log. It asks for this with each record, logged or not, so it must be cheap."""
        name: str = self.config["client_id"]
        return name

    def flush(self, timeout: float | None = None) -> None:
        """Wait for what is out, up to ``timeout`` seconds."""
        with contextlib.suppress(KafkaTimeoutError):
            super().flush(timeout)


def _partition(count: int, key: bytes) -> int:
    """Return the one of ``count`` partitions that every Kafka client gives a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


def client_settings() -> dict[str, Any]:
    """Return what makes a kafka-python client keep every record once and in order, and fill its batches."""
    return {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "zstd",
        "linger_ms": 50,
        "batch_size": 262_144,
        "delivery_timeout_ms": DELIVERY_TIMEOUT_S * 1000,
        "max_block_ms": _SEND_TIMEOUT_S * 1000,
        "reconnect_backoff_max_ms": 2_000,
        "bootstrap_timeout_ms": 8_000,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def connect(config: ProducerConfig, worker: int) -> KafkaProducer:
    """Return a client that keeps every record once and in order. Raises BrokerError."""
    try:
        return _Client(
            bootstrap_servers=config.brokers.split(","),
            client_id=f"client-tickets-producer-{worker}",
            **client_settings(),
            **config.security.for_kafka_python(),
        )
    except KafkaError as error:
        raise BrokerError(f"broker {config.brokers} went away while connecting ({type(error).__name__})") from error
