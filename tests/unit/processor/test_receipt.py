"""Receipts that account for every message, and each way in which they can fail to."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt, decode_receipt, encode_receipt, require_complete
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
            partitions=[PartitionRead(0, 100, 105, tickets=6)],
            hours=[HourCount(NINE, "billing", "low", "Billing Team", 6)],
        ),
        Receipt(
            files=[
                staged("tickets_with_assignment", "b", 7),
                staged("high_priority_tickets", "c", 4),
                staged("rejected_messages", "d", 2),
            ],
            partitions=[PartitionRead(0, 106, 109, tickets=3, rejected=1), PartitionRead(1, 0, 4, 4, 1)],
            hours=[
                HourCount(NINE, "billing", "high", "Billing Team", 3),
                HourCount(NINE, "billing", "critical", "Billing Team", 1),
                HourCount(NINE, "billing", "low", "Billing Team", 3),
            ],
        ),
    ]


def test_what_adds_up_is_accepted_whatever_the_order() -> None:
    require_complete(RANGES, complete())
    require_complete(RANGES[::-1], complete()[::-1])


def test_an_empty_batch_is_complete() -> None:
    require_complete([], [])
    require_complete([], [Receipt()])


def test_offsets_without_a_message_are_no_loss() -> None:
    receipts = complete()
    receipts[1].partitions[0].first = 108
    receipts[1].partitions[0].tickets = 1
    receipts[1].files[0] = staged("tickets_with_assignment", "b", 5)
    receipts[1].hours[2] = HourCount(NINE, "billing", "low", "Billing Team", 1)
    require_complete(RANGES, receipts)


def another_partition(receipts: list[Receipt]) -> None:
    receipts[1].partitions[1].partition = 2


def before_the_range(receipts: list[Receipt]) -> None:
    receipts[0].partitions[0].first = 99


def behind_the_range(receipts: list[Receipt]) -> None:
    receipts[1].partitions[0].last = 110


def twice(receipts: list[Receipt]) -> None:
    receipts.append(receipts[0])


def overlapping(receipts: list[Receipt]) -> None:
    receipts[1].partitions[0].first = 105


def more_than_offsets(receipts: list[Receipt]) -> None:
    receipts[0].partitions[0].rejected = 1


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
        (another_partition, "lies outside of the planned None"),
        (before_the_range, r"first=99, .* lies outside of the planned OffsetRange\(partition=0, start=100, end=110\)"),
        (behind_the_range, r"last=110, .* lies outside of the planned OffsetRange\(partition=0, start=100, end=110\)"),
        (twice, "partition 0 was read twice at offset 100"),
        (overlapping, "partition 0 was read twice at offset 105"),
        (more_than_offsets, "holds more messages than offsets"),
        (without_a_ticket_file, "13 rows of tickets_with_assignment, but there are 7"),
        (without_the_rejected_file, "2 rows of rejected_messages, but there are 0"),
        (without_the_urgent_file, "4 rows of high_priority_tickets, but there are 0"),
        (with_a_row_too_many, "2 rows of rejected_messages, but there are 3"),
        (uncounted, "13 tickets counted by hour, but there are 7"),
    ],
)
def test_what_does_not_add_up_is_refused(spoil: Callable[[list[Receipt]], None], found: str) -> None:
    receipts = complete()
    spoil(receipts)
    with pytest.raises(DataConflict, match=f"the batch does not add up: .*{found}"):
        require_complete(RANGES, receipts)


def test_a_receipt_survives_the_way_to_the_driver() -> None:
    receipt = complete()[1]
    receipt.hours.append(HourCount(datetime(1, 1, 1, tzinfo=UTC), "general", "low", "General Support", 1))
    receipt.hours.append(HourCount(datetime(9999, 12, 31, 23, tzinfo=UTC), "general", "low", "General Support", 1))
    assert decode_receipt(encode_receipt(receipt)) == receipt
