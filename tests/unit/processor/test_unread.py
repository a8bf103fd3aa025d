"""What is said of the topic that an output was written from, on values."""

import pytest

from processor.plan import Bounds
from processor.unread import Unread, compare
from store.differences import Difference
from store.manifest import Source, Window

LEDGER = Source("client_tickets", "cluster-1", "topic-1")


def test_unread_offsets_are_listed_by_partition_also_of_a_new_one() -> None:
    held = {0: Bounds(0, 10), 1: Bounds(5, 9), 2: Bounds(3, 4)}
    assert compare(LEDGER, {0: 10, 1: 7}, LEDGER, held) == (
        [],
        [Unread(0, 10, 10, 0), Unread(1, 7, 9, 2), Unread(2, 3, 4, 1)],
    )


def test_offsets_after_the_end_of_the_window_are_neither_unread_nor_missing() -> None:
    window = Window("latest", "2026-01-31T10:00:00Z", {0: 10, 1: 9})
    held = {0: Bounds(50, 60), 1: Bounds(5, 12), 2: Bounds(3, 4)}
    assert compare(LEDGER, {0: 10, 1: 7}, LEDGER, held, window) == ([], [Unread(0, 10, 10, 0), Unread(1, 7, 9, 2)])


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (Source("t", "cluster-1", "topic-1"), "the output was written from topic client_tickets, the broker has t"),
        (
            Source("client_tickets", "cluster-2", "topic-1"),
            "the output was written from cluster cluster-1, the broker has cluster-2",
        ),
        (
            Source("client_tickets", "cluster-1", "topic-2"),
            "the output was written from topic id topic-1, the broker has topic-2",
        ),
    ],
)
def test_another_topic_or_cluster_is_the_only_difference(found: Source, what: str) -> None:
    assert compare(LEDGER, {0: 10}, found, {0: Bounds(0, 3)}) == ([Difference(f"topic {found.topic}", what)], [])


def test_an_unknown_id_is_not_a_difference() -> None:
    assert compare(LEDGER, {}, Source("client_tickets", None, None), {}) == ([], [])
    assert compare(Source("client_tickets", None, None), {}, LEDGER, {}) == ([], [])


@pytest.mark.parametrize(
    ("held", "what", "unread"),
    [
        ({}, "partition 0 was read, but no longer exists", []),
        (
            {0: Bounds(0, 1_009)},
            "partition 0 ends at offset 1,009, but 1,010 were read: the topic was replaced or truncated",
            [Unread(0, 1_010, 1_009, 0)],
        ),
        (
            {0: Bounds(1_015, 1_020)},
            "partition 0 begins at offset 1,015, 5 were deleted unread",
            [Unread(0, 1_015, 1_020, 5)],
        ),
    ],
)
def test_missing_partitions_and_deleted_offsets_are_differences(
    held: dict[int, Bounds], what: str, unread: list[Unread]
) -> None:
    assert compare(LEDGER, {0: 1_010}, LEDGER, held) == ([Difference("topic client_tickets", what)], unread)
