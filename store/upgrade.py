"""Ledgers of earlier releases. Each step takes a version to the next one.

Version 1 kept only the names of files. So the upgrade counts their rows once and compares them with the totals; from
then on the ledger has sizes and checksums.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from contract.routing import DEFAULT
from runtime.errors import DataConflict
from store.check import batch_in, is_file_name, require_folder, require_sound
from store.counts import Totals, summaries
from store.datasets import BY_HOUR, BY_NAME, DATASETS, METRICS, Dataset
from store.files import Disk, checksum, reading
from store.formats import Damaged, count_rows
from store.manifest import (
    MANIFEST_NAME,
    UNREADABLE_MANIFEST,
    WAY_OUT,
    Gap,
    Manifest,
    Partition,
    PublishedFile,
    Rename,
    Source,
    Upgrade,
    damaged,
    new_id,
)
from store.reader import Reader


class Version1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of version 1."""

    format: str
    batch_id: int
    updated_at: datetime
    source: Source
    next_offsets: dict[int, int]
    totals: Totals
    files: dict[str, list[str]]
    gaps: list[Gap] = []
    version: int = 1


class Version1Record(msgspec.Struct, frozen=True):
    """The commit record of version 1, which does not say what it follows."""

    manifest: Version1
    renames: list[Rename]
    removals: list[str]


def decode_version_1(path: Path, content: bytes) -> Version1:
    """Return the manifest of version 1 in ``content``, which was read from ``path``. Raises DataConflict."""
    try:
        manifest = msgspec.json.decode(content, type=Version1)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, content, error, UNREADABLE_MANIFEST) from None
    names = [name for files in manifest.files.values() for name in files]
    if set(manifest.files) != set(BY_NAME) or not all(map(is_file_name, names)):
        raise damaged(path, content, ValueError("its files are not those of an output"), UNREADABLE_MANIFEST)
    return manifest


def encode_version_1(manifest: Version1) -> bytes:
    """Return the content of the file as the release of version 1 wrote it."""
    raw: Any = msgspec.to_builtins(manifest, str_keys=True)
    for part in (raw["source"], raw["totals"], *raw["gaps"]):
        del part["unknown"]
    return msgspec.json.format(msgspec.json.encode(raw), indent=2) + b"\n"


def may_follow(record: Version1Record, before: Version1 | None) -> bool:
    """Whether a record of version 1 can be the next commit of an output, judged by its numbers."""
    after = record.manifest
    if before is None:
        return after.batch_id == 1
    if after.source != before.source:
        return False
    if after.format != before.format:
        return after.batch_id == before.batch_id and after.next_offsets == before.next_offsets
    return after.batch_id == before.batch_id + 1 and all(
        after.next_offsets.get(partition, -1) >= offset for partition, offset in before.next_offsets.items()
    )


def version_1_id(content: bytes) -> str:
    """Return a commit id for a manifest of version 1, which has none: a hash of its content."""
    return f"version-1-{hashlib.sha256(content).hexdigest()[:32]}"


def upgrade_version_1(
    disk: Disk,
    root: Path,
    old: Version1,
    content: bytes,
    staged: Mapping[str, Path] | None = None,
    leaving: Collection[str] = (),
) -> Manifest:
    """Return the manifest of this release for an output of version 1, after reading all its files.

    ``staged`` and ``leaving`` are those of ``require_folder``.

    Raises DataConflict when its files do not have the rows that its totals say, OutputUnavailable when they cannot be
    read.
    """

    def place(dataset: Dataset, name: str) -> Path:
        return (staged or {}).get(f"{dataset.name}/{name}", root / dataset.name / name)

    manifest = Manifest(
        output_id=new_id(),
        commit=0,
        commit_id=version_1_id(content),
        follows=None,
        kind="upgrade",
        format=old.format,
        batch_id=old.batch_id,
        updated_at=old.updated_at,
        source=old.source,
        # Version 1 did not keep what became of the earlier offsets, so the counts of a partition start here.
        partitions={number: Partition(offset, offset) for number, offset in old.next_offsets.items()},
        totals=old.totals,
        contents={
            d.name: {name: _measure(disk, d, name, place(d, name), old) for name in old.files[d.name]} for d in DATASETS
        },
        gaps=old.gaps,
        upgrade=Upgrade(1, old.totals.tickets, old.totals.rejected),
    )
    require_folder(disk, root, manifest, staged, leaving)
    require_sound(manifest, root / MANIFEST_NAME)
    _require_summaries(Reader(root, manifest, disk, staged))
    return manifest


def _measure(disk: Disk, dataset: Dataset, name: str, path: Path, old: Version1) -> PublishedFile:
    batch = batch_in(name)
    with reading(path):
        found = disk.look(path)
        if found is None or not found.is_file:
            raise DataConflict(f"{path} was published and is gone, or is not a file any more; {WAY_OUT}")
        try:
            with disk.open(path) as file:
                rows = count_rows(old.format, file)
        except Damaged as damage:
            raise DataConflict(f"{path} is damaged ({damage}); {WAY_OUT}") from None
        return PublishedFile(
            rows=rows,
            bytes=found.bytes,
            checksum=checksum(disk, path),
            first_batch=batch if dataset.appended else 1,
            last_batch=batch if dataset.appended else old.batch_id,
            commit=0,
        )


def _require_summaries(reader: Reader) -> None:
    """Raise DataConflict unless the one-file datasets are those of the last batch: version 1 kept no checksums."""
    manifest = reader.manifest
    hours, metrics = reader.table(BY_HOUR), reader.rows(METRICS)
    # A conversion changes the time of the manifest, but not that of the last batch.
    updated_at = metrics[0]["updated_at"] if len(metrics) == 1 else manifest.updated_at
    expected = summaries(manifest.totals, hours, manifest.batch_id, updated_at, DEFAULT.teams)
    for dataset, table in expected.items():
        if _in_any_order(reader.rows(dataset)) != _in_any_order(table.to_pylist()):
            raise DataConflict(f"{dataset.name} is not that of batch {manifest.batch_id}; {WAY_OUT}")
    for column, totals in (("request_type", manifest.totals.by_type), ("priority", manifest.totals.by_priority)):
        counted = Counter[str]()
        for name, count in zip(hours[column].to_pylist(), hours["count"].to_pylist(), strict=True):
            counted[name] += count
        if counted != Counter(totals):
            raise DataConflict(
                f"{BY_HOUR.name} counts {counted.total():,} tickets, but the totals say {manifest.totals.tickets:,}: "
                f"it belongs to another batch; {WAY_OUT}"
            )


def _in_any_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(map(repr, rows))
