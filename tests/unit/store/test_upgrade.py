"""Outputs of earlier releases, as these left them, also after a kill.

Version 1 of the ledger is that of release 0.1. Version 2 lacks only fields that have a default today.

``tests/golden/outputs-version-1.tar.gz`` holds them, one a folder, written by that release with a real broker:

    empty            a topic without messages
    one              one batch of 16 tickets and 3 rejected messages
    parquet, json    a second batch of 13 tickets; in ``json`` the first one was converted before
    first-POINT      killed at that failpoint in the first batch
    second-POINT     killed in the second batch
    conversion-POINT killed while ``parquet`` was converted to JSON

``tests/golden/outputs-version-2.tar.gz`` holds those of version 2, of 29 tickets and 3 rejected messages in 2 batches:

    parquet, json    in order
    third-POINT      killed at that failpoint in a third batch, of 13 tickets
    conversion-POINT killed while ``parquet`` was converted to JSON
"""

import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from contract.ticket import encode
from runtime.errors import DataConflict
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.clients import open_clients
from store.convert import convert
from store.files import Disk
from store.manifest import Partition, Upgrade, read_manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import SOURCE, UPDATED_AT, messages, publish_batch, ticket

GOLDEN = ROOT / "tests/golden"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("outputs-version-1", tmp_path_factory)


@pytest.fixture(scope="module")
def outputs_of_version_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("outputs-version-2", tmp_path_factory)


def unpacked(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def output(outputs: Path, tmp_path: Path) -> Callable[[str], Output]:
    """Return a copy of one of the outputs, by its name."""

    def copy(name: str) -> Output:
        shutil.copytree(outputs / name, tmp_path / name)
        return Output(OutputLocation(tmp_path / name), QuickDisk())

    return copy


def everything(output: Output) -> dict[str, bytes]:
    paths = (path for path in output.root.rglob("*") if path.is_file())
    return {str(path.relative_to(output.root)): path.read_bytes() for path in paths}


def edit(output: Output, change: Callable[[dict[str, Any]], None]) -> None:
    path = output.root / "_manifest.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "batch_id", "file_format", "tickets", "rejected"),
    [
        ("empty", 1, "parquet", 0, 0),
        ("one", 1, "parquet", 16, 3),
        ("parquet", 2, "parquet", 29, 3),
        ("json", 2, "json", 29, 3),
        ("first-committed", 1, "parquet", 16, 3),
        ("first-between-renames", 1, "parquet", 16, 3),
        ("first-before-manifest", 1, "parquet", 16, 3),
        ("second-before-staging", 1, "parquet", 16, 3),
        ("second-staged", 1, "parquet", 16, 3),
        ("second-committed", 2, "parquet", 29, 3),
        ("second-between-renames", 2, "parquet", 29, 3),
        ("second-before-manifest", 2, "parquet", 29, 3),
        ("conversion-staged", 2, "parquet", 29, 3),
        ("conversion-committed", 2, "json", 29, 3),
        ("conversion-between-renames", 2, "json", 29, 3),
        ("conversion-before-manifest", 2, "json", 29, 3),
    ],
)
def test_an_output_of_version_1_is_upgraded_however_its_release_ended(
    output: Callable[[str], Output], name: str, batch_id: int, file_format: str, tickets: int, rejected: int
) -> None:
    one = output(name)
    manifest = one.recover()
    assert manifest is not None
    assert (manifest.batch_id, manifest.format, manifest.commit, manifest.kind) == (batch_id, file_format, 1, "upgrade")
    assert (manifest.totals.tickets, manifest.totals.rejected) == (tickets, rejected)
    assert manifest.upgrade == Upgrade(1, tickets, rejected)
    published = Published(one.root)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == tickets
    assert published.count("rejected_messages") == rejected
    assert not (one.root / ".pipeline/commit.json").exists()
    assert not (one.root / ".pipeline/staging").exists()
    # It is upgraded once: the ledger on the disk is now one of this release.
    assert read_manifest(Disk(), one.root) == manifest
    assert one.recover() == manifest


