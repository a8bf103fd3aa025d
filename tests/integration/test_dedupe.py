"""Tickets that come again, on a real broker and real Spark tasks, over batches, partitions and kills."""

import signal
from pathlib import Path

import pytest

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from runtime.process.failpoint import VARIABLE
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest
from tests.support.processes import Processes
from tests.support.staging import ticket

pytestmark = pytest.mark.integration

EARLIER = "duplicate: the ticket_id was published earlier"


def values(*numbers: int, capital: bool = False) -> list[bytes]:
    texts = {n: ticket(n).ticket_id.upper() if capital else ticket(n).ticket_id for n in numbers}
    return [encode(ticket(n, ticket_id=texts[n], client_id=f"CLIENT_{n % 7}")) for n in numbers]


def test_the_first_ticket_of_each_id_is_published_once_whatever_is_killed(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    command = processor(broker, topic, output, "--dedupe", "all")
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, values(*range(300)), partition=0)
    topics.send(broker.address, topic, [*values(*range(300, 400)), b"bad", *values(399)], partition=1)
    topics.send(broker.address, topic, values(*range(9), capital=True), partition=1)
    # The first worker of each reading dies after it has written its files, and the driver before its commit.
    processes.run(*command, env={VARIABLE: "task-staged"})
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 400
    assert published.rows('SELECT "offset", reason FROM rejected_messages WHERE "offset" IN (101, 110)') == [
        (101, "duplicate: the ticket_id is that of an earlier message, found at partition 1, offset 99"),
        (110, "duplicate: the ticket_id is that of an earlier message, found at partition 0, offset 8"),
    ]

    topics.send(broker.address, topic, values(*range(390, 410), capital=True), partition=0)
    topics.send(broker.address, topic, values(*range(405, 420)), partition=1)
    processes.run(*command, env={VARIABLE: "staged"}, expect=-signal.SIGKILL)
    assert read_manifest(output)["batch_id"] == 1
    processes.run(*command, env={VARIABLE: "committed"}, expect=-signal.SIGKILL)
    topics.send(broker.address, topic, values(419, 420), partition=1)
    after = processes.run(*command)
    assert "finishing batch 2" in after.stderr
    assert "batch 3: 2 messages read, 1 tickets, 0 rejected, 1 duplicates, published in" in after.stderr

    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 421
    assert published.value("SELECT count(DISTINCT lower(ticket_id)) FROM tickets_with_assignment") == 421
    assert published.value(f"SELECT count(*) FROM rejected_messages WHERE reason = '{EARLIER}'") == 11
    assert published.rows("SELECT total_tickets, rejected_messages FROM metrics") == [(421, 27)]
    manifest = read_manifest(output)
    assert manifest["deduped_from"] == 1
    counts = {
        number: [partition[name] for name in ("tickets", "rejected", "duplicates")]
        for number, partition in manifest["partitions"].items()
    }
    assert counts == {"0": [310, 0, 10], "1": [111, 1, 16]}
