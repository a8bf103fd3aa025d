"""Which of the messages with one ticket id win: decided on arrays."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from contract.arrays import Mask
from contract.ticket import kind_of
from contract.uuids import Ids
from processor.duplicates import (
    NO_DUPLICATES,
    PUBLISHED_EARLIER,
    Duplicates,
    Sifting,
    part,
    ranges_of,
    require_same_reading,
)
from processor.outcome import RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt
from runtime.errors import DataConflict
from store.counts import HourCount
from store.sorted_ids import order_of
from store.staging import TicketIds

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)


def tickets(*rows: tuple[int, int, int]) -> TicketIds:
    """Return the ids that a task stages: low half of the id, partition, offset. All share one high half."""
    low, partition, offset = (np.array([row[n] for row in rows], np.int64) for n in range(3))
    some = TicketIds(np.full(len(rows), 7, np.uint64), low.astype(np.uint64), partition, offset)
    return some.at(order_of(some.ids))


def sift(*of_tasks: TicketIds, published: tuple[int, ...] = (), piece: int = 100) -> tuple[list[int], Duplicates]:
    """Return the low halves of the ids that win, and the duplicates; the ids ``published`` are of earlier batches."""

    def are_published(ids: Ids) -> Mask:
        return np.isin(ids.low, published)

    sifting = Sifting(of_tasks, are_published, piece)
    winners = [low for ids in sifting.winners() for low in ids.low.tolist()]
    return winners, sifting.duplicates()


def rows(duplicates: Duplicates) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in duplicates), strict=True))


def test_unique_tickets_all_win() -> None:
    winners, duplicates = sift(tickets((3, 0, 0), (1, 0, 1)), tickets((2, 1, 0)))
    assert winners == [1, 2, 3]
    assert rows(duplicates) == []


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_within_a_batch_the_lower_partition_and_offset_wins_whichever_task_read_it(piece: int) -> None:
    one = tickets((5, 1, 40), (5, 1, 30), (6, 1, 31))
    two = tickets((5, 0, 90), (6, 1, 7), (5, 2, 1), (8, 0, 91))
    winners, duplicates = sift(one, two, piece=piece)
    assert winners == [5, 6, 8]
    assert rows(duplicates) == [(1, 30, 0, 90), (1, 31, 1, 7), (1, 40, 0, 90), (2, 1, 0, 90)]


@pytest.mark.parametrize("piece", [1, 100])
def test_an_earlier_batch_wins_over_all_of_this_one(piece: int) -> None:
    winners, duplicates = sift(
        tickets((5, 0, 1), (6, 0, 2)), tickets((5, 1, 9), (6, 1, 8)), published=(5,), piece=piece
    )
    assert winners == [6]
    assert rows(duplicates) == [(0, 1, -1, -1), (1, 8, 0, 2), (1, 9, -1, -1)]
    assert [duplicates.reason(row) for row in range(3)] == [
        "duplicate: the ticket_id was published earlier",
        "duplicate: the ticket_id is that of an earlier message, found at partition 0, offset 2",
        "duplicate: the ticket_id was published earlier",
    ]


def test_the_reasons_are_of_two_kinds() -> None:
    _, duplicates = sift(tickets((5, 0, 1), (5, 3, 2), (5, 4, 3)))
    kinds = {kind_of(duplicates.reason(row)) for row in range(2)}
    assert kinds == {"duplicate: the ticket_id is that of an earlier message"}
    assert kind_of(PUBLISHED_EARLIER) == PUBLISHED_EARLIER


def test_no_task_with_tickets_has_no_duplicates() -> None:
    winners, duplicates = sift()
    assert (winners, rows(duplicates)) == ([], [])


SOME = Duplicates(
    np.array([0, 0, 0, 2, 2]), np.array([3, 7, 9, 3, 4]), np.array([0, 0, -1, 0, 0]), np.array([1, 1, -1, 1, 2])
)


def test_duplicates_within_ranges_are_by_partition_and_offset_whatever_the_order_of_the_ranges() -> None:
    some = SOME.within([OffsetRange(2, 4, 9), OffsetRange(1, 0, 9), OffsetRange(0, 7, 9), OffsetRange(0, 0, 4)])
    assert rows(some) == [(0, 3, 0, 1), (0, 7, 0, 1), (2, 4, 0, 2)]
    assert rows(SOME.within([])) == []
    assert some.by_partition() == {0: 2, 2: 1}


def test_messages_are_found_by_partition_and_offset() -> None:
    partitions, offsets = np.array([2, 0, 0, 1, 2, 2, 0]), np.array([4, 9, 8, 3, 3, 5, 10])
    assert SOME.places(partitions, offsets).tolist() == [4, 2, -1, -1, 3, -1, -1]
    assert NO_DUPLICATES.places(partitions, offsets).tolist() == [-1] * 7


def receipt(*reads: tuple[int, int, int], duplicates: dict[int, int] | None = None) -> Receipt:
    """Return the receipt for ranges that were read: partition, start, end, each offset a ticket."""
    return Receipt(
        reads=[RangeRead(p, start, end, end, end - start) for p, start, end in reads], duplicates=duplicates or {}
    )


def test_only_tasks_that_read_a_duplicate_run_again() -> None:
    receipts = [receipt((0, 0, 3)), receipt((0, 4, 7), (2, 0, 4)), receipt((0, 7, 8)), receipt((2, 4, 9), (3, 0, 9))]
    kept, dropped = part(receipts, SOME)
    assert kept == [receipts[0]]
    assert dropped == receipts[1:]
    assert ranges_of(dropped) == [
        *(OffsetRange(0, 4, 7), OffsetRange(2, 0, 4), OffsetRange(0, 7, 8)),
        *(OffsetRange(2, 4, 9), OffsetRange(3, 0, 9)),
    ]


def test_a_second_reading_that_finds_the_same_messages_is_accepted_however_they_are_shared_out() -> None:
    before = [receipt((0, 4, 7), (2, 0, 4)), receipt((0, 7, 8))]
    require_same_reading(before, [receipt((2, 0, 4), (0, 4, 8), duplicates={0: 1, 2: 1})], SOME)


@pytest.mark.parametrize(
    "after",
    [
        receipt((2, 0, 4), (0, 4, 8), duplicates={0: 1}),
        receipt((2, 0, 4), (0, 4, 8), duplicates={0: 1, 2: 1, 1: 1}),
        receipt((2, 0, 4), (0, 4, 7), duplicates={0: 1, 2: 1}),
        receipt((2, 0, 4), duplicates={2: 1}),
        msgspec.structs.replace(receipt((2, 0, 4), (0, 4, 8), duplicates={0: 1, 2: 1}), rejected={0: 1}),
    ],
    ids=["a duplicate missing", "one too many", "a message missing", "a partition missing", "a ticket no longer one"],
)
def test_a_second_reading_that_finds_other_messages_is_refused(after: Receipt) -> None:
    before = [receipt((0, 4, 7), (2, 0, 4)), receipt((0, 7, 8))]
    with pytest.raises(DataConflict, match=r"the batch does not add up: partition \d was read once more without"):
        require_same_reading(before, [after], SOME)


def test_a_second_reading_does_not_compare_hours() -> None:
    before = [receipt((2, 0, 3))]
    again = msgspec.structs.replace(before[0], hours=[HourCount(NINE, "billing", "low", "Billing Team", 3)])
    require_same_reading(before, [again], SOME)
