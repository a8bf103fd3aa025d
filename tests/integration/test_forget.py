"""``--forget`` between real runs of the processor, on a real broker."""

from pathlib import Path

import pytest

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest
from tests.support.processes import Processes
from tests.support.staging import ticket

pytestmark = pytest.mark.integration

ANN, BOB = "CLIENT_417", "CLIENT_41"


def sent(first: int, word: str) -> list[bytes]:
    """Return two tickets of Ann, one of Bob, and three rejected messages, one of them of Ann."""
    return [
        encode(ticket(first, client_id=ANN, priority="high")),
        encode(ticket(first + 1, client_id=ANN)),
        encode(ticket(first + 2, client_id=BOB)),
        f"{ANN} {word}".encode(),
        f"{BOB} {word}".encode(),
        b"bad",
    ]


@pytest.mark.parametrize("file_format", ["json"])
def test_a_client_is_erased_from_what_is_published_and_from_what_was_unread(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path, file_format: str
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, sent(0, "early"))
    batch = processor(broker, topic, output, "--output-format", file_format)
    processes.run(*batch)
    topics.send(broker.address, topic, sent(10, "unread"))
    asked = ("--output-path", output, "--broker", broker.address, "--topic", topic)
    done = processes.run("processor/spark_processor.py", "--forget", ANN, "--readers-stopped", *asked)
    assert "erased 2 tickets and 1 rejected messages of 1 clients" in done.stderr
    assert ANN not in done.stderr
    topics.send(broker.address, topic, sent(20, "later"))
    later = processes.run(*batch)
    assert "12 messages read, 4 tickets, 5 rejected, 3 of forgotten clients left out" in later.stderr

    datasets = Published(output)
    datasets.require_agreement()
    assert datasets.rows("SELECT client_id, count(*) FROM tickets_with_assignment GROUP BY 1 ORDER BY 1") == [
        (BOB, 3),
        (ANN, 2),
    ]
    assert datasets.rows(
        "SELECT payload::VARCHAR FROM rejected_messages WHERE payload::VARCHAR != 'bad' ORDER BY 1"
    ) == [
        ("CLIENT_41 early",),
        ("CLIENT_41 later",),
        ("CLIENT_41 unread",),
        ("CLIENT_417 later",),
    ]
    manifest = read_manifest(output)
    assert (manifest["erased_tickets"], manifest["erasures"]) == (2, [])
    assert sum(partition["forgotten"] for partition in manifest["partitions"].values()) == 4


def test_the_id_of_a_forgotten_client_is_in_no_file(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    topics.send(broker.address, topic, sent(0, "early"))
    processes.run(*processor(broker, topic, output, "--output-format", "json"), env={"LOG_LEVEL": "DEBUG"})
    topics.send(broker.address, topic, sent(10, "unread"))
    ids = tmp_path / "ids"
    ids.write_text(f"{ANN}\n")
    asked = ("--output-path", output, "--broker", broker.address, "--topic", topic)
    done = processes.run("processor/spark_processor.py", "--forget-file", ids, "--readers-stopped", *asked)
    assert ANN not in done.output
    files = [path for path in output.rglob("*") if path.is_file()]
    assert [path.name for path in files if ANN.encode() in path.read_bytes()] == []
    assert {"clients.sqlite", "spark.log", "_manifest.json"} <= {path.name for path in files}
