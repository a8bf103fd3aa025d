"""The live steps of docs/walkthrough.md in their order, each command as it is written there, on a real broker."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from runtime.settings.setting import ROOT
from tests.support import documents
from tests.support.pipeline import tickets_published
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration

WALKTHROUGH = documents.read("docs/walkthrough.md")


def steps(title: str, language: str = "") -> list[str]:
    """Return what is typed below a heading: commands, or with ``python`` a question."""
    return documents.code_blocks(documents.section(WALKTHROUGH, title), language)


class Terminals:
    """Types commands in a folder of the test, with the environment activated and a broker that has another address."""

    def __init__(self, processes: Processes, folder: Path, broker: EmbeddedBroker, topic: str) -> None:
        self._processes = processes
        self._folder = folder
        self._address = broker.address
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "REDPANDA_BROKER_LOCAL": broker.address,
            "TOPIC_NAME": topic,
            "OUTPUT_PATH": "data/output",
            "SPARK_MEMORY": "1g",
        }

    def start(self, command: str) -> Running:
        for said, here in (
            ("localhost:9092", self._address),
            # The document waits 5 seconds for a batch, so that people can follow.
            ("--interval 5", "--interval 1"),
            ("producer/ticket_producer.py", str(ROOT / "producer" / "ticket_producer.py")),
            ("processor/spark_processor.py", str(ROOT / "processor" / "spark_processor.py")),
        ):
            command = command.replace(said, here)
        return self._processes.start_command(["bash", "-c", f"exec {command}"], self._environment, self._folder)

    def run(self, command: str) -> str:
        """Run a command to its end and return what it prints."""
        running = self.start(command)
        assert running.wait() == 0, running.output
        return running.stdout

    def watched(self) -> list[str]:
        """Return what each ``watch`` of terminal 3 shows once."""
        commands = [line.removeprefix("watch -n 1 ").strip("'") for line in steps("Terminal 3: watch")[0].splitlines()]
        return [self.run(command) for command in commands]

    def ask(self, question: str) -> str:
        return self._processes.run("-c", question, cwd=self._folder).stdout


def test_the_walkthrough_ends_with_every_acknowledged_ticket_published_once(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    terminals, output = Terminals(processes, tmp_path, broker, topic), tmp_path / "data" / "output"
    (produce,), (publish,) = steps("Terminal 1: tickets arrive"), steps("Terminal 2: they are published")
    producer = terminals.start(produce)
    producer.wait_for_stderr("created topic")
    processor = terminals.start(publish)
    wait_for(lambda: tickets_published(output) >= 60, what="60 tickets")

    status, listing = terminals.watched()
    assert json.loads(status)["state"] in {"idle", "reading", "publishing"}
    assert "batch-000001-0000.parquet" in listing
    assert "Technical Support" in terminals.ask(steps("Terminal 3: watch", "python")[0])

    # The document finds it by its name, which would hit the processors of other tests.
    assert steps("Kill the processor")[0].startswith("kill -9 $(pgrep -of processor/spark_processor.py)")
    processor.send(signal.SIGKILL)
    processor.wait()
    before = tickets_published(output)
    processor = terminals.start(steps("Kill the processor")[1])
    wait_for(lambda: tickets_published(output) > before, what="a batch after the kill")

    processor.send(signal.SIGINT)
    assert processor.wait() == 0, processor.output
    before = tickets_published(output)
    processor = terminals.start(steps("Switch to JSON")[0])
    wait_for(lambda: tickets_published(output) > before, what="a batch in JSON")
    assert "so it is converted" in processor.stderr
    assert "Technical Support" in terminals.ask(steps("Switch to JSON", "python")[0])

    producer.send(signal.SIGINT)
    assert producer.wait() == 0, producer.output
    (acknowledged,) = re.findall(r"done: .* acknowledged ([\d,]+),", producer.stderr)
    wait_for(lambda: f"{tickets_published(output):,}" == acknowledged, what=f"{acknowledged} tickets")
    processor.wait_for_stderr("nothing new in topic")
    told = terminals.run(steps("Before the jury: count everything again")[0])
    assert f"\n{acknowledged} tickets of " in told
    assert f"\nunread in topic {topic}: 0 offsets\n" in told
    assert told.endswith(steps("Before the jury: count everything again", "text")[0])
    processor.send(signal.SIGINT)
    assert processor.wait() == 0, processor.output
