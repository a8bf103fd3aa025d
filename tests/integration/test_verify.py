"""``--verify`` beside real processes and a real broker."""

import json
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.pipeline import processor, produce
from tests.support.processes import Processes

pytestmark = pytest.mark.integration


def test_a_sound_output_what_is_unread_and_a_damaged_one(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    produce(processes, broker, topic, 500)
    topics.send(broker.address, topic, [b"no ticket"])
    processes.run(*processor(broker, topic, output))
    verify = ("processor/spark_processor.py", "--verify", "--output-path", str(output))

    run = processes.run(*verify, "--broker", broker.address)
    assert run.stderr == ""
    assert "500 tickets of " in run.stdout
    assert ", 1 rejected messages\n" in run.stdout
    assert f"unread in topic {topic}: 0 offsets\n" in run.stdout
    assert run.stdout.endswith("In order: files, rows and counts are what the ledger says.\n")

    produce(processes, broker, topic, 70)
    content = json.loads(processes.run(*verify, "--broker", broker.address, env={"LOG_FORMAT": "json"}).stdout)
    assert content["in_order"] is True
    assert content["differences"] == content["notes"] == []
    assert sum(partition["unread"] for partition in content["unread"]) == 70
    assert len(content["unread"]) == 4
    assert content["source"]["topic_id"] is not None

    missing = processes.run(*verify, "--broker", broker.address, "--topic", f"{topic}-not-there", expect=3)
    assert f"has no topic '{topic}-not-there'" in missing.stderr
    topics.delete(broker.address, topic)
    topics.create(broker.address, topic, partitions=4)
    replaced = processes.run(*verify, "--broker", broker.address, expect=4)
    assert f"topic {topic}: the output was written from topic id {content['source']['topic_id']}" in replaced.stderr

    (file,) = (output / "high_priority_tickets").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    damaged = processes.run(*verify, expect=4)
    assert f"the first is in high_priority_tickets/{file.name}: has " in damaged.stderr
    assert "unread" not in damaged.stdout
    assert "Traceback" not in damaged.stderr


def test_while_a_processor_publishes_all_the_time_it_finds_no_difference(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    service = processes.start(*processor(broker, topic, output, "--interval", "0.2"))
    sender = processes.start(
        *("producer/ticket_producer.py", "--broker", broker.address, "--topic", topic, "--rate", "300")
    )
    service.wait_for_stderr("batch 3: ", 120)
    for _ in range(8):
        processes.run("processor/spark_processor.py", "--verify", "--output-path", output)
    sender.process.terminate()
    service.process.terminate()
    assert service.wait(30) == 0
    assert "batch 6: " in service.stderr
    processes.run("processor/spark_processor.py", "--verify", "--output-path", output)
