"""Make the commit record of a batch from its receipts: totals, one-file datasets, names of the published files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from contract.routing import Routing
from processor.duplicates import Duplicates, Sifting
from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt, incomplete, last_records, read_by_partition, require_complete
from store.clients import ClientSet
from store.counts import Totals, merge_hours, summaries
from store.datasets import BY_HOUR, DATASETS
from store.erasure import still_to_come
from store.files import reading, writing
from store.ids import IdSet, Run
from store.manifest import CommitRecord, Gap, Manifest, Partition, RuleSet, Source, Window
from store.output import Output
from store.staging import Change, Staging, read_clients, read_ids


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of the ledger: ``ranges`` are read, and the next batch starts where they end.

    ``positions`` is the offset at which each partition starts, after its accepted gap. ``window`` is set
    in the first one only: the part of the topic that the output is to hold.
    """

    batch_id: int
    source: Source
    positions: Mapping[int, int]
    ranges: Sequence[OffsetRange]
    gaps: Sequence[Gap]
    window: Window | None = None

    @property
    def length(self) -> int:
        """How many offsets the ranges span together."""
        return sum(r.length for r in self.ranges)


def assemble(
    output: Output,
    change: Change,
    before: Manifest | None,
    batch: Batch,
    receipts: Sequence[Receipt],
    clients: ClientSet,
    routing: Routing,
    now: datetime,
    deduped: bool = False,
) -> CommitRecord:
    """Return the record that publishes ``batch``, whose files wait in the staging folder of ``change``.

    ``routing`` has assigned the teams of its tickets. ``deduped`` says that duplicates were rejected, so none of its
    tickets was published before.
    Raises DataConflict when the receipts do not account for every message, OutputUnavailable when a file cannot be
    written.
    """
    require_complete(batch.ranges, receipts)
    hours = [count for receipt in receipts for count in receipt.hours]
    rejected = sum(read.rejected + read.duplicates for read in read_by_partition(receipts).values())
    known_hours = output.reader(before).intact_table(BY_HOUR) if before else BY_HOUR.schema.empty_table()
    with writing(clients.path):
        new_clients = clients.add(lambda: _staged_clients(change, receipts), change.commit, change.commit_id)
    with writing(change.staging.folder):
        totals = (before.totals if before else Totals()).add(hours, rejected, new_clients)
        _append(change, batch.batch_id, receipts)
        tables = summaries(totals, merge_hours(known_hours, hours), batch.batch_id, now, routing.teams)
        change.replace(tables.items(), batch.batch_id)
    partitions = account(before.partitions if before else {}, batch, receipts)
    return change.record(
        now,
        batch_id=batch.batch_id,
        source=batch.source,
        partitions=partitions,
        erasures=still_to_come(before.erasures, partitions) if before else [],
        totals=totals,
        deduped_from=((before and before.deduped_from) or batch.batch_id) if deduped else None,
        gaps=[*(before.gaps if before else ()), *batch.gaps],
        window=before.window if before else batch.window,
        routing=_rule_sets(before, routing, batch.batch_id),
    )


def find_duplicates(staging: Staging, receipts: Sequence[Receipt], ids: IdSet) -> tuple[Run, Duplicates]:
    """Return a run of the ids of all new tickets, and the duplicates: published earlier, or twice in ``receipts``.

    Raises DataConflict when the receipts do not fit the ids that their tasks staged, OutputUnavailable when a file
    cannot be read or written.
    """
    with reading(staging.folder):
        staged = [read_ids(staging, receipt.ids) for receipt in receipts if receipt.ids]
    tickets = sum(read.tickets for read in read_by_partition(receipts).values())
    if (found := sum(len(of_task.offset) for of_task in staged)) != tickets:
        raise incomplete(f"{tickets:,} tickets were read, but {found:,} ids")
    sifting = Sifting(staged, ids.contains)
    run = ids.write(sifting.winners())
    return run, sifting.duplicates()


def account(before: Mapping[int, Partition], batch: Batch, receipts: Sequence[Receipt]) -> dict[int, Partition]:
    """Return the partitions of the ledger after ``batch``: what became of each offset in its ranges and gaps."""
    partitions = {number: before.get(number, Partition(at, at)) for number, at in batch.positions.items()}
    for gap in batch.gaps:
        known = partitions[gap.partition]
        partitions[gap.partition] = msgspec.structs.replace(
            known, next_offset=gap.end, gaps=known.gaps + gap.end - gap.start
        )
    reads, records = read_by_partition(receipts), last_records(receipts)
    for offsets in batch.ranges:
        known, read = partitions[offsets.partition], reads.get(offsets.partition, PartitionRead())
        partitions[offsets.partition] = msgspec.structs.replace(
            known,
            next_offset=offsets.end,
            tickets=known.tickets + read.tickets,
            rejected=known.rejected + read.rejected,
            duplicates=known.duplicates + read.duplicates,
            forgotten=known.forgotten + read.forgotten,
            empty=known.empty + offsets.length - read.messages,
            last_record=records.get(offsets.partition, known.last_record) if batch.source.topic_id is None else None,
        )
    return partitions


def _rule_sets(before: Manifest | None, routing: Routing, batch_id: int) -> list[RuleSet]:
    """Return the rule sets of the ledger after ``batch_id``, which follows ``before``."""
    known = before.rule_sets if before else []
    if known and known[-1].routing.assignments() == routing.assignments():
        return known
    return [*known, RuleSet(batch_id, list(routing.rules))]


def _append(change: Change, batch_id: int, receipts: Sequence[Receipt]) -> None:
    """Name the staged files. A dataset without any file gets an empty one, so that readers find its schema."""
    for dataset in (d for d in DATASETS if d.appended):
        staged = [file for receipt in receipts for file in receipt.files if file.dataset == dataset.name]
        if not staged and not change.names(dataset):
            staged = [change.staging.write(dataset, f"{dataset.name}-empty", dataset.schema.empty_table())]
        for number, file in enumerate(staged):
            change.publish(file, f"batch-{batch_id:06d}-{number:04d}", (batch_id, batch_id))


def _staged_clients(change: Change, receipts: Sequence[Receipt]) -> Iterator[list[str]]:
    for receipt in receipts:
        if receipt.clients:
            yield read_clients(change.staging, receipt.clients)
