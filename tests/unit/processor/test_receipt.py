"""Receipts that account for every message, and each way in which they can fail to."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from processor.outcome import RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt, decode_receipt, encode_receipt, require_complete
from runtime.errors import DataConflict
from store.counts import HourCount
from store.staging import StagedFile

NINE = datetime(2026, 1, 31, 9, tzinfo=UTC)
RANGES = [OffsetRange(0, 100, 110), OffsetRange(1, 0, 5)]


def staged(dataset: str, name: str, rows: int) -> StagedFile:
    return StagedFile(dataset, name, rows, bytes=100, checksum="sha256:0000")


def complete() -> list[Receipt]:
    """Partition 0 in two tasks, partition 1 in the second of them: 13 tickets, 2 rejected, 4 urgent."""
    return [
        Receipt(
            files=[staged("tickets_with_assignment", "a", 6)],
            reads=[RangeRead(0, 100, 106, reached=106, messages=6)],
            hours=[HourCount(NINE, "billing", "low", "Billing Team", 6)],
        ),
        Receipt(
            files=[
                staged("tickets_with_assignment", "b", 7),
                staged("high_priority_tickets", "c", 4),
                staged("rejected_messages", "d", 2),
            ],
            reads=[RangeRead(0, 106, 110, reached=117, messages=4), RangeRead(1, 0, 5, reached=5, messages=5)],
            rejected={0: 1, 1: 1},
            hours=[
                HourCount(NINE, "billing", "high", "Billing Team", 3),
                HourCount(NINE, "billing", "critical", "Billing Team", 1),
                HourCount(NINE, "billing", "low", "Billing Team", 3),
            ],
        ),
    ]


def test_receipts_that_add_up_are_accepted_in_any_order() -> None:
    require_complete(RANGES, complete())
    require_complete(RANGES[::-1], complete()[::-1])


def test_an_empty_batch_is_complete() -> None:
    require_complete([], [])
    require_complete([], [Receipt()])


def change(receipts: list[Receipt], receipt: int, read: int, **fields: int) -> None:
    receipts[receipt].reads[read] = msgspec.structs.replace(receipts[receipt].reads[read], **fields)


def test_offsets_without_a_message_are_not_a_loss() -> None:
    receipts = complete()
    change(receipts, 1, 0, messages=2)
    receipts[1].files[0] = staged("tickets_with_assignment", "b", 5)
    receipts[1].hours[2] = HourCount(NINE, "billing", "low", "Billing Team", 1)
    require_complete(RANGES, receipts)


def another_partition(receipts: list[Receipt]) -> None:
    change(receipts, 1, 1, partition=2)


def before_the_range(receipts: list[Receipt]) -> None:
    change(receipts, 0, 0, start=99)


def behind_the_range(receipts: list[Receipt]) -> None:
    change(receipts, 1, 0, end=111)


def short_of_its_end(receipts: list[Receipt]) -> None:
    change(receipts, 1, 0, reached=109)


def a_part_missing(receipts: list[Receipt]) -> None:
    del receipts[0].reads[0]


def the_last_part_missing(receipts: list[Receipt]) -> None:
    del receipts[1].reads[0]


def twice(receipts: list[Receipt]) -> None:
    receipts.append(receipts[0])


def overlapping(receipts: list[Receipt]) -> None:
    change(receipts, 1, 0, start=105)


def more_than_offsets(receipts: list[Receipt]) -> None:
    change(receipts, 0, 0, messages=7)


def one_more_rejected(receipts: list[Receipt]) -> None:
    receipts[0].rejected[0] = 1


def without_a_ticket_file(receipts: list[Receipt]) -> None:
    del receipts[0].files[0]


def without_the_rejected_file(receipts: list[Receipt]) -> None:
    del receipts[1].files[2]


def without_the_urgent_file(receipts: list[Receipt]) -> None:
    del receipts[1].files[1]


def with_a_row_too_many(receipts: list[Receipt]) -> None:
    receipts[1].files.append(staged("rejected_messages", "e", 1))


def uncounted(receipts: list[Receipt]) -> None:
    del receipts[0].hours[0]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (another_partition, "partition 2 was read, but not planned"),
        (before_the_range, r"partition 0 should be read on from offset 100, found RangeRead\(partition=0, start=99,"),
        (behind_the_range, "partition 0 was read up to offset 111 instead of 110"),
        (short_of_its_end, r"RangeRead\(partition=0, start=106, end=110, reached=109, .* was not read to its end"),
        (a_part_missing, r"partition 0 should be read on from offset 100, found RangeRead\(partition=0, start=106"),
        (the_last_part_missing, "partition 0 was read up to offset 106 instead of 110"),
        (twice, r"partition 0 should be read on from offset 106, found RangeRead\(partition=0, start=100"),
        (overlapping, r"partition 0 should be read on from offset 106, found RangeRead\(partition=0, start=105"),
        (more_than_offsets, "holds more messages than offsets"),
        (one_more_rejected, "12 rows of tickets_with_assignment, but there are 13"),
        (without_a_ticket_file, "13 rows of tickets_with_assignment, but there are 7"),
        (without_the_rejected_file, "2 rows of rejected_messages, but there are 0"),
        (without_the_urgent_file, "4 rows of high_priority_tickets, but there are 0"),
        (with_a_row_too_many, "2 rows of rejected_messages, but there are 3"),
        (uncounted, "13 tickets counted by hour, but there are 7"),
    ],
)
def test_receipts_that_do_not_add_up_are_refused(spoil: Callable[[list[Receipt]], None], found: str) -> None:
    receipts = complete()
    spoil(receipts)
    with pytest.raises(DataConflict, match=f"the batch does not add up: .*{found}"):
        require_complete(RANGES, receipts)


def test_a_receipt_is_the_same_after_encoding_and_decoding() -> None:
    receipt = complete()[1]
    receipt.hours.append(HourCount(datetime(1, 1, 1, tzinfo=UTC), "general", "low", "General Support", 1))
    receipt.hours.append(HourCount(datetime(9999, 12, 31, 23, tzinfo=UTC), "general", "low", "General Support", 1))
    assert decode_receipt(encode_receipt(receipt)) == receipt
