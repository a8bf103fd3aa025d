"""Check whether the broker still holds the topic that an output was written from, and how much of it is unread.

This uses another Kafka client than ``processor/topic.py`` uses for the plan, so that one checks the other.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from processor.plan import Bounds, within
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError
from store.differences import Difference
from store.manifest import Source, Window

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_REQUEST_TIMEOUT_S = 10.0


class Unread(msgspec.Struct, frozen=True):
    """How many offsets of a partition are unread, and which: from ``next_offset`` up to but not including ``end``."""

    partition: int
    next_offset: int
    end: int
    unread: int


def compare(
    ledger: Source,
    next_offsets: Mapping[int, int],
    found: Source,
    held: Mapping[int, Bounds],
    window: Window | None = None,
) -> tuple[list[Difference], list[Unread]]:
    """Return how the topic differs from what was read of it, and what of ``window`` is unread, by partition.

    If it is another topic or cluster, only that is returned.
    """
    where = f"topic {found.topic}"
    others = [
        Difference(where, f"the output was written from {what} {recorded}, the broker has {now}")
        for what, now, recorded in found.differing(ledger)
    ]
    if others:
        return others, []
    differences, unread, held = [], [], within(window, held)
    for partition in sorted({*next_offsets, *held}):
        if partition not in held:
            differences.append(Difference(where, f"partition {partition} was read, but no longer exists"))
            continue
        first, end = held[partition].first, held[partition].end
        position = next_offsets.get(partition, first)
        if end < position:
            what = f"partition {partition} ends at offset {end:,}, but {position:,} were read"
            differences.append(Difference(where, f"{what}: the topic was replaced or truncated"))
        elif first > position:
            what = f"partition {partition} begins at offset {first:,}, {first - position:,} were deleted unread"
            differences.append(Difference(where, what))
        position = max(position, first)
        unread.append(Unread(partition, position, end, max(0, end - position)))
    return differences, unread


def ask(brokers: str, security: KafkaSecurity, topic: str) -> tuple[Source, dict[int, Bounds]]:
    """Return the identity of the topic and the offsets of its partitions. Raises BrokerError with the failed step."""
    from runtime.broker.preflight import check_broker

    check_broker(brokers, security)
    return look_up(brokers, security, topic)


def look_up(
    brokers: str, security: KafkaSecurity, topic: str, timeout_s: float = _REQUEST_TIMEOUT_S
) -> tuple[Source, dict[int, Bounds]]:
    """Return the same of a broker that can be reached; each question may take ``timeout_s``. Raises BrokerError."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(
        {
            "bootstrap.servers": brokers,
            "client.id": "client-tickets-unread",
            "allow.auto.create.topics": False,
            # Without this, librdkafka prints connection problems to standard error.
            "log_level": 0,
            **security.for_librdkafka(),
        }
    )
    try:
        return _look_up(admin, topic, timeout_s)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise BrokerError(
                f"the broker at {brokers} has no topic {topic!r}, from which the output was written; correct --broker "
                "or --topic"
            ) from None
        raise BrokerError(
            f"the broker at {brokers} does not describe topic {topic!r}: {error.args[0].str()}; check that it is up, "
            "and try again"
        ) from None


def _look_up(admin: "AdminClient", topic: str, timeout_s: float) -> tuple[Source, dict[int, Bounds]]:
    from confluent_kafka import IsolationLevel, TopicCollection, TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # it is in the documentation

    specs: Any = OffsetSpec
    cluster = admin.describe_cluster(request_timeout=timeout_s)
    (described,) = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s).values()
    description: Any = described.result()
    partitions = [TopicPartition(topic, info.id) for info in description.partitions]
    bounds: list[dict[int, int]] = []
    for spec in (specs.earliest(), specs.latest()):
        # Like the processor: messages of open transactions do not count yet.
        asked: dict[TopicPartition, Future[Any]] = admin.list_offsets(
            dict.fromkeys(partitions, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=timeout_s,
        )
        bounds.append({place.partition: future.result().offset for place, future in asked.items()})
    first, end = bounds
    found = Source(topic, cluster.result().cluster_id, _text_of(description.topic_id))
    return found, {partition: Bounds(first[partition], end[partition]) for partition in sorted(first)}


def _text_of(topic_id: Any) -> str | None:
    """Return a topic id as the ledger writes it; None if the broker reports none."""
    halves = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    number = (halves[0] % 2**64 << 64) + halves[1] % 2**64
    return str(UUID(int=number)) if number else None
