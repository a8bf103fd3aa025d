"""The ledger on the disk."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from runtime.errors import DataConflict
from store.manifest import CommitRecord, Gap, Manifest, Rename, Totals, encode, read_manifest
from tests.support.staging import SOURCE

MANIFEST = Manifest(
    format="parquet",
    batch_id=42,
    updated_at=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
    source=SOURCE,
    next_offsets={0: 10, 11: 2**62},
    totals=Totals(3, 1, 2, {"billing": 3}, {"low": 3}, {"Billing Team": 3}),
    files={"metrics": ["metrics.parquet"]},
    gaps=[Gap(partition=0, start=2, end=4, batch_id=7)],
)


def written(folder: Path, content: bytes) -> Path:
    (folder / "_manifest.json").write_bytes(content)
    return folder


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path, encode(MANIFEST))) == MANIFEST


def test_a_commit_record_comes_back_as_it_was() -> None:
    record = CommitRecord(MANIFEST, [Rename("a", "b")], ["c"])
    assert msgspec.json.decode(encode(record), type=CommitRecord) == record


def test_the_file_is_json_that_anyone_can_read() -> None:
    assert json.loads(encode(MANIFEST)) == {
        "format": "parquet",
        "batch_id": 42,
        "updated_at": "2026-01-31T09:30:00Z",
        "source": {"topic": "client_tickets", "cluster_id": "cluster-1", "topic_id": "topic-1"},
        "next_offsets": {"0": 10, "11": 2**62},
        "totals": {
            "tickets": 3,
            "rejected": 1,
            "unique_clients": 2,
            "by_type": {"billing": 3},
            "by_priority": {"low": 3},
            "by_team": {"Billing Team": 3},
        },
        "files": {"metrics": ["metrics.parquet"]},
        "gaps": [{"partition": 0, "start": 2, "end": 4, "batch_id": 7}],
        "version": 1,
    }
    assert encode(MANIFEST).count(b"\n") > 20


def test_a_new_output_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"", encode(MANIFEST)[:200], encode(MANIFEST)[:-3], b"\xff", b"[]", b"{}", b"null", b'{"version": 1}']
)
def test_a_damaged_manifest_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataConflict) as caught:
        read_manifest(written(tmp_path, content))
    assert caught.value.exit_code == 4
    assert f"{tmp_path}/_manifest.json is damaged ({len(content):,} bytes: " in str(caught.value)
    assert "restore it from a backup, or choose another --output-path" in str(caught.value)


def test_a_manifest_of_a_newer_release_is_refused_as_such(tmp_path: Path) -> None:
    newer = json.loads(encode(MANIFEST)) | {"version": 2, "a_field_of_the_future": [1]}
    del newer["files"]
    with pytest.raises(DataConflict, match="has version 2, this program writes 1; run the matching release"):
        read_manifest(written(tmp_path, json.dumps(newer).encode()))
