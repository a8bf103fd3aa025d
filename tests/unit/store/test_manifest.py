"""The ledger on the disk."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.routing import DEFAULT, Rule
from runtime.errors import DataConflict
from store.counts import Totals
from store.files import Disk
from store.manifest import (
    Erasure,
    Gap,
    Manifest,
    Partition,
    PublishedFile,
    Record,
    RuleSet,
    Upgrade,
    Window,
    encode,
    manifest_from_json,
    read_manifest,
)
from tests.support.staging import SOURCE

MANIFEST = Manifest(
    output_id="output-1",
    commit=43,
    commit_id="commit-43",
    follows="commit-42",
    kind="batch",
    format="parquet",
    batch_id=42,
    updated_at=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
    source=SOURCE,
    partitions={
        0: Partition(2, 12, tickets=3, rejected=1, empty=4, gaps=2, last_record=Record(11, 1_769_850_000_000, "cd")),
        11: Partition(2**62, 2**62),
    },
    totals=Totals(3, 1, 2, {"billing": 3}, {"low": 3}, {"Billing Team": 3}),
    contents={"metrics": {"metrics.parquet": PublishedFile(1, 1234, "sha256:ab", 1, 42, 43)}},
    gaps=[Gap(partition=0, start=2, end=4, batch_id=7)],
    upgrade=Upgrade(1, 0, 0),
    deduped_from=7,
    erased_tickets=2,
    erasures=[Erasure("5a17", ["d1", "d2"], [8], {0: 20})],
    window=Window("latest", "2026-01-31T10:00:00Z", {0: 14, 11: 2**62}),
    routing=[RuleSet(1, [Rule("Desk")]), RuleSet(9, [Rule("Night Shift", ("technical",), ("high",)), Rule("Desk")])],
)

EVERY_TYPE = ["account", "billing", "technical", "general"]
EVERY_PRIORITY = ["low", "medium", "high", "critical"]
DESK = {"team": "Desk", "request_type": EVERY_TYPE, "priority": EVERY_PRIORITY}

IN_JSON: dict[str, Any] = {
    "version": 3,
    "output_id": "output-1",
    "commit": 43,
    "commit_id": "commit-43",
    "follows": "commit-42",
    "kind": "batch",
    "format": "parquet",
    "batch_id": 42,
    "updated_at": "2026-01-31T09:30:00Z",
    "source": {"topic": "client_tickets", "cluster_id": "cluster-1", "topic_id": "topic-1"},
    "partitions": {
        "0": {
            "first_offset": 2,
            "next_offset": 12,
            "tickets": 3,
            "rejected": 1,
            "duplicates": 0,
            "forgotten": 0,
            "empty": 4,
            "gaps": 2,
            "last_record": {"offset": 11, "timestamp": 1_769_850_000_000, "checksum": "cd"},
        },
        "11": {
            "first_offset": 2**62,
            "next_offset": 2**62,
            "tickets": 0,
            "rejected": 0,
            "duplicates": 0,
            "forgotten": 0,
            "empty": 0,
            "gaps": 0,
            "last_record": None,
        },
    },
    "totals": {
        "tickets": 3,
        "rejected": 1,
        "unique_clients": 2,
        "by_type": {"billing": 3},
        "by_priority": {"low": 3},
        "by_team": {"Billing Team": 3},
    },
    "contents": {
        "metrics": {
            "metrics.parquet": {
                "rows": 1,
                "bytes": 1234,
                "checksum": "sha256:ab",
                "first_batch": 1,
                "last_batch": 42,
                "commit": 43,
                "rewrites": 0,
            }
        }
    },
    "gaps": [{"partition": 0, "start": 2, "end": 4, "batch_id": 7}],
    "upgrade": {"version": 1, "tickets": 0, "rejected": 0},
    "erased_tickets": 2,
    "erasures": [{"salt": "5a17", "digests": ["d1", "d2"], "lengths": [8], "below": {"0": 20}}],
    "window": {"start": "latest", "until": "2026-01-31T10:00:00Z", "ends": {"0": 14, "11": 2**62}},
    "files": {"metrics": ["metrics.parquet"]},
    "deduped_from": 7,
    "routing": [
        {"from_batch": 1, "rules": [DESK]},
        {
            "from_batch": 9,
            "rules": [{"team": "Night Shift", "request_type": ["technical"], "priority": ["high"]}, DESK],
        },
    ],
}


def read(folder: Path, content: bytes) -> Manifest | None:
    (folder / "_manifest.json").write_bytes(content)
    return read_manifest(Disk(), folder)


def test_the_file_is_json_that_anyone_can_read() -> None:
    assert json.loads(encode(MANIFEST)) == IN_JSON
    assert encode(MANIFEST).count(b"\n") > 40


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read(tmp_path, encode(MANIFEST)) == MANIFEST


def test_an_output_is_complete_once_its_window_is_read_to_the_end_in_every_partition() -> None:
    assert not MANIFEST.is_complete
    read = {**MANIFEST.partitions, 0: Partition(2, 14)}
    assert msgspec.structs.replace(MANIFEST, partitions=read).is_complete
    assert not msgspec.structs.replace(MANIFEST, partitions=read, window=Window("latest")).is_complete
    assert not msgspec.structs.replace(MANIFEST, partitions=read, window=None).is_complete


def test_a_new_output_has_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(Disk(), tmp_path) is None


def test_unknown_fields_of_a_later_release_are_carried_over_unchanged() -> None:
    told = json.loads(json.dumps(IN_JSON))
    places = (
        told,
        told["source"],
        told["totals"],
        told["partitions"]["0"],
        told["partitions"]["0"]["last_record"],
        told["contents"]["metrics"]["metrics.parquet"],
        told["gaps"][0],
        told["upgrade"],
        told["erasures"][0],
        told["window"],
        told["routing"][1],
    )
    for number, place in enumerate(places):
        place["note"] = {"of the future": [number, None, 1.5]}
    manifest = manifest_from_json(told)
    assert json.loads(encode(manifest)) == told
    assert json.loads(encode(msgspec.structs.replace(manifest, batch_id=43))) == {**told, "batch_id": 43}
    assert manifest.totals.add([], 0, 0).unknown == {"note": {"of the future": [2, None, 1.5]}}


@pytest.mark.parametrize(
    "content", [b"", encode(MANIFEST)[:200], encode(MANIFEST)[:-3], b"\xff", b"[]", b"{}", b"null", b'{"version": 3}']
)
def test_a_damaged_manifest_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataConflict) as caught:
        read(tmp_path, content)
    assert caught.value.exit_code == 4
    assert f"{tmp_path}/_manifest.json is damaged ({len(content):,} bytes: " in str(caught.value)
    assert "put a backup of the whole output folder into an empty folder, or choose another" in str(caught.value)


def test_without_rules_in_it_the_default_has_applied_from_the_first_batch_on(tmp_path: Path) -> None:
    without = {key: value for key, value in IN_JSON.items() if key != "routing"}
    manifest = read(tmp_path, json.dumps(without).encode())
    assert manifest is not None
    assert manifest.routing == []
    assert manifest.rule_sets == [RuleSet(1, list(DEFAULT.rules))]


def test_rules_of_a_release_that_knew_other_types_can_be_read(tmp_path: Path) -> None:
    other = {**IN_JSON, "routing": [{"from_batch": 1, "rules": [{**DESK, "request_type": ["billing", "sales"]}]}]}
    manifest = read(tmp_path, json.dumps(other).encode())
    assert manifest is not None
    assert json.loads(encode(manifest)) == other
    assert manifest.rule_sets[0].routing.assignments() == {
        ("billing", "low"): "Desk",
        ("billing", "medium"): "Desk",
        ("billing", "high"): "Desk",
        ("billing", "critical"): "Desk",
    }


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{**DESK, "client": "VIP"}], "Object contains unknown field `client`"),
        ([{**DESK, "priority": "low"}], "Expected `array`, got `str`"),
        ([{"request_type": EVERY_TYPE}], "Object missing required field `team`"),
    ],
)
def test_rules_that_cannot_be_followed_are_damage(tmp_path: Path, rules: list[Any], said: str) -> None:
    other = {**IN_JSON, "routing": [{"from_batch": 7, "rules": rules}]}
    with pytest.raises(DataConflict) as caught:
        read(tmp_path, json.dumps(other).encode())
    assert "is damaged" in str(caught.value)
    assert said in str(caught.value)


def test_files_that_stand_in_one_of_the_two_lists_only_are_damage(tmp_path: Path) -> None:
    other = {**IN_JSON, "files": {"metrics": ["metrics.parquet", "more.parquet"]}}
    with pytest.raises(DataConflict, match="`files` and `contents` name different files"):
        read(tmp_path, json.dumps(other).encode())


def test_a_field_of_another_type_is_damage(tmp_path: Path) -> None:
    other = {**IN_JSON, "partitions": {"0": {"first_offset": "2", "next_offset": 2}}}
    with pytest.raises(DataConflict, match=r"is damaged .*Expected `int`, got `str`"):
        read(tmp_path, json.dumps(other).encode())


def test_a_manifest_of_a_newer_release_is_refused_as_such(tmp_path: Path) -> None:
    for version in (0, -1):
        with pytest.raises(DataConflict, match=rf"is damaged \(\d+ bytes: there is no version {version}\)"):
            read(tmp_path, b'{"version": %d}' % version)
    newer = {"version": 4, "a_field_that_must_be_obeyed": [1]}
    with pytest.raises(DataConflict, match="has version 4, but this program reads only up to version 3: a newer"):
        read(tmp_path, json.dumps(newer).encode())


def test_a_reader_of_an_older_ledger_is_told_to_start_the_processor_once(tmp_path: Path) -> None:
    with pytest.raises(DataConflict, match=r"has version 1, .*start the processor once: it upgrades the ledger"):
        read(tmp_path, b'{"version": 1}')
