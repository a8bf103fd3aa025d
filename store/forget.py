"""Erasure: remove every row of some clients from all datasets, and correct the counts in the same commit.

After the commit no dataset holds their rows. The old files, which readers may still have open, are removed ten minutes
later (``store.replaced``). No id stays anywhere else: the set of clients overwrites what it deletes, and the ledger
keeps only digests.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from store.clients import open_clients
from store.counts import HourCount, count_by_hour, merge_hours, summaries
from store.datasets import BY_HOUR, DUPLICATE, HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.erasure import erasure_of
from store.files import writing
from store.manifest import Manifest
from store.mentions import is_of_client
from store.output import Output
from store.reader import Reader
from store.staging import Change, StagedFile

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an erasure did. ``manifest`` is the one after it.

    ``to_come``: by partition, the offset before which unread messages of the clients will be left out.
    """

    manifest: Manifest
    clients: int
    tickets: int
    rejected: int
    to_come: dict[int, int]


def forget(
    output: Output,
    manifest: Manifest,
    client_ids: Collection[str],
    ends: Mapping[int, int],
    now: datetime,
    readers_stopped: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Forgotten:
    """Erase all rows of ``client_ids``; their unread messages before the offsets ``ends`` are left out when read.

    ``between`` is called now and then: it may report progress, or abort by raising. Raises DataConflict when a
    published file was changed; OutputUnavailable when one cannot be read or written, or when the file system cannot
    exchange folders and readers were not stopped.
    """
    reader = output.reader(manifest)
    change = output.begin(manifest, "erasure", manifest.format)
    gone = _Gone(frozenset(client_ids))
    for dataset in (TICKETS, HIGH_PRIORITY, REJECTED):
        _rewrite(reader, change, dataset, gone, between)
    unread = {p: end for p, end in ends.items() if end > manifest.next_offsets.get(p, 0)}
    if not gone.anything and not unread:
        output.discard_staging()
        return Forgotten(manifest, 0, 0, 0, {})
    if not readers_stopped:
        output.exchange_folders(change)
    totals = manifest.totals.add(gone.negative_hours(), -gone.rejected.total(), -len(gone.clients))
    hours = merge_hours(reader.intact_table(BY_HOUR), gone.negative_hours())
    with writing(change.staging.folder):
        teams = manifest.rule_sets[-1].routing.teams
        change.replace(summaries(totals, hours, manifest.batch_id, now, teams).items(), manifest.batch_id)
    record = change.record(now, totals=totals, **_ledger(manifest, gone, client_ids, unread))
    with closing(open_clients(output, manifest)) as clients, writing(clients.path):
        clients.remove(gone.clients, change.commit, change.commit_id)
    output.commit(record)
    return Forgotten(record.manifest, len(gone.clients), gone.tickets, gone.rejected.total(), unread)


@dataclass
class _Gone:
    """The clients to forget, and what was erased of them."""

    client_ids: frozenset[str]
    clients: set[str] = field(default_factory=set)
    hours: list[HourCount] = field(default_factory=list)
    rejected: Counter[tuple[int, int, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ids = pa.array(sorted(self.client_ids), pa.string())
        self._bytes = {client_id.encode() for client_id in self.client_ids}
        self._lengths = {len(client_id) for client_id in self._bytes}

    @property
    def tickets(self) -> int:
        """How many rows of tickets_with_assignment were erased."""
        return sum(row.count for row in self.hours)

    @property
    def anything(self) -> bool:
        """Whether anything was erased."""
        return bool(self.hours or self.rejected)

    def negative_hours(self) -> list[HourCount]:
        """Return what to add to the counts so that the erased tickets no longer count."""
        return [msgspec.structs.replace(row, count=-row.count) for row in self.hours]

    def of_clients(self, dataset: Dataset, table: pa.Table) -> pa.ChunkedArray:
        """Return, for each row, whether it belongs to one of the clients."""
        if dataset is not REJECTED:
            return pc.is_in(table["client_id"], self._ids)
        rows = zip(table["key"].to_pylist(), table["payload"].to_pylist(), strict=True)
        return pa.chunked_array([[is_of_client(*row, self._lengths, self._bytes.__contains__) for row in rows]])

    def count(self, dataset: Dataset, rows: pa.Table) -> None:
        """Count ``rows``, which are erased."""
        if dataset is TICKETS:
            self.clients.update(rows["client_id"].to_pylist())
            self.hours += count_by_hour(rows)
        elif dataset is REJECTED:
            self.rejected.update(zip(*(rows[name].to_pylist() for name in _PLACE), strict=True))


_PLACE = ("partition", "offset", "reason")


def _rewrite(reader: Reader, change: Change, dataset: Dataset, gone: _Gone, between: Callable[[], None]) -> None:
    """Rewrite the files of a dataset that hold rows of the clients, without these rows."""
    wanted = ["key", "payload"] if dataset is REJECTED else ["client_id"]
    for name, file in reader.files(dataset).items():
        found = False
        for table in reader.tables_of(dataset, name, wanted):
            found = found or bool(pc.any(gone.of_clients(dataset, table)).as_py())
            between()
        if not found:
            continue
        reader.require_intact(dataset, name)
        staged = _without(reader, change, dataset, name, gone, between)
        # The last file of a dataset stays, even without rows: it carries the schema.
        keep = staged if staged.rows or len(change.names(dataset)) == 1 else None
        change.rewrite(dataset, [name], keep, file.rewrites)


def _without(
    reader: Reader, change: Change, dataset: Dataset, name: str, gone: _Gone, between: Callable[[], None]
) -> StagedFile:
    stem = f"{dataset.name}-{name.rpartition('.')[0]}"
    with writing(change.staging.folder), change.staging.writer(dataset, stem) as writer:
        for table in reader.tables_of(dataset, name):
            theirs = gone.of_clients(dataset, table)
            gone.count(dataset, table.filter(theirs))
            writer.write(table.filter(pc.invert(theirs)))
            between()
        return writer.finish()


def _ledger(
    manifest: Manifest, gone: _Gone, client_ids: Collection[str], unread: Mapping[int, int]
) -> dict[str, object]:
    """Return the fields of the manifest that change: the erased offsets are counted anew, the unread ones noted."""
    partitions, upgrade = dict(manifest.partitions), manifest.upgrade
    for (number, offset, reason), count in gone.rejected.items():
        known = partitions[number]
        if upgrade is not None and offset < known.first_offset:
            upgrade = msgspec.structs.replace(upgrade, rejected=upgrade.rejected - count)
        elif reason.startswith(DUPLICATE):
            partitions[number] = msgspec.structs.replace(
                known, duplicates=known.duplicates - count, forgotten=known.forgotten + count
            )
        else:
            partitions[number] = msgspec.structs.replace(
                known, rejected=known.rejected - count, forgotten=known.forgotten + count
            )
    erasures = [*manifest.erasures, *([erasure_of(client_ids, unread)] if unread else [])]
    return {
        "partitions": partitions,
        "upgrade": upgrade,
        "erased_tickets": manifest.erased_tickets + gone.tickets,
        "erasures": erasures,
    }
