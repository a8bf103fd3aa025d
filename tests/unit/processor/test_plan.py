"""Which messages a batch covers."""

import random

import pytest

from processor.plan import Bounds, OffsetRange, plan_batch, share_out, starts, up_to, within
from runtime.errors import DataConflict
from store.manifest import Gap, Window


def test_a_new_output_starts_at_the_first_message_of_each_partition() -> None:
    assert starts({}, {0: Bounds(0, 10), 1: Bounds(7, 9)}, accept_gap=False, batch_id=1) == ({0: 0, 1: 7}, [])


def test_a_known_partition_goes_on_and_a_new_one_starts_at_its_first_message() -> None:
    assert starts({0: 4}, {0: Bounds(0, 10), 1: Bounds(0, 5)}, accept_gap=False, batch_id=2) == ({0: 4, 1: 0}, [])


@pytest.mark.parametrize("position", [3, 10])
def test_a_position_at_either_end_of_the_partition_is_not_a_gap(position: int) -> None:
    assert starts({0: position}, {0: Bounds(3, 10)}, accept_gap=False, batch_id=2) == ({0: position}, [])


def test_messages_deleted_unread_are_refused() -> None:
    with pytest.raises(
        DataConflict, match=r"partition 1 begins at offset 1,500, but 300 .*1,200 messages .*accept-gap"
    ):
        starts({0: 0, 1: 300}, {0: Bounds(0, 1), 1: Bounds(1500, 2000)}, accept_gap=False, batch_id=2)


def test_an_accepted_gap_is_skipped_and_recorded() -> None:
    assert starts({0: 5, 1: 300}, {0: Bounds(5, 9), 1: Bounds(1500, 2000)}, accept_gap=True, batch_id=7) == (
        {0: 5, 1: 1500},
        [Gap(partition=1, start=300, end=1500, batch_id=7)],
    )


@pytest.mark.parametrize("accept_gap", [False, True])
def test_a_partition_that_ends_before_what_was_read_is_refused(accept_gap: bool) -> None:
    with pytest.raises(DataConflict, match="partition 0 ends at offset 4, but 5 were read"):
        starts({0: 5}, {0: Bounds(0, 4)}, accept_gap, batch_id=2)


@pytest.mark.parametrize("accept_gap", [False, True])
def test_a_partition_that_vanished_is_refused(accept_gap: bool) -> None:
    with pytest.raises(DataConflict, match=r"no longer has the partitions \[1, 2\]"):
        starts({0: 5, 2: 0, 1: 0}, {0: Bounds(0, 5)}, accept_gap, batch_id=2)


def test_a_few_new_messages_make_one_batch() -> None:
    assert plan_batch({0: 5, 1: 0, 2: 3}, {0: 8, 1: 4, 2: 3}, max_messages=100) == [
        OffsetRange(0, 5, 8),
        OffsetRange(1, 0, 4),
    ]


def test_nothing_new_makes_no_ranges() -> None:
    assert plan_batch({0: 5, 1: 0}, {0: 5, 1: 0}, max_messages=100) == []


def test_a_batch_as_large_as_the_cap_is_not_cut() -> None:
    assert plan_batch({0: 0, 1: 0}, {0: 60, 1: 40}, max_messages=100) == [OffsetRange(0, 0, 60), OffsetRange(1, 0, 40)]


def test_the_cap_is_shared_equally() -> None:
    assert plan_batch({0: 10, 1: 20}, {0: 1000, 1: 1000}, max_messages=100) == [
        OffsetRange(0, 10, 60),
        OffsetRange(1, 20, 70),
    ]


def test_the_rest_of_a_short_partitions_share_goes_to_the_others() -> None:
    assert plan_batch({0: 0, 1: 0, 2: 0}, {0: 1_000_000, 1: 4, 2: 1_000_000}, max_messages=100) == [
        OffsetRange(0, 0, 48),
        OffsetRange(1, 0, 4),
        OffsetRange(2, 0, 48),
    ]


def test_a_cap_below_the_number_of_partitions_still_makes_progress() -> None:
    assert plan_batch(dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 9), max_messages=1) == [OffsetRange(3, 0, 1)]


def test_offsets_of_any_size_are_planned_exactly() -> None:
    assert plan_batch({0: 0}, {0: 2**63 - 1}, max_messages=5_000_000) == [OffsetRange(0, 0, 5_000_000)]
    assert plan_batch({0: 2**63 - 3}, {0: 2**63 - 1}, max_messages=5_000_000) == [OffsetRange(0, 2**63 - 3, 2**63 - 1)]


