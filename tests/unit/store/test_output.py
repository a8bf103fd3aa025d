"""The commit protocol: whatever interrupts it, a commit is published as a whole or not at all."""

import errno
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.ticket import encode as encode_ticket
from processor.consume import Piece
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.convert import convert
from store.datasets import DATASETS
from store.files import Disk
from store.manifest import CommitRecord, Manifest, encode, read_manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, prepare_batch, publish_batch, ticket

# Commits the record in its second argument to the output in its first, until a failpoint kills it.
COMMIT = """
import sys
from pathlib import Path
from runtime.settings.location import OutputLocation
from store.output import Output
from store.recovery import decode_record
output = Output(OutputLocation(Path(sys.argv[1])))
record = Path(sys.argv[2])
output.commit(decode_record(record, record.read_bytes()))
"""


def tickets(first: int) -> list[list[Piece]]:
    """Return what one task reads for a batch: three tickets, one of them urgent, and a message that is not a ticket."""
    made = [encode_ticket(ticket(first + n, priority=("low", "high", "medium")[n])) for n in range(3)]
    return [[messages([*made, b"bad"], first_offset=first)]]


def batch(output: Output, before: Manifest | None) -> CommitRecord:
    """Stage the next batch of four messages and return the record that publishes it."""
    return prepare_batch(output, before, "parquet", tickets(before.next_offsets[0] if before else 0))


def files(output: Output) -> dict[str, bytes]:
    """Return every file of the datasets, with its content."""
    return {
        str(path.relative_to(output.root)): path.read_bytes()
        for dataset in DATASETS
        for path in (output.root / dataset.name).glob("*")
    }


