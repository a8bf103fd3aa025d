"""Outputs whose files or ledger were changed by hand: each is refused unchanged, with the file and a way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import encode as encode_ticket
from runtime.errors import DataConflict
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.datasets import TICKETS
from store.manifest import Manifest, encode
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, prepare_batch, publish_batch, ticket

BATCH = 4


def read_by_a_task(number: int) -> list[list[Any]]:
    """Return what one task reads for a batch: four tickets and a message that is not a ticket."""
    made = [encode_ticket(ticket(10 * number + n, priority=("low", "high")[n % 2])) for n in range(BATCH)]
    return [[messages([*made, b"bad"], first_offset=(BATCH + 1) * (number - 1))]]


class Story:
    """A folder with an output of three batches, and with copies of it from before and after each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "output"
        self.output = Output(OutputLocation(self.root), QuickDisk())

    def tell(self) -> None:
        """Publish the batches."""
        manifest: Manifest | None = None
        for number in (1, 2, 3):
            record = prepare_batch(self.output, manifest, "parquet", read_by_a_task(number))
            (self.folder / f"record-{number}.json").write_bytes(encode(record))
            shutil.copytree(self.root, self.folder / f"undecided-{number}")
            self.output.commit(record)
            manifest = record.manifest
            shutil.copytree(self.root, self.folder / f"after-{number}")

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the ledger by hand."""
        path = self.root / "_manifest.json"
        content = json.loads(path.read_bytes())
        change(content)
        path.write_text(json.dumps(content))

    def everything(self) -> dict[str, object]:
        """Return everything in the output except the lock: the content of files, the target of links."""
        return {
            str(path.relative_to(self.root)): path.readlink() if path.is_symlink() else path.read_bytes()
            for path in self.root.rglob("*")
            if (path.is_file() or path.is_symlink()) and path.name != "lock"
        }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish the batches once; each test gets a copy."""
    folder = tmp_path_factory.mktemp("story")
    Story(folder).tell()
    return folder


@pytest.fixture
def story(told: Path, tmp_path: Path) -> Story:
    shutil.copytree(told, tmp_path, dirs_exist_ok=True)
    return Story(tmp_path)


def require_refused(story: Story, *said: str) -> None:
    """Fail unless a start ends with exit code 4 and a message with ``said`` and a way out, and changes nothing."""
    before = story.everything()
    with pytest.raises(DataConflict) as caught:
        story.output.recover()
    assert caught.value.exit_code == 4
    for words in said:
        assert words in str(caught.value)
    assert "choose another --output-path" in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert story.everything() == before


def test_the_story_itself_is_in_order(story: Story) -> None:
    manifest = story.output.recover()
    assert manifest is not None
    assert (manifest.batch_id, manifest.totals.tickets) == (3, 12)
    Published(story.root).require_agreement()


def test_an_older_ledger_put_back(story: Story) -> None:
    shutil.copy(story.folder / "after-1/_manifest.json", story.root)
    require_refused(
        story,
        f"_manifest.json ends with batch 1, but {story.root}/tickets_with_assignment holds batch-000002-0000.parquet",
        "the ledger is older than the files",
    )


def test_a_backup_copied_over_the_output(story: Story) -> None:
    shutil.copytree(story.folder / "after-2", story.root, dirs_exist_ok=True)
    require_refused(story, "_manifest.json ends with batch 2", "holds batch-000003-0000.parquet")


@pytest.mark.parametrize("number", [1, 2])
def test_a_commit_record_of_an_earlier_commit_put_back(story: Story, number: int) -> None:
    shutil.copy(story.folder / f"record-{number}.json", story.root / ".pipeline/commit.json")
    require_refused(story, f"commit.json decides commit {number}, but it does not follow what is there (commit 3)")


