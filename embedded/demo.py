"""The whole pipeline without Docker: start a broker, send tickets, publish one batch, show the results.

``make demo`` runs it. Broker and output keep their data, so that a second run adds to the first. Its exit code is 0, or
that of the step that failed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from runtime.process.interpreter import prepare

if __name__ == "__main__":
    prepare("-m embedded.demo", "producer", "processor")

from rich.console import Console
from rich.text import Text

from embedded import results
from embedded.broker import DATA_DIR, EmbeddedBroker
from embedded.results import Page
from runtime.errors import PipelineError
from runtime.process import entry
from runtime.process.clock import Clock
from runtime.process.shutdown import Shutdown
from runtime.settings import catalogue, parsers
from runtime.settings.setting import ROOT, Setting, add_flags, parse_flags, resolve
from store.datasets import BY_PRIORITY, BY_TEAM, BY_TYPE, DATASETS, HIGH_PRIORITY, METRICS, TICKETS, Dataset
from store.reader import Reader, open_output

SETTINGS = {
    "count": Setting(None, 2_000, parsers.integer(1, "2000"), "tickets to send", "--count"),
    # Not PRODUCER_RATE: at its 10 tickets/s the demo would take minutes.
    "rate": Setting(None, 0.0, parsers.number(0, "20"), "tickets a second, 0 for as fast as possible", "--rate"),
    "data_dir": DATA_DIR,
    "output": catalogue.OUTPUT_PATH,
    "output_format": catalogue.OUTPUT_FORMAT,
}

# The services read .env, which may describe another broker. These settings must be those of the demo's broker.
_PLAIN = {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}


# The newest tickets are chosen among this many.
_LOOKED_AT = 100
_SHOWN = 5


def plain_console(environ: Mapping[str, str], file: IO[str] | None = None) -> Console:
    """Return a console, on standard output or ``file``, without rich's markup: a path may contain ``[/]``.

    With NO_COLOR only plain text is written, not even bold.
    """
    colours: Literal["auto"] | None = None if environ.get("NO_COLOR") else "auto"
    return Console(file=file, markup=False, emoji=False, highlight=False, color_system=colours)


class Steps:
    """Prints which step begins, and how long it took."""

    def __init__(self, console: Console, clock: Clock, of: int) -> None:
        self._console = console
        self._clock = clock
        self._of = of
        self._number = 0
        self._began = self._step_began = clock.seconds()

    def begin(self, name: str, text: str) -> None:
        self._number += 1
        self._step_began = self._clock.seconds()
        self._print(f"{self._number}/{self._of}", name, text, "bold cyan")

    def end(self, name: str, what: str) -> None:
        self._print("", name, f"{what} after {self._clock.seconds() - self._step_began:.1f} s", "bold green")

    def end_all(self) -> None:
        """Print how long all steps took."""
        self._console.print(f"All of it took {self._clock.seconds() - self._began:.1f} s.")

    def _print(self, number: str, name: str, text: str, style: str) -> None:
        self._console.print(Text.assemble(f"{number:<4}", (f"{name:<9}", style), f" {text}"), soft_wrap=True)


def run(
    values: Mapping[str, Any], typed_format: str | None, shutdown: Shutdown, console: Console, clock: Clock
) -> None:
    """Run the pipeline once and show the results. Raises PipelineError if a step fails; stops early when asked."""
    services = commands(values, typed_format)
    steps = Steps(console, clock, 1 + len(services))
    steps.begin("broker", "starting Apache Kafka on this machine")
    with EmbeddedBroker(values["data_dir"]) as broker:
        steps.end("broker", "ready")
        for name, command in services.items():
            if not shutdown.asked:
                steps.begin(name, f"python {command[0]} --broker {broker.address}")
                _step(name, [*command, "--broker", broker.address], shutdown)
                if not shutdown.asked:
                    steps.end(name, "done")
    if not shutdown.asked:
        steps.end_all()
        show(values, console)


def commands(values: Mapping[str, Any], typed_format: str | None) -> dict[str, list[str]]:
    """Return the commands of the steps; ``typed_format`` is the --output-format of the command line, if given."""
    producer = ["producer/ticket_producer.py", "--count", str(values["count"]), "--rate", str(values["rate"])]
    processor = ["processor/spark_processor.py", "--output-path", str(values["output"])]
    processor += ["--master", "local[*]", "--interval", "0"]
    if typed_format is not None:
        # A format from the environment or .env is left to the processor, which can say where it comes from.
        processor += ["--output-format", typed_format]
    return {"producer": producer, "processor": processor}


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


def show(values: Mapping[str, Any], console: Console) -> None:
    """Print what was published, where the files are, and what to try next."""
    location = values["output"]
    reader = open_output(location)
    if reader is None:
        raise PipelineError(f"nothing was published in {location}; the messages of the processor are above")
    page = Page(console.width, console.encoding.startswith("utf"))
    folder, python = _from_here(location.folder), str(_from_here(Path(sys.executable)))
    urgent = sum(file.rows for file in reader.files(HIGH_PRIORITY).values())
    flags, usual = flags_again(values), float(catalogue.PRODUCER_RATE.default)
    blocks = [
        [results.heading("Published so far"), *results.figures(_metrics(reader), page)],
        results.load("By type", _counts(reader, BY_TYPE), page),
        results.load("By priority", _counts(reader, BY_PRIORITY), page),
        results.load("By team", _counts(reader, BY_TEAM), page),
        results.urgent(newest_urgent(reader), urgent, page),
        results.files(folder, _sizes(reader), page),
        results.next_steps(
            [
                ("a query: the busiest clients", results.query(python, folder / TICKETS.name, reader.manifest.format)),
                ("the dashboard, on http://localhost:8501", results.with_make("dashboard", *flags["dashboard"])),
                results.faster(values["rate"], usual, flags["demo"]),
            ]
        ),
    ]
    for block in blocks:
        console.print()
        for line in block:
            console.print(line, soft_wrap=True)


def flags_again(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the flags with which the dashboard and another demo find the same folders."""
    output, broker = values["output"].folder, values["data_dir"]
    of_output = [] if output == ROOT / str(SETTINGS["output"].default) else ["--output-path", str(_from_here(output))]
    of_broker = [] if broker == ROOT / str(DATA_DIR.default) else ["--data-dir", str(_from_here(broker))]
    return {"dashboard": of_output, "demo": of_output + of_broker}


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _metrics(reader: Reader) -> dict[str, int]:
    (metrics,) = reader.rows(METRICS)
    names = {"tickets": "total_tickets", "clients": "unique_clients", "rejected messages": "rejected_messages"}
    return {name: metrics[column] for name, column in {**names, "batches": "batch_id"}.items()}


def _counts(reader: Reader, dataset: Dataset) -> dict[str, int]:
    label, number = dataset.schema.names
    return {row[label]: row[number] for row in reader.rows(dataset)}


def _sizes(reader: Reader) -> dict[str, tuple[int, int]]:
    found = {dataset.name: reader.files(dataset).values() for dataset in sorted(DATASETS, key=lambda d: d.name)}
    return {name: (len(files), sum(file.bytes for file in files)) for name, files in found.items()}


def newest_urgent(reader: Reader) -> list[dict[str, Any]]:
    """Return the newest of the high-priority tickets that were published last, newest first."""
    found: list[dict[str, Any]] = []
    for name in reversed(reader.files(HIGH_PRIORITY)):
        if len(found) < _LOOKED_AT:
            for table in reader.last_tables_of(HIGH_PRIORITY, name, _LOOKED_AT):
                found += table.to_pylist()
    return sorted(found, key=lambda ticket: ticket["created_at"], reverse=True)[:_SHOWN]


def build_parser() -> argparse.ArgumentParser:
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
        run(values, flags.output_format, shutdown, plain_console(os.environ), Clock())

    return entry.run(body)


if __name__ == "__main__":
    raise SystemExit(main())
