"""The clock of the machine is wrong, and is put right, while producer and processor work."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest, require_exact, tickets_published
from tests.support.processes import Processes, wait_for
from tests.support.shim import shim

pytestmark = pytest.mark.integration

YEAR_S = 365 * 86_400


def test_a_clock_that_goes_backwards_and_jumps_a_year_stops_neither_service(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output, wrong_by = tmp_path / "output", tmp_path / "wrong-by"
    environment = shim(tmp_path) | {"SHIM_CLOCK": str(wrong_by)}
    # Without this, the broker refuses timestamps that are more than an hour ahead of its clock, which is right.
    topics.create(broker.address, topic, configs={"message.timestamp.after.max.ms": str(2**63 - 1)})
    sender = processes.start(
        *("producer/ticket_producer.py", "--broker", broker.address, "--topic", topic, "--rate", "50"), env=environment
    )
    service = processes.start(*processor(broker, topic, output, "--interval", "0.5"), env=environment)
    wait_for(lambda: tickets_published(output) > 0, 60, "a first batch")
    for seconds in (-3_600, YEAR_S, 0):
        wrong_by.write_text(f"{seconds}\n")
        # The second batch from here on is certain to be planned after the change.
        batch = read_manifest(output)["batch_id"]
        wait_for(lambda: read_manifest(output)["batch_id"] >= batch + 2, 60, "two more batches")  # noqa: B023
        told = datetime.fromisoformat(read_manifest(output)["updated_at"])
        assert abs(told - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(minutes=5)
    for running in (sender, service):
        running.send(signal.SIGTERM)
        assert running.wait(30) == 0, running.output
        assert "ERROR" not in running.stderr
        assert "Traceback" not in running.stderr
    processes.run(*processor(broker, topic, output))
    require_exact(output, len(topics.read(broker.address, topic)))
    # The count of each hour fits the created_at of its tickets.
    assert Published(output).value("SELECT count(DISTINCT date_trunc('day', hour)) FROM tickets_by_hour") >= 2


def test_a_producer_whose_clock_is_hours_ahead_of_the_broker_says_that_its_tickets_were_not_taken(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "wrong-by").write_text(f"{2 * 3_600}\n")
    environment = shim(tmp_path) | {"SHIM_CLOCK": str(tmp_path / "wrong-by")}
    flags = ("--broker", broker.address, "--topic", topic, "--count", "1")
    ahead = processes.run("producer/ticket_producer.py", *flags, env=environment, expect=6)
    assert "1 of 1 tickets were not acknowledged" in ahead.stderr
    assert "Traceback" not in ahead.stderr
    assert topics.read(broker.address, topic) == []
