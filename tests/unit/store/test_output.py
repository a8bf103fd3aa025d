"""The commit protocol: whatever interrupts it, a batch is published as a whole or not at all."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.setting import ROOT
from store.datasets import DATASETS
from store.manifest import CommitRecord, Manifest, Rename, Totals, encode, read_manifest
from store.output import Output
from tests.support.staging import RECEIVED_AT, SOURCE

# Commits the record in its second argument to the output in its first, until a failpoint kills it.
COMMIT = """
import sys
from pathlib import Path
from store.manifest import read_record
from store.output import Output
Output(Path(sys.argv[1])).commit(read_record(Path(sys.argv[2])))
"""


def manifest(batch_id: int) -> Manifest:
    names = [f"batch-{number:06d}-0000.parquet" for number in range(1, batch_id + 1)]
    files = {dataset.name: names if dataset.appended else [f"{dataset.name}.parquet"] for dataset in DATASETS}
    return Manifest("parquet", batch_id, RECEIVED_AT, SOURCE, {0: 10 * batch_id}, Totals(tickets=batch_id), files)


def staged(output: Output, batch_id: int) -> CommitRecord:
    """Stage one file for each dataset, which says of which batch it is, and return the record that publishes them."""
    output.state.mkdir(parents=True, exist_ok=True)
    staging = output.new_staging(batch_id)
    renames = []
    # First the datasets of one file: killed between two renames, it is one of them that has just been replaced.
    for dataset in sorted(DATASETS, key=lambda d: d.appended):
        name = f"batch-{batch_id:06d}-0000.parquet" if dataset.appended else f"{dataset.name}.parquet"
        (staging / f"{dataset.name}-x").write_text(f"{dataset.name} {batch_id}")
        renames.append(Rename(f"{staging.relative_to(output.root)}/{dataset.name}-x", f"{dataset.name}/{name}"))
    return CommitRecord(manifest(batch_id), renames, removals=[])


def files(output: Output) -> dict[str, str]:
    """Return every visible file, but for the manifest, with its content."""
    return {
        str(path.relative_to(output.root)): path.read_text()
        for path in output.root.glob("[!._]*/*")
        if path.is_file() and not path.name.startswith(".")
    }


def published_after(batch_id: int) -> dict[str, str]:
    expected = {}
    for dataset in DATASETS:
        if dataset.appended:
            for number in range(1, batch_id + 1):
                expected[f"{dataset.name}/batch-{number:06d}-0000.parquet"] = f"{dataset.name} {number}"
        else:
            expected[f"{dataset.name}/{dataset.name}.parquet"] = f"{dataset.name} {batch_id}"
    return expected


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "output")


@pytest.fixture
def one_batch(output: Output) -> Output:
    output.commit(staged(output, 1))
    return output


def test_a_committed_batch_is_published_and_leaves_nothing_behind(one_batch: Output) -> None:
    assert files(one_batch) == published_after(1)
    assert read_manifest(one_batch.root) == manifest(1)
    assert list(one_batch.state.iterdir()) == []
    assert [path.name for path in one_batch.root.iterdir() if path.is_file()] == ["_manifest.json"]
    assert one_batch.recover() == manifest(1)


def test_the_next_batch_adds_files_and_replaces_the_datasets_of_one_file(one_batch: Output) -> None:
    one_batch.commit(staged(one_batch, 2))
    assert files(one_batch) == published_after(2)
    assert one_batch.recover() == manifest(2)


def test_files_that_a_commit_removes_are_gone_after_it(one_batch: Output) -> None:
    record = staged(one_batch, 2)
    record.removals.append("rejected_messages/batch-000001-0000.parquet")
    one_batch.commit(record)
    expected = published_after(2)
    del expected["rejected_messages/batch-000001-0000.parquet"]
    assert files(one_batch) == expected


@pytest.mark.parametrize(
    ("point", "after"), [("staged", 1), ("committed", 2), ("between-renames", 2), ("before-manifest", 2)]
)
def test_a_batch_killed_at_any_point_is_whole_after_the_next_start(
    one_batch: Output, tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str, after: int
) -> None:
    record_file = tmp_path / "record.json"
    record_file.write_bytes(encode(staged(one_batch, 2)))
    killed = subprocess.run(
        [sys.executable, "-c", COMMIT, one_batch.root, record_file],
        cwd=ROOT,
        env={"CLIENT_TICKETS_FAILPOINT": point},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    # Readers trust the manifest: it names the old batch until the new one is complete.
    assert read_manifest(one_batch.root) == manifest(1)
    assert all((one_batch.root / d / n).exists() for d, names in manifest(1).files.items() for n in names)
    if point in ("staged", "committed"):
        assert files(one_batch) == published_after(1)

    with caplog.at_level(logging.WARNING):
        assert one_batch.recover() == manifest(after)
    assert files(one_batch) == published_after(after)
    assert list(one_batch.state.iterdir()) == []
    assert ("finishing batch 2" in caplog.text) == (after == 2)


def test_a_roll_forward_can_itself_be_repeated(one_batch: Output) -> None:
    record = staged(one_batch, 2)
    one_batch.commit(record)
    (one_batch.state / "commit.json").write_bytes(encode(record))
    assert one_batch.recover() == manifest(2)
    assert files(one_batch) == published_after(2)


def test_what_was_staged_and_not_decided_is_removed_at_the_next_start(one_batch: Output) -> None:
    staged(one_batch, 2)
    (one_batch.state / ".commit.json.new").write_bytes(b"half a rec")
    assert one_batch.recover() == manifest(1)
    assert files(one_batch) == published_after(1)
    assert not (one_batch.state / "staging").exists()


def test_no_two_staging_folders_have_the_same_name(output: Output) -> None:
    first, second = output.new_staging(7), output.new_staging(7)
    assert first.name.startswith("batch-000007-")
    assert first != second
    output.discard_staging()
    assert not first.exists()
    output.discard_staging()


def test_files_without_a_manifest_are_refused(one_batch: Output) -> None:
    (one_batch.root / "_manifest.json").unlink()
    with pytest.raises(DataConflict, match=r"tickets_with_assignment holds files, but .*_manifest\.json is missing"):
        one_batch.recover()
    assert files(one_batch) == published_after(1)


def test_empty_dataset_folders_and_foreign_files_beside_them_are_no_conflict(output: Output) -> None:
    (output.root / "metrics").mkdir(parents=True)
    (output.root / "notes.txt").write_text("mine")
    assert output.recover() is None


def test_a_lost_published_file_is_refused(one_batch: Output) -> None:
    one_batch.commit(staged(one_batch, 2))
    (one_batch.root / "rejected_messages" / "batch-000001-0000.parquet").unlink()
    with pytest.raises(
        DataConflict, match=r"rejected_messages lacks 1 published files, the first is batch-000001-0000\.parquet"
    ):
        one_batch.recover()


def test_a_lost_dataset_folder_is_refused(one_batch: Output) -> None:
    (one_batch.root / "metrics" / "metrics.parquet").unlink()
    (one_batch.root / "metrics").rmdir()
    with pytest.raises(DataConflict, match=r"metrics lacks 1 published files, the first is metrics\.parquet"):
        one_batch.recover()


def test_a_lost_file_of_a_decided_batch_is_refused_and_the_decision_stays(one_batch: Output) -> None:
    record = staged(one_batch, 2)
    (one_batch.state / "commit.json").write_bytes(encode(record))
    (one_batch.root / record.renames[-1].staged).unlink()
    with pytest.raises(DataConflict, match=r"batch 2 was decided, but its file .* is gone: restore it"):
        one_batch.recover()
    assert (one_batch.state / "commit.json").exists()
    assert (one_batch.root / record.renames[0].staged).parent.exists()


def test_a_damaged_commit_record_is_refused_and_nothing_is_removed(one_batch: Output) -> None:
    record = staged(one_batch, 2)
    (one_batch.state / "commit.json").write_bytes(encode(record)[:100])
    with pytest.raises(DataConflict, match=r"commit\.json is damaged \(100 bytes: .*published in part"):
        one_batch.recover()
    assert (one_batch.root / record.renames[0].staged).exists()


def test_a_file_where_a_dataset_should_be_stops_the_publishing_and_recovers_once_it_is_gone(one_batch: Output) -> None:
    record = staged(one_batch, 2)
    folder = one_batch.root / "metrics"
    aside = one_batch.root / "aside"
    folder.rename(aside)
    folder.touch()
    with pytest.raises(OutputUnavailable, match=r"cannot write .*/metrics"):
        one_batch.commit(record)
    folder.unlink()
    aside.rename(folder)
    assert one_batch.recover() == manifest(2)
    assert files(one_batch) == published_after(2)


def test_a_manifest_that_cannot_be_read_is_an_output_that_cannot_be_used(tmp_path: Path) -> None:
    # A folder in its place fails for root too, whom permissions do not stop.
    (tmp_path / "_manifest.json").mkdir()
    with pytest.raises(OutputUnavailable, match=r"_manifest\.json: Is a directory"):
        Output(tmp_path).recover()
