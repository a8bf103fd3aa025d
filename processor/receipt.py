"""What a task reports to the driver. Only receipts that Spark returns count, so a retry counts nothing twice."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from contract.ticket import URGENT
from processor.outcome import Failure, RangeRead
from processor.plan import OffsetRange
from processor.rejections import Rejections
from runtime.errors import DataConflict
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS
from store.manifest import Record
from store.staging import StagedFile


class Receipt(msgspec.Struct):
    """The work of one task. If ``failure`` is set, it says why ranges could not be read or written; ignore the rest.

    ``reads`` are its ranges, each read to its end. By partition: ``rejected`` counts invalid messages, ``duplicates``
    tickets with an id that was there before, ``forgotten`` messages of forgotten clients, which were left out.
    ``reasons`` says why messages were rejected, for the log only. ``clients`` and ``ids`` name staged files with the
    clients and ids of the tickets, ``ids`` only if duplicates are looked for.
    """

    files: list[StagedFile] = []
    clients: str | None = None
    ids: str | None = None
    reads: list[RangeRead] = []
    rejected: dict[int, int] = {}
    duplicates: dict[int, int] = {}
    forgotten: dict[int, int] = {}
    reasons: dict[str, Rejections] = {}
    hours: list[HourCount] = []
    failure: Failure | None = None


encode_receipt = msgspec.msgpack.Encoder().encode
decode_receipt = msgspec.msgpack.Decoder(Receipt).decode


class PartitionRead(msgspec.Struct, frozen=True):
    """How many messages of a partition a batch read, and how many of them were not published as tickets."""

    messages: int = 0
    rejected: int = 0
    duplicates: int = 0
    forgotten: int = 0

    @property
    def tickets(self) -> int:
        """How many messages were published as tickets."""
        return self.messages - self.rejected - self.duplicates - self.forgotten


def read_by_partition(receipts: Iterable[Receipt]) -> dict[int, PartitionRead]:
    """Return what the receipts say of each partition."""
    messages: Counter[int] = Counter()
    rejected: Counter[int] = Counter()
    duplicates: Counter[int] = Counter()
    forgotten: Counter[int] = Counter()
    for receipt in receipts:
        for read in receipt.reads:
            messages[read.partition] += read.messages
        rejected.update(receipt.rejected)
        duplicates.update(receipt.duplicates)
        forgotten.update(receipt.forgotten)
    return {
        partition: PartitionRead(messages[partition], rejected[partition], duplicates[partition], forgotten[partition])
        for partition in messages | rejected | duplicates | forgotten
    }


def last_records(receipts: Iterable[Receipt]) -> dict[int, Record]:
    """Return the last message that was read of each partition; those without any are left out."""
    records = [(read.partition, read.last) for receipt in receipts for read in receipt.reads if read.last is not None]
    return dict(sorted(records, key=lambda found: found[1].offset))


def require_complete(ranges: Iterable[OffsetRange], receipts: Sequence[Receipt]) -> None:
    """Raise DataConflict unless the receipts account for the ranges.

    The reads must cover each range once from start to end, and each must have seen an offset at or beyond its own end.
    Every message must be a ticket or a rejected message (duplicates are among these) in a staged file and in the
    counts, or be of a forgotten client. Offsets without a message (compacted, aborted, markers of transactions) are not
    a loss.
    """
    reads: dict[int, list[RangeRead]] = defaultdict(list)
    for receipt in receipts:
        for read in receipt.reads:
            reads[read.partition].append(read)
    planned = {r.partition: r for r in ranges}
    if unplanned := sorted(reads.keys() - planned.keys()):
        raise incomplete(f"partition {unplanned[0]} was read, but not planned")
    for partition, offsets in planned.items():
        _require_covered(offsets, sorted(reads[partition], key=lambda read: read.start))

    rows: Counter[str] = Counter()
    for receipt in receipts:
        for file in receipt.files:
            rows[file.dataset] += file.rows
    hours = [count for receipt in receipts for count in receipt.hours]
    found_urgent = sum(count.count for count in hours if count.priority in URGENT)
    found_in = read_by_partition(receipts).values()
    tickets, rejected = sum(of.tickets for of in found_in), sum(of.rejected + of.duplicates for of in found_in)
    for what, expected, found in (
        (f"rows of {TICKETS.name}", tickets, rows[TICKETS.name]),
        (f"rows of {REJECTED.name}", rejected, rows[REJECTED.name]),
        (f"rows of {HIGH_PRIORITY.name}", found_urgent, rows[HIGH_PRIORITY.name]),
        ("tickets counted by hour", tickets, sum(count.count for count in hours)),
    ):
        if expected != found:
            raise incomplete(f"there should be {expected:,} {what}, but there are {found:,}")


def _require_covered(offsets: OffsetRange, reads: Sequence[RangeRead]) -> None:
    at = offsets.start
    for read in reads:
        if read.start != at:
            raise incomplete(f"partition {offsets.partition} should be read on from offset {at}, found {read}")
        if read.reached < read.end:
            raise incomplete(f"{read} was not read to its end")
        if read.messages > read.end - read.start:
            raise incomplete(f"{read} holds more messages than offsets")
        at = read.end
    if at != offsets.end:
        raise incomplete(f"partition {offsets.partition} was read up to offset {at} instead of {offsets.end}")


def incomplete(found: str) -> DataConflict:
    """Return the error for receipts that do not say what became of each message."""
    return DataConflict(
        f"the batch does not add up: {found}; nothing was published; start again, and the same messages are read again"
    )
