"""Check the identity of the topic before a batch and before its commit: it may have been deleted and made again."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from processor.batch import Batch
from processor.plan import Bounds, require_same_records, still_there
from processor.receipt import Receipt, last_records
from runtime.errors import DataConflict
from store.manifest import Record, Source


class TopicLookUp(Protocol):
    """What the broker says of the topic."""

    def check(self) -> None:
        """Raise BrokerError, naming the step that failed, when the broker cannot be used; return early on a stop."""

    def look_up(self) -> tuple[Source, dict[int, Bounds]]:
        """Return the identity of the topic and the offsets of each partition. Raises BrokerError."""

    def records(self, offsets: Mapping[int, int]) -> dict[int, Record]:
        """Return the message at one offset of each partition that has one there. Raises BrokerError."""

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offset behind the last message of each partition, those of open transactions included.

        Raises BrokerError.
        """

    def offsets_at(self, timestamp: int, partitions: Iterable[int]) -> dict[int, int]:
        """Return the first offset of each partition that holds a record of ``timestamp`` (ms since 1970) or later.

        Raises BrokerError.
        """

    def watched(self) -> AbstractContextManager[None]:
        """While the block runs, log when the broker stops answering and when it is back."""


def confirm(topic: TopicLookUp, batch: Batch, receipts: Sequence[Receipt]) -> dict[int, Bounds] | None:
    """Before the commit, raise DataConflict if the topic was replaced since the plan. Raises BrokerError.

    Return the offsets of each partition; None for a batch that read nothing, for which the broker is not asked.
    """
    if not batch.ranges and batch.window is None:
        return None
    bounds = require_unchanged(topic, batch)
    require_records(topic, batch.source, last_records(receipts), bounds)
    return bounds


def require_records(
    topic: TopicLookUp, source: Source, records: Mapping[int, Record], bounds: Mapping[int, Bounds]
) -> None:
    """Raise DataConflict when the topic holds other messages than those that were read.

    Only needed if the broker reports no topic id: an id tells a topic from another one of the same name.
    """
    expected = still_there(records, bounds)
    if source.topic_id is None and expected:
        found = topic.records({partition: record.offset for partition, record in expected.items()})
        require_same_records(expected, found)


def require_unchanged(topic: TopicLookUp, batch: Batch) -> dict[int, Bounds]:
    """Return what the topic holds now. Raises BrokerError, and DataConflict when it is not the one of the plan."""
    source, bounds = topic.look_up()
    source.require_same(batch.source)
    for offsets in batch.ranges:
        held = bounds.get(offsets.partition)
        if held is None or held.end < offsets.end:
            raise DataConflict(
                f"partition {offsets.partition} ended at offset {offsets.end:,} or later and ends at "
                f"{held.end if held else 0:,} now: the topic was replaced or truncated; choose another "
                "--output-path for the new topic"
            )
    return bounds
