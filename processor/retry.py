"""Rejected messages that are tickets by the contract of this release, published in one commit.

They leave rejected_messages in the same commit, so each message is a row of exactly one dataset before and after it.
The commit is a batch like others, except that its messages come from rejected_messages and not from the topic.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.ticket import RequestType
from contract.uuids import ids_of
from processor.duplicates import NO_DUPLICATES, Duplicates, Sifting
from processor.retried import Moves, account, count_moves, is_asked_for, retry_messages
from processor.transformations import Transformations
from store.clients import open_clients
from store.counts import HourCount, merge_hours, summaries
from store.datasets import BY_HOUR, HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.files import reading, remove_if_there, writing
from store.ids import IdSet, Run, ids_folder
from store.manifest import CommitRecord, Manifest
from store.output import Output
from store.sorted_ids import order_of
from store.staging import Change, StagedFile, StagedWriter, TicketIds, read_clients, read_ids, write_clients, write_ids

# Clients and ids of so many tickets are held before they are written.
_NOTED = 250_000


@dataclass(frozen=True, slots=True)
class Done:
    """How many rejected messages were decoded again, and what became of them. The others are still rejected.

    ``manifest`` is that of the output afterwards.
    """

    manifest: Manifest
    asked: int
    tickets: int = 0
    duplicates: int = 0
    forgotten: int = 0

    @property
    def left(self) -> int:
        """How many of them are still rejected because they are not tickets."""
        return self.asked - self.tickets - self.duplicates - self.forgotten


def retry(
    output: Output,
    manifest: Manifest,
    wanted: str | None,
    now: datetime,
    readers_stopped: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Done:
    """Publish the rejected messages that are tickets now, of all reasons or of the one that is ``wanted``.

    Where the last batch looked for duplicates, a ticket whose id is published goes back as a duplicate. ``between`` is
    called now and then: it may say that there is progress, or give up by raising. Raises DataConflict when a published
    file is not what it was; OutputUnavailable when one cannot be read or written, or when the file system cannot
    exchange folders and readers were not stopped.
    """
    change = output.begin(manifest, "retry", manifest.format)
    attempt = _Attempt(output, manifest, change, wanted, between)
    attempt.run(manifest.contents[REJECTED.name])
    if not attempt.rewritten:
        output.discard_staging()
        return Done(manifest, attempt.asked)
    ids, run = IdSet(ids_folder(output), output.disk), None
    if manifest.deduped_from is not None:
        ids.open(output, manifest, between)
        run, duplicates = _find_duplicates(change, attempt.ids, ids)
        if len(duplicates.offset):
            asked, names = attempt.asked, attempt.rewritten
            attempt = _Attempt(output, manifest, change, wanted, between, duplicates)
            attempt.run(names)
            attempt.asked = asked
    record = _assemble(output, manifest, change, attempt, now, readers_stopped)
    if run is not None:
        ids.prepare(change.commit_id, run)
    output.commit(record)
    moved = attempt.moves.values()
    return Done(
        record.manifest,
        attempt.asked,
        sum(of.tickets for of in moved),
        sum(of.duplicates for of in moved),
        sum(of.forgotten for of in moved),
    )


def _find_duplicates(change: Change, names: Iterable[str], ids: IdSet) -> tuple[Run, Duplicates]:
    """Return a run of the ids that are published with the commit, and the tickets whose ids are published already."""
    with reading(change.staging.folder):
        staged = [read_ids(change.staging, name) for name in names]
    sifting = Sifting(staged, ids.contains)
    run = ids.write(sifting.winners())
    return run, sifting.duplicates()


class _Attempt:
    """Rejected messages decoded again, and what comes of them in staged files. ``duplicates`` are those known so far.

    ``rewritten`` are the files of rejected_messages that change, by the names that they have.
    """

    def __init__(
        self,
        output: Output,
        manifest: Manifest,
        change: Change,
        wanted: str | None,
        between: Callable[[], None],
        duplicates: Duplicates | None = None,
    ) -> None:
        self._reader = output.reader(manifest)
        self._manifest = manifest
        # The newest rules of the output: its next batch goes on with these, or names others.
        self.routing = manifest.rule_sets[-1].routing
        self._staging = change.staging
        self._wanted = wanted
        self._between = between
        self._duplicates = NO_DUPLICATES if duplicates is None else duplicates
        self._name = "first" if duplicates is None else "second"
        self._writers: dict[str, StagedWriter] = {}
        self._open = ExitStack()
        self._clients: set[str] = set()
        self._ids: list[TicketIds] = []
        self._hours: Counter[tuple[datetime, RequestType, str, str]] = Counter()
        self.asked = 0
        self.moves: Moves = {}
        self.rewritten: dict[str, StagedFile] = {}
        self.files: list[StagedFile] = []
        self.clients: list[str] = []
        self.ids: list[str] = []

    @property
    def hours(self) -> list[HourCount]:
        """The counts of the tickets that are published."""
        return [HourCount(*key, count) for key, count in self._hours.items()]

    def run(self, names: Iterable[str]) -> None:
        """Retry the messages in the files ``names`` of rejected_messages."""
        with self._open:
            for name in names:
                if self._is_concerned(name):
                    self._retry_file(name)
            with writing(self._staging.folder):
                self.files = [writer.finish() for writer in self._writers.values()]
                self._write_notes()

    def _is_concerned(self, name: str) -> bool:
        """Whether the file holds a message that is asked for; its payloads are not read for this."""
        for table in self._reader.tables_of(REJECTED, name, ["reason"]):
            self._between()
            if is_asked_for(table["reason"], self._wanted).any():
                return True
        return False

    def _retry_file(self, name: str) -> None:
        self._reader.require_intact(REJECTED, name)
        stem = f"{REJECTED.name}-{self._name}-{PurePath(name).stem}"
        changed = False
        with writing(self._staging.folder), self._staging.writer(REJECTED, stem) as writer:
            for table in self._reader.tables_of(REJECTED, name):
                changed |= self._take(table, writer)
                self._between()
            staged = writer.finish()
            if not changed:
                remove_if_there(self._staging.disk, self._staging.folder / staged.name)
        if changed:
            self.rewritten[name] = staged

    def _take(self, rejected: pa.Table, writer: StagedWriter) -> bool:
        """Write what becomes of some messages, and return whether that is anything new."""
        retried = retry_messages(rejected, self._wanted, self._duplicates, self._manifest.erasures)
        self.asked += retried.asked
        count_moves(self.moves, self._manifest, retried)
        writer.write(retried.left)
        if retried.tickets.num_rows:
            self._publish(retried.tickets)
            self._ids.append(TicketIds(*ids_of(retried.tickets["ticket_id"]), *retried.published))
            if sum(len(ids.offset) for ids in self._ids) >= _NOTED:
                self._write_notes()
        return retried.changed

    def _publish(self, tickets: pa.Table) -> None:
        assigned = Transformations.assign_team(tickets, self.routing)
        self._clients.update(pc.unique(assigned["client_id"]).to_pylist())
        for row in Transformations.count_by_hour(assigned):
            self._hours[row.hour, row.request_type, row.priority, row.team] += row.count
        self._write(TICKETS, assigned)
        self._write(HIGH_PRIORITY, Transformations.high_priority(assigned))

    def _write(self, dataset: Dataset, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if dataset.name not in self._writers:
            writer = self._staging.writer(dataset, f"{dataset.name}-{self._name}")
            self._writers[dataset.name] = self._open.enter_context(writer)
        self._writers[dataset.name].write(table)

    def _write_notes(self) -> None:
        """Write the clients and the ids of tickets for the commit, and forget them here."""
        if not self._ids:
            return
        number = len(self.ids)
        clients, ids = f"clients-{self._name}-{number}", f"ids-{self._name}-{number}"
        write_clients(self._staging, clients, self._clients)
        found = TicketIds(*(np.concatenate(columns) for columns in zip(*self._ids, strict=True)))
        write_ids(self._staging, ids, found.at(order_of(found.ids, found.partition, found.offset)))
        self.clients.append(clients)
        self.ids.append(ids)
        self._clients, self._ids = set(), []


def _assemble(
    output: Output, manifest: Manifest, change: Change, attempt: _Attempt, now: datetime, readers_stopped: bool
) -> CommitRecord:
    """Return the record that publishes what was staged."""
    files, batch_id = manifest.contents[REJECTED.name], manifest.batch_id + 1
    for name, staged in attempt.rewritten.items():
        # The dataset keeps one file, without rows, for its schema.
        keep = staged if staged.rows or len(change.names(REJECTED)) == 1 else None
        change.rewrite(REJECTED, [name], keep, files[name].rewrites)
    for staged in attempt.files:
        change.publish(staged, f"batch-{batch_id:06d}-0000", (batch_id, batch_id))
    if not readers_stopped:
        output.exchange_folders(change)
    published_hours = output.reader(manifest).intact_table(BY_HOUR)
    with closing(open_clients(output, manifest)) as clients, writing(clients.path):
        new_clients = clients.add(
            lambda: (read_clients(change.staging, name) for name in attempt.clients), change.commit, change.commit_id
        )
    rejected = -sum(of.tickets + of.forgotten for of in attempt.moves.values())
    totals = manifest.totals.add(attempt.hours, rejected, new_clients)
    with writing(change.staging.folder):
        tables = summaries(totals, merge_hours(published_hours, attempt.hours), batch_id, now, attempt.routing.teams)
        change.replace(tables.items(), batch_id)
    return change.record(now, batch_id=batch_id, totals=totals, **account(manifest, attempt.moves))
