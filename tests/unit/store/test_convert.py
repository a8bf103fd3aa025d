"""The same rows in another format."""

from pathlib import Path

import pyarrow as pa
import pytest

from contract.ticket import encode
from runtime.errors import OutputUnavailable
from store.convert import convert
from store.datasets import DATASETS
from store.formats import read_tables
from store.manifest import Manifest, read_manifest
from store.output import Output
from tests.support import golden
from tests.support.datasets import Published
from tests.support.staging import messages, publish_batch, ticket


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "output")


def published(output: Output) -> Manifest:
    """Publish two batches with every golden message; the first one leaves a dataset without rows."""
    first = publish_batch(output, None, "parquet", [[messages([encode(ticket())])]])
    mixed = [*golden.tickets(), *(entry.message for entry in golden.rejected())]
    return publish_batch(output, first, "parquet", [[messages(mixed, first_offset=1)]])


def tables(output: Output, manifest: Manifest) -> dict[str, pa.Table]:
    return {
        f"{dataset.name}/{Path(name).stem}": pa.concat_tables(
            [
                dataset.schema.empty_table(),
                *read_tables(manifest.format, output.root / dataset.name / name, dataset),
            ]
        ).combine_chunks()
        for dataset in DATASETS
        for name in manifest.files[dataset.name]
    }


def test_to_json_and_back_every_file_holds_the_same_rows(output: Output) -> None:
    manifest = published(output)
    before = tables(output, manifest)
    for file_format in ("json", "parquet"):
        manifest = convert(output, manifest, file_format)
        assert manifest.format == file_format
        assert tables(output, manifest) == before
    Published(output.root).require_agreement()


def test_only_files_of_the_new_format_are_left(output: Output) -> None:
    manifest = convert(output, published(output), "json")
    for dataset, names in manifest.files.items():
        assert {Path(name).suffix for name in names} == {".json"}
        assert sorted(path.name for path in (output.root / dataset).iterdir()) == sorted(names)
    assert sorted(path.name for path in output.state.iterdir()) == ["clients.sqlite"]


def test_the_ledger_stays_where_it_was(output: Output) -> None:
    before = published(output)
    after = convert(output, before, "json")
    assert (after.batch_id, after.next_offsets, after.totals, after.source) == (
        before.batch_id,
        before.next_offsets,
        before.totals,
        before.source,
    )
    assert read_manifest(output.root) == after


def test_the_next_batch_goes_on_in_the_new_format(output: Output) -> None:
    manifest = convert(output, published(output), "json")
    next_offset = manifest.next_offsets[0]
    again = publish_batch(output, manifest, "json", [[messages([encode(ticket(9))], first_offset=next_offset)]])
    assert again.files["tickets_with_assignment"][-1] == "batch-000003-0000.json"
    assert again.totals.tickets == manifest.totals.tickets + 1
    Published(output.root).require_agreement()


def test_a_conversion_that_cannot_write_leaves_everything_as_it_was(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = published(output)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.formats.os.fsync", full)
    with pytest.raises(OutputUnavailable, match="No space left on device"):
        convert(output, manifest, "json")
    monkeypatch.undo()
    assert output.recover() == manifest
    Published(output.root).require_agreement()
