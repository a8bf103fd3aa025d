"""Topics on a real broker: create, fill with raw bytes, read back."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Delivered
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition


@dataclass(frozen=True, slots=True)
class Message:
    """What a topic holds at one offset."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def create(address: str, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
    """Create a topic and return once every partition has a leader."""
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics({topic: options}, wait_for_metadata=True)


def delete(address: str, topic: str) -> None:
    """Delete a topic."""
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.delete_topics([topic])


def names(address: str) -> set[str]:
    """Return the topics that exist."""
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        return set(admin.list_topics())


def send(
    address: str, topic: str, values: Iterable[bytes | None], key: bytes | None = b"CLIENT_1", partition: int = 0
) -> None:
    """Write values to one partition, in their order, and return once all are acknowledged."""
    producer = KafkaProducer(bootstrap_servers=address, acks="all", max_request_size=4_000_000)
    with closing(producer):
        futures = [producer.send(topic, value, key=key, partition=partition) for value in values]
        for future in futures:
            future.get(timeout=30)


def send_batches(
    address: str,
    topic: str,
    values: Iterable[bytes | None],
    partition: int = 0,
    options: Mapping[str, str | int] | None = None,
) -> None:
    """Write values with librdkafka; ``options`` set batching and compression. Return once all are acknowledged."""
    problems: list[KafkaError] = []

    def note(error: KafkaError | None, _: Delivered) -> None:
        if error is not None:
            problems.append(error)

    producer = Producer({"bootstrap.servers": address, "log_level": 0, **(options or {})})
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=note)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not problems


def delete_records(address: str, topic: str, before: int, partition: int = 0) -> None:
    """Delete the messages below an offset, as retention does."""
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.delete_records({TopicPartition(topic, partition): before})


def read(address: str, topic: str, deadline_ms: int = 30_000) -> list[Message]:
    """Return all committed messages of a topic, by partition and offset."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        consumer_timeout_ms=deadline_ms,
    )
    with closing(consumer):
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        messages: list[Message] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=500).values():
                messages += [Message(record.partition, record.offset, record.key, record.value) for record in records]
    return sorted(messages, key=lambda message: (message.partition, message.offset))


def values(messages: Sequence[Message]) -> list[bytes | None]:
    """Return the values of the messages."""
    return [message.value for message in messages]
