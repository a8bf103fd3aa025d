"""The state of an output at one moment, for readers without its lock: the ledger, and a commit under way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import DataConflict, SettingError
from store.datasets import DATASETS
from store.files import Disk, read_if_there, reading
from store.formats import WRITERS
from store.manifest import MANIFEST_NAME, Exchange, Manifest, manifest_from_json, read_manifest


@dataclass(frozen=True, slots=True)
class View:
    """A ledger, and where its files are. ``staged`` maps files (``dataset/name``) that are not published yet to paths.

    ``leaving`` are files that the commit removes and that may still be there.
    """

    manifest: Manifest
    staged: Mapping[str, Path] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    note: str = ""


def read_state(disk: Disk, root: Path) -> tuple[bytes | None, Manifest]:
    """Return the commit record and the ledger.

    They are read in this order: if there is no record, a commit is either over, with its ledger in place, or not begun.

    Raises SettingError when there is no output, DataConflict when its ledger cannot be decoded, OutputUnavailable when
    it cannot be read.
    """
    path = root / ".pipeline" / "commit.json"
    with reading(path):
        record = read_if_there(disk, path)
    manifest = read_manifest(disk, root)
    if manifest is None:
        raise _nothing_there(disk, root)
    if manifest.format not in WRITERS:
        raise DataConflict(f"{root / MANIFEST_NAME} contradicts itself: its format is {manifest.format!r}")
    return record, manifest


def _nothing_there(disk: Disk, root: Path) -> Exception:
    """Return the error for an output without a ledger."""
    with reading(root):
        for dataset in DATASETS:
            folder = root / dataset.name
            names = disk.names(folder) if disk.look(folder, follow=True) else []
            if any(name.endswith(tuple(f".{f}" for f in WRITERS)) for name in names):
                return DataConflict(
                    f"{folder} holds files, but {root / MANIFEST_NAME} is missing: without it, nothing says which "
                    "messages they cover; put a backup of the whole output folder into an empty folder and verify that"
                )
    # A wrong path is the likeliest cause, so this must not pass as an output that is in order.
    return SettingError(
        f"there is no output in {root} to verify: nothing was published there yet; correct --output-path, or start the "
        "processor first"
    )


def finished(root: Path, disk: Disk, ledger: Manifest, record: bytes) -> View:
    """Return the output as it will be once the next start has finished an interrupted commit."""
    path = root / ".pipeline" / "commit.json"
    try:
        raw = msgspec.json.decode(record, type=dict[str, Any])
        decided = manifest_from_json(raw["manifest"])
        renames = {each["published"]: root / each["staged"] for each in raw["renames"]}
        exchanges = msgspec.convert(raw.get("exchanges", []), list[Exchange])
        removals = frozenset([*raw["removals"], *(f"{each.dataset}/{name}" for each in exchanges for name in each.old)])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataConflict(
            f"{path} is damaged ({len(record):,} bytes: {error}): it holds a commit that may be partly published"
        ) from None
    if decided.commit_id == ledger.commit_id:
        return View(
            ledger,
            leaving=removals,
            note=f"commit {ledger.commit} is made, but old files are still to be removed",
        )
    if decided.follows != ledger.commit_id:
        raise DataConflict(
            f"{path} decides commit {decided.commit}, but it does not follow what is there (commit {ledger.commit}): "
            "one of the two comes from a copy of another moment"
        )
    with reading(root):
        staged = {published: path for published, path in renames.items() if disk.look(path) is not None}
        for each in exchanges:
            prepared = {f"{each.dataset}/{name}": root / each.prepared / name for name in each.new}
            staged |= {name: path for name, path in prepared.items() if disk.look(path) is not None}
    note = (
        f"commit {decided.commit} is decided, but not all of it is published: a processor is doing that, or it was "
        "interrupted, and the next start does it"
    )
    return View(decided, staged, removals, note)
