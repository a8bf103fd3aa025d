"""What can happen while a batch is read: brokers, topics, JVMs and signals, with real processes on a real broker."""

import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from tests.support import golden, topics
from tests.support.datasets import Published
from tests.support.pipeline import (
    fill,
    jvm_of,
    processor,
    produce,
    require_exact,
    tickets_published,
    wait_until_it_reads,
)
from tests.support.processes import Processes, Running, is_alive, wait_for
from tests.support.staging import ticket

pytestmark = pytest.mark.integration

TICKETS = 300_000


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def fragile(tmp_path: Path) -> Any:
    """A broker that a test may harm."""
    with EmbeddedBroker(tmp_path / "broker") as broker:
        yield broker


def status(output: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((output / "_status.json").read_bytes())
    except FileNotFoundError:
        return {"state": ""}
    return found


def kill_in_the_middle_of_a_read(broker: EmbeddedBroker, output: Path) -> None:
    wait_until_it_reads(output)
    # From here on the broker sends nothing more.
    os.kill(broker.pid, signal.SIGSTOP)
    os.kill(broker.pid, signal.SIGKILL)


def wait_until_it_says_that_the_broker_is_gone(service: Running) -> None:
    """Return once the log says so: the thread that watches the broker, or the check before the commit, notices it."""
    told = ("nothing listens on this port", "stopped answering")
    wait_for(lambda: any(text in service.stderr for text in told), 45, f"one of {told}")


def test_invalid_record_timestamps_stop_nothing_in_either_format(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    stamps = [-(2**62), 1_767_225_600_000_000, 1_767_225_600_000_000_000, 1_767_225_600_000]
    topics.create(broker.address, topic, configs={"message.timestamp.before.max.ms": str(2**63 - 1)} | ANY_TIMESTAMP)
    with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
        for number, stamp in enumerate(stamps):
            producer.send(topic, encode(ticket(number)), timestamp_ms=stamp).get(30)
            producer.send(topic, b"bad", timestamp_ms=stamp).get(30)
    processes.run(*processor(broker, topic, output))
    for file_format in ("json", "parquet"):
        processes.run(*processor(broker, topic, output, "--output-format", file_format))
        require_exact(output, 4)
        assert Published(output).rows('SELECT epoch_ms(received_at) FROM rejected_messages ORDER BY "offset"') == [
            (None,),
            (None,),
            (None,),
            (1_767_225_600_000,),
        ]


ANY_TIMESTAMP = {"message.timestamp.after.max.ms": str(2**63 - 1)}


def test_an_almost_empty_partition_costs_milliseconds(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    def seconds(name: str, partitions: int) -> float:
        topics.create(broker.address, name, partitions=partitions)
        with closing(KafkaProducer(bootstrap_servers=broker.address)) as producer:
            for number in range(400):
                producer.send(name, encode(ticket(number)), partition=number % partitions)
            producer.flush(60)
        began = time.monotonic()
        processes.run(*processor(broker, name, tmp_path / name))
        took = time.monotonic() - began
        require_exact(tmp_path / name, 400)
        return took

    one, many = seconds(f"{topic}-1", 1), seconds(f"{topic}-200", 200)
    assert many - one < 3


def test_many_messages_of_a_megabyte_are_published_with_a_small_heap(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(broker.address, topic, configs={"max.message.bytes": "4000000"})
    producer = Producer(
        {"bootstrap.servers": broker.address, "compression.type": "zstd", "message.max.bytes": 4_000_000}
    )
    message = b'{"not a ticket":"' + b"x" * 1_000_000 + b'"}'
    for _ in range(2_600):
        while len(producer) > 100:
            producer.poll(0.1)
        producer.produce(topic, message)
    assert producer.flush(120) == 0
    processes.run(*processor(broker, topic, output))
    published = Published(output)
    assert published.rows("SELECT count(*), min(octet_length(payload)) FROM rejected_messages") == [
        (2_600, len(message))
    ]


def test_a_compacted_topic_is_read_to_its_end(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    compacted = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    topics.create(broker.address, topic, configs=compacted)

    def held() -> int:
        topics.send(broker.address, topic, [encode(ticket(999))], key=b"roll")
        return len(topics.read(broker.address, topic))

    topics.send(broker.address, topic, [encode(ticket(number)) for number in range(50)], key=b"same")
    wait_for(lambda: held() < 50, 60, "the broker to compact the topic")
    kept = {message.offset for message in topics.read(broker.address, topic)}
    processes.run(*processor(broker, topic, output))
    read = Published(output).count("tickets_with_assignment")
    assert read <= len(kept)
    assert read < 50


def test_a_topic_that_is_replaced_while_it_is_read_is_not_published(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    fill(processes, broker, topic, TICKETS)
    running = processes.start(*processor(broker, topic, output))
    wait_until_it_reads(output)
    running.send(signal.SIGSTOP)
    topics.delete(broker.address, topic)
    topics.create(broker.address, topic, partitions=4)
    produce(processes, broker, topic, 1000)
    running.send(signal.SIGCONT)
    assert running.wait(90) == 4
    assert "choose another --output-path for the new" in running.stderr
    assert tickets_published(output) == 0


def test_a_topic_that_is_replaced_between_two_batches_of_a_backlog_ends_it(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(broker.address, topic)
    produce(processes, broker, topic, 200_000)
    running = processes.start(*processor(broker, topic, output, "--max-messages", "20000"))
    wait_for(lambda: tickets_published(output) > 0, 60, "the first batch")
    running.send(signal.SIGSTOP)
    topics.delete(broker.address, topic)
    topics.create(broker.address, topic)
    produce(processes, broker, topic, 200_500)
    running.send(signal.SIGCONT)
    assert running.wait(90) == 4
    assert "the output was written from" in running.stderr
    # A commit that was in progress when the processor was paused is of the old topic.
    published = tickets_published(output)
    assert published < 200_000
    assert published % 20_000 == 0
    require_exact(output, published)


def test_messages_deleted_during_the_first_batch_end_it(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(broker.address, topic)
    produce(processes, broker, topic, TICKETS)
    running = processes.start(*processor(broker, topic, output))
    # The ends are known now, and no task has started yet.
    wait_for(lambda: status(output)["state"] == "reading", 60, "a planned batch")
    running.send(signal.SIGSTOP)
    with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
        admin.delete_records({TopicPartition(topic, 0): TICKETS - 10})
    running.send(signal.SIGCONT)
    assert running.wait(90) == 4
    assert "messages were deleted unread (retention)" in running.stderr
    assert tickets_published(output) == 0
    processes.run(*processor(broker, topic, output))
    require_exact(output, 10)


def test_a_broker_that_dies_in_the_middle_of_a_read_is_reported_at_once_and_outlived_by_a_service(
    fragile: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    fill(processes, fragile, topic, TICKETS)
    service = processes.start(*processor(fragile, topic, output, "--interval", "2"))
    kill_in_the_middle_of_a_read(fragile, output)
    wait_until_it_says_that_the_broker_is_gone(service)
    fragile.stop()
    fragile.start()
    wait_for(lambda: tickets_published(output) == TICKETS, 120, "the batch to be published")
    service.process.terminate()
    assert service.wait(20) == 0
    require_exact(output, TICKETS)


@pytest.mark.parametrize("to_the_group", [False, True])
def test_sigterm_while_the_broker_is_gone_ends_a_service_in_time(
    to_the_group: bool, fragile: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    fill(processes, fragile, topic, TICKETS)
    service = processes.start_in_a_group(*processor(fragile, topic, output, "--interval", "2"))
    kill_in_the_middle_of_a_read(fragile, output)
    wait_until_it_says_that_the_broker_is_gone(service)
    if to_the_group:
        os.killpg(service.pid, signal.SIGTERM)
    else:
        service.send(signal.SIGTERM)
    assert service.wait(20) == 0
    assert "Traceback" not in service.stderr
    fragile.stop()
    fragile.start()
    processes.run(*processor(fragile, topic, output))
    require_exact(output, TICKETS)


def test_sigterm_while_the_broker_is_frozen_ends_a_processor_that_starts_and_one_that_looks_for_messages(
    fragile: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(fragile.address, topic)
    looks = processes.start(*processor(fragile, topic, output / "1", "--interval", "0.1"))
    wait_for((output / "1" / "_manifest.json").exists, 60, "a first batch")
    os.kill(fragile.pid, signal.SIGSTOP)
    try:
        starts = processes.start(*processor(fragile, topic, output / "2"))
        starts.wait_for_stderr("INFO")
        for service in (looks, starts):
            service.send(signal.SIGTERM)
        for service in (looks, starts):
            assert service.wait(20) == 0, service.output
            assert "Traceback" not in service.stderr
    finally:
        os.kill(fragile.pid, signal.SIGCONT)


def test_a_jvm_killed_under_a_service_is_reported_and_a_new_one_started(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path, tmp_path: Path
) -> None:
    fill(processes, broker, topic, TICKETS)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    service = processes.start(*processor(broker, topic, output, "--interval", "1"), env={"TMPDIR": str(temporary)})
    wait_for(lambda: list(temporary.glob("client-tickets-spark-*/connection")), 60, "a JVM that answers")
    starting = jvm_of(service)
    os.kill(starting, signal.SIGSTOP)
    wait_for(lambda: status(output)["state"] == "reading", 60, "a processor that wants a context of it")
    os.kill(starting, signal.SIGKILL)
    service.wait_for_stderr("Spark's JVM ended while it started (code -9); starting a new one", deadline_s=10)

    wait_until_it_reads(output)
    first = jvm_of(service)
    os.kill(first, signal.SIGKILL)
    service.wait_for_stderr("Spark's JVM ended in the middle of a batch (code -9); starting a new one", deadline_s=10)
    wait_for(lambda: tickets_published(output) == TICKETS, 120, "the batch to be published")

    # Kill it once more between two batches: the next batch starts a new one.
    second = jvm_of(service)
    os.kill(second, signal.SIGKILL)
    topics.send(broker.address, topic, golden.tickets()[:3])
    wait_for(lambda: tickets_published(output) == TICKETS + 3, 120, "the next batch to be published")
    service.process.terminate()
    assert service.wait(20) == 0
    assert "Traceback" not in service.stderr
    require_exact(output, TICKETS + 3)


def test_the_jvm_ends_with_a_processor_that_gets_kill_9(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    fill(processes, broker, topic, TICKETS)
    running = processes.start(*processor(broker, topic, output))
    wait_until_it_reads(output)
    jvm = jvm_of(running)
    running.send(signal.SIGKILL)
    running.wait()
    wait_for(lambda: not is_alive(jvm), 10, "the end of the JVM")
    processes.run(*processor(broker, topic, output))
    require_exact(output, TICKETS)