@pytest.mark.parametrize("seed", range(20))
def test_batches_never_exceed_the_cap_and_reach_the_end_with_each_offset_once(seed: int) -> None:
    chance = random.Random(seed)
    positions = {p: chance.randrange(50) for p in range(chance.randint(1, 12))}
    ends = {p: start + chance.choice([0, 1, 3, 40, 700]) for p, start in positions.items()}
    cap = chance.choice([1, 2, 5, 64, 1000])
    while ranges := plan_batch(positions, ends, cap):
        taken = sum(r.length for r in ranges)
        waiting = sum(ends[p] - positions[p] for p in positions)
        # A cap that cannot be divided equally is still used up, so a backlog is read at full batch size.
        assert taken == min(cap, waiting)
        for r in ranges:
            assert r.start == positions[r.partition]
            assert r.length > 0
            positions[r.partition] = r.end
    assert positions == ends


def test_a_small_batch_is_one_task_however_many_partitions_it_has() -> None:
    ranges = [OffsetRange(partition, 10, 12) for partition in range(200)]
    (task,) = share_out(ranges, cores=2)
    assert sorted(task, key=lambda r: r.partition) == ranges


def test_a_backlog_in_one_partition_is_cut_so_that_all_cores_have_something_to_do() -> None:
    assert share_out([OffsetRange(0, 5, 100_005)], cores=2) == [
        [OffsetRange(0, 5, 50_005)],
        [OffsetRange(0, 50_005, 100_005)],
    ]


def test_a_long_range_is_cut_into_equal_parts_of_at_most_250_000() -> None:
    tasks = share_out([OffsetRange(0, 0, 1_000_001)], cores=2)
    assert sorted((r.start, r.end) for (r,) in tasks) == [
        (0, 200_000),
        (200_000, 400_000),
        (400_000, 600_000),
        (600_000, 800_000),
        (800_000, 1_000_001),
    ]


def test_a_batch_that_is_not_worth_a_second_core_is_one_task() -> None:
    assert len(share_out([OffsetRange(0, 0, 20_000), OffsetRange(1, 0, 5_000)], cores=8)) == 1
    assert len(share_out([OffsetRange(0, 0, 20_000), OffsetRange(1, 0, 30_000)], cores=8)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_shared_ranges_cover_each_offset_once_in_tasks_of_about_the_same_size(seed: int) -> None:
    chance = random.Random(seed)
    ranges = [
        OffsetRange(partition, start, start + chance.choice([1, 2, 700, 40_000, 250_000, 900_000]))
        for partition, start in enumerate(chance.randrange(1_000) for _ in range(chance.randint(1, 12)))
    ]
    cores = chance.choice([1, 2, 16])
    tasks = share_out(ranges, cores)
    for whole in ranges:
        parts = sorted((r for task in tasks for r in task if r.partition == whole.partition), key=lambda r: r.start)
        assert [part.start for part in parts] == [whole.start, *(part.end for part in parts[:-1])]
        assert parts[-1].end == whole.end
        assert all(0 < part.length <= 250_000 for part in parts)
    loads = [sum(r.length for r in task) for task in tasks]
    assert loads == sorted(loads, reverse=True)
    assert loads[0] <= 500_000


UNTIL_TEN = Window("earliest", "2026-01-31T10:00:00Z", {0: 10, 1: 4})


def test_offsets_after_the_end_of_a_window_are_cut_off() -> None:
    held = {0: Bounds(3, 25), 1: Bounds(0, 2), 2: Bounds(0, 9)}
    assert within(UNTIL_TEN, held) == {0: Bounds(3, 10), 1: Bounds(0, 2)}
    assert within(Window("latest"), held) == held
    assert within(None, held) == held
    assert up_to(UNTIL_TEN, {0: 25, 1: 2}) == {0: 10, 1: 2}
    assert up_to(Window("latest"), {0: 25}) == up_to(None, {0: 25}) == {0: 25}


def test_only_what_is_deleted_before_the_end_of_a_window_is_missing() -> None:
    held = within(UNTIL_TEN, {0: Bounds(90, 100), 1: Bounds(50, 60)})
    assert starts({0: 10, 1: 4}, held, accept_gap=False, batch_id=2) == ({0: 10, 1: 4}, [])
    with pytest.raises(DataConflict, match=r"partition 0 begins at offset 10, but 7 is .* 3 messages were deleted"):
        starts({0: 7, 1: 4}, held, accept_gap=False, batch_id=2)
    assert starts({0: 7, 1: 4}, held, accept_gap=True, batch_id=2) == ({0: 10, 1: 4}, [Gap(0, 7, 10, 2)])


def test_a_topic_that_ends_before_what_was_read_of_a_window_is_refused() -> None:
    with pytest.raises(DataConflict, match="partition 0 ends at offset 3, but 10 were read"):
        starts({0: 10, 1: 4}, within(UNTIL_TEN, {0: Bounds(0, 3), 1: Bounds(0, 4)}), accept_gap=False, batch_id=2)
