"""``--list-rejected`` and ``--retry-rejected`` between real runs of the processor: of an older release, and of this."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from runtime.process.failpoint import VARIABLE
from runtime.settings.setting import ROOT
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest
from tests.support.processes import Processes
from tests.support.staging import ticket

pytestmark = pytest.mark.integration

LONG = "The invoice is wrong for the second time"
TOO_LONG = "request: must be a string of 1 to 30 characters"


def older_release(folder: Path) -> Path:
    """Return a copy of the processor whose contract takes texts of 30 characters at most."""
    for name in ("contract", "processor", "runtime", "store"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    contract = folder / "contract/ticket.py"
    content = contract.read_text(encoding="utf-8")
    assert content.count("MAX_REQUEST_CHARACTERS = 10_000\n") == 1
    contract.write_text(content.replace("MAX_REQUEST_CHARACTERS = 10_000\n", "MAX_REQUEST_CHARACTERS = 30\n"), "utf-8")
    return folder


def test_what_an_older_release_rejected_is_published_once_also_if_that_is_killed(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    topics.send(
        broker.address,
        topic,
        [
            encode(ticket(0)),
            encode(ticket(1, request=LONG, priority="critical", client_id="CLIENT_2")),
            encode(ticket(2, request=LONG)),
            # Somebody has mended it and sent it again.
            encode(ticket(2)),
            b"bad",
        ],
        partition=0,
    )
    topics.send(broker.address, topic, [encode(ticket(3, request=LONG)), b""], partition=1)
    batch = processor(broker, topic, output, "--dedupe", "all")
    processes.run(*batch, cwd=older_release(tmp_path / "older"))
    assert Published(output).count("tickets_with_assignment") == 2

    where = ("processor/spark_processor.py", "--output-path", output)
    listed = processes.run(*where, "--list-rejected", env={"LOG_FORMAT": "json"}).stdout
    commonest = json.loads(listed)["reasons"][0]
    assert (commonest["reason"], commonest["messages"]) == (TOO_LONG, 3)
    retry = (*where, "--retry-rejected", "--reason", TOO_LONG)
    processes.run(*retry, env={VARIABLE: "between-renames"}, expect=-signal.SIGKILL)
    assert read_manifest(output)["batch_id"] == 1

    # Ids that were retried are known to the next batch.
    topics.send(broker.address, topic, [encode(ticket(1)), encode(ticket(4, request=LONG))], partition=1)
    later = processes.run(*batch)
    assert "finishing retry 2, which an earlier run had decided" in later.stderr
    assert "2 messages read, 1 tickets, 0 rejected, 1 duplicates" in later.stderr
    again = processes.run(*retry)
    assert "no message that could be retried was rejected for the reason" in again.stderr

    datasets = Published(output)
    datasets.require_agreement()
    tickets = "SELECT ticket_id[-1], client_id, request = ? FROM tickets_with_assignment ORDER BY ALL"
    assert datasets.rows(tickets.replace("?", f"'{LONG}'")) == [
        ("0", "CLIENT_1", False),
        ("1", "CLIENT_2", True),
        ("2", "CLIENT_1", False),
        ("3", "CLIENT_1", True),
        ("4", "CLIENT_1", True),
    ]
    assert datasets.rows("SELECT ticket_id[-1] FROM high_priority_tickets") == [("1",)]
    assert datasets.rows('SELECT partition, "offset", reason[:11] FROM rejected_messages ORDER BY ALL') == [
        (0, 2, "duplicate: "),
        (0, 4, "not JSON: J"),
        (1, 1, "empty messa"),
        (1, 2, "duplicate: "),
    ]
    manifest = read_manifest(output)
    sums = {
        name: [manifest["partitions"][number][name] for number in ("0", "1")]
        for name in ("tickets", "rejected", "duplicates")
    }
    assert sums == {"tickets": [3, 2], "rejected": [1, 1], "duplicates": [1, 1]}
    assert (manifest["batch_id"], manifest["deduped_from"]) == (3, 1)
    verified = processes.run(*where, "--verify", "--broker", broker.address)
    assert "In order: files, rows and counts are what the ledger says." in verified.stdout