def test_a_kill_before_the_first_commit_leaves_a_new_output(output: Callable[[str], Output]) -> None:
    one = output("first-staged")
    assert one.recover() is None
    assert not (one.root / ".pipeline/staging").exists()


def test_the_upgraded_ledger_says_from_which_offsets_on_its_counts_hold(output: Callable[[str], Output]) -> None:
    manifest = output("parquet").recover()
    assert manifest is not None
    assert manifest.partitions == {0: Partition(21, 21), 1: Partition(11, 11)}
    found = manifest.contents["tickets_with_assignment"]
    assert {name: (file.rows, file.first_batch, file.last_batch) for name, file in found.items()} == {
        "batch-000001-0000.parquet": (16, 1, 1),
        "batch-000002-0000.parquet": (13, 2, 2),
    }


@pytest.mark.parametrize("name", ["parquet", "json"])
def test_an_upgraded_output_goes_on(output: Callable[[str], Output], name: str) -> None:
    one = output(name)
    source = {"topic": "client_tickets", "cluster_id": "cluster-1", "topic_id": "topic-1"}
    edit(one, lambda ledger: ledger.update(source=source))
    manifest = one.recover()
    assert manifest is not None
    assert manifest.source == SOURCE
    more = [messages([encode(ticket(7, client_id="NEW")), b"bad"], first_offset=21)]
    after = publish_batch(one, manifest, name, [more])
    assert after.partitions[0] == Partition(21, 23, tickets=1, rejected=1)
    assert (after.totals.tickets, after.totals.rejected, after.totals.unique_clients) == (30, 4, 17)
    assert one.recover() == after
    # The ledger of this output has one partition, and its rejected messages are of another, so only SQL can check it.
    Published(one.root).require_agreement_in_sql()
    assert convert(one, after, "json" if name == "parquet" else "parquet", UPDATED_AT).totals == after.totals


def test_the_set_of_clients_of_version_1_is_filled_again(output: Callable[[str], Output]) -> None:
    one = output("parquet")
    manifest = one.recover()
    clients = open_clients(one, manifest)
    assert clients.add(lambda: [["NEW"]], 2, "next") == 1
    clients.close()


def require_refused(one: Output, *said: str) -> None:
    before = everything(one)
    with pytest.raises(DataConflict) as caught:
        one.recover()
    for words in said:
        assert words in str(caught.value)
    assert everything(one) == before


def test_an_older_ledger_put_back_beside_newer_files_is_refused(output: Callable[[str], Output], outputs: Path) -> None:
    one = output("parquet")
    shutil.copy(outputs / "one/_manifest.json", one.root)
    require_refused(one, "_manifest.json ends with batch 1, but", "holds batch-000002-0000.parquet")


def test_totals_that_are_not_those_of_the_rows_are_refused(output: Callable[[str], Output]) -> None:
    one = output("parquet")
    edit(one, lambda ledger: ledger["totals"].update(tickets=28))
    require_refused(one, "28 tickets by type are expected, but there are 29")


def test_rows_that_are_not_those_of_the_totals_are_refused(output: Callable[[str], Output]) -> None:
    one = output("parquet")
    path = one.root / "tickets_with_assignment/batch-000001-0000.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    require_refused(one, "29 rows of tickets_with_assignment are expected, but there are 28")


@pytest.mark.parametrize("dataset", ["metrics", "tickets_by_hour", "tickets_by_team"])
def test_a_dataset_of_one_file_from_another_batch_is_refused(
    output: Callable[[str], Output], outputs: Path, dataset: str
) -> None:
    one = output("parquet")
    shutil.copy(outputs / f"one/{dataset}/{dataset}.parquet", one.root / dataset)
    require_refused(one, dataset, "batch")


def test_a_damaged_file_is_refused(output: Callable[[str], Output]) -> None:
    one = output("parquet")
    path = one.root / "tickets_with_assignment/batch-000001-0000.parquet"
    path.write_bytes(path.read_bytes()[:200])
    require_refused(one, f"{path} is damaged (")


