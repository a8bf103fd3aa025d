"""What a processor in a container published, read on the host, and whether it is what the topic holds."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from tests.compose.project import Project
from tests.support import topics

HOST_ADDRESS = "localhost:9092"
TOPIC = "client_tickets"


def ticket_ids(output: Path) -> list[str]:
    """Return the ids of all published tickets, in either format."""
    folder = output / "tickets_with_assignment"
    ids: list[str] = []
    for file in sorted(folder.glob("*.parquet")):
        ids += pq.read_table(file, columns=["ticket_id"])["ticket_id"].to_pylist()
    for file in sorted(folder.glob("*.json")):
        ids += [json.loads(line)["ticket_id"] for line in file.read_text(encoding="utf-8").splitlines()]
    return ids


def rows(output: Path) -> int:
    """Return how many tickets are published; cheaper than their ids."""
    folder = output / "tickets_with_assignment"
    return sum(int(pq.read_metadata(file).num_rows) for file in folder.glob("*.parquet")) + sum(
        file.read_bytes().count(b"\n") for file in folder.glob("*.json")
    )


def wait_until_caught_up(project: Project) -> int:
    """Return the number of tickets once as many are published as the topic holds; nothing may be producing."""
    written = project.written()
    project.wait(lambda: rows(project.output) >= written, f"{written} tickets to be published")
    return written


def assert_exact(project: Project) -> None:
    """Every ticket of the topic is published once, and nothing else; read over the listener for the host."""
    sent = [json.loads(message.value or b"")["ticket_id"] for message in topics.read(HOST_ADDRESS, TOPIC)]
    assert Counter(ticket_ids(project.output)) == Counter(sent)
    (metrics,) = read_metrics(project.output)
    assert metrics["total_tickets"] == len(sent)


def read_metrics(output: Path) -> list[dict[str, object]]:
    """Return the rows of the dataset ``metrics``."""
    found: list[dict[str, object]] = []
    for file in (output / "metrics").iterdir():
        if file.suffix == ".parquet":
            found += pq.read_table(file).to_pylist()
        else:
            found += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return found
