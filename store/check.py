"""Check the folder against the ledger, and the ledger against itself. Nothing here changes anything.

A start must not take the time of reading everything. So it compares the sizes of all files, and the checksums only of
those that are small or new. If a file of an earlier commit was altered and kept its size, that is found when the file
is read.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from runtime.errors import DataConflict
from store.datasets import BY_NAME, DATASETS, HIGH_PRIORITY, METRICS, REJECTED, TICKETS
from store.files import Disk, checksum, reading
from store.formats import WRITERS
from store.manifest import MANIFEST_NAME, WAY_OUT, Manifest, PublishedFile

_log = logging.getLogger(__name__)

# Readers of a folder count every file whose name ends with one of these.
COUNTED = tuple(f".{name}" for name in WRITERS)

_Conflict = Callable[[str], DataConflict]


def require_sound(manifest: Manifest, path: Path) -> None:
    """Raise DataConflict unless the numbers of the ledger in ``path`` agree with each other."""

    def wrong(found: str) -> DataConflict:
        return DataConflict(f"{path} contradicts itself: {found}; it was edited or is damaged; {WAY_OUT}")

    _require_files(manifest, wrong)
    _require_batches(manifest, wrong)
    _require_offsets(manifest, wrong)
    _require_window(manifest, wrong)
    totals, rows = manifest.totals, {name: _rows(files) for name, files in manifest.contents.items()}
    earlier = manifest.upgrade
    read = manifest.partitions.values()
    for what, total, found in (
        ("tickets by type", totals.tickets, sum(totals.by_type.values())),
        ("tickets by priority", totals.tickets, sum(totals.by_priority.values())),
        ("tickets by team", totals.tickets, sum(totals.by_team.values())),
        (f"rows of {TICKETS.name}", totals.tickets, rows[TICKETS.name]),
        (f"rows of {HIGH_PRIORITY.name}", totals.urgent, rows[HIGH_PRIORITY.name]),
        (
            "tickets of all partitions",
            totals.tickets + manifest.erased_tickets,
            sum(p.tickets for p in read) + (earlier.tickets if earlier else 0),
        ),
        (
            f"rows of {REJECTED.name}",
            sum(p.rejected + p.duplicates for p in read) + (earlier.rejected if earlier else 0),
            rows[REJECTED.name],
        ),
        ("rejected messages", totals.rejected, rows[REJECTED.name]),
    ):
        if total != found:
            raise wrong(f"{total:,} {what} are expected, but there are {found:,}")


def _rows(files: Mapping[str, PublishedFile]) -> int:
    return sum(file.rows for file in files.values())


def _require_files(manifest: Manifest, wrong: _Conflict) -> None:
    if manifest.format not in WRITERS:
        raise wrong(f"its format is {manifest.format!r}")
    if set(manifest.contents) != set(BY_NAME):
        raise wrong(f"it names the datasets {', '.join(sorted(manifest.contents))}")
    for dataset, files in manifest.contents.items():
        for name in files:
            if not is_file_name(name) or not name.endswith(f".{manifest.format}"):
                raise wrong(f"{dataset} has a file {name!r}")
        if not BY_NAME[dataset].appended and len(files) != 1:
            raise wrong(f"{dataset} has {len(files)} files")


def _require_batches(manifest: Manifest, wrong: _Conflict) -> None:
    for dataset, files in manifest.contents.items():
        for name, file in files.items():
            if not 1 <= file.first_batch <= file.last_batch <= manifest.batch_id:
                raise wrong(
                    f"its last batch is {manifest.batch_id}, but {dataset}/{name} holds batches {file.first_batch} to "
                    f"{file.last_batch}"
                )
            if file.commit > manifest.commit:
                raise wrong(f"its commit is {manifest.commit}, but {dataset}/{name} is of commit {file.commit}")
    if manifest.deduped_from is not None and not 1 <= manifest.deduped_from <= manifest.batch_id:
        raise wrong(f"its last batch is {manifest.batch_id}, but `deduped_from` is {manifest.deduped_from}")
    starts = [rules.from_batch for rules in manifest.rule_sets]
    if starts[0] != 1 or starts[-1] > manifest.batch_id or starts != sorted(set(starts)):
        told = ", ".join(map(str, starts))
        raise wrong(f"its batches are 1 to {manifest.batch_id}, but the rules in `routing` apply from batch {told} on")
    (metrics,) = manifest.contents[METRICS.name].values()
    if metrics.last_batch != manifest.batch_id:
        raise wrong(f"its last batch is {manifest.batch_id}, but {METRICS.name} is of batch {metrics.last_batch}")


def _require_offsets(manifest: Manifest, wrong: _Conflict) -> None:
    for number, partition in manifest.partitions.items():
        if min(partition.accounted, partition.first_offset, partition.next_offset - partition.first_offset) < 0:
            raise wrong(f"partition {number} ends at {partition.next_offset:,}, before its start")
        if partition.next_offset - partition.first_offset != partition.accounted:
            raise wrong(
                f"offsets {partition.first_offset:,} to {partition.next_offset:,} of partition {number} were read, but "
                f"its counts explain {partition.accounted:,} of them"
            )


def _require_window(manifest: Manifest, wrong: _Conflict) -> None:
    window = manifest.window
    if window is None or window.until is None:
        return
    if set(window.ends) != set(manifest.partitions):
        raise wrong(f"it ends the partitions {sorted(window.ends)}, but has {sorted(manifest.partitions)}")
    for number, partition in manifest.partitions.items():
        if partition.next_offset > window.ends[number]:
            raise wrong(
                f"partition {number} is to be read up to offset {window.ends[number]:,}, but was up to "
                f"{partition.next_offset:,}"
            )


def require_folder(
    disk: Disk,
    root: Path,
    manifest: Manifest,
    staged: Mapping[str, Path] | None = None,
    leaving: Collection[str] = (),
) -> None:
    """Raise DataConflict unless the datasets under ``root`` are the files that the ledger names, and no others.

    While a commit is being finished, ``staged`` maps each file that is not published yet (``dataset/name``) to its
    place, and ``leaving`` names the published files that the commit removes.
    """
    staged = staged or {}
    latest = max((file.commit for files in manifest.contents.values() for file in files.values()), default=0)
    for dataset in DATASETS:
        folder = root / dataset.name
        files = manifest.contents[dataset.name]
        expected = {name: staged.get(f"{dataset.name}/{name}", folder / name) for name in files}
        for name, path in expected.items():
            with reading(path):
                require_file(disk, path, files[name], files[name].commit == latest or not dataset.appended)
        with reading(folder):
            present = disk.names(folder) if disk.look(folder, follow=True) else []
        known = set(files) | {name.partition("/")[2] for name in leaving if name.startswith(f"{dataset.name}/")}
        strangers = [name for name in present if name not in known]
        require_none_counted(folder, strangers, manifest.batch_id)
        if strangers:
            _log.warning(
                "%s holds %s, which is not part of the output; some readers of the folder may fail on it",
                folder,
                strangers[0],
            )


def require_file(disk: Disk, path: Path, file: PublishedFile, read: bool) -> None:
    """Raise DataConflict unless a published file has its size and, if it is to be read, its checksum."""
    found = disk.look(path)
    if found is None:
        raise DataConflict(f"{path} was published and is gone; {WAY_OUT}")
    if not found.is_file:
        raise DataConflict(f"{path} was published as a file and is something else now, perhaps a link; {WAY_OUT}")
    if found.bytes != file.bytes:
        raise DataConflict(
            f"{path} was published with {file.bytes:,} bytes and has {found.bytes:,} now: it was cut off or edited, or "
            f"belongs to another batch; {WAY_OUT}"
        )
    if read and checksum(disk, path) != file.checksum:
        raise DataConflict(
            f"{path} is not the file that was published: its checksum differs, so it was edited, or belongs to "
            f"another batch; {WAY_OUT}"
        )


def require_none_counted(folder: Path, names: list[str], last_batch: int) -> None:
    """Raise DataConflict if readers of the folder would count one of ``names``, which the ledger does not have."""
    counted = [name for name in names if name.endswith(COUNTED)]
    if later := [name for name in counted if batch_in(name) > last_batch]:
        raise DataConflict(
            f"{MANIFEST_NAME} ends with batch {last_batch}, but {folder} holds {later[0]}: the ledger is older than "
            f"the files, as if a backup had been copied over an output; {WAY_OUT}"
        )
    if counted:
        raise DataConflict(
            f"{folder} holds {len(counted)} files that are not part of the output, the first is {counted[0]}: every "
            f"reader of the folder would count them; if you put them there, move them away; otherwise: {WAY_OUT}"
        )


def batch_in(name: str) -> int:
    """Return the batch in the name of a published file, 0 if the name has none."""
    kind, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    return int(number) if kind == "batch" and number.isascii() and number.isdigit() else 0


def require_no_datasets(disk: Disk, root: Path) -> None:
    """Raise DataConflict if there are files that a reader would count, although there is no ledger."""
    for dataset in DATASETS:
        folder = root / dataset.name
        with reading(folder):
            names = disk.names(folder) if disk.look(folder, follow=True) else []
        if any(name.endswith(COUNTED) for name in names):
            raise DataConflict(
                f"{folder} holds files, but {root / MANIFEST_NAME} is missing: without it, nothing says which messages "
                "they cover; move the whole output folder away, or put a backup of it, with its ledger, into an empty "
                "folder, or choose another --output-path; nothing was changed"
            )


def is_file_name(name: str) -> bool:
    """Whether ``name`` is a plain name, which cannot lead out of the folder that it is looked up in."""
    return bool(name) and name not in (".", "..") and not set(name) & {"/", "\\", "\0"}
