"""Recovery: decide how to finish a commit record that is found at a start. Nothing here changes anything.

A record names the commit that it follows. If the ledger is at that commit, the record can be finished, provided that
each file that it names is staged or published, and intact. If the ledger is already at the record's own commit, only
the cleaning up is left. If it is at any other one, the record or the ledger comes from a copy of another moment.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runtime.errors import DataConflict
from store import exchange
from store.check import is_file_name, require_folder, require_sound
from store.datasets import BY_NAME
from store.files import Disk, reading
from store.manifest import (
    MANIFEST_NAME,
    UNREADABLE_MANIFEST,
    WAY_OUT,
    CommitRecord,
    Exchange,
    Manifest,
    Rename,
    damaged,
    decode_manifest,
    encode,
    manifest_from_json,
    version_of,
)
from store.upgrade import Version1, Version1Record, decode_version_1, encode_version_1, may_follow, upgrade_version_1

_log = logging.getLogger(__name__)

_UNREADABLE_RECORD = "it holds a commit that may be partly published"


@dataclass(frozen=True, slots=True)
class Decided:
    """A commit that can be finished: the manifest after it, as bytes, and whether the ledger is at it already."""

    manifest: bytes
    renames: list[Rename]
    removals: list[str]
    in_force: bool
    exchanges: list[Exchange] = field(default_factory=list)


def examine(disk: Disk, root: Path, path: Path, record: bytes, manifest: bytes | None) -> Decided:
    """Return how to finish ``record``, which was read from ``path``, given the ledger ``manifest``.

    Raises DataConflict when the record is damaged, or does not belong to this ledger and these files.
    """
    decided = decode_record(path, record)
    with reading(root):
        waiting = {r.published: root / r.staged for r in decided.renames if disk.look(root / r.staged) is not None}
    if isinstance(decided, Version1Record):
        return _finish_version_1(disk, root, path, decided, manifest, waiting)
    return _finish(disk, root, path, decided, manifest, waiting)


def _finish(
    disk: Disk, root: Path, path: Path, record: CommitRecord, manifest: bytes | None, waiting: Mapping[str, Path]
) -> Decided:
    before, after = _ledger_of_this_version(root, path, manifest), record.manifest
    if before is not None and before.commit_id == after.commit_id:
        # The crash came after the ledger was replaced: only files to remove, and placeholders, may be left.
        placeholders = [f"{each.dataset}/{name}" for each in record.exchanges for name in each.old]
        require_folder(disk, root, before, leaving=[*record.removals, *placeholders])
        return Decided(encode(before), record.renames, record.removals, in_force=True, exchanges=record.exchanges)
    if (before.commit_id if before else None) != after.follows:
        raise _stale(path, f"commit {after.commit}", f"commit {before.commit}" if before else "no ledger")
    require_sound(after, path)
    # Files that are not published yet may wait in staging, or in a prepared folder that is not exchanged yet.
    with reading(root):
        exchanged = {
            name: place
            for each in record.exchanges
            for name, place in exchange.waiting(disk, root, each, after.contents[each.dataset]).items()
        }
    require_folder(disk, root, after, {**waiting, **exchanged}, _published(before))
    number = after.batch_id if after.kind == "batch" else after.commit
    _log.warning("finishing %s %d, which an earlier run had decided", after.kind, number)
    return Decided(encode(after), record.renames, record.removals, in_force=False, exchanges=record.exchanges)


def _ledger_of_this_version(root: Path, path: Path, manifest: bytes | None) -> Manifest | None:
    if manifest is None:
        return None
    if version_of(root / MANIFEST_NAME, manifest, UNREADABLE_MANIFEST) == 1:
        raise _stale(path, "a commit of this release", "a ledger of version 1")
    return decode_manifest(root / MANIFEST_NAME, manifest)


def _finish_version_1(
    disk: Disk, root: Path, path: Path, record: Version1Record, manifest: bytes | None, waiting: Mapping[str, Path]
) -> Decided:
    """Do the same for a record of version 1. It does not say what it follows, so its numbers are compared."""
    ledger = root / MANIFEST_NAME
    if manifest is not None and version_of(ledger, manifest, UNREADABLE_MANIFEST) != 1:
        raise _stale(path, "a commit of version 1", "a ledger of this release")
    before = None if manifest is None else decode_version_1(ledger, manifest)
    in_force = before == record.manifest
    if not in_force and not may_follow(record, before):
        was = f"batch {before.batch_id}" if before else "no ledger"
        raise _stale(path, f"batch {record.manifest.batch_id}", was)
    after = encode_version_1(record.manifest)
    leaving = [*_published(before), *record.removals]
    upgrade_version_1(disk, root, record.manifest, after, {} if in_force else waiting, leaving)
    _log.warning("finishing batch %d, which the release before this one had decided", record.manifest.batch_id)
    return Decided(after, record.renames, record.removals, in_force)


def _published(manifest: Manifest | Version1 | None) -> list[str]:
    """Return the files that were published before the commit, as ``dataset/name``."""
    return [f"{dataset}/{name}" for dataset, names in (manifest.files if manifest else {}).items() for name in names]


def _stale(path: Path, recorded: str, found: str) -> DataConflict:
    return DataConflict(
        f"{path} decides {recorded}, but it does not follow what is there ({found}): one of the two comes from a copy "
        f"of another moment; {WAY_OUT}"
    )


def decode_record(path: Path, content: bytes) -> CommitRecord | Version1Record:
    """Return the commit record in ``content``, which was read from ``path``.

    Raises DataConflict when it cannot be decoded, or names files that a commit must not touch.
    """
    try:
        raw = msgspec.json.decode(content, type=dict)
        version = version_of(path, msgspec.json.encode(raw.get("manifest")), _UNREADABLE_RECORD)
        if version == 1:
            record: CommitRecord | Version1Record = msgspec.convert(raw, Version1Record, str_keys=True)
        else:
            renames = msgspec.convert(raw.get("renames"), list[Rename])
            removals = msgspec.convert(raw.get("removals"), list[str])
            exchanges = msgspec.convert(raw.get("exchanges", []), list[Exchange])
            record = CommitRecord(manifest_from_json(raw["manifest"]), renames, removals, exchanges)
            _require_own_folders(record)
        _require_own_files(record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, content, error, _UNREADABLE_RECORD) from None
    return record


def _require_own_files(record: CommitRecord | Version1Record) -> None:
    """Raise ValidationError unless the record only moves staged files into datasets and removes files of datasets."""
    kept = set(_published(record.manifest))
    for name in (r.published for r in record.renames):
        if name not in kept or not _is_in_a_dataset(name):
            raise msgspec.ValidationError(f"{name!r} is not a file of a dataset")
    for name in record.removals:
        if name in kept or not _is_in_a_dataset(name):
            raise msgspec.ValidationError(f"{name!r} is not a file to remove from a dataset")
    for name in (r.staged for r in record.renames):
        parts = name.split("/")
        if parts[:2] != [".pipeline", "staging"] or len(parts) != 4 or not all(map(is_file_name, parts)):
            raise msgspec.ValidationError(f"{name!r} is not a staged file")


def _require_own_folders(record: CommitRecord) -> None:
    """Raise ValidationError unless the record exchanges staged folders with datasets, each of them only once."""
    touched = [each.dataset for each in record.exchanges]
    touched += {name.partition("/")[0] for name in (*(r.published for r in record.renames), *record.removals)}
    for each in record.exchanges:
        if each.dataset not in BY_NAME.keys() & record.manifest.contents or touched.count(each.dataset) > 1:
            raise msgspec.ValidationError(f"{each.dataset!r} is not a dataset to exchange, or is changed twice")
        kept, parts = record.manifest.contents[each.dataset], each.prepared.split("/")
        if parts[:2] != [".pipeline", "staging"] or parts[3:] != [each.dataset] or not all(map(is_file_name, parts)):
            raise msgspec.ValidationError(f"{each.prepared!r} is not a staged folder")
        if not set(each.new) <= set(kept) or not each.old or not kept.keys().isdisjoint(each.old):
            raise msgspec.ValidationError(f"{each.dataset!r} exchanges other files than it gains and loses")
        if not all(map(is_file_name, [*each.new, *each.old])):
            raise msgspec.ValidationError(f"{each.dataset!r} exchanges names that are not files of a dataset")


def _is_in_a_dataset(name: str) -> bool:
    dataset, _, file = name.partition("/")
    return dataset in BY_NAME and is_file_name(file)