def test_a_commit_record_of_another_output(story: Story, tmp_path: Path) -> None:
    other = Output(OutputLocation(tmp_path / "other"), QuickDisk())
    first = publish_batch(other, None, "parquet", read_by_a_task(1))
    record = prepare_batch(other, first, "parquet", read_by_a_task(2))
    shutil.rmtree(story.root)
    shutil.copytree(story.folder / "after-1", story.root)
    (story.root / ".pipeline/commit.json").write_bytes(encode(record))
    require_refused(story, "commit.json decides commit 2, but it does not follow what is there (commit 1)")


def test_a_copy_taken_before_the_renames_with_the_record_but_without_all_staged_files(story: Story) -> None:
    shutil.rmtree(story.root)
    shutil.copytree(story.folder / "undecided-3", story.root)
    shutil.copy(story.folder / "record-3.json", story.root / ".pipeline/commit.json")
    (staged,) = (story.root / ".pipeline/staging").glob("*/metrics.parquet")
    staged.unlink()
    # The dataset still has the file of the batch before.
    require_refused(story, f"{story.root}/metrics/metrics.parquet", "belongs to another batch")


def test_a_copy_taken_between_the_renames_with_a_cut_file(story: Story) -> None:
    shutil.rmtree(story.root)
    shutil.copytree(story.folder / "undecided-3", story.root)
    shutil.copy(story.folder / "record-3.json", story.root / ".pipeline/commit.json")
    (staged,) = (story.root / ".pipeline/staging").glob("*/tickets_with_assignment-*")
    staged.write_bytes(staged.read_bytes()[:-1])
    require_refused(story, str(staged), "it was cut off")


def test_a_copy_taken_while_a_batch_was_published_whose_ledger_is_newer_than_its_files(story: Story) -> None:
    shutil.rmtree(story.root)
    shutil.copytree(story.folder / "after-2", story.root)
    shutil.copy(story.folder / "after-3/_manifest.json", story.root)
    require_refused(story, "batch-000003-0000.parquet was published and is gone")


@pytest.mark.parametrize("dataset", ["metrics", "tickets_by_hour", "tickets_by_type", "tickets_by_team"])
def test_a_dataset_of_one_file_from_another_batch(story: Story, dataset: str) -> None:
    shutil.copy(story.folder / f"after-2/{dataset}/{dataset}.parquet", story.root / dataset)
    require_refused(story, f"{story.root}/{dataset}/{dataset}.parquet", "belongs to another batch")


@pytest.mark.parametrize("dataset", ["metrics", "tickets_by_hour"])
def test_a_dataset_of_one_file_that_was_emptied(story: Story, dataset: str) -> None:
    (story.root / dataset / f"{dataset}.parquet").write_bytes(b"")
    require_refused(story, f"{story.root}/{dataset}/{dataset}.parquet was published with ", " bytes and has 0 now")


@pytest.mark.parametrize("number", [1, 3])
def test_a_file_of_tickets_that_was_cut(story: Story, number: int) -> None:
    path = story.root / f"tickets_with_assignment/batch-00000{number}-0000.parquet"
    path.write_bytes(path.read_bytes()[:100])
    require_refused(story, f"{path} was published with ", " bytes and has 100 now: it was cut off")


@pytest.mark.parametrize("starts", [(2,), (1, 9), (1, 1), (1, 3, 2)])
def test_rules_that_apply_from_batches_that_cannot_be(story: Story, starts: tuple[int, ...]) -> None:
    def change(content: dict[str, Any]) -> None:
        (rules,) = content["routing"]
        content["routing"] = [{**rules, "from_batch": start} for start in starts]

    story.edit(change)
    told = ", ".join(map(str, starts))
    require_refused(story, f"its batches are 1 to 3, but the rules in `routing` apply from batch {told} on")


def test_a_file_of_tickets_that_was_emptied(story: Story) -> None:
    path = story.root / "tickets_with_assignment/batch-000001-0000.parquet"
    path.write_bytes(b"")
    require_refused(story, f"{path} was published with ", " bytes and has 0 now: it was cut off")


