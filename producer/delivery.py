"""From a ticket to the broker's word that it has it."""

import contextlib
import functools
from collections import deque
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.partitioner.default import DefaultPartitioner, murmur2

from contract.ticket import Ticket, encode
from producer.config import ProducerConfig
from producer.progress import Progress
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

    def send(self, topic: str, value: bytes, key: bytes) -> Future:
        """Take a record."""

    def close(self, timeout: float) -> None:
        """Give up after ``timeout`` seconds."""


class Delivery:
    """Sends tickets, at most MAX_IN_FLIGHT unacknowledged at a time, and counts what became of them.

    A ticket is handed to the client once; what is sent again, the client sends as the same record.
    """

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._pending: deque[Future] = deque()
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

    def send(self, ticket: Ticket) -> None:
        """Hand a ticket to the client. Raises BrokerError when the topic is gone or the client is beyond repair."""
        try:
            future = self._client.send(self._topic, value=encode(ticket), key=ticket.client_id.encode())
        except KafkaTimeoutError:
            raise BrokerError(f"topic {self._topic} is gone: was it deleted? Start again to create it") from None
        except KafkaError as error:
            raise BrokerError(f"the Kafka client cannot go on ({type(error).__name__})") from error
        self._pending.append(future)
        self._sent += 1

    def settle(self) -> None:
        """Count the tickets that are decided by now."""
        pending = self._pending
        while pending and pending[0].is_done:
            self._count(pending.popleft())
        if not self.room:
            # One slow partition must not hide what the others acknowledged.
            self.settle_all()

    def settle_all(self) -> None:
        """Count every ticket that is decided by now, not only those before the oldest undecided one."""
        waiting = deque[Future]()
        for future in self._pending:
            if future.is_done:
                self._count(future)
            else:
                waiting.append(future)
        self._pending = waiting

    def close(self) -> None:
        """Let the client go, within seconds also when the broker is away."""
        self._client.close(timeout=_CLOSE_TIMEOUT_S)

    def _count(self, future: Future) -> None:
        if future.exception is None:
            self._acknowledged += 1
        else:
            self._failed += 1
            self.cause = self.cause or future.exception


class _Client(KafkaProducer):  # type: ignore[misc]
    """A client whose ``close`` keeps its time limit: the original raises half-way when something is undecided."""

    def flush(self, timeout: float | None = None) -> None:
        """Wait for what is out, up to ``timeout`` seconds."""
        with contextlib.suppress(KafkaTimeoutError):
            super().flush(timeout)


class _KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The partition that every Kafka client gives a key; hashed once a key, as clients write many tickets."""

    _hash = staticmethod(functools.lru_cache(maxsize=100_000)(murmur2))

    def partition(
        self, topic: str, key: bytes, serialized_key: bytes, value: bytes, serialized_value: bytes, cluster: Any
    ) -> int:
        """Return the partition of a record that has a key."""
        return int((self._hash(serialized_key) & 0x7FFFFFFF) % len(cluster.partitions_for_topic(topic)))


def connect(config: ProducerConfig, worker: int) -> KafkaProducer:
    """Return a client that keeps every record once and in order. Raises BrokerError."""
    try:
        return _Client(
            bootstrap_servers=config.brokers.split(","),
            client_id=f"client-tickets-producer-{worker}",
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            linger_ms=10,
            batch_size=262_144,
            partitioner=_KeyPartitioner(),
            delivery_timeout_ms=DELIVERY_TIMEOUT_S * 1000,
            max_block_ms=_SEND_TIMEOUT_S * 1000,
            reconnect_backoff_max_ms=2_000,
            bootstrap_timeout_ms=8_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            **config.security.for_kafka_python(),
        )
    except KafkaError as error:
        raise BrokerError(f"broker {config.brokers} went away while connecting ({type(error).__name__})") from error
