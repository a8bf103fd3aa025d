"""Which messages the next batch covers: a decision on values, no I/O."""

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import DataConflict
from store.manifest import Gap, Record, Window

# Progress is counted in finished ranges, so they must not be too large; a task of this size runs far longer than its
# start takes.
MOST_IN_A_RANGE = 250_000
# With fewer messages than this for each core, one task finishes sooner than several tasks start.
WORTH_A_CORE = 25_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets that a partition holds: from ``first`` up to but not including ``end``."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets of a partition: from ``start`` up to but not including ``end``."""

    partition: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """How many offsets the range spans; compaction and transactions can leave some without a message."""
        return self.end - self.start


def starts(
    next_offsets: Mapping[int, int], bounds: Mapping[int, Bounds], accept_gap: bool, batch_id: int
) -> tuple[dict[int, int], list[Gap]]:
    """Return the offset to read on from in each partition, and the gaps that were accepted.

    ``next_offsets`` is what the ledger says; a partition that it does not know starts at its first message. Raises
    DataConflict when messages are gone that were not read, or when a partition ends before what was read.
    """
    positions, gaps = {}, []
    for partition, held in sorted(bounds.items()):
        position = next_offsets.get(partition, held.first)
        # Offsets only grow, so a lower end is not the topic that was read.
        if position > held.end:
            raise DataConflict(
                f"partition {partition} ends at offset {held.end:,}, but {position:,} were read: the topic was "
                "replaced or truncated; choose another --output-path for the new topic"
            )
        if position < held.first:
            if not accept_gap:
                raise DataConflict(
                    f"partition {partition} begins at offset {held.first:,}, but {position:,} is the next to be read: "
                    f"{held.first - position:,} messages were deleted unread (retention); --accept-gap goes on without "
                    "them and records the gap in the manifest"
                )
            gaps.append(Gap(partition, position, held.first, batch_id))
            position = held.first
        positions[partition] = position
    if missing := sorted(next_offsets.keys() - bounds.keys()):
        raise DataConflict(
            f"the topic no longer has the partitions {missing} that were read: it was replaced; "
            "choose another --output-path for the new topic"
        )
    return positions, gaps


def within(window: Window | None, bounds: Mapping[int, Bounds]) -> dict[int, Bounds]:
    """Return what of ``bounds`` an output with this window is to hold.

    Offsets after the end of the window are cut off, so retention may delete them. If the window has an end, partitions
    that were added after it was resolved are left out.
    """
    if window is None or window.until is None:
        return dict(bounds)
    return {
        partition: Bounds(min(held.first, window.ends[partition]), min(held.end, window.ends[partition]))
        for partition, held in bounds.items()
        if partition in window.ends
    }


def up_to(window: Window | None, ends: Mapping[int, int]) -> dict[int, int]:
    """Return the ends of partitions, or of the window if that ends before them."""
    limits = window.ends if window else {}
    return {partition: min(end, limits.get(partition, end)) for partition, end in ends.items()}


def still_there(records: Mapping[int, Record], bounds: Mapping[int, Bounds]) -> dict[int, Record]:
    """Return those of ``records``, by partition, whose offsets the topic still holds."""
    return {p: r for p, r in records.items() if p in bounds and bounds[p].first <= r.offset < bounds[p].end}


def require_same_records(expected: Mapping[int, Record], found: Mapping[int, Record]) -> None:
    """Raise DataConflict when a partition has another message at an offset that was read: the topic was replaced.

    An offset without a message proves nothing: compaction may have removed it.
    """
    for partition, record in sorted(expected.items()):
        now = found.get(partition)
        if now is not None and (now.timestamp, now.checksum) != (record.timestamp, record.checksum):
            raise DataConflict(
                f"partition {partition} holds another message at offset {record.offset:,} than the one that was read: "
                "the topic was replaced; choose another --output-path for the new topic"
            )


def plan_batch(positions: Mapping[int, int], ends: Mapping[int, int], max_messages: int) -> list[OffsetRange]:
    """Return the ranges of one batch: all that is new, or an equal share of each partition up to ``max_messages``.

    If a partition has less than its share, the others get the rest, so a backlog is read at full batch size.
    """
    waiting = {p: ends[p] - positions[p] for p in sorted(ends) if ends[p] > positions[p]}
    ranges, budget = [], max_messages
    for served, partition in enumerate(sorted(waiting, key=lambda p: (waiting[p], p))):
        take = min(waiting[partition], budget // (len(waiting) - served))
        budget -= take
        if take:
            start = positions[partition]
            ranges.append(OffsetRange(partition, start, start + take))
    return sorted(ranges, key=lambda r: r.partition)


def share_out(ranges: Sequence[OffsetRange], cores: int) -> list[list[OffsetRange]]:
    """Return the ranges of each task, the longest task first, so that all cores finish at about the same time.

    A range longer than a task should be is cut into equal parts; short ranges share a task.
    """
    offsets = sum(r.length for r in ranges)
    most = min(MOST_IN_A_RANGE, max(WORTH_A_CORE, math.ceil(offsets / cores)))
    parts = [part for r in ranges for part in _cut(r, math.ceil(r.length / most))]
    tasks: list[list[OffsetRange]] = [[] for _ in range(min(len(parts), math.ceil(offsets / most)))]
    # The longest part goes to the task that has least so far.
    loads = [(0, number) for number in range(len(tasks))]
    for part in sorted(parts, key=lambda r: -r.length):
        load, number = heapq.heappop(loads)
        tasks[number].append(part)
        heapq.heappush(loads, (load + part.length, number))
    return sorted(tasks, key=lambda task: -sum(r.length for r in task))


def _cut(r: OffsetRange, parts: int) -> list[OffsetRange]:
    edges = [r.start + r.length * number // parts for number in range(parts + 1)]
    return [OffsetRange(r.partition, start, end) for start, end in itertools.pairwise(edges)]
