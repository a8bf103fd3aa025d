"""The folder of a dataset, exchanged as a whole: who lists it finds the old files or the new ones, never some of both.

The folder that takes its place is made ready in staging, where files that stay are linked into it. What the exchange
swaps out goes to ``ReplacedFolders``. It can be finished by whoever comes next, at any point.

Some readers (Arrow, Hadoop) list a folder, then look at each name by its path, and leave out in silence what is gone by
then: an exchange in between would give them a count that is too low. So for LISTING_S the new folder holds placeholders
under the names that are gone. No reader can read one, so it fails instead of counting wrong.
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

# Readers look at the names that they have listed within milliseconds; this is for a busy machine.
LISTING_S = 1.0
PLACEHOLDER = b"merged into another file a moment ago: list the folder again\n"


def refusal(disk: Disk, staging: Path, folders: Iterable[Path]) -> str | None:
    """Return why ``folders`` could not be exchanged for others, None when they can: two small ones try it.

    ``staging`` has to be there. Raises OSError.
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

    What it holds is forced to the disk, but not its own name. ``files`` are all that the dataset then has, ``staged``
    says where those are that are new. Raises OSError, and DataConflict when a published file is not what it was.
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
    """Give one file, which is forced to the disk once, all these names."""
    placeholder = prepared.with_name(f"{prepared.name}-placeholder")
    with disk.create(placeholder) as file:
        file.write(PLACEHOLDER)
        # Polars asks for the size first and then opens the file again: a smaller one makes it panic. This takes no
        # space on the disk.
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
    """Take the placeholders out of the folder of the dataset. Raises OSError."""
    folder = root / exchange.dataset
    for name in exchange.old:
        if _is_placeholder(disk, folder / name):
            disk.unlink(folder / name)
    disk.sync_folder(folder)


def is_done(disk: Disk, root: Path, exchange: Exchange) -> bool:
    """Whether the folder of the dataset is the one that was prepared. Raises OSError."""
    folder = root / exchange.dataset
    return _names(disk, folder).issuperset(exchange.new) and not _holds_old(disk, folder, exchange)


def _holds_old(disk: Disk, folder: Path, exchange: Exchange) -> bool:
    """Whether a folder holds one of the files that go, and not only a placeholder."""
    names = _names(disk, folder)
    return any(name in names and not _is_placeholder(disk, folder / name) for name in exchange.old)


def waiting(disk: Disk, root: Path, exchange: Exchange, files: Iterable[str]) -> dict[str, Path]:
    """Return where those of ``files`` (all of the dataset) are that come into place with the exchange. Raises OSError.

    Files that stay are among them: their names in the folder that goes do not help.
    """
    if is_done(disk, root, exchange):
        return {}
    prepared = root / exchange.prepared
    there = _names(disk, prepared)
    expected = files if there.issuperset(exchange.new) else there.intersection(exchange.new)
    return {f"{exchange.dataset}/{name}": prepared / name for name in expected}


def carry_out(disk: Disk, root: Path, exchange: Exchange, replaced: ReplacedFolders) -> None:
    """Exchange the folders, unless that was done, and put away what was swapped out. Raises OSError."""
    prepared, folder = root / exchange.prepared, root / exchange.dataset
    if not is_done(disk, root, exchange):
        _exchange_or_move(disk, prepared, folder, exchange)
    if disk.look(prepared) is None:
        return
    failpoint("exchanged")
    if not _holds_old(disk, prepared, exchange):
        # Files were moved instead.
        return
    # Before what was swapped out moves on: a power loss could undo the exchange, and not that.
    disk.sync_folder(root)
    swapped_out = _names(disk, prepared)
    # What somebody else has put beside our files is his.
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
            # Once a commit is decided, it must be finished: also in a copy of the output on another file system.
            _log.warning(
                "%s cannot be exchanged as a whole here (%s): its files are moved one by one, and whoever reads it "
                "now may count wrong; read it again",
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