def test_a_file_of_tickets_that_was_removed(story: Story) -> None:
    path = story.root / "tickets_with_assignment/batch-000001-0000.parquet"
    path.unlink()
    require_refused(story, f"{path} was published and is gone")


def test_a_file_of_tickets_that_was_replaced_by_a_link(story: Story) -> None:
    path = story.root / "tickets_with_assignment/batch-000001-0000.parquet"
    path.rename(story.folder / "moved.parquet")
    path.symlink_to(story.folder / "moved.parquet")
    require_refused(story, f"{path} was published as a file and is something else now, perhaps a link")


def another_of_the_same_size(path: Path) -> bytes:
    """Return a readable Parquet file as long as ``path``, with another ticket in it."""
    content = path.read_bytes()
    assert content.count(b"CLIENT_1") > 0
    return content.replace(b"CLIENT_1", b"CLIENT_2")


def test_a_file_of_the_last_batch_swapped_with_another_of_the_same_size(story: Story) -> None:
    path = story.root / "tickets_with_assignment/batch-000003-0000.parquet"
    path.write_bytes(another_of_the_same_size(path))
    require_refused(story, f"{path} is not the file that was published: its checksum differs")


def test_a_file_of_an_earlier_batch_swapped_with_another_of_the_same_size_is_found_when_it_is_read(
    story: Story,
) -> None:
    path = story.root / "tickets_with_assignment/batch-000001-0000.parquet"
    path.write_bytes(another_of_the_same_size(path))
    manifest = story.output.recover()
    assert manifest is not None
    before = story.everything()
    with pytest.raises(DataConflict, match=r"batch-000001-0000\.parquet is not the file that was published"):
        convert(story.output, manifest, "json", UPDATED_AT)
    story.output.discard_staging()
    assert story.everything() == before


@pytest.mark.parametrize("name", ["mine.parquet", "mine.json", ".hidden.parquet", "._batch-000001-0000.parquet"])
def test_a_strangers_file_that_every_reader_would_count(story: Story, name: str) -> None:
    (story.root / "tickets_with_assignment" / name).write_bytes(b"whatever")
    require_refused(
        story,
        f"{story.root}/tickets_with_assignment holds 1 files that are not part of the output, the first is {name}",
        "if you put them there, move them away",
    )


def lower_an_offset(ledger: dict[str, Any]) -> None:
    ledger["partitions"]["0"]["next_offset"] -= 5


def raise_an_offset(ledger: dict[str, Any]) -> None:
    ledger["partitions"]["0"]["next_offset"] += 5


def lower_an_offset_and_a_count(ledger: dict[str, Any]) -> None:
    ledger["partitions"]["0"]["next_offset"] -= 4
    ledger["partitions"]["0"]["tickets"] -= 4


def lower_the_batch(ledger: dict[str, Any]) -> None:
    ledger["batch_id"] = 2


def raise_the_batch(ledger: dict[str, Any]) -> None:
    ledger["batch_id"] = 4


def lower_the_commit(ledger: dict[str, Any]) -> None:
    ledger["commit"] = 2


def lower_the_total(ledger: dict[str, Any]) -> None:
    ledger["totals"]["tickets"] -= 1


def lower_the_rejected(ledger: dict[str, Any]) -> None:
    ledger["totals"]["rejected"] -= 1


def dedupe_from_a_batch_to_come(ledger: dict[str, Any]) -> None:
    ledger["deduped_from"] = 4


def read_beyond_the_window(ledger: dict[str, Any]) -> None:
    ledger["window"] = {"start": "earliest", "until": "2026-01-31T10:00:00Z", "ends": {"0": 14}}


def end_another_partition(ledger: dict[str, Any]) -> None:
    ledger["window"] = {"start": "earliest", "until": "2026-01-31T10:00:00Z", "ends": {"0": 15, "1": 3}}


def forget_a_file(ledger: dict[str, Any]) -> None:
    del ledger["contents"]["rejected_messages"]["batch-000001-0000.parquet"]
    del ledger["files"]["rejected_messages"][0]


