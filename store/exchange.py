"""Exchange the folder of a dataset as a whole: a listing shows the old files or the new ones, never some of both.

The new folder is prepared in staging; files that stay are linked into it. The folder that is swapped out goes to
``ReplacedFolders``. If an exchange is interrupted, at any point, the next start can finish it.

Some readers (Arrow, Hadoop) list a folder, then look up each name by its path, and silently skip files that are gone by
then. If the exchange happened in between, their count would be too low. So for LISTING_S the new folder holds
placeholders under the names that are gone. A placeholder cannot be read, so such a reader fails instead of miscounting.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runtime.process.failpoint import failpoint
from store.check import require_file
from store.files import NO_EXCHANGE, Disk, remove_if_there
from store.manifest import Exchange, PublishedFile, new_id
from store.replaced import ReplacedFolders

_log = logging.getLogger(__name__)

# Readers look up the names that they have listed within milliseconds. On a busy machine it takes longer.
LISTING_S = 1.0
PLACEHOLDER = b"merged into another file a moment ago: list the folder again\n"


def refusal(disk: Disk, staging: Path, folders: Iterable[Path]) -> str | None:
    """Return why ``folders`` cannot be exchanged for others, None if they can. It tries that with two empty folders.

    ``staging`` must exist. Raises OSError.
    """
    for folder in folders:
        found = disk.look(folder)
        if found is not None and not found.is_folder:
            return f"{folder} is a link"
    trial = staging / f"trial-{new_id()[:8]}"
    one, other = trial / "one", trial / "other"
    for folder in (trial, one, other):
        disk.make_folder(folder)
    try:
        disk.create(one / "file").close()
        disk.link(one / "file", other / "linked")
        disk.exchange(one, other)
    except OSError as error:
        if error.errno not in NO_EXCHANGE:
            raise
        return f"the file system of {staging} refuses it ({error.strerror})"
    finally:
        disk.remove_folder(trial)
    return None


def prepare(
    disk: Disk,
    root: Path,
    prepared: Path,
    files: Mapping[str, PublishedFile],
    staged: Mapping[str, Path],
    old: list[str],
) -> Exchange:
    """Make ``prepared`` the folder that the dataset of its name has after a commit.

    Its content is forced to the disk, but not its own name. ``files`` are all files that the dataset then has;
    ``staged`` says where the new ones are. Raises OSError, and DataConflict when a published file was changed.
    """
    dataset = root / prepared.name
    disk.make_folder(prepared)
    for name, file in files.items():
        path = staged.get(name, dataset / name)
        require_file(disk, path, file, read=False)
        disk.link(path, prepared / name)
    _place_placeholders(disk, dataset, prepared, old)
    disk.make_alike(prepared, dataset)
    disk.sync_folder(prepared)
    return Exchange(dataset.name, str(prepared.relative_to(root)), list(staged), old)


def _place_placeholders(disk: Disk, dataset: Path, prepared: Path, names: Sequence[str]) -> None:
    """Link one file under all these names, so that only one has to be forced to the disk."""
    placeholder = prepared.with_name(f"{prepared.name}-placeholder")
    with disk.create(placeholder) as file:
        file.write(PLACEHOLDER)
        # Polars asks for the size, then opens the file again; if it became smaller, Polars panics. The file is sparse,
        # so it takes no space on the disk.
        file.truncate(max([len(PLACEHOLDER), *(found.bytes for name in names if (found := disk.look(dataset / name)))]))
        disk.sync(file)
    for name in names:
        disk.link(placeholder, prepared / name)


def _is_placeholder(disk: Disk, path: Path) -> bool:
    found = disk.look(path)
    if found is None or not found.is_file:
        return False
    with disk.open(path) as file:
        return file.read(len(PLACEHOLDER)) == PLACEHOLDER


def remove_placeholders(disk: Disk, root: Path, exchange: Exchange) -> None:
    """Remove the placeholders from the folder of the dataset. Raises OSError."""
    folder = root / exchange.dataset
    for name in exchange.old:
        if _is_placeholder(disk, folder / name):
            disk.unlink(folder / name)
    disk.sync_folder(folder)


def is_done(disk: Disk, root: Path, exchange: Exchange) -> bool:
    """Whether the folder of the dataset is already the one that was prepared. Raises OSError."""
    folder = root / exchange.dataset
    return _names(disk, folder).issuperset(exchange.new) and not _holds_old(disk, folder, exchange)


def _holds_old(disk: Disk, folder: Path, exchange: Exchange) -> bool:
    """Whether a folder holds one of the files that the exchange removes, and not only its placeholder."""
    names = _names(disk, folder)
    return any(name in names and not _is_placeholder(disk, folder / name) for name in exchange.old)


def waiting(disk: Disk, root: Path, exchange: Exchange, files: Iterable[str]) -> dict[str, Path]:
    """Return where those of ``files`` (all of the dataset) are that the exchange will bring in. Raises OSError.

    Files that stay are among them: the exchange swaps out the folder that holds their present names.
    """
    if is_done(disk, root, exchange):
        return {}
    prepared = root / exchange.prepared
    there = _names(disk, prepared)
    expected = files if there.issuperset(exchange.new) else there.intersection(exchange.new)
    return {f"{exchange.dataset}/{name}": prepared / name for name in expected}


def carry_out(disk: Disk, root: Path, exchange: Exchange, replaced: ReplacedFolders) -> None:
    """Exchange the folders, unless that is done, and move the old one to ``replaced``. Raises OSError."""
    prepared, folder = root / exchange.prepared, root / exchange.dataset
    if not is_done(disk, root, exchange):
        _exchange_or_move(disk, prepared, folder, exchange)
    # A commit that was interrupted after this point has moved the old folder on already.
    if disk.look(prepared) is None:
        return
    failpoint("exchanged")
    if not _holds_old(disk, prepared, exchange):
        # The files were moved one by one instead, so there is no old folder to keep.
        return
    # Before the old folder is moved on: otherwise a power loss could undo the exchange but keep that move.
    disk.sync_folder(root)
    swapped_out = _names(disk, prepared)
    # Files that somebody else has put beside ours stay in the dataset's folder.
    for name in sorted(swapped_out - _names(disk, folder) - set(exchange.old)):
        disk.replace(prepared / name, folder / name)
    disk.sync_folder(folder)
    replaced.keep(prepared, f"{prepared.parent.name}-{exchange.dataset}")


def _exchange_or_move(disk: Disk, prepared: Path, folder: Path, exchange: Exchange) -> None:
    if _names(disk, prepared).issuperset(exchange.new):
        try:
            disk.exchange(prepared, folder)
            return
        except OSError as error:
            if error.errno not in NO_EXCHANGE:
                raise
            # A decided commit must be finished, even in a copy of the output on a file system that cannot exchange.
            _log.warning(
                "%s cannot be exchanged as a whole here (%s): its files are moved one by one, so a reader may count "
                "wrong now; read it again",
                folder,
                error.strerror,
            )
    for name in exchange.new:
        if disk.look(prepared / name) is not None:
            disk.replace(prepared / name, folder / name)
    for name in exchange.old:
        remove_if_there(disk, folder / name)
    disk.sync_folder(folder)


def _names(disk: Disk, folder: Path) -> set[str]:
    return set(disk.names(folder)) if disk.look(folder, follow=True) is not None else set()
