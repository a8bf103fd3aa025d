"""``--from`` and ``--until`` on a real broker: what a time means there, and what a kill and a restart make of it."""

import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from runtime.process.failpoint import VARIABLE
from tests.support import topics
from tests.support.datasets import Published
from tests.support.listeners import free_ports
from tests.support.pipeline import processor, read_manifest
from tests.support.processes import Processes, wait_for
from tests.support.staging import ticket

pytestmark = pytest.mark.integration


def send_at(broker: EmbeddedBroker, topic: str, partition: int, first: int, clock: Sequence[str]) -> None:
    """Send numbered tickets whose records have these times of a day in January, in one compressed batch."""
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 200, "compression.type": "zstd"})
    for number, time in enumerate(clock, first):
        moment = datetime.fromisoformat(f"2026-01-31T{time}").replace(tzinfo=UTC)
        stamp = round(moment.timestamp() * 1_000)
        producer.produce(topic, encode(ticket(number)), partition=partition, timestamp=stamp)
    assert producer.flush(30) == 0


def numbers(output: Path) -> list[int]:
    """Return which of the numbered tickets are published."""
    found = Published(output).rows("SELECT ticket_id FROM tickets_with_assignment ORDER BY 1")
    return [int(ticket_id[-12:], 16) for (ticket_id,) in found]


def test_a_part_of_the_topic_by_time_is_published_and_then_nothing_more(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output, beat = tmp_path / "output", tmp_path / "heartbeat"
    topics.create(broker.address, topic, partitions=3)
    # The first record at or after a time counts, whatever follows: 23 is in, 25 is not.
    send_at(broker, topic, 0, 20, ["09:00", "09:30", "09:45", "09:15", "10:00", "09:50", "10:30"])
    send_at(broker, topic, 1, 40, ["08:00", "08:30"])
    asked = ("--from", "2026-01-31T10:30:00+01:00", "--until", "2026-01-31T10:00:00Z")
    run = processes.run(*processor(broker, topic, output, *asked))
    part = "from 2026-01-31T09:30:00Z until 2026-01-31T10:00:00Z"
    assert f"topic {topic} is read {part}: 3 offsets are there now" in run.stderr
    assert f"done: topic {topic} {part} is published" in run.stderr
    Published(output).require_agreement()
    assert numbers(output) == [21, 22, 23]
    manifest = read_manifest(output)
    assert manifest["window"] == {
        "start": "2026-01-31T09:30:00Z",
        "until": "2026-01-31T10:00:00Z",
        "ends": {"0": 4, "1": 2, "2": 0},
    }
    places = {number: (of["first_offset"], of["next_offset"]) for number, of in manifest["partitions"].items()}
    assert places == {"0": (1, 4), "1": (2, 2), "2": (0, 0)}

    # What comes later, by whatever time, and what retention takes behind the part, is no matter to it.
    send_at(broker, topic, 2, 60, ["09:40"])
    topics.delete_records(broker.address, topic, before=6)
    verify = ("--verify", "--broker", broker.address, "--output-path", str(output))
    verified = processes.run("processor/spark_processor.py", *verify, env={"LOG_FORMAT": "json"})
    told = json.loads(verified.stdout)
    assert (told["in_order"], told["window"]) == (True, manifest["window"])
    assert [(each["partition"], each["unread"]) for each in told["unread"]] == [(0, 0), (1, 0), (2, 0)]

    # A restart with the same settings needs neither broker nor Spark.
    gone = ("processor/spark_processor.py", "--broker", f"localhost:{free_ports(1)[0]}", "--topic", topic)
    service = processes.start(
        *(*gone, "--output-path", output, "--memory", "1g", "--interval", "1"),
        env={"TOPIC_FROM": "2026-01-31T09:30:00Z", "TOPIC_UNTIL": "2026-01-31T10:00:00Z", "HEARTBEAT_FILE": str(beat)},
    )
    service.wait_for_stderr("done: topic", 60)
    wait_for(lambda: json.loads((output / "_status.json").read_text())["state"] == "done", 30, "the state done")
    wait_for(beat.exists, 30, "a heartbeat")
    service.process.terminate()
    assert service.wait(30) == 0
    refused = processes.run(*gone, "--output-path", output, "--memory", "1g", "--from", "latest", expect=2)
    assert f"--from asks for latest, but the output in {output} begins at 2026-01-31T09:30:00Z" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert read_manifest(output) == manifest


def test_latest_is_the_moment_of_the_first_start_also_when_that_is_killed(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    send_at(broker, topic, 0, 0, ["09:00", "09:01"])
    command = processor(broker, topic, output, "--from", "latest", "--dedupe", "all")
    processes.run(*command, env={VARIABLE: "committed"}, expect=-signal.SIGKILL)
    send_at(broker, topic, 0, 10, ["09:02", "09:03"])
    send_at(broker, topic, 1, 20, ["09:04"])
    run = processes.run(*command)
    assert "finishing batch 1" in run.stderr
    assert "batch 2: 3 messages read, 3 tickets, 0 rejected, published in" in run.stderr
    Published(output).require_agreement()
    assert numbers(output) == [10, 11, 20]
    manifest = read_manifest(output)
    assert manifest["window"] == {"start": "latest", "until": None, "ends": {}}
    assert (manifest["deduped_from"], manifest["partitions"]["0"]["first_offset"]) == (1, 2)
