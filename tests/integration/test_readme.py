"""What the documents tell users to run, runs: commands, and examples on outputs of the real path."""

import base64
import json
import shutil
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.ticket import encode
from embedded.broker import EmbeddedBroker
from processor.config import BESIDE_HEAP_MIB
from runtime.process.memory import memory_limit_mib
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.datasets import DATASETS, METRICS, REJECTED, TICKETS, Dataset
from store.output import Output
from tests.support import documents, golden, topics
from tests.support.processes import Processes
from tests.support.staging import publish_batch, ticket

pytestmark = pytest.mark.integration

README = documents.read("README.md")
READING = documents.read("docs/reading.md")

# Converts a frame of each library to an Arrow table, which the test compares.
TO_ARROW = {
    "pandas": "pa.Table.from_pandas(read(name), preserve_index=False)",
    "duckdb": "read(name).to_arrow_table()",
    "polars": "read(name).to_arrow()",
    "pyarrow": "read(name)",
    "pyspark": "read(name).toArrow()",
}

# An output without tickets has these rows: 0 of each type, priority and team.
NEVER_EMPTY = {"metrics", "tickets_by_type", "tickets_by_priority", "tickets_by_team"}

TIMES = {"created_at", "hour", "received_at", "updated_at"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """Python that defines ``read`` for one format in one library."""

    file_format: str
    library: str
    code: str


def examples() -> Iterator[Example]:
    for code in documents.code_blocks(documents.section(README, "Parquet"), "python"):
        yield Example("parquet", library_of(code), code)
    _, columns, *others = documents.code_blocks(READING, "python")
    for code in others:
        yield Example("json", library_of(code), f"{columns}\n\n{code}")


def library_of(code: str) -> str:
    (library,) = (name for name in TO_ARROW if f"import {name}" in code or f"from {name}" in code)
    return library


@dataclass(frozen=True)
class Published:
    """A folder with data/output in it."""

    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "data" / "output"

    @cache  # noqa: B019 - two of them live as long as the module
    def rows(self, dataset: str, file_format: str) -> list[Row]:
        """Return the rows of the files, read without any of the libraries' schemas."""
        files = sorted((self.output / dataset).iterdir())
        if file_format == "parquet":
            return [plain(row) for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        return [plain(json.loads(line)) for file in files for line in file.read_bytes().splitlines()]


def plain(row: Row) -> Row:
    """Return bytes as base64, times as RFC 3339 in UTC and everything else unchanged."""
    return {name: plain_value(name, value) for name, value in sorted(row.items())}


def plain_value(name: str, value: Any) -> Any:
    if name in TIMES:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, uuid.UUID) else value


def in_order(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row) for row in rows)


@pytest.fixture(scope="module")
def outputs(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Published]]:
    """One topic, published as Parquet, and a copy of that switched to JSON.

    The first of its batches has nothing to reject, so that there are files without rows. A library that guesses types
    from the first rows of the second one guesses wrong: the first 30,000 rejected messages have neither key nor
    payload, and in as many tickets the texts look like dates.
    """
    folder = tmp_path_factory.mktemp("readme")
    topic = f"readme-{uuid.uuid4().hex[:8]}"
    where = ("--broker", broker.address, "--topic", topic)
    parquet, as_json = Published(folder / "parquet"), Published(folder / "json")
    processes = Processes(folder / "processes")
    try:
        topics.create(broker.address, topic)
        processes.run("producer/ticket_producer.py", *where, "--count", "200", "--rate", "0")
        processor = ("processor/spark_processor.py", *where, "--memory", "1g", "--output-path")
        processes.run(*processor, parquet.output)
        dates = [encode(ticket(n, client_id="2026-01-31", request="2026-01-31T09:30:00Z")) for n in range(30_000)]
        topics.send_batches(broker.address, topic, [*[None] * 30_000, *dates])
        topics.send(broker.address, topic, [*golden.tickets(), *(example.message for example in golden.rejected())])
        processes.run(*processor, parquet.output)
        shutil.copytree(parquet.folder, as_json.folder)
        processes.run(*processor, as_json.output, "--output-format", "json")
        yield {"parquet": parquet, "json": as_json}
    finally:
        processes.end_all()


