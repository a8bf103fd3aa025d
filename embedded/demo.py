"""The whole pipeline without Docker: a broker, tickets, one batch, and a look at what was published.

``make demo`` runs it. Broker and output keep their data, so that a second run adds to the first. Its exit code is 0, or
that of the step that failed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from runtime.process.interpreter import prepare

if __name__ == "__main__":
    prepare("-m embedded.demo", "producer", "processor")

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedded.broker import DATA_DIR, EmbeddedBroker
from runtime.errors import PipelineError
from runtime.process import entry
from runtime.process.shutdown import Shutdown
from runtime.settings import catalogue, parsers
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT, Setting, add_flags, parse_flags, resolve
from store.datasets import BY_PRIORITY, BY_TEAM, BY_TYPE, DATASETS, METRICS, TICKETS, Dataset
from store.reader import Reader, open_output

SETTINGS = {
    "count": Setting(None, 2_000, parsers.integer(1, "2000"), "tickets to send", "--count"),
    # Not PRODUCER_RATE: at its 10 tickets/s a first look would take minutes.
    "rate": Setting(None, 0.0, parsers.number(0, "20"), "tickets a second, 0 for as fast as possible", "--rate"),
    "data_dir": DATA_DIR,
    "output": catalogue.OUTPUT_PATH,
    "output_format": catalogue.OUTPUT_FORMAT,
}

# The services read the same .env as always, which may describe another broker: these must be those of the demo.
_PLAIN = {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}


def plain_console(file: IO[str] | None = None) -> Console:
    """Return a console, on standard output or ``file``, that shows each text to the letter: a path may hold ``[/]``."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def run(values: Mapping[str, Any], typed_format: str | None, shutdown: Shutdown, console: Console) -> None:
    """Run the pipeline once and show the results. Raises PipelineError when a step fails; stops early when asked."""
    console.print(_step_line("broker", "starting Apache Kafka on this machine"))
    with EmbeddedBroker(values["data_dir"]) as broker:
        for name, command in commands(values, typed_format).items():
            if not shutdown.asked:
                console.print(_step_line(name, f"python {command[0]} --broker {broker.address}"))
                _step(name, [*command, "--broker", broker.address], shutdown)
    if not shutdown.asked:
        show(values["output"], console)


def commands(values: Mapping[str, Any], typed_format: str | None) -> dict[str, list[str]]:
    """Return the commands of the steps; ``typed_format`` is the format of the output that stood on the command line."""
    producer = ["producer/ticket_producer.py", "--count", str(values["count"]), "--rate", str(values["rate"])]
    processor = ["processor/spark_processor.py", "--output-path", str(values["output"])]
    processor += ["--master", "local[*]", "--interval", "0"]
    if typed_format is not None:
        # A format from elsewhere the processor finds itself, and can then say where.
        processor += ["--output-format", typed_format]
    return {"producer": producer, "processor": processor}


def _step_line(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<9}", "bold"), " ", text)


def _step(name: str, command: Sequence[str], shutdown: Shutdown) -> None:
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env={**os.environ, **_PLAIN})
    while process.poll() is None:
        if shutdown.wait(0.1):
            process.terminate()
            process.wait()
    if process.returncode and not shutdown.asked:
        error = PipelineError(f"the {name} ended with exit code {process.returncode}; its message is above")
        error.exit_code = process.returncode
        raise error


def show(location: OutputLocation, console: Console) -> None:
    """Print the counts of an output, where its files are, and how to read them."""
    reader = open_output(location)
    if reader is None:
        raise PipelineError(f"nothing was published in {location}")
    (metrics,) = reader.rows(METRICS)
    tables = Table.grid(padding=(0, 3))
    counts = Table("tickets", "count")
    for label, column in (
        ("in total", "total_tickets"),
        ("clients", "unique_clients"),
        ("rejected", "rejected_messages"),
        ("batches", "batch_id"),
    ):
        counts.add_row(label, f"{metrics[column]:,}")
    tables.add_row(counts, *(_counts(reader, dataset) for dataset in (BY_TYPE, BY_PRIORITY)))
    console.print(tables)
    console.print(_counts(reader, BY_TEAM))

    folder = location.folder
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    console.print(f"The files are in {shown}:", soft_wrap=True)
    for dataset in sorted(DATASETS, key=lambda d: d.name):
        files = reader.files(dataset).values()
        size = sum(file.bytes for file in files)
        console.print(f"  {dataset.name + '/':<25} {len(files):>3} files {size / 1024:>9,.1f} KiB")
    pandas = _with_pandas(shown / TICKETS.name, reader.manifest.format)
    console.print(f"Read them with pandas: {pandas}", soft_wrap=True)


def _counts(reader: Reader, dataset: Dataset) -> Table:
    label, number = dataset.schema.names
    table = Table(label, number)
    for row in reader.rows(dataset):
        table.add_row(row[label], f"{row[number]:,}")
    return table


def _with_pandas(folder: Path, output_format: str) -> str:
    # In the quotes of JSON, which Python reads as well: a path may hold a quote or a backslash.
    name = json.dumps(str(folder), ensure_ascii=False)
    if output_format == "parquet":
        return f"pd.read_parquet({name})"
    return f'pd.concat(pd.read_json(file, lines=True) for file in pathlib.Path({name}).glob("*.json"))'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m embedded.demo",
        description="Run the whole pipeline once on an embedded broker and show the results.",
        allow_abbrev=False,
    )
    add_flags(parser, SETTINGS.values())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code."""
    flags = parse_flags(build_parser(), argv)
    shutdown = Shutdown().install()

    def body() -> None:
        values = resolve(SETTINGS, flags, os.environ)
        run(values, flags.output_format, shutdown, plain_console())

    return entry.run(body)


if __name__ == "__main__":
    raise SystemExit(main())