def forget_a_dataset(ledger: dict[str, Any]) -> None:
    del ledger["contents"]["metrics"], ledger["files"]["metrics"]


def name_a_file_elsewhere(ledger: dict[str, Any]) -> None:
    ledger["contents"]["metrics"] = {"../metrics.parquet": ledger["contents"]["metrics"]["metrics.parquet"]}
    ledger["files"]["metrics"] = ["../metrics.parquet"]


@pytest.mark.parametrize(
    ("by_hand", "said"),
    [
        (lower_an_offset, "offsets 0 to 10 of partition 0 were read, but its counts explain 15 of them"),
        (raise_an_offset, "offsets 0 to 20 of partition 0 were read, but its counts explain 15 of them"),
        (lower_an_offset_and_a_count, "12 tickets of all partitions are expected, but there are 8"),
        (lower_the_batch, "its last batch is 2, but tickets_with_assignment/batch-000003-0000.parquet holds batches 3"),
        (raise_the_batch, "its last batch is 4, but metrics is of batch 3"),
        (lower_the_commit, "its commit is 2, but tickets_with_assignment/batch-000003-0000.parquet is of commit 3"),
        (lower_the_total, "11 tickets by type are expected, but there are 12"),
        (lower_the_rejected, "2 rejected messages are expected, but there are 3"),
        (dedupe_from_a_batch_to_come, "its last batch is 3, but `deduped_from` is 4"),
        (read_beyond_the_window, "partition 0 is to be read up to offset 14, but was up to 15"),
        (end_another_partition, "it ends the partitions [0, 1], but has [0]"),
        (forget_a_file, "3 rows of rejected_messages are expected, but there are 2"),
        (forget_a_dataset, "it names the datasets high_priority_tickets, rejected_messages"),
        (name_a_file_elsewhere, "metrics has a file '../metrics.parquet'"),
    ],
)
def test_a_ledger_edited_by_hand(story: Story, by_hand: Callable[[dict[str, Any]], None], said: str) -> None:
    story.edit(by_hand)
    require_refused(story, "_manifest.json contradicts itself: ", said)


def test_a_ledger_that_was_deleted(story: Story) -> None:
    (story.root / "_manifest.json").unlink()
    require_refused(story, "tickets_with_assignment holds files, but ", "_manifest.json is missing")


def test_a_ledger_that_was_cut(story: Story) -> None:
    path = story.root / "_manifest.json"
    path.write_bytes(path.read_bytes()[:200])
    require_refused(story, "_manifest.json is damaged (200 bytes: ")


def test_a_record_that_was_cut(story: Story) -> None:
    (story.root / ".pipeline/commit.json").write_bytes((story.folder / "record-3.json").read_bytes()[:100])
    require_refused(story, "commit.json is damaged (100 bytes: ", "partly published")


def test_the_way_out_works_a_whole_backup_in_an_empty_folder(story: Story) -> None:
    shutil.copy(story.folder / "after-1/_manifest.json", story.root)
    shutil.rmtree(story.root)
    shutil.copytree(story.folder / "after-2", story.root)
    manifest = story.output.recover()
    assert manifest is not None
    third = publish_batch(story.output, manifest, "parquet", read_by_a_task(3))
    assert third.batch_id == 3
    Published(story.root).require_agreement()
    assert Published(story.root).count(TICKETS.name) == 12


def test_a_set_of_clients_from_another_moment_is_filled_again(story: Story) -> None:
    shutil.copy(story.folder / "after-1/.pipeline/clients.sqlite", story.root / ".pipeline")
    manifest = story.output.recover()
    new = [[messages([encode_ticket(ticket(99, client_id="CLIENT_2"))], first_offset=15)]]
    publish_batch(story.output, manifest, "parquet", new)
    assert Published(story.root).value("SELECT unique_clients FROM metrics") == 2
