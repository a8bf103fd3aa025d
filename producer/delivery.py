"""Send tickets to the broker, and count its acknowledgements."""

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

# The client's own memory limit has no effect, so this one bounds the memory: some 20 MB of tickets and futures.
MAX_IN_FLIGHT = 10_000

DELIVERY_TIMEOUT_S = 120
_SEND_TIMEOUT_S = 5
_CLOSE_TIMEOUT_S = 2


class Future(Protocol):
    """What the client returns for a record that it accepted."""

    is_done: bool
    exception: BaseException | None


class Client(Protocol):
    """The part of KafkaProducer that is used here."""

    def partitions_for(self, topic: str) -> set[int]:
        """Return the partitions that the topic has now. Raises KafkaTimeoutError when the topic is gone."""

    def send(self, topic: str, value: bytes, key: bytes, *, partition: int) -> Future:
        """Accept a record. Raises ValueError when the partition is gone."""

    def close(self, timeout: float) -> None:
        """Close the client; give up after ``timeout`` seconds."""


class Delivery:
    """Sends tickets, at most MAX_IN_FLIGHT unacknowledged at a time, and counts what became of them.

    Each ticket is given to the client once. Retries are done by the client, which sends the same record again.
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
        """Look up the partitions of the topic; otherwise the first ticket waits 0.1 s for that. Raises BrokerError."""
        self._partitioner()

    def send(self, messages: Iterable[Message]) -> None:
        """Give messages to the client. Raises BrokerError when the topic is gone or the client has failed for good."""
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
        """Count the tickets that were acknowledged or given up by now, in their order."""
        pending = self._pending
        while pending and pending[0][1].is_done:
            self._count(*pending.popleft())
        if not self.room:
            # If one partition is slow, its oldest ticket must not hide what the others acknowledged.
            self.settle_all()

    def settle_all(self) -> None:
        """Count every ticket that was acknowledged or given up by now, also those after one that is still undecided."""
        waiting = deque[tuple[int, Future]]()
        for number, future in self._pending:
            if future.is_done:
                self._count(number, future)
            else:
                waiting.append((number, future))
        self._pending = waiting

    def close(self) -> None:
        """Close the client, within seconds even if the broker cannot be reached."""
        self._client.close(timeout=_CLOSE_TIMEOUT_S)

    def _partitioner(self) -> Callable[[bytes], int]:
        """Return the function from key to partition. It is cached, because one client writes many tickets."""
        try:
            count = len(self._client.partitions_for(self._topic))
        except KafkaError as error:
            raise self._explained(error) from error
        if count != self._partitions:
            self._partitions = count
            self._partition_of = lru_cache(maxsize=100_000)(partial(_partition, count))
        return self._partition_of

    def _explained(self, error: Exception) -> BrokerError:
        # kafka-python raises ValueError if a partition is gone.
        if isinstance(error, (KafkaTimeoutError, ValueError)):
            return BrokerError(f"topic {self._topic} is gone: was it deleted? Start again to create it")
        return BrokerError(f"the Kafka client failed ({type(error).__name__}); check the broker and start again")

    def _count(self, number: int, future: Future) -> None:
        if future.exception is None:
            self._acknowledged += 1
        else:
            self._failed += 1
            self._first_failed = number if self._first_failed is None else min(number, self._first_failed)
            self.cause = self.cause or future.exception


class _Client(KafkaProducer):  # type: ignore[misc]
    """A client whose ``close`` keeps its time limit; the original raises half-way if a record is undecided."""

    def __str__(self) -> str:
        """Return a fixed name: kafka-python calls this for each record, whether it logs or not, so it must be cheap."""
        name: str = self.config["client_id"]
        return name

    def flush(self, timeout: float | None = None) -> None:
        """Wait up to ``timeout`` seconds for records in flight, without raising if some are left."""
        with contextlib.suppress(KafkaTimeoutError):
            super().flush(timeout)


def _partition(count: int, key: bytes) -> int:
    """Return the partition, one of ``count``, that every Kafka client chooses for ``key``."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


def client_settings() -> dict[str, Any]:
    """Return kafka-python settings that deliver every record once and in order, in full batches."""
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
    """Return a client that delivers every record once and in order. Raises BrokerError."""
    try:
        return _Client(
            bootstrap_servers=config.brokers.split(","),
            client_id=f"client-tickets-producer-{worker}",
            **client_settings(),
            **config.security.for_kafka_python(),
        )
    except KafkaError as error:
        raise BrokerError(
            f"lost the connection to broker {config.brokers} while connecting ({type(error).__name__}); start again"
        ) from error