@pytest.mark.parametrize("name", ["../victim.txt", "/etc/victim"])
def test_a_ledger_that_names_files_elsewhere_is_refused(output: Callable[[str], Output], name: str) -> None:
    one = output("one")
    edit(one, lambda ledger: ledger["files"].update(metrics=[name]))
    require_refused(one, "_manifest.json is damaged")


@pytest.mark.parametrize(
    ("record", "onto", "said"),
    [
        ("second-committed", "empty", "tickets_with_assignment/batch-000002-0000.parquet was published and is gone"),
        ("first-committed", "parquet", "decides batch 1, but it does not follow what is there (batch 2)"),
        ("second-committed", "first-staged", "decides batch 2, but it does not follow what is there (no ledger)"),
        ("conversion-committed", "one", "decides batch 2, but it does not follow what is there (batch 1)"),
    ],
)
def test_a_record_of_another_moment_is_refused(
    output: Callable[[str], Output], outputs: Path, record: str, onto: str, said: str
) -> None:
    one = output(onto)
    shutil.copy(outputs / record / ".pipeline/commit.json", one.root / ".pipeline")
    require_refused(one, said)


def test_a_record_whose_staged_file_is_gone_is_refused(output: Callable[[str], Output]) -> None:
    one = output("second-committed")
    (staged,) = (one.root / ".pipeline/staging").glob("*/tickets_with_assignment-*")
    staged.unlink()
    require_refused(one, "batch-000002-0000.parquet was published and is gone")


def test_a_record_whose_staged_dataset_of_one_file_is_gone_is_refused(output: Callable[[str], Output]) -> None:
    one = output("second-committed")
    (staged,) = (one.root / ".pipeline/staging").glob("*/tickets_by_hour.parquet")
    staged.unlink()
    require_refused(one, "tickets_by_hour counts 16 tickets, but the totals say 29: it belongs to another batch")


def test_a_record_of_version_1_on_a_ledger_of_this_release_is_refused(
    output: Callable[[str], Output], outputs: Path
) -> None:
    one = output("one")
    one.recover()
    shutil.copy(outputs / "second-committed/.pipeline/commit.json", one.root / ".pipeline")
    require_refused(
        one, "decides a commit of version 1, but it does not follow what is there (a ledger of this release)"
    )


def test_the_upgrade_is_announced(
    output: Callable[[str], Output], outputs_of_version_2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(outputs_of_version_2 / "json", tmp_path / "version-2")
    with caplog.at_level(logging.WARNING):
        output("one").recover()
        Output(OutputLocation(tmp_path / "version-2"), QuickDisk()).recover()
    assert "upgrading the ledger from version 2 to version 3; older releases can no longer use it" in caplog.text
    assert "upgrading the ledger from version 1 to version 3; older releases can no longer use it" in caplog.text


@pytest.mark.parametrize(
    ("name", "batch_id", "file_format", "tickets"),
    [
        ("parquet", 2, "parquet", 29),
        ("json", 2, "json", 29),
        ("third-staged", 2, "parquet", 29),
        ("third-committed", 3, "parquet", 42),
        ("third-between-renames", 3, "parquet", 42),
        ("third-before-manifest", 3, "parquet", 42),
        ("conversion-committed", 2, "json", 29),
        ("conversion-before-manifest", 2, "json", 29),
    ],
)
def test_an_output_of_version_2_goes_on_however_its_release_ended(
    outputs_of_version_2: Path, tmp_path: Path, name: str, batch_id: int, file_format: str, tickets: int
) -> None:
    shutil.copytree(outputs_of_version_2 / name, tmp_path / name)
    one = Output(OutputLocation(tmp_path / name), QuickDisk())
    manifest = one.recover()
    assert manifest is not None
    assert (manifest.batch_id, manifest.format, manifest.totals.tickets) == (batch_id, file_format, tickets)
    Published(one.root).require_agreement()
    more = messages([encode(ticket(1_000, client_id="NEW"))], first_offset=manifest.next_offsets[0])
    after = publish_batch(one, manifest, file_format, [[more]])
    assert (after.totals.tickets, after.totals.unique_clients) == (tickets + 1, 8)
    assert json.loads((one.root / "_manifest.json").read_bytes())["version"] == 3
    Published(one.root).require_agreement()
