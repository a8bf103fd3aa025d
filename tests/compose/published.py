"""What a processor in a container published, read on the host, and whether it is what the topic holds."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from runtime.settings.location import OutputLocation
from store.datasets import METRICS, TICKETS
from store.reader import open_output
from tests.compose.project import Project
from tests.support import topics

HOST_ADDRESS = "localhost:9092"
TOPIC = "client_tickets"


def rows(output: Path) -> int:
    """Return how many tickets are published; 0 before the first batch."""
    reader = open_output(OutputLocation(output))
    return reader.manifest.totals.tickets if reader else 0


def ticket_ids(output: Path) -> list[str]:
    """Return the ids of all published tickets, in either format."""
    reader = open_output(OutputLocation(output))
    assert reader is not None, f"nothing was published in {output}"
    return [str(row["ticket_id"]) for row in reader.rows(TICKETS)]


def wait_until_caught_up(project: Project) -> int:
    """Return the number of tickets once as many are published as the topic holds; nothing may be producing."""
    written = project.written()
    project.wait(lambda: rows(project.output) >= written, f"{written} tickets to be published")
    return written


def assert_exact(project: Project) -> None:
    """Check that every ticket of the topic, read on the host's listener, is published once, and nothing else."""
    sent = [json.loads(message.value or b"")["ticket_id"] for message in topics.read(HOST_ADDRESS, TOPIC)]
    assert Counter(ticket_ids(project.output)) == Counter(sent)
    (metrics,) = read_metrics(project.output)
    assert metrics["total_tickets"] == len(sent)


def read_metrics(output: Path) -> list[dict[str, Any]]:
    """Return the rows of the dataset ``metrics``."""
    reader = open_output(OutputLocation(output))
    assert reader is not None, f"nothing was published in {output}"
    return reader.rows(METRICS)
