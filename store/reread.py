"""Read the files of an output again: how they differ from what was published, and what is kept of their rows."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from store import differences, recount
from store.datasets import HIGH_PRIORITY, METRICS, REJECTED, TICKETS, Dataset
from store.differences import FoundClients, FoundFile, FoundIds
from store.files import Disk, reading
from store.formats import Damaged, read_tables
from store.manifest import PublishedFile
from store.recount import Hashes, Integers, TicketRows

_PIECE_BYTES = 1 << 20
_CLIENTS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class RejectedRows:
    """Where rejected messages come from: the partition and the offset of each."""

    partitions: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    offsets: Integers = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Contents:
    """What is kept of the rows of one file, depending on its dataset; nothing if the file could not be read.

    ``urgent`` are hashes of the rows of high_priority_tickets; ``table`` is the content of a one-file dataset.
    """

    rows: int | None = None
    tickets: TicketRows = field(default_factory=TicketRows)
    urgent: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    rejected: RejectedRows = field(default_factory=RejectedRows)
    table: pa.Table | None = None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that was read: what is wrong with it, if anything, and what it holds."""

    problem: str | None
    contents: Contents


def examine(disk: Disk, path: Path, file_format: str, dataset: Dataset, published: PublishedFile) -> Examined:
    """Read one file whole and compare it with what the ledger says of it. Raises OutputUnavailable."""
    with reading(path):
        place = disk.look(path)
        if place is None:
            return Examined(differences.of_file(published, None), Contents())
        if not place.is_file:
            return Examined(differences.of_file(published, FoundFile(is_file=False)), Contents())
        try:
            # Open the file once for checksum and rows: a one-file dataset may be replaced in between.
            file = disk.open(path)
        except FileNotFoundError:
            return Examined(differences.of_file(published, None), Contents())
        with file:
            digest = hashlib.sha256()
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
            size = file.tell()
            file.seek(0)
            contents = _decode(file_format, file, dataset)
    found = FoundFile(True, size, f"sha256:{digest.hexdigest()}", contents.rows, contents.damage)
    return Examined(differences.of_file(published, found), contents)


def _decode(file_format: str, file: BinaryIO, dataset: Dataset) -> Contents:
    """Return what the file holds; if it cannot be decoded, no rows, and what is wrong with it."""
    # The payload of a rejected message may be anything, and the checksum of the file covers it, so it is not decoded.
    columns = ["partition", "offset"] if dataset is REJECTED else None
    tables = _Counted(read_tables(file_format, file, dataset, columns))
    try:
        if dataset is TICKETS:
            tickets = recount.count_tickets(tables)
            return Contents(tables.rows, tickets=tickets)
        if dataset is HIGH_PRIORITY:
            urgent = np.concatenate([np.empty(0, np.uint64), *map(recount.row_hashes, tables)])
            return Contents(tables.rows, urgent=urgent)
        if dataset is REJECTED:
            rejected = _rejected_rows(tables)
            return Contents(tables.rows, rejected=rejected)
        table = pa.concat_tables([dataset.schema.empty_table(), *tables])
        if dataset is METRICS:
            # Raises ValueError or OverflowError if a time is outside the range of Python's datetime.
            table.to_pylist()
        return Contents(tables.rows, table=table)
    except (Damaged, ValueError, OverflowError) as damage:
        return Contents(damage=str(damage))


class _Counted:
    """Counts the rows of the tables that are iterated over."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self.rows = 0

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            self.rows += table.num_rows
            yield table


def _rejected_rows(tables: Iterable[pa.Table]) -> RejectedRows:
    partitions, offsets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for table in tables:
        partitions.append(table["partition"].to_numpy().astype(np.int64))
        offsets.append(table["offset"].to_numpy())
    return RejectedRows(np.concatenate(partitions), np.concatenate(offsets))


def read_clients(path: Path, commit: int) -> FoundClients | None:
    """Return the set of clients in an SQLite file as of ``commit``; None if it cannot be read or changes meanwhile.

    SQLite would lock the file and so stop a processor that wants to write it. So the file is opened as immutable, and
    the result counts only if the file stands at the same commit afterwards.
    """
    journal = path.with_name(path.name + "-journal")
    try:
        before = None if journal.exists() else _standing(path)
        if before is None:
            return None
        commit_id, follows = before
        hashes = [np.empty(0, np.uint64)]
        with closing(_open_unlocked(path)) as database:
            ids = database.execute("SELECT client_id FROM clients WHERE since_commit <= ?", (commit,))
            while some := ids.fetchmany(_CLIENTS_AT_ONCE):
                hashes.append(recount.text_hashes(client_id for (client_id,) in some))
        if journal.exists() or _standing(path) != before:
            return None
    except (sqlite3.Error, OSError, UnicodeError, TypeError):
        return None
    return FoundClients(commit_id, follows, np.concatenate(hashes))


def read_ids(folder: Path, commit_id: str) -> FoundIds | None:
    """Return count and fingerprint of the set of ids after a commit; None if it cannot be read or was changed.

    A processor may remove the files meanwhile, when a later commit no longer needs them, but never changes one.
    """
    total = 0
    try:
        runs = json.loads((folder / f"{commit_id}.json").read_bytes())["runs"]
        for run in runs:
            digests = (hashlib.sha256(), hashlib.sha256())
            paths = [folder / f"{run['name']}.{half}" for half in ("high", "low")]
            with paths[0].open("rb") as high, paths[1].open("rb") as low:
                while any(pieces := [file.read(_PIECE_BYTES) for file in (high, low)]):
                    one, two = (np.frombuffer(piece, "<u8") for piece in pieces)
                    total = recount.fingerprint(one, two, total)
                    for digest, piece in zip(digests, pieces, strict=True):
                        digest.update(piece)
            if [f"sha256:{digest.hexdigest()}" for digest in digests] != [run["high"], run["low"]]:
                return None
        return FoundIds(sum(int(run["ids"]) for run in runs), total)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _standing(path: Path) -> tuple[str, str]:
    with closing(_open_unlocked(path)) as database:
        commit_id, follows = database.execute("SELECT commit_id, follows FROM standing").fetchone()
    return str(commit_id), str(follows)


def _open_unlocked(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
