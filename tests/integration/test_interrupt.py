"""Ctrl-C in a terminal, at every moment of a run: exit code 0, in order, and no traceback of anybody."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.pipeline import processor, produce, tickets_published
from tests.support.processes import Processes, wait_for
from tests.support.terminal import Terminal

pytestmark = pytest.mark.integration


def interrupt(terminal: Terminal) -> None:
    """Type Ctrl-C and require exit code 0, with no process left in the terminal's session."""
    terminal.type_ctrl_c()
    assert terminal.wait() == 0, terminal.screen
    assert not re.search("Traceback|Error|Exception|KeyboardInterrupt", terminal.screen), terminal.screen
    left = subprocess.run(["ps", "-o", "args=", "-s", str(terminal.process.pid)], capture_output=True, text=True)
    assert left.stdout == ""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_ctrl_c_while_spark_starts_and_while_a_service_is_idle_ends_it_in_order(
    broker: EmbeddedBroker, topic: str, output: Path
) -> None:
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, [b"no ticket"])
    service = processor(broker, topic, output, "--interval", "600")
    with Terminal(service) as starting:
        # The log exists as soon as the JVM is launched.
        wait_for((output / ".pipeline" / "spark.log").exists, 60, "a JVM")
        interrupt(starting)
    assert "Spark 4" not in starting.screen or "stopped in the middle of a batch" in starting.screen
    assert not (output / "_manifest.json").exists()

    with Terminal(service) as idle:
        idle.wait_for("batch 1: 1 messages read, 0 tickets, 1 rejected")
        interrupt(idle)


def test_ctrl_c_in_the_middle_of_a_batch_publishes_nothing_of_it(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    produce(processes, broker, topic, 200_000)
    with Terminal(processor(broker, topic, output)) as running:
        staged = output / ".pipeline" / "staging"
        wait_for(lambda: list(staged.glob("*/tickets_with_assignment-*")), 120, "a staged file")
        interrupt(running)
    assert "stopped in the middle of a batch" in running.screen
    assert tickets_published(output) == 0


@pytest.mark.parametrize(
    "moment",
    [
        lambda demo, folder: wait_for((folder / "broker" / "broker.log").exists, 60, "a JVM of the broker"),
        lambda demo, folder: demo.wait_for("Spark 4"),
    ],
    ids=["its broker starts", "its processor has Spark"],
)
def test_ctrl_c_in_the_demo_ends_all_of_it(moment: Callable[[Terminal, Path], None], tmp_path: Path) -> None:
    folders = ("--data-dir", str(tmp_path / "broker"), "--output-path", str(tmp_path / "output"))
    with Terminal(["-m", "embedded.demo", "--count", "50000", *folders]) as demo:
        moment(demo, tmp_path)
        interrupt(demo)
    assert "Published so far" not in demo.screen
