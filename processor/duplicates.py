"""Which tickets of a batch are duplicates. Decisions on arrays: no I/O.

If several messages carry the same ticket id, the one of an earlier batch wins, within a batch the one of the lower
partition, and within a partition the one at the lower offset. The others are duplicates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from contract.arrays import Integers, Mask
from contract.uuids import Ids
from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt, incomplete, read_by_partition
from store.datasets import DUPLICATE
from store.sorted_ids import order_of, pieces
from store.staging import TicketIds

# Tickets that are compared at a time. Each takes some 150 bytes meanwhile.
PIECE = 1 << 18

PUBLISHED_EARLIER = f"{DUPLICATE}the ticket_id was published earlier"
_NOT_IN_THIS_BATCH = -1


class Duplicates(NamedTuple):
    """Duplicates, and for each the message that won: partition -1 and offset -1 if that was in an earlier batch."""

    partition: Integers
    offset: Integers
    first_partition: Integers
    first_offset: Integers

    def within(self, ranges: Iterable[OffsetRange]) -> "Duplicates":
        """Return the duplicates that lie in ``ranges``, sorted by partition and offset."""
        rows = [_NO_INTEGERS]
        for r in sorted(ranges, key=lambda r: (r.partition, r.start)):
            first, end = np.searchsorted(self.partition, [r.partition, r.partition + 1])
            rows.append(np.arange(*(first + np.searchsorted(self.offset[first:end], [r.start, r.end]))))
        return self.at(np.concatenate(rows))

    def at(self, rows: Integers) -> "Duplicates":
        """Return the duplicates at these rows."""
        return Duplicates(*(column[rows] for column in self))

    def places(self, partition: Integers, offset: Integers) -> Integers:
        """Return for each message its row here, -1 if it is not a duplicate. Needs rows by partition and offset."""
        found = np.full(len(offset), -1)
        for number in np.unique(partition).tolist():
            begin, end = np.searchsorted(self.partition, [number, number + 1])
            if begin < end:
                rows = np.flatnonzero(partition == number)
                near = begin + np.searchsorted(self.offset[begin:end], offset[rows])
                near = np.minimum(near, end - 1)
                found[rows] = np.where(self.offset[near] == offset[rows], near, -1)
        return found

    def by_partition(self) -> dict[int, int]:
        """Return the number of duplicates in each partition that has any."""
        numbers, counts = np.unique(self.partition, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def reason(self, row: int) -> str:
        """Return the reason that ``rejected_messages`` gives for a row."""
        if self.first_partition[row] == _NOT_IN_THIS_BATCH:
            return PUBLISHED_EARLIER
        return (
            f"{DUPLICATE}the ticket_id is that of an earlier message, found at partition "
            f"{self.first_partition[row]}, offset {self.first_offset[row]}"
        )


_NO_INTEGERS = np.empty(0, np.int64)
NO_DUPLICATES = Duplicates(_NO_INTEGERS, _NO_INTEGERS, _NO_INTEGERS, _NO_INTEGERS)


def judge(tickets: TicketIds, is_published: Mask) -> tuple[Mask, Duplicates]:
    """Return which of ``tickets`` win, and the others.

    ``tickets`` are sorted by id, partition and offset; ``is_published`` says which ids an earlier batch published.
    """
    begins = np.ones(len(tickets.high), bool)
    begins[1:] = (tickets.high[1:] != tickets.high[:-1]) | (tickets.low[1:] != tickets.low[:-1])
    wins = begins & ~is_published
    rows = np.flatnonzero(~wins)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))[rows]
    earlier = is_published[rows]
    duplicates = Duplicates(
        tickets.partition[rows],
        tickets.offset[rows],
        np.where(earlier, _NOT_IN_THIS_BATCH, tickets.partition[first]),
        np.where(earlier, _NOT_IN_THIS_BATCH, tickets.offset[first]),
    )
    return wins, duplicates


class Sifting:
    """Finds the duplicates of a batch by merging the tickets of its tasks, which each task has sorted by id.

    Memory: one piece, and 24 bytes for each duplicate.
    """

    def __init__(self, of_tasks: Sequence[TicketIds], are_published: Callable[[Ids], Mask], piece: int = PIECE) -> None:
        self._of_tasks = of_tasks
        self._are_published = are_published
        self._piece = piece
        self._found = [NO_DUPLICATES]

    def winners(self) -> Iterator[Ids]:
        """Yield the ids of all tickets that win, in rising order."""
        for slices in pieces([of.ids for of in self._of_tasks], self._piece):
            parts = [of.at(part) for of, part in zip(self._of_tasks, slices, strict=True)]
            tickets = TicketIds(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
            tickets = tickets.at(order_of(tickets.ids, tickets.partition, tickets.offset))
            wins, duplicates = judge(tickets, self._are_published(tickets.ids))
            self._found.append(duplicates)
            yield Ids(tickets.high[wins], tickets.low[wins])

    def duplicates(self) -> Duplicates:
        """Return all duplicates by partition and offset. Call it after ``winners`` has been read to its end."""
        found = Duplicates(*(np.concatenate(columns) for columns in zip(*self._found, strict=True)))
        return found.at(np.lexsort((found.offset, found.partition)))


def part(receipts: Iterable[Receipt], duplicates: Duplicates) -> tuple[list[Receipt], list[Receipt]]:
    """Return the receipts of tasks that read no duplicate, and those of the others, which must run again."""
    kept, dropped = list[Receipt](), list[Receipt]()
    for receipt in receipts:
        (dropped if len(duplicates.within(ranges_of([receipt])).offset) else kept).append(receipt)
    return kept, dropped


def ranges_of(receipts: Iterable[Receipt]) -> list[OffsetRange]:
    """Return the offset ranges that the receipts say were read."""
    return [OffsetRange(read.partition, read.start, read.end) for receipt in receipts for read in receipt.reads]


def require_same_reading(before: Sequence[Receipt], after: Sequence[Receipt], duplicates: Duplicates) -> None:
    """Raise DataConflict unless the second reading found the messages of the first, and ``duplicates`` among them.

    If the topic was compacted in between, a message that won may be gone, and its ticket would be lost.
    """
    first, second = read_by_partition(before), read_by_partition(after)
    lost = duplicates.within(ranges_of(before)).by_partition()
    for number in sorted(first | second):
        was, now = first.get(number, PartitionRead()), second.get(number, PartitionRead())
        expected = msgspec.structs.replace(was, duplicates=lost.get(number, 0))
        if now != expected:
            raise incomplete(
                f"partition {number} was read once more without its duplicates, and holds {now} instead of {expected}"
            )
