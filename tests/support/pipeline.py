"""Run the two services against a broker, as a user would type them."""

import json
from pathlib import Path
from typing import Any

from embedded.broker import EmbeddedBroker
from runtime.settings.location import OutputLocation
from store.reader import open_output
from tests.support import topics
from tests.support.datasets import Published
from tests.support.processes import Processes, Running, wait_for


def produce(processes: Processes, broker: EmbeddedBroker, topic: str, count: int, *more: str) -> None:
    """Send ``count`` random tickets as fast as possible."""
    arguments = ("--broker", broker.address, "--topic", topic, "--count", str(count), "--rate", "0")
    processes.run("producer/ticket_producer.py", *arguments, *more)


def processor(broker: EmbeddedBroker, topic: str, output: Path, *more: str) -> tuple[str, ...]:
    """Return the command line of a processor."""
    where = ("--broker", broker.address, "--topic", topic, "--output-path", str(output), "--memory", "1g")
    return ("processor/spark_processor.py", *where, *more)


def read_manifest(output: Path) -> Any:
    """Return the ledger as a user reads it."""
    return json.loads((output / "_manifest.json").read_text(encoding="utf-8"))


def tickets_published(output: Path) -> int:
    """Return the total of the ledger, 0 if there is no ledger yet."""
    reader = open_output(OutputLocation(output))
    return reader.manifest.totals.tickets if reader else 0


def fill(processes: Processes, broker: EmbeddedBroker, topic: str, tickets: int) -> None:
    """Fill a topic. The first message of each partition is rejected, so that a test can see when a task reads it."""
    if topic not in topics.names(broker.address):
        topics.create(broker.address, topic, partitions=2)
    for partition in range(2):
        topics.send(broker.address, topic, [b"bad"], partition=partition)
    produce(processes, broker, topic, tickets)


def wait_until_it_reads(output: Path) -> None:
    """Return once a task has read the first messages of its range, but by far not the last."""
    staging = output / ".pipeline" / "staging"
    wait_for(lambda: list(staging.glob("*/rejected_messages-*")), 180, "a task that reads")


def jvm_of(service: Running) -> int:
    """Return the process id of the JVM that a processor has started."""

    def look() -> int:
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        found = [int(pid) for pid in children if b"PythonGatewayServer" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found[0] if found else 0

    return wait_for(look, 60, "a JVM")


def require_exact(output: Path, tickets: int) -> None:
    """Fail unless all datasets agree and hold exactly ``tickets`` tickets."""
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == tickets
