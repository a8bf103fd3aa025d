"""Run the two services against a broker, as a user would type them."""

import json
from pathlib import Path
from typing import Any

from embedded.broker import EmbeddedBroker
from runtime.settings.location import OutputLocation
from store.reader import open_output
from tests.support.processes import Processes


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
    """Return the total of the ledger; 0 before there is one."""
    reader = open_output(OutputLocation(output))
    return reader.manifest.totals.tickets if reader else 0
