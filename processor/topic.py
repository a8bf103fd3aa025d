"""What the broker says of the topic: its identity, and which offsets it holds."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from processor.events import BrokerAway, BrokerBack
from processor.outcome import ConsumeFailed
from processor.plan import Bounds, OffsetRange
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError
from runtime.process.logs import tell
from runtime.process.shutdown import Shutdown
from store.manifest import Record, Source

# Kafka clients are imported where they are used, so that the JVM starts while they load.
if TYPE_CHECKING:
    from kafka import KafkaAdminClient

_REQUEST_TIMEOUT_MS = 10_000
_ASK_EVERY_S = 3.0

_log = logging.getLogger(__name__)
_NO_TOPIC_ID = "00000000-0000-0000-0000-000000000000"


class Topic:
    """One topic on one cluster; each call asks the broker."""

    def __init__(self, brokers: str, security: KafkaSecurity, name: str, stop: Shutdown) -> None:
        self._brokers = brokers
        self._security = security
        self._name = name
        self._stop = stop

    def check(self) -> None:
        """Raise BrokerError, naming the step that failed, when the broker cannot be used; return early on a stop."""
        from runtime.broker.preflight import check_broker

        check_broker(self._brokers, self._security, stop=self._stop)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, log when the broker stops answering and when it is back."""
        from runtime.broker.preflight import try_broker

        done = threading.Event()

        def watch() -> None:
            away = ""
            while not done.wait(_ASK_EVERY_S):
                problem = try_broker(self._brokers, self._security, _ASK_EVERY_S, self._stop)
                if problem and not away:
                    tell(_log, BrokerAway(problem))
                elif away and not problem:
                    tell(_log, BrokerBack())
                away = problem

        # A daemon that is not joined: it may still wait for the broker's answer when the block ends.
        threading.Thread(target=watch, name="watch-the-broker", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def look_up(self) -> tuple[Source, dict[int, Bounds]]:
        """Return the identity of the topic and the offsets that each partition holds now.

        A partition ends at its last stable offset: later messages may belong to transactions that are still open.
        Raises BrokerError when the broker does not answer or has no such topic.
        """
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec
        from kafka.errors import UnknownTopicOrPartitionError, for_code

        topic = self._name
        with self._admin() as admin:
            cluster_id = admin.describe_cluster()["cluster_id"]
            (description,) = admin.describe_topics([topic])
            error = for_code(description["error_code"])
            if error is UnknownTopicOrPartitionError:
                raise BrokerError(
                    f"the broker at {self._brokers} has no topic {topic!r}; start the producer, which creates it, or "
                    "set --topic"
                )
            if description["error_code"]:
                raise BrokerError(f"the broker at {self._brokers} does not describe topic {topic!r}: {error.__name__}")
            topic_id = description.get("topic_id")
            partitions = [TopicPartition(topic, entry["partition_index"]) for entry in description["partitions"]]
            first = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
            end = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST), "read_committed")
        known_id = None if topic_id is None or str(topic_id) == _NO_TOPIC_ID else str(topic_id)
        bounds = {p.partition: Bounds(first[p].offset, end[p].offset) for p in partitions}
        return Source(topic, cluster_id, known_id), bounds

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offset after the last message of each partition, those of open transactions included.

        Raises BrokerError when the broker does not answer.
        """
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        with self._admin() as admin:
            asked = [TopicPartition(self._name, partition) for partition in partitions]
            found = admin.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.LATEST))
        return {each.partition: found[each].offset for each in asked}

    def offsets_at(self, timestamp: int, partitions: Iterable[int]) -> dict[int, int]:
        """Return the first offset of each partition that holds a record of ``timestamp`` (ms since 1970) or later.

        Records of open transactions count too. Raises BrokerError when the broker does not answer.
        """
        from kafka import TopicPartition

        with self._admin() as admin:
            asked = [TopicPartition(self._name, partition) for partition in partitions]
            found = admin.list_partition_offsets(dict.fromkeys(asked, timestamp))
        # The broker says -1 where it has no such record.
        return {each.partition: found[each].offset for each in asked if found[each].offset >= 0}

    def settings(self) -> dict[str, str | None]:
        """Return the topic's own settings, such as ``retention.ms``. Raises BrokerError when the broker tells none."""
        from kafka.admin import ConfigResource, ConfigResourceType

        with self._admin() as admin:
            asked = ConfigResource(ConfigResourceType.TOPIC, self._name)
            told = admin.describe_configs([asked], config_filter="all")
        return {
            key: entry["value"] for topics in told.values() for one in topics.values() for key, entry in one.items()
        }

    def records(self, offsets: Mapping[int, int]) -> dict[int, Record]:
        """Return the message at one offset of each partition; a partition without a message there is left out.

        Raises BrokerError when the topic cannot be read.
        """
        from processor.consume import consume

        ranges = [OffsetRange(partition, offset, offset + 1) for partition, offset in offsets.items()]
        security = self._security.for_librdkafka()
        try:
            with closing(consume(self._brokers, security, self._name, ranges)) as pieces:
                reads = [read for piece in pieces for read in piece.read]
        except ConsumeFailed as error:
            raise BrokerError(f"the topic could not be read ({error}); check the broker and its log") from None
        return {read.partition: read.last for read in reads if read.last is not None}

    @contextmanager
    def _admin(self) -> "Iterator[KafkaAdminClient]":
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        try:
            admin = KafkaAdminClient(
                bootstrap_servers=self._brokers.split(","),
                bootstrap_timeout_ms=_REQUEST_TIMEOUT_MS,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                **self._security.for_kafka_python(),
            )
            try:
                yield admin
            finally:
                admin.close()
        except KafkaError as error:
            raise BrokerError(
                f"the broker at {self._brokers} stopped answering: {error}; check that it is up, and try again"
            ) from error
