"""What a task reports to the driver. Only receipts that Spark hands over count: a retried task leaves none behind."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from contract.ticket import URGENT
from processor.plan import OffsetRange
from runtime.errors import DataConflict
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS
from store.staging import StagedFile


class PartitionRead(msgspec.Struct):
    """What was read of one partition: first and last offset, and how many messages became what."""

    partition: int
    first: int
    last: int
    tickets: int = 0
    rejected: int = 0


class Receipt(msgspec.Struct):
    """The work of one task. ``failure`` says why it could not write; then nothing else counts."""

    files: list[StagedFile] = []
    clients: str | None = None
    partitions: list[PartitionRead] = []
    hours: list[HourCount] = []
    failure: str | None = None


encode_receipt = msgspec.msgpack.Encoder().encode
decode_receipt = msgspec.msgpack.Decoder(Receipt).decode


def require_complete(ranges: Iterable[OffsetRange], receipts: Sequence[Receipt]) -> None:
    """Raise DataConflict unless the receipts account for the ranges.

    Every message that was read lies in its range and was read once, and became a ticket or a rejected message that is
    in a staged file and in the counts. Offsets without a message (compaction, transactions) are no loss: Spark itself
    fails when a message that exists cannot be read.
    """
    planned = {r.partition: r for r in ranges}
    reads = sorted((read for receipt in receipts for read in receipt.partitions), key=lambda r: (r.partition, r.first))
    reached: dict[int, int] = {}
    for read in reads:
        offsets = planned.get(read.partition)
        if offsets is None or read.first < offsets.start or read.last >= offsets.end:
            raise _incomplete(f"{read} lies outside of the planned {offsets}")
        if read.first <= reached.get(read.partition, -1):
            raise _incomplete(f"partition {read.partition} was read twice at offset {read.first}")
        if read.tickets + read.rejected > read.last - read.first + 1:
            raise _incomplete(f"{read} holds more messages than offsets")
        reached[read.partition] = read.last

    rows: Counter[str] = Counter()
    for receipt in receipts:
        for file in receipt.files:
            rows[file.dataset] += file.rows
    hours = [count for receipt in receipts for count in receipt.hours]
    urgent = sum(count.count for count in hours if count.priority in URGENT)
    for what, expected, found in (
        (f"rows of {TICKETS.name}", sum(read.tickets for read in reads), rows[TICKETS.name]),
        (f"rows of {REJECTED.name}", sum(read.rejected for read in reads), rows[REJECTED.name]),
        (f"rows of {HIGH_PRIORITY.name}", urgent, rows[HIGH_PRIORITY.name]),
        ("tickets counted by hour", sum(read.tickets for read in reads), sum(count.count for count in hours)),
    ):
        if expected != found:
            raise _incomplete(f"there should be {expected:,} {what}, but there are {found:,}")


def _incomplete(found: str) -> DataConflict:
    return DataConflict(
        f"the batch does not add up: {found}; nothing was published; start again, and the same messages are read anew"
    )
