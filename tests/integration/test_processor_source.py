"""What a topic can hold, and what can happen to it: bad messages, transactions, growth, retention, replacement."""

import json
import signal
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from embedded.broker import EmbeddedBroker
from tests.support import golden, topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, produce, read_manifest, tickets_published
from tests.support.processes import Processes, wait_for

pytestmark = pytest.mark.integration


def partition(next_offset: int, **counts: int) -> dict[str, int | None]:
    """Return a partition of the ledger that was read from offset 0 on; counts that are not given are 0."""
    nothing = {"tickets": 0, "rejected": 0, "duplicates": 0, "forgotten": 0, "empty": 0, "gaps": 0}
    return {"first_offset": 0, "next_offset": next_offset, **nothing, "last_record": None, **counts}


def as_row(message: bytes) -> tuple[str, str, int, str, str, str]:
    """Return the fields of a ticket, decoded by another decoder than ours, the time in microseconds."""
    fields = json.loads(message)
    since_1970 = datetime.fromisoformat(fields["created_at"]) - datetime(1970, 1, 1, tzinfo=UTC)
    moment = since_1970 // timedelta(microseconds=1)
    kept = (fields["request"], fields["request_type"], fields["priority"])
    return (fields["ticket_id"], fields["client_id"], moment, *kept)


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_every_golden_message_is_stored_unchanged_or_rejected_with_its_reason_and_bytes(
    file_format: str, broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    rejected = golden.rejected()
    configs = {"max.message.bytes": "4000000"}
    topics.create(broker.address, topic, partitions=2, configs=configs)
    topics.send(broker.address, topic, golden.tickets(), partition=0)
    topics.send(broker.address, topic, [case.message for case in rejected], key=b"\xff\x00key", partition=1)
    output = tmp_path / "output"
    run = processes.run(*processor(broker, topic, output, "--output-format", file_format))
    assert f"{len(rejected)} of {len(rejected) + len(golden.tickets())} messages were rejected" in run.stderr

    published = Published(output)
    published.require_agreement()
    tickets = published.rows(
        "SELECT ticket_id, client_id, epoch_us(created_at), request, request_type, priority "
        "FROM tickets_with_assignment ORDER BY ticket_id"
    )
    assert tickets == [as_row(message) for message in golden.tickets()]
    stored = published.rows('SELECT partition, "offset", reason, key, payload FROM rejected_messages ORDER BY "offset"')
    stored = published.rows('SELECT partition, "offset", reason, key, payload FROM rejected_messages ORDER BY "offset"')
    assert stored == [(1, offset, case.reason, b"\xff\x00key", case.message) for offset, case in enumerate(rejected)]


def test_a_topic_of_nothing_but_bad_messages_leaves_valid_empty_datasets_and_a_warning(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [b"{\0}\0", b"{}", b"[\0]\0", b"{\0 \0}\0"])
    run = processes.run(*processor(broker, topic, tmp_path / "output"))
    assert (
        "WARNING 4 of 4 messages were rejected as invalid; rejected_messages holds them with the reason: "
        "2 times not UTF-8 but UTF-16 (as at offset 0 of partition 0); 1 times missing field"
    ) in run.stderr
    published = Published(tmp_path / "output")
    published.require_agreement()
    assert published.rows("SELECT total_tickets, rejected_messages FROM metrics") == [(0, 4)]
    assert published.count("rejected_messages") == 4


def test_aborted_transactions_are_not_read_and_control_records_are_not_a_loss(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    topics.create(broker.address, topic)
    first, second, third, fourth = golden.tickets()[:4]
    producer = KafkaProducer(bootstrap_servers=broker.address, transactional_id=topic)
    with closing(producer):
        producer.init_transactions()
        for message, commit in ((first, True), (second, False), (third, True)):
            producer.begin_transaction()
            producer.send(topic, message)
            producer.flush()
            if commit:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
        producer.begin_transaction()
        producer.send(topic, fourth)
        producer.flush()
        output = tmp_path / "output"
        processes.run(*processor(broker, topic, output))
        published = Published(output)
        published.require_agreement()
        assert published.rows("SELECT ticket_id FROM tickets_with_assignment ORDER BY 1") == [
            ("00000000-0000-4000-8000-000000000000",),
            ("00000000-0000-4000-8000-000000000002",),
        ]
        # Three messages and three control records; the open transaction is left for the next batch.
        assert read_manifest(output)["partitions"]["0"] == partition(6, tickets=2, empty=4)
        producer.commit_transaction()
    processes.run(*processor(broker, topic, output))
    assert Published(output).count("tickets_with_assignment") == 3


def test_partitions_that_are_added_are_read_from_their_start(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=1)
    topics.send(broker.address, topic, golden.tickets()[:2])
    processes.run(*processor(broker, topic, output))
    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
        admin.create_partitions({topic: 3})
    topics.send(broker.address, topic, golden.tickets()[2:4], partition=2)
    processes.run(*processor(broker, topic, output))
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 4
    assert read_manifest(output)["partitions"] == {
        "0": partition(2, tickets=2),
        "1": partition(0),
        "2": partition(2, tickets=2),
    }


def test_partitions_that_are_added_under_a_running_service_are_read_from_their_start(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=1)
    topics.send(broker.address, topic, golden.tickets()[:2])
    service = processes.start(*processor(broker, topic, output, "--interval", "0.5"))
    wait_for(lambda: tickets_published(output) == 2, 90, "2 tickets published")
    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
        admin.create_partitions({topic: 2})
    topics.send(broker.address, topic, golden.tickets()[2:5], partition=1)
    wait_for(lambda: tickets_published(output) == 5, 60, "5 tickets published")
    service.send(signal.SIGTERM)
    assert service.wait(20) == 0, service.output
    Published(output).require_agreement()
    assert read_manifest(output)["partitions"] == {"0": partition(2, tickets=2), "1": partition(3, tickets=3)}


def test_messages_deleted_unread_stop_it_until_the_gap_is_accepted(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, golden.tickets()[:1])
    processes.run(*processor(broker, topic, output))
    topics.send(broker.address, topic, golden.tickets()[1:5])
    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
        admin.delete_records({TopicPartition(topic, 0): 3})
    refused = processes.run(*processor(broker, topic, output), expect=4)
    assert "2 messages were deleted unread (retention); --accept-gap goes on" in refused.stderr
    processes.run(*processor(broker, topic, output, "--accept-gap"))
    assert Published(output).count("tickets_with_assignment") == 3
    assert read_manifest(output)["gaps"] == [{"partition": 0, "start": 1, "end": 3, "batch_id": 2}]
    assert read_manifest(output)["partitions"]["0"] == partition(5, tickets=3, gaps=2)
    processes.run(*processor(broker, topic, output))


@pytest.mark.parametrize("messages", [1, 5])
def test_a_topic_that_was_deleted_and_created_again_is_refused(
    messages: int, broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, golden.tickets()[:3])
    processes.run(*processor(broker, topic, output))
    topics.delete(broker.address, topic)
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, golden.tickets()[:messages])
    refused = processes.run(*processor(broker, topic, output), expect=4)
    assert "the output was written from topic id" in refused.stderr
    assert "choose another --output-path" in refused.stderr


def test_a_topic_that_is_deleted_and_created_again_ends_a_running_service(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, golden.tickets()[:2])
    service = processes.start(*processor(broker, topic, output, "--interval", "0.5"))
    wait_for(lambda: tickets_published(output) == 2, 90, "2 tickets published")
    before = read_manifest(output)
    topics.delete(broker.address, topic)
    topics.create(broker.address, topic)
    # At least as many messages as were read, so that only the topic id differs.
    topics.send(broker.address, topic, golden.tickets()[5:10])
    assert service.wait(60) == 4, service.output
    assert "the output was written from topic id" in service.stderr
    assert "choose another --output-path" in service.stderr
    assert read_manifest(output) == before


# Brokers that report no topic id, such as Kafka before 2.8, speak older versions of the protocol.
WITHOUT_TOPIC_IDS = """
import sys
from functools import partial
import kafka
from processor import spark_processor
kafka.KafkaAdminClient = partial(kafka.KafkaAdminClient, api_version=(2, 4))
sys.exit(spark_processor.main(sys.argv[1:]))
"""


def test_a_topic_that_is_created_again_is_refused_also_if_the_broker_reports_no_topic_id(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, golden.tickets()[:3], partition=1)
    command = ["-c", WITHOUT_TOPIC_IDS, *processor(broker, topic, output)[1:]]
    processes.run(*command)
    manifest = read_manifest(output)
    assert manifest["source"]["topic_id"] is None
    assert manifest["partitions"]["0"]["last_record"] is None
    assert manifest["partitions"]["1"]["last_record"]["offset"] == 2
    processes.run(*command)

    topics.delete(broker.address, topic)
    topics.create(broker.address, topic, partitions=2)
    # At least as many messages as were read, so that only their content differs.
    topics.send(broker.address, topic, golden.tickets()[5:10], partition=1)
    refused = processes.run(*command, expect=4)
    assert "partition 1 holds another message at offset 2 than the one that was read: the topic was replaced" in (
        refused.stderr
    )
    assert read_manifest(output) == manifest


def test_another_cluster_behind_the_same_address_is_refused(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    produce(processes, broker, topic, 3)
    processes.run(*processor(broker, topic, output))
    with EmbeddedBroker(tmp_path / "other") as other:
        produce(processes, other, topic, 3)
        refused = processes.run(*processor(other, topic, output), expect=4)
    assert f"the output was written from cluster {broker.cluster_id}" in refused.stderr