def everything(output: Output) -> dict[str, bytes]:
    """Return every file of an output but the lock, with its content."""
    return {
        str(path.relative_to(output.root)): path.read_bytes()
        for path in output.root.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def ledger(output: Output) -> Manifest | None:
    return read_manifest(Disk(), output.root)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


@pytest.fixture(scope="module")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Publish a batch of three tickets, for copies of it."""
    root = tmp_path_factory.mktemp("published") / "output"
    return root, publish_batch(Output(OutputLocation(root), QuickDisk()), None, "parquet", tickets(0))


@pytest.fixture
def first(output: Output, published_once: tuple[Path, Manifest]) -> Manifest:
    """Give the output a batch of three tickets and return its manifest."""
    root, manifest = published_once
    shutil.copytree(root, output.root)
    return manifest


def test_a_committed_batch_is_published_and_leaves_only_the_set_of_clients_behind(
    output: Output, first: Manifest
) -> None:
    assert sorted(files(output)) == [
        "high_priority_tickets/batch-000001-0000.parquet",
        "metrics/metrics.parquet",
        "rejected_messages/batch-000001-0000.parquet",
        "tickets_by_hour/tickets_by_hour.parquet",
        "tickets_by_priority/tickets_by_priority.parquet",
        "tickets_by_team/tickets_by_team.parquet",
        "tickets_by_type/tickets_by_type.parquet",
        "tickets_with_assignment/batch-000001-0000.parquet",
    ]
    assert sorted(path.name for path in output.root.iterdir() if path.is_file()) == ["_manifest.json"]
    assert sorted(path.name for path in output.state.iterdir()) == ["clients.sqlite"]
    assert ledger(output) == first
    assert output.recover() == first


def test_each_commit_names_the_one_that_it_follows(output: Output, first: Manifest) -> None:
    second = publish_batch(output, first, "parquet", tickets(4))
    third = convert(output, second, "json", UPDATED_AT)
    assert [m.commit for m in (first, second, third)] == [1, 2, 3]
    assert [m.kind for m in (first, second, third)] == ["batch", "batch", "conversion"]
    assert [m.batch_id for m in (first, second, third)] == [1, 2, 2]
    assert [m.follows for m in (first, second, third)] == [None, first.commit_id, second.commit_id]
    assert len({m.commit_id for m in (first, second, third)}) == 3
    assert len({m.output_id for m in (first, second, third)}) == 1


def test_the_ledger_says_of_each_file_what_is_in_it(output: Output, first: Manifest) -> None:
    second = publish_batch(output, first, "parquet", tickets(4))
    found = second.contents["tickets_with_assignment"]
    assert {name: (f.rows, f.first_batch, f.last_batch, f.commit) for name, f in found.items()} == {
        "batch-000001-0000.parquet": (3, 1, 1, 1),
        "batch-000002-0000.parquet": (3, 2, 2, 2),
    }
    (metrics,) = second.contents["metrics"].values()
    assert (metrics.rows, metrics.first_batch, metrics.last_batch, metrics.commit) == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("point", "after"), [("staged", 1), ("committed", 2), ("between-renames", 2), ("before-manifest", 2)]
)
def test_a_batch_killed_at_any_point_is_whole_after_the_next_start(
    output: Output, first: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str, after: int
) -> None:
    before, record = files(output), batch(output, first)
    (tmp_path / "record.json").write_bytes(encode(record))
    command = [sys.executable, "-c", COMMIT, str(output.root), str(tmp_path / "record.json")]
    killed = subprocess.run(command, cwd=ROOT, env={"CLIENT_TICKETS_FAILPOINT": point}, check=False)
    assert killed.returncode == -signal.SIGKILL
    # Readers trust the manifest: it names the old batch until the new one is complete.
    assert ledger(output) == first
    if point in ("staged", "committed"):
        assert files(output) == before

    with caplog.at_level(logging.WARNING):
        assert output.recover() == (record.manifest if after == 2 else first)
    assert ("finishing batch 2, which an earlier run had decided" in caplog.text) == (after == 2)
    assert sorted(path.name for path in output.state.iterdir()) == ["clients.sqlite"]
    published = Published(output.root)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 3 * after


def test_a_record_whose_manifest_is_in_force_is_only_cleaned_up(output: Output, first: Manifest) -> None:
    record = batch(output, first)
    output.commit(record)
    published = files(output)
    output._record_file.write_bytes(encode(record))
    # What lies under the name of a staged file now is not looked at any more.
    staged = output.root / record.renames[0].staged
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"of somebody else")
    assert output.recover() == record.manifest
    assert files(output) == published
    assert sorted(path.name for path in output.state.iterdir()) == ["clients.sqlite"]


def test_a_conversion_that_was_killed_before_its_old_files_were_removed_removes_them(
    output: Output, first: Manifest
) -> None:
    old = files(output)
    manifest = convert(output, first, "json", UPDATED_AT)
    for name, content in old.items():
        (output.root / name).write_bytes(content)
    output._record_file.write_bytes(encode(CommitRecord(manifest, [], sorted(old))))
    assert output.recover() == manifest
    assert {Path(name).suffix for name in files(output)} == {".json"}


def test_what_was_staged_and_not_decided_is_removed_at_the_next_start(output: Output, first: Manifest) -> None:
    published = files(output)
    batch(output, first)
    (output.state / ".commit.json.new").write_bytes(b"half a rec")
    assert output.recover() == first
    assert files(output) == published
    assert not (output.state / "staging").exists()


def test_a_late_task_that_still_writes_into_staging_does_not_fail_a_recovery(output: Output, first: Manifest) -> None:
    class Busy(Disk):
        def remove_folder(self, path: Path) -> None:
            raise OSError(39, "Directory not empty", str(path))

    batch(output, first)
    assert Output(OutputLocation(output.root), Busy()).recover() == first
    assert output.recover() == first
    assert not (output.state / "staging").exists()


def test_no_two_staging_folders_have_the_same_name(output: Output, first: Manifest) -> None:
    one, other = (output.begin(first, "batch", "parquet").staging.folder for _ in range(2))
    assert one.name.startswith("batch-000002-")
    assert one != other
    output.discard_staging()
    assert not one.exists()
    output.discard_staging()


def test_empty_dataset_folders_and_foreign_files_beside_them_are_no_conflict(output: Output) -> None:
    (output.root / "metrics").mkdir(parents=True)
    (output.root / "notes.txt").write_text("mine")
    assert output.recover() is None


def test_a_file_where_a_dataset_should_be_stops_the_publishing_and_recovers_once_it_is_gone(
    output: Output, first: Manifest
) -> None:
    record = batch(output, first)
    folder, aside = output.root / "metrics", output.root / "aside"
    folder.rename(aside)
    folder.touch()
    with pytest.raises(OutputUnavailable, match=r"/metrics"):
        output.commit(record)
    folder.unlink()
    aside.rename(folder)
    output.recover()
    Published(output.root).require_agreement()


def test_an_unreadable_manifest_is_reported(output: Output) -> None:
    # A folder in its place fails for root too, whom permissions do not stop.
    (output.root / "_manifest.json").mkdir(parents=True)
    with pytest.raises(OutputUnavailable, match=r"cannot read .*_manifest\.json: Is a directory"):
        output.recover()


def test_a_disk_that_is_full_before_the_commit_record_leaves_everything_as_it_was(
    output: Output, first: Manifest
) -> None:
    class Full(Disk):
        def sync(self, file: object) -> None:
            raise OSError(28, "No space left on device")

    published, record = everything(output), batch(output, first)
    with pytest.raises(OutputUnavailable, match="No space left on device; free space there"):
        Output(OutputLocation(output.root), Full()).commit(record)
    assert output.recover() == first
    found = everything(output)
    del published[".pipeline/clients.sqlite"], found[".pipeline/clients.sqlite"]
    assert found == published


def remove_the_output(output: Output) -> None:
    shutil.rmtree(output.root)


def remove_the_state(output: Output) -> None:
    shutil.rmtree(output.state)


def exchange_the_output(output: Output) -> None:
    output.root.rename(output.root.with_name("aside"))
    shutil.copytree(output.root.with_name("aside"), output.root)


REMOVED = "output was removed while this processor worked on it; start again: a new output is filled from what the"
STATE_REMOVED = r"/\.pipeline was removed or exchanged while .* goes on from _manifest\.json, or, if that is gone"
EXCHANGED = "output was removed or exchanged while .* another folder is in its place, where nothing was written"


@pytest.mark.parametrize(
    ("happens", "said"),
    [(remove_the_output, REMOVED), (remove_the_state, STATE_REMOVED), (exchange_the_output, EXCHANGED)],
)
def test_an_output_that_was_removed_or_exchanged_under_a_running_processor_is_noticed_before_the_next_commit(
    output: Output, happens: Callable[[Output], None], said: str
) -> None:
    with output.locked():
        first = publish_batch(output, None, "parquet", tickets(0))
        record = batch(output, first)
        happens(output)
        with pytest.raises(OutputUnavailable, match=said) as caught:
            output.commit(record)
        with pytest.raises(OutputUnavailable, match=said):
            output.begin(first, "batch", "parquet")
    assert caught.value.exit_code == 5
    assert not (output.root / ".pipeline" / "commit.json").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file or directory", "code.zip"),
        OutputUnavailable("cannot write"),
        DataConflict("metrics.parquet was published and is gone"),
    ],
)
def test_an_error_because_the_output_was_removed_is_reported_as_that(output: Output, error: Exception) -> None:
    def work() -> None:
        with output.locked():
            shutil.rmtree(output.root)
            raise error

    with pytest.raises(OutputUnavailable, match=REMOVED):
        work()


def test_any_other_error_is_reported_unchanged(output: Output) -> None:
    with pytest.raises(DataConflict, match="another topic"), output.locked():
        raise DataConflict("another topic")


def test_a_dataset_that_was_removed_under_a_running_processor_is_noticed_before_the_next_commit(
    output: Output, first: Manifest
) -> None:
    record = batch(output, first)
    shutil.rmtree(output.root / "tickets_by_team")
    with pytest.raises(DataConflict, match=r"/tickets_by_team was removed while this processor worked on .*/output;"):
        output.commit(record)
    assert not (output.root / "tickets_by_team").exists()
    assert not (output.root / ".pipeline" / "commit.json").exists()


def test_a_ledger_that_was_replaced_under_a_running_processor_is_noticed_before_the_next_commit(
    output: Output, first: Manifest
) -> None:
    older = (output.root / "_manifest.json").read_bytes()
    second = publish_batch(output, first, "parquet", tickets(4))
    record = batch(output, second)
    (output.root / "_manifest.json").write_bytes(older)
    before = everything(output)
    with pytest.raises(DataConflict, match=r"_manifest\.json was replaced while this processor worked on"):
        output.commit(record)
    assert everything(output) == before


class OtherDisk(Disk):
    """Says that a folder lies on another file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mount(self, folder: Path) -> str:
        return "another" if folder == self._folder else super().mount(folder)


@pytest.mark.parametrize("name", ["metrics", ".pipeline", ".pipeline/staging"])
def test_a_folder_on_another_file_system_is_refused_before_anything_is_decided(
    output: Output, first: Manifest, name: str
) -> None:
    record = batch(output, first)
    before = everything(output)
    mounted = Output(OutputLocation(output.root), OtherDisk(output.root / name))
    for call in (lambda: mounted.commit(record), mounted.recover):
        with pytest.raises(
            OutputUnavailable, match=rf"/{name} lies on another file system than .*/output, so"
        ) as caught:
            call()
        assert caught.value.exit_code == 5
    assert everything(output) == before


def test_a_dataset_folder_may_be_a_link_to_one_on_the_same_file_system(output: Output, first: Manifest) -> None:
    (output.root / "metrics").rename(output.root.parent / "elsewhere")
    (output.root / "metrics").symlink_to(output.root.parent / "elsewhere")
    publish_batch(output, first, "parquet", tickets(4))
    output.recover()
    Published(output.root).require_agreement()


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("removals", "../victim.txt"),
        ("removals", "metrics/../../victim.txt"),
        ("removals", "/etc/victim"),
        ("removals", "_manifest.json"),
        ("removals", ".pipeline/lock"),
        ("published", "../victim.txt"),
        ("published", "no_dataset/file.parquet"),
        ("published", "metrics/not_in_its_manifest.parquet"),
        ("removals", "metrics/metrics.parquet"),
        ("staged", "../victim.txt"),
        ("staged", "metrics/metrics.parquet"),
        ("staged", ".pipeline/staging/../../../victim.txt"),
        ("staged", ".pipeline/staging/x/../../../victim.txt"),
    ],
)
def test_a_record_that_names_files_which_are_not_its_own_is_refused(
    output: Output, first: Manifest, field: str, name: str
) -> None:
    victim = output.root.parent / "victim.txt"
    victim.write_text("precious")
    record = json.loads(encode(batch(output, first)))
    if field == "removals":
        record["removals"] = [name]
    else:
        record["renames"][0][field] = name
    (output.state / "commit.json").write_text(json.dumps(record))
    before = everything(output)
    with pytest.raises(DataConflict, match=r"commit\.json is damaged .*is not a (staged )?file") as caught:
        output.recover()
    assert repr(name) in str(caught.value)
    assert everything(output) == before
    assert victim.read_text() == "precious"


def test_a_record_of_a_newer_release_is_refused_as_such(output: Output, first: Manifest) -> None:
    record = json.loads(encode(batch(output, first)))
    record["manifest"]["version"] = 4
    (output.state / "commit.json").write_text(json.dumps(record))
    with pytest.raises(DataConflict, match=r"commit\.json has version 4, but this program reads only up to version 3"):
        output.recover()


def test_foreign_files_that_no_reader_counts_stay_with_a_warning(
    output: Output, first: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    (output.root / "metrics" / ".DS_Store").write_bytes(b"finder")
    with caplog.at_level(logging.WARNING):
        assert output.recover() == first
    assert f"{output.root}/metrics holds .DS_Store, which is not part of the output" in caplog.text
    assert (output.root / "metrics" / ".DS_Store").exists()
