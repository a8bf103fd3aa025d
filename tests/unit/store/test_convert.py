"""The same rows in another format."""

import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest

from contract.ticket import encode
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.datasets import DATASETS
from store.files import Disk
from store.manifest import Manifest, read_manifest
from store.output import Output
from tests.support import golden
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def published(output: Output) -> Manifest:
    """Publish two batches with every golden message; the first one leaves a dataset without rows."""
    first = publish_batch(output, None, "parquet", [[messages([encode(ticket())])]])
    mixed = [*golden.tickets(), *(entry.message for entry in golden.rejected())]
    return publish_batch(output, first, "parquet", [[messages(mixed, first_offset=1)]])


def tables(output: Output, manifest: Manifest) -> dict[str, pa.Table]:
    reader = output.reader(manifest)
    return {
        f"{dataset.name}/{Path(name).stem}": pa.concat_tables(
            [dataset.schema.empty_table(), *reader.tables_of(dataset, name)]
        ).combine_chunks()
        for dataset in DATASETS
        for name in reader.files(dataset)
    }


def test_to_json_and_back_every_file_holds_the_same_rows(output: Output) -> None:
    manifest = published(output)
    before = tables(output, manifest)
    for file_format in ("json", "parquet"):
        manifest = convert(output, manifest, file_format, UPDATED_AT)
        assert manifest.format == file_format
        assert tables(output, manifest) == before
        assert output.recover() == manifest
    Published(output.root).require_agreement()


def test_only_files_of_the_new_format_are_left(output: Output) -> None:
    manifest = convert(output, published(output), "json", UPDATED_AT)
    for dataset, names in manifest.files.items():
        assert {Path(name).suffix for name in names} == {".json"}
        assert sorted(path.name for path in (output.root / dataset).iterdir()) == sorted(names)
    assert sorted(path.name for path in output.state.iterdir()) == ["clients.sqlite"]


def test_the_ledger_stays_where_it_was_but_for_the_commit(output: Output) -> None:
    before = published(output)
    after = convert(output, before, "json", UPDATED_AT)
    assert (after.batch_id, after.partitions, after.totals, after.source) == (
        before.batch_id,
        before.partitions,
        before.totals,
        before.source,
    )
    assert (after.commit, after.kind, after.follows) == (3, "conversion", before.commit_id)
    assert [(f.first_batch, f.last_batch) for f in after.contents["tickets_with_assignment"].values()] == [
        (1, 1),
        (2, 2),
    ]
    assert read_manifest(Disk(), output.root) == after


def test_the_next_batch_goes_on_in_the_new_format_with_the_same_set_of_clients(output: Output) -> None:
    manifest = convert(output, published(output), "json", UPDATED_AT)
    with closing(sqlite3.connect(output.state / "clients.sqlite")) as database:
        assert database.execute("SELECT commit_id FROM standing").fetchall() == [(manifest.commit_id,)]
    next_offset = manifest.next_offsets[0]
    again = publish_batch(output, manifest, "json", [[messages([encode(ticket(9))], first_offset=next_offset)]])
    assert again.files["tickets_with_assignment"][-1] == "batch-000003-0000.json"
    assert again.totals.tickets == manifest.totals.tickets + 1
    Published(output.root).require_agreement()


def test_a_conversion_that_cannot_write_leaves_everything_as_it_was(output: Output) -> None:
    class Full(QuickDisk):
        def sync(self, file: BinaryIO) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    manifest = published(output)
    with pytest.raises(OutputUnavailable, match="No space left on device"):
        convert(Output(OutputLocation(output.root), Full()), manifest, "json", UPDATED_AT)
    assert output.recover() == manifest
    Published(output.root).require_agreement()


def test_a_published_file_that_cannot_be_read_is_not_reported_as_one_that_cannot_be_written(output: Output) -> None:
    class Deaf(QuickDisk):
        def open(self, path: Path) -> BinaryIO:
            if path.suffix == ".parquet":
                raise OSError(errno.EIO, "Input/output error", str(path))
            return super().open(path)

    manifest = published(output)
    with pytest.raises(OutputUnavailable, match=r"cannot read .*batch-000001-0000\.parquet: Input/output error"):
        convert(Output(OutputLocation(output.root), Deaf()), manifest, "json", UPDATED_AT)


def test_a_damaged_published_file_stops_the_conversion(output: Output) -> None:
    manifest = published(output)
    path = output.root / "rejected_messages" / "batch-000002-0000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataConflict, match=rf"{path} is not the file that was published: its checksum differs"):
        convert(output, manifest, "json", UPDATED_AT)
    assert read_manifest(Disk(), output.root) == manifest


def test_a_conversion_reports_progress_and_can_be_aborted_between_two_pieces(output: Output) -> None:
    class GivenUp(Exception):
        pass

    calls: list[int] = []

    def between() -> None:
        calls.append(len(calls))
        if len(calls) == 12:
            raise GivenUp

    manifest = published(output)
    with pytest.raises(GivenUp):
        convert(output, manifest, "json", UPDATED_AT, between)
    assert output.recover() == manifest
    Published(output.root).require_agreement()

    calls.clear()
    convert(output, manifest, "json", UPDATED_AT, lambda: calls.append(0))
    # Each of the ten files calls once when it is done, and all but the empty one for their rows.
    assert len(calls) > 10
