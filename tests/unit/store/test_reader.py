"""Reading an output."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.ticket import encode
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.convert import convert
from store.datasets import METRICS, REJECTED, TICKETS
from store.manifest import Manifest
from store.output import Output
from store.reader import Reader, open_output, read_current
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


@pytest.fixture
def manifest(output: Output) -> Manifest:
    first = publish_batch(output, None, "parquet", [[messages([encode(ticket(0)), b"bad"])]])
    return publish_batch(output, first, "parquet", [[messages([encode(ticket(1))], first_offset=2)]])


def opened(output: Output) -> Reader:
    reader = open_output(OutputLocation(output.root))
    assert reader is not None
    return reader


def test_an_output_without_a_ledger_has_no_reader(tmp_path: Path) -> None:
    assert open_output(OutputLocation(tmp_path)) is None
    assert open_output(OutputLocation(tmp_path / "nowhere")) is None


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_rows_come_in_the_order_of_the_files_whatever_the_format(
    output: Output, manifest: Manifest, file_format: str
) -> None:
    if file_format == "json":
        convert(output, manifest, "json", UPDATED_AT)
    reader = opened(output)
    assert reader.manifest.format == file_format
    assert [str(row["ticket_id"])[-1] for row in reader.rows(TICKETS)] == ["0", "1"]
    assert [(row["offset"], row["payload"]) for row in reader.rows(REJECTED)] == [(1, b"bad")]
    assert [(row["total_tickets"], row["batch_id"]) for row in reader.rows(METRICS)] == [(2, 2)]
    (ids,) = {table.column_names[0] for table in reader.tables(TICKETS, ["ticket_id"])}
    assert ids == "ticket_id"


def test_only_files_that_the_ledger_names_are_read(output: Output, manifest: Manifest) -> None:
    folder = output.root / "tickets_with_assignment"
    (folder / "batch-000003-0000.parquet").write_bytes((folder / "batch-000001-0000.parquet").read_bytes())
    assert opened(output).table(TICKETS).num_rows == 2


def test_a_damaged_file_is_named_with_the_way_out(output: Output, manifest: Manifest) -> None:
    path = output.root / "tickets_with_assignment" / "batch-000001-0000.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataConflict, match=rf"{path} is damaged \(.*\); nothing was changed; put a backup"):
        opened(output).table(TICKETS)


def test_a_file_that_is_gone_cannot_be_read(output: Output, manifest: Manifest) -> None:
    path = output.root / "metrics" / "metrics.parquet"
    path.unlink()
    with pytest.raises(OutputUnavailable, match=rf"cannot read {path}: No such file"):
        opened(output).rows(METRICS)
    with pytest.raises(DataConflict, match=rf"{path} was published and is gone"):
        opened(output).require_intact(METRICS, "metrics.parquet")


def test_what_is_read_while_a_commit_takes_files_away_is_read_again_as_of_that_commit(
    output: Output, manifest: Manifest
) -> None:
    looks = []

    def read(reader: Reader) -> int:
        looks.append(reader.manifest.format)
        if len(looks) == 1:
            convert(output, manifest, "json", UPDATED_AT)
        return len(reader.rows(TICKETS))

    assert read_current(OutputLocation(output.root), read) == 2
    assert looks == ["parquet", "json"]
    assert read_current(OutputLocation(output.root / "nowhere"), read) is None

    (output.root / "metrics" / "metrics.json").unlink()
    with pytest.raises(OutputUnavailable, match="No such file"):
        read_current(OutputLocation(output.root), lambda reader: reader.rows(METRICS))


def test_reading_an_output_needs_neither_kafka_nor_spark() -> None:
    code = """
import store.manifest, store.reader, store.output, store.convert, store.clients, store.status, sys
print(sorted({"kafka", "confluent_kafka", "pyspark", "faker"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
