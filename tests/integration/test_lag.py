"""How far the processor is, as other people's tools and ``--status`` see it, on a real broker."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient, KafkaConsumer

from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.pipeline import processor, produce, read_manifest, tickets_published
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration


class Group:
    """A consumer group as a tool of librdkafka's kind sees it, which is another client than the one that commits."""

    def __init__(self, broker: EmbeddedBroker, name: str) -> None:
        self.name = name
        self._address = broker.address
        self._admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})

    def offsets(self) -> dict[int, int]:
        """Return the committed offset of each partition."""
        (asked,) = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.name)]).values()
        return {place.partition: place.offset for place in asked.result().topic_partitions}

    def owners(self) -> set[str]:
        """Return the metadata of all offsets. By kafka-python: confluent-kafka reads beyond the end of the text."""
        with closing(KafkaAdminClient(bootstrap_servers=self._address)) as admin:
            return {offset.metadata for offset in admin.list_group_offsets(self.name)[self.name].values()}

    def lag(self, topic: str) -> int:
        """Return what a tool calls lag: how far the offsets are behind the ends of the topic."""
        return len(topics.read(self._address, topic)) - sum(self.offsets().values())

    def delete(self) -> None:
        (deleted,) = self._admin.delete_consumer_groups([self.name]).values()
        deleted.result()


def events(running: Running) -> Iterator[dict[str, Any]]:
    for line in running.stderr.splitlines():
        yield json.loads(line)


def test_a_consumer_group_shows_the_lag_also_of_an_idle_service_and_is_left_to_whoever_has_it(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output, group = tmp_path / "output", Group(broker, f"group-{topic}")
    produce(processes, broker, topic, 400)
    service = processes.start(
        *processor(broker, topic, output, "--interval", "1", "--consumer-group", group.name), env={"LOG_FORMAT": "json"}
    )
    wait_for(lambda: tickets_published(output) == 400, 90, "400 tickets published")
    wait_for(lambda: sum(group.offsets().values()) == 400, 30, "offsets of a batch")
    owner = read_manifest(output)["output_id"]
    assert group.owners() == {owner}
    assert group.lag(topic) == 0

    # A group whose offsets have expired shows them again at the next look.
    group.delete()
    assert group.offsets() == {}
    wait_for(lambda: sum(group.offsets().values()) == 400, 30, "offsets of an idle service")
    service.process.terminate()
    assert service.wait(20) == 0
    told = list(events(service))
    (batch,) = [event for event in told if event.get("event") == "batch"]
    assert (batch["batch"], batch["read"], batch["tickets"], batch["lag"]) == (1, 400, 400, 0)
    assert [event for event in told if event["level"] != "INFO"] == []

    # Messages that arrive while nobody reads are lag.
    produce(processes, broker, topic, 30)
    assert group.lag(topic) == 30
    status = ("processor/spark_processor.py", "--status", "--output-path", output, "--broker", broker.address)
    shown = processes.run(*status)
    assert (shown.stdout.splitlines()[0], shown.stderr) == (str(output), "")
    assert "Processor stopped. It was stopped " in shown.stdout
    assert "Last batch: 1, " in shown.stdout
    assert f"Lag in topic {topic}: 30\n" in shown.stdout
    content = json.loads(processes.run(*status, env={"LOG_FORMAT": "json"}).stdout)
    offsets = {partition["partition"]: partition["next_offset"] for partition in content["partitions"]}
    assert offsets == group.offsets()
    assert (content["lag"], content["lag_problem"], content["lag_at_last_look"]) == (30, None, 0)

    other = processes.run(*processor(broker, topic, tmp_path / "other", "--consumer-group", group.name))
    assert other.stderr.count(f"consumer group {group.name} is left alone, because it holds an offset of topic") == 1
    assert (sum(group.offsets().values()), group.owners()) == (400, {owner})
    assert tickets_published(tmp_path / "other") == 430

    with closing(KafkaConsumer(topic, bootstrap_servers=broker.address, group_id=f"busy-{topic}")) as consumer:
        wait_for(lambda: consumer.poll(100) is not None and consumer.assignment(), 30, "an active consumer")
        busy = processes.run(*processor(broker, topic, output, "--consumer-group", f"busy-{topic}"))
    assert "is left alone, because it has active consumers (1)" in busy.stderr
    assert tickets_published(output) == 430
