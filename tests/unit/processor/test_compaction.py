"""``--compact``: what it does by hand and how it ends, without broker and JVM."""

import os
from pathlib import Path

import pytest

from contract.ticket import encode
from processor.spark_processor import main
from runtime.settings.location import OutputLocation
from store.files import Disk
from store.manifest import Manifest, read_manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import messages, publish_batch, ticket


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.chdir(tmp_path)
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def publish(output: Output, batches: int) -> None:
    manifest: Manifest | None = None
    for number in range(batches):
        read = [[messages([encode(ticket(number))], first_offset=number)]]
        manifest = publish_batch(output, manifest, "parquet", read)


def run(output: Output, *argv: str) -> int:
    return main(["--compact", "--output-path", str(output.root), *argv])


def names(output: Output, dataset: str = "tickets_with_assignment") -> list[str]:
    return sorted(path.name for path in (output.root / dataset).iterdir())


def test_small_neighbours_are_merged_and_the_log_says_so(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    publish(output, 8)
    assert run(output) == 0
    said = capsys.readouterr().err
    assert names(output) == ["batch-000001-0000-to-000008-000009.parquet"]
    assert names(output, "rejected_messages") == ["batch-000001-0000.parquet"]
    assert "merging 8 files of tickets_with_assignment" in said
    assert f"compacted {output.root} in" in said
    assert "8 files were 15" in said
    assert "the old files stay for ten minutes for readers that have them open" in said
    Published(output.root).require_agreement()
    assert '"state": "stopped"' in (output.root / "_status.json").read_text()


def test_a_few_small_files_are_not_merged(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    publish(output, 7)
    assert run(output) == 0
    said = capsys.readouterr().err
    assert len(names(output)) == 7
    assert "nothing to merge: among the 14 files, fewer than 8 small ones are neighbours" in said


def test_while_a_processor_runs_it_ends_with_exit_code_5(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    publish(output, 8)
    with output.locked():
        assert run(output) == 5
    assert "another processor is writing" in capsys.readouterr().err
    assert len(names(output)) == 8


def test_without_an_output_it_makes_none(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(output) == 2
    assert f"there is no output in {output.root} to compact" in capsys.readouterr().err
    assert not output.root.exists()


def test_where_folders_cannot_be_exchanged_it_asks_for_readers_to_be_stopped(
    output: Output, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(disk: Disk, one: Path, other: Path) -> None:
        raise OSError(22, os.strerror(22), str(one))

    publish(output, 8)
    before = read_manifest(Disk(), output.root)
    monkeypatch.setattr(Disk, "exchange", refuse)
    assert run(output) == 5
    said = capsys.readouterr().err
    assert "cannot be compacted while readers are open: the file system of" in said
    assert "nothing was changed; stop all readers and add --readers-stopped" in said
    assert read_manifest(Disk(), output.root) == before
    assert run(output, "--readers-stopped") == 0
    assert names(output) == ["batch-000001-0000-to-000008-000009.parquet"]
    assert not (output.root / ".pipeline/replaced").exists()
    Published(output.root).require_agreement()
