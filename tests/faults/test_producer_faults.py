"""The broker dies, or freezes, while the producer is at work."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from contract.ticket import decode
from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
FREEZE_S = 45


def start(processes: Processes, broker: EmbeddedBroker, topic: str, *flags: str) -> Running:
    running = processes.start(PRODUCER, "--broker", broker.address, "--topic", topic, *flags)
    running.wait_for_stderr("created topic")
    # Its first line of progress comes after five seconds.
    running.wait_for_stderr("/s overall")
    return running


def final_counts(running: Running) -> tuple[int, int, int]:
    """Return sent, acknowledged and failed from the last line that has them."""
    counts = re.findall(r"done: sent ([0-9,]+), acknowledged ([0-9,]+), failed ([0-9,]+)", running.stderr)
    sent, acknowledged, failed = (int(number.replace(",", "")) for number in counts[-1])
    return sent, acknowledged, failed


def ticket_ids(broker: EmbeddedBroker, topic: str) -> list[str]:
    return [decode(message.value).ticket_id for message in topics.read(broker.address, topic)]


def wait_for_more_tickets(broker: EmbeddedBroker, topic: str) -> None:
    known = len(ticket_ids(broker, topic))
    wait_for(lambda: len(ticket_ids(broker, topic)) > known, 60, "tickets after the restart")


def memory_mib(running: Running) -> int:
    status = Path(f"/proc/{running.pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+([0-9]+) kB", status)[0]) // 1024


def test_a_broker_killed_and_started_again_has_every_acknowledged_ticket_once(
    tmp_path: Path, processes: Processes, topic: str
) -> None:
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start()
    try:
        running = start(processes, broker, topic, "--rate=1000")
        for _ in range(2):
            os.kill(broker.pid, signal.SIGKILL)
            broker.stop()
            broker.start()
            wait_for_more_tickets(broker, topic)

        running.send(signal.SIGTERM)

        assert running.wait(30) == 0, running.output
        sent, acknowledged, failed = final_counts(running)
        ids = ticket_ids(broker, topic)
        assert (failed, acknowledged) == (0, sent)
        assert len(ids) == len(set(ids)) == acknowledged > 5_000
    finally:
        broker.stop()


def test_a_frozen_broker_costs_neither_memory_nor_tickets(tmp_path: Path, processes: Processes, topic: str) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        running = start(processes, broker, topic, "--rate=5000", "--count=60000")
        before = memory_mib(running)

        os.kill(broker.pid, signal.SIGSTOP)
        try:
            running.wait_for_stderr("no acknowledgement for 5 s", FREEZE_S)
            time.sleep(FREEZE_S - 5)
            grown = memory_mib(running) - before
        finally:
            os.kill(broker.pid, signal.SIGCONT)

        assert running.wait(90) == 0, running.output
        ids = ticket_ids(broker, topic)
        assert grown < 50
        assert running.stderr.count("no acknowledgement") == 1
        assert final_counts(running) == (60_000, 60_000, 0)
        assert len(ids) == len(set(ids)) == 60_000


def test_a_stop_while_the_broker_is_frozen_says_how_many_tickets_are_not_acknowledged(
    tmp_path: Path, processes: Processes, topic: str
) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        running = start(processes, broker, topic, "--rate=100")
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            running.wait_for_stderr("no acknowledgement for 5 s", 30)
            running.send(signal.SIGTERM)

            assert running.wait(25) == 6, running.output
        finally:
            os.kill(broker.pid, signal.SIGCONT)

        sent, acknowledged, _ = final_counts(running)
        ids = ticket_ids(broker, topic)
        assert f"{sent - acknowledged} of {sent:,} tickets were not acknowledged" in running.stderr
        assert acknowledged <= len(ids) == len(set(ids)) <= sent
