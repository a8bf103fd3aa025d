"""What docs/operations.md and docs/walkthrough.md tell people to do works: commands, queries and counts of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.ticket import encode
from runtime.settings import catalogue
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store import compact
from store.convert import convert
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS
from store.manifest import PublishedFile, read_manifest
from store.output import Output
from tests.support import documents, golden
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

OPERATIONS = documents.read("docs/operations.md")
WALKTHROUGH = documents.read("docs/walkthrough.md")
SECONDS_A_DAY = 86_400


def first_block(title: str) -> str:
    return documents.code_blocks(documents.section(OPERATIONS, title))[0]


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands on the output in ``folder``, as somebody does who has activated the environment."""
    script = script.replace("processor/spark_processor.py", str(ROOT / "processor" / "spark_processor.py"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OUTPUT_PATH": "data/output"}
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def ask(code: str, folder: Path) -> list[str]:
    """Return the only row of the table that ``code`` prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    (row,) = (line for line in done.stdout.splitlines() if "Team" in line)
    return [cell.strip() for cell in row.strip("│ ").split("│")]


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """An output of three batches in data/output below ``tmp_path``: tickets, and messages that are none."""
    made = Output(OutputLocation(tmp_path / "data" / "output"))
    manifest = None
    for batch in range(3):
        values: list[bytes | None] = [encode(ticket(10 * batch + number, priority="high")) for number in range(10)]
        values += [example.message for example in golden.rejected()[:2]]
        manifest = publish_batch(made, manifest, "parquet", [[messages(values, 0, 12 * batch)]])
    return made


def test_a_backup_made_and_restored_by_the_commands_is_the_output(output: Output, tmp_path: Path) -> None:
    saved = shell(first_block("Back up"), tmp_path)
    assert saved.returncode == 0, saved.stderr
    manifest = (output.root / "_manifest.json").read_bytes()

    (output.root / TICKETS.name / json.loads(manifest)["files"][TICKETS.name][1]).unlink()
    damaged = shell("python processor/spark_processor.py --verify", tmp_path)
    assert damaged.returncode == 4

    restored = shell(first_block("Restore"), tmp_path)
    assert restored.returncode == 0, restored.stderr
    assert (output.root / "_manifest.json").read_bytes() == manifest
    assert json.loads(manifest)["totals"]["tickets"] == 30


def test_the_walkthrough_asks_the_same_of_both_formats_and_finds_the_file_that_was_removed(
    output: Output, tmp_path: Path
) -> None:
    parquet, as_json = documents.code_blocks(WALKTHROUGH, "python")
    assert ask(parquet, tmp_path) == ["Billing Team", "30"]
    manifest = read_manifest(output.disk, output.root)
    assert manifest is not None
    convert(output, manifest, "json", UPDATED_AT)
    assert ask(as_json, tmp_path) == ["Billing Team", "30"]

    (shown,) = documents.code_blocks(documents.section(WALKTHROUGH, "Before the jury: count everything again"), "text")
    sound = shell("python processor/spark_processor.py --verify", tmp_path)
    assert shown.strip() in sound.stdout.splitlines()

    _, tamper = documents.code_blocks(documents.section(WALKTHROUGH, "Before the jury: count everything again"))
    tampered = shell(tamper, tmp_path)
    assert tampered.returncode == 4
    assert "tickets_with_assignment/" in tampered.stderr
    assert shell("python processor/spark_processor.py --verify", tmp_path).returncode == 0


def test_the_counts_of_files_are_what_the_plan_of_merges_leaves() -> None:
    rows = documents.table(documents.section(OPERATIONS, "Files a day"))
    assert [row[0] for row in rows] == ["5", "30", "60", "300", "3,600"]
    limit = catalogue.ALL["COMPACT_FILES"].default
    assert limit == 64
    for row in rows:
        interval, batches, made, left = (int(cell.replace(",", "")) for cell in row)
        assert batches == SECONDS_A_DAY // interval
        assert made == 2 * batches
        assert files_after_a_day(interval, limit) == left, interval


def files_after_a_day(interval: int, limit: int) -> int:
    """Publish batches of 10 tickets a second for a day; after each the processor makes one commit of merges.

    A ticket takes some 50 bytes, and a fifth of them have a high priority.
    """
    tickets = 10 * interval
    contents: dict[str, dict[str, PublishedFile]] = {TICKETS.name: {}, HIGH_PRIORITY.name: {}, REJECTED.name: {}}
    for batch in range(SECONDS_A_DAY // interval):
        for dataset, rows in ((TICKETS.name, tickets), (HIGH_PRIORITY.name, tickets // 5)):
            contents[dataset][f"{batch:06}-0"] = PublishedFile(rows, 1500 + 50 * rows, "", batch, batch, batch)
        for merge in compact.plan(contents, limit):
            contents[merge.dataset] = merged(contents[merge.dataset], merge.names)
    return sum(len(files) for files in contents.values())


def merged(files: dict[str, PublishedFile], names: list[str]) -> dict[str, PublishedFile]:
    old = [files[name] for name in names]
    rewrites = old[0].rewrites + 1
    one = PublishedFile(sum(f.rows for f in old), sum(f.bytes for f in old), "", 0, 0, 0, rewrites)
    place = {names[0]: (f"{names[0][:6]}-{rewrites}", one)}
    return dict(place.get(name, (name, file)) for name, file in files.items() if name not in names[1:])
