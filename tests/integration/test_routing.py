"""Rules that change in the middle of an output, on a real broker and real Spark tasks."""

import shutil
import signal
from pathlib import Path

import pytest

from contract.routing import KINDS
from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from runtime.settings.setting import ROOT
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest, tickets_published
from tests.support.processes import Processes, wait_for
from tests.support.staging import ticket

pytestmark = pytest.mark.integration


def one_of_each_kind(first: int) -> list[bytes]:
    return [
        encode(ticket(first + number, request_type=request_type, priority=priority))
        for number, (request_type, priority) in enumerate(KINDS)
    ]


def test_new_rules_concern_new_tickets_only_and_workers_need_no_file(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output, rules = tmp_path / "output", tmp_path / "routing.toml"
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, one_of_each_kind(0))
    first = processes.run(*processor(broker, topic, output))
    assert ", teams by the default rules\n" in first.stderr

    shutil.copy(ROOT / "docs/routing.toml", rules)
    topics.send(broker.address, topic, one_of_each_kind(16))
    service = processes.start(*processor(broker, topic, output, "--interval", "0.5"), env={"ROUTING_FILE": str(rules)})
    service.wait_for_stderr("batch 2: 16 messages read, 16 tickets", 120)
    rules.unlink()
    topics.send(broker.address, topic, one_of_each_kind(32))
    wait_for(lambda: tickets_published(output) == 48, 60, "the tickets that were sent after the file was removed")
    service.send(signal.SIGTERM)
    assert service.wait(30) == 0
    assert f", teams by {rules}\n" in service.stderr
    assert service.stderr.count(" is the first with new rules for teams: ") == 1
    assert "batch 2 is the first with new rules for teams: " in service.stderr
    assert "technical with high or critical priority to Incident Desk instead of Technical Support" in service.stderr

    published = Published(output)
    published.require_agreement(teams=7)
    assert published.rows("SELECT assigned_team, count FROM tickets_by_team ORDER BY ALL") == [
        ("Account Management", 16),
        ("Billing Team", 4),
        ("Duty Manager", 6),
        ("General Support", 4),
        ("Incident Desk", 4),
        ("Support", 10),
        ("Technical Support", 4),
    ]
    urgent = "SELECT assigned_team FROM high_priority_tickets WHERE request_type = 'technical' ORDER BY ticket_id"
    assert published.rows(urgent) == [("Technical Support",)] * 2 + [("Incident Desk",)] * 4
    routing = read_manifest(output)["routing"]
    assert [each["from_batch"] for each in routing] == [1, 2]
    assert routing[1]["rules"][0] == {
        "team": "Incident Desk",
        "request_type": ["technical"],
        "priority": ["high", "critical"],
    }

    verified = processes.run("processor/spark_processor.py", "--verify", "--output-path", output)
    assert "notes:" not in verified.stdout
    assert verified.stdout.endswith("In order: files, rows and counts are what the ledger says.\n")