def run_example(processes: Processes, one: Published, code: str) -> str:
    file = one.folder / "example.py"
    file.write_text(code, encoding="utf-8")
    return processes.run(file, cwd=one.folder).stdout


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: f"{example.file_format}-{example.library}")
def test_an_example_reads_every_dataset_and_every_empty_one(
    example: Example, outputs: dict[str, Published], processes: Processes, tmp_path: Path
) -> None:
    one, empty = outputs[example.file_format], tmp_path / "empty"
    publish_batch(Output(OutputLocation(empty)), None, example.file_format, [])
    here = tmp_path / "data" / "output"
    here.parent.mkdir()
    here.symlink_to(one.output)
    save = f"""
import os
import pyarrow as pa
import pyarrow.parquet as pq

for of in ("full", "empty"):
    for name in {[dataset.name for dataset in DATASETS]!r}:
        pq.write_table({TO_ARROW[example.library]}, "{tmp_path}/" + of + "-" + name)
    os.remove("{here}")
    os.symlink("{empty}", "{here}")
"""
    (tmp_path / "example.py").write_text(example.code + save, encoding="utf-8")
    shown = processes.run(tmp_path / "example.py", cwd=tmp_path).stdout

    assert shown.strip()
    for dataset in DATASETS:
        table = pq.read_table(tmp_path / f"full-{dataset.name}")
        assert table.column_names == dataset.schema.names
        assert kinds(table.schema) == expected_kinds(dataset, example.file_format)
        expected = one.rows(dataset.name, example.file_format)
        assert in_order([plain(row) for row in table.to_pylist()]) == in_order(expected), dataset.name
        without = pq.read_table(tmp_path / f"empty-{dataset.name}")
        assert without.column_names == dataset.schema.names
        assert bool(without.num_rows) == (dataset.name in NEVER_EMPTY)
        # pandas does not know the type of an empty column of objects.
        if example.library != "pandas":
            assert kinds(without.schema) == expected_kinds(dataset, example.file_format)
    assert len(one.rows(TICKETS.name, example.file_format)) == 30_226
    assert len(one.rows(REJECTED.name, example.file_format)) == 30_000 + len(golden.rejected())
    assert len(one.rows(METRICS.name, example.file_format)) == 1


def expected_kinds(dataset: Dataset, file_format: str) -> list[str]:
    names = kinds(dataset.schema)
    if file_format == "json":
        names = [{"binary": "string", "int32": "int64"}.get(name, name) for name in names]
    return names


def kinds(schema: pa.Schema) -> list[str]:
    """Return the types in one form: pandas and Polars use large strings, Polars has another name for UTC."""
    return [str(kind).replace("large_", "").replace("_view", "").replace("Etc/", "") for kind in schema.types]


def test_the_example_of_the_manifest_reads_one_instant(outputs: dict[str, Published], processes: Processes) -> None:
    (code,) = documents.code_blocks(documents.read("docs/manifest.md"), "python")
    assert run_example(processes, outputs["parquet"], code + "\nprint(tickets.num_rows)") == "30226\n"


def test_the_example_of_one_dataset_in_json_shows_its_rows(outputs: dict[str, Published], processes: Processes) -> None:
    (code,) = documents.code_blocks(documents.section(READING, "One dataset"), "python")
    assert "Billing Team" in run_example(processes, outputs["json"], code)


def test_the_two_commands_of_the_readme_run_as_they_are_written(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    limit = memory_limit_mib()
    if limit is not None and limit < 4096 + BESIDE_HEAP_MIB:
        pytest.skip("this machine lacks the memory for --memory 4g")
    output = tmp_path / "output"
    environment = {"TOPIC_NAME": topic, "REDPANDA_BROKER_LOCAL": broker.address, "OUTPUT_PATH": str(output)}
    producer, processor = (
        next(line for line in documents.commands(README) if line.startswith(f"python {name}/")).split()[1:]
        for name in ("producer", "processor")
    )
    assert producer == ["producer/ticket_producer.py", "--broker", "localhost:9092", "--rate", "20"]

    # Only the port is changed: 9092 may be in use.
    producing = processes.start(*(word.replace("localhost:9092", broker.address) for word in producer), env=environment)
    producing.wait_for_stderr("acknowledged 1")
    producing.send(signal.SIGINT)
    assert producing.wait(30) == 0
    publishing = processes.run(*processor, env=environment)

    assert "(asked for 4g)" in publishing.stderr
    assert sum(1 for _ in (output / TICKETS.name).glob("*.json")) == 1


def test_the_services_start_from_their_own_folders(processes: Processes) -> None:
    for folder, command in (("producer", "ticket_producer.py"), ("processor", "spark_processor.py")):
        assert "--broker" in processes.run(command, "--help", cwd=ROOT / folder).stdout
