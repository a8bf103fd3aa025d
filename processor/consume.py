"""Offset ranges of a topic → their messages, with librdkafka, inside a task.

The driver has decided where a range ends, so a task never asks the broker for offsets. A range has been read to its end
when a message at or beyond that end arrives, or when the broker reports the end of the partition there. A consumer does
not see offsets without a message (compacted away, aborted, the marker of a transaction), so a range may hold fewer
messages than offsets.
"""

import hashlib
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processor.outcome import ConsumeFailed, Failure, RangeRead
from processor.patience import KINDS, PATIENCE_S, Patience
from processor.plan import OffsetRange
from store.manifest import Record

# A piece is yielded once it has this many messages or this many bytes.
PIECE_MESSAGES = 10_000
PIECE_BYTES = 4 << 20

# The most that one answer of a broker holds, compressed. A smaller limit saves memory where messages shrink a
# thousandfold, but is slower where producers send batches of a few kilobytes: 16 KiB takes half the memory, and twice
# the time.
FETCH_BYTES = 32 << 10
# The most that waits inside librdkafka, decompressed. With more, messages after the end of a range are fetched in vain.
QUEUE_KIB = 8 << 10

# Partitions read at the same time. With fewer, reading takes more rounds of some 25 ms. With more, memory would grow if
# a broker applies FETCH_BYTES to each partition instead of to the whole answer.
_AT_ONCE = 64
# Messages taken from librdkafka before their size is checked.
_STEP = 100
_POLL_S = 0.1
_LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999 UTC

_OPTIONS: dict[str, str | int | bool] = {
    "client.id": "client-tickets",
    # librdkafka requires a name. The consumer does not join this group and commits no offset to it.
    "group.id": "client-tickets",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "allow.auto.create.topics": False,
    "isolation.level": "read_committed",
    # A deleted offset is an error; the other choices skip the missing messages silently.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "check.crcs": True,
    # Limits of memory; message.max.bytes is set because librdkafka refuses a fetch.max.bytes below it.
    "fetch.max.bytes": FETCH_BYTES,
    "message.max.bytes": FETCH_BYTES,
    "fetch.message.max.bytes": FETCH_BYTES,
    "queued.max.messages.kbytes": QUEUE_KIB,
    # By default a full queue stops all fetching for a second, even if it is emptied sooner.
    "fetch.queue.backoff.ms": 5,
    # A broker without new messages answers only after this time, and each range that ends at the end of the log waits
    # for that answer.
    "fetch.wait.max.ms": 10,
    # Give up a broker that hangs early enough to find the new leader within PATIENCE_S.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 10_000,
    "reconnect.backoff.max.ms": 1_000,
    # The driver has just seen the topic, so wait for a broker that does not know it yet.
    "topic.metadata.propagation.max.ms": 3_000,
    "enable.metrics.push": False,
    # Without this, librdkafka prints connection problems to standard error; they reach us as events (error_cb).
    "log_level": 0,
}


class Piece(NamedTuple):
    """Messages of one or several ranges, each partition by offset; ``values[i]`` is the value of ``messages[i]``.

    ``read`` lists the ranges that ended in this piece: no later piece holds messages of them.
    """

    messages: list[Message]
    values: list[bytes | None]
    read: list[RangeRead]

    def place(self, row: int) -> tuple[int, int]:
        """Return the partition and the offset of a message."""
        partition = self.messages[row].partition()
        assert partition is not None, "every message of a consumer has a partition"
        return partition, _offset(self.messages[row])


def consume(
    brokers: str,
    security: Mapping[str, str],
    topic: str,
    ranges: Sequence[OffsetRange],
    patience_s: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Piece, None, None]:
    """Yield every committed message of ``ranges`` once, and each range in the ``read`` of one piece.

    ``security`` is what ``KafkaSecurity.for_librdkafka`` returned. Ranges of different partitions are read at the same
    time, so a piece mixes them; within a partition offsets rise. The consumer is closed when the generator ends or is
    closed.

    Memory: QUEUE_KIB, two pieces, and for each broker the decompressed FETCH_BYTES, or one batch of a producer if that
    is larger, because a broker never cuts a batch; if large messages follow small ones, 100 of them more. Beyond the
    imports, that is 40 to 100 MB for tickets, and up to 480 MB for messages of 1 MB that zstd turned into 90 bytes.

    Raises ConsumeFailed when nothing arrived for ``patience_s`` seconds of ``clock``, or as soon as it is clear that
    nothing will; KafkaException for any other error of a partition, such as a wrong checksum. A topic that was replaced
    by one of the same name is not noticed here: the caller compares its identity afterwards.
    """
    events: list[KafkaError] = []
    options = {**_OPTIONS, **security, "bootstrap.servers": brokers, "error_cb": events.append}
    with Consumer(options) as consumer:
        if "sasl.password" in security:
            # librdkafka strips leading white space from a setting, and a password may begin with it.
            consumer.set_sasl_credentials(security["sasl.username"], security["sasl.password"])
        yield from _Reading(consumer, topic, ranges, events, Patience(patience_s, clock)).pieces()


def utc_microseconds(message: Message) -> int | None:
    """Return the record timestamp in µs since 1970 (UTC), or None when it is missing or outside 1970 to 9999.

    Kafka stores milliseconds. If a producer wrote microseconds or nanoseconds instead, they lie far beyond that.
    """
    kind, milliseconds = message.timestamp()
    if kind == TIMESTAMP_NOT_AVAILABLE or not 0 <= milliseconds <= _LATEST_MS:
        return None
    return milliseconds * 1_000


@dataclass(slots=True)
class _UnderWay:
    """A range that is being read: the next message is at offset ``next`` or later."""

    range: OffsetRange
    next: int
    messages: int = 0
    last: Message | None = None
    partition_end: int | None = None

    def __str__(self) -> str:
        known = "" if self.partition_end is None else f" (the broker says it ends at {self.partition_end})"
        return f"partition {self.range.partition} from offset {self.next} up to {self.range.end}{known}"


class _Reading:
    """Reads the ranges of one call of ``consume`` with one consumer."""

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        ranges: Sequence[OffsetRange],
        events: list[KafkaError],
        patience: Patience,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._waiting = deque(ranges)
        self._events = events
        self._patience = patience
        self._under_way: dict[int | None, _UnderWay] = {}
        self._read: list[RangeRead] = []
        self._ended: list[int] = []
        self._step = 1

    def pieces(self) -> Generator[Piece, None, None]:
        """Yield all that there is to read; see ``consume``."""
        messages: list[Message] = []
        values: list[bytes | None] = []
        size = 0
        self._start_waiting()
        while self._under_way:
            arrived, arrived_bytes = self._poll()
            kept = self._sort(arrived)
            messages += kept
            values += map(Message.value, kept)
            size += arrived_bytes
            if len(messages) >= PIECE_MESSAGES or size >= PIECE_BYTES or not self._under_way:
                yield Piece(messages, values, self._read)
                messages, values, size, self._read = [], [], 0, []
                # The time that the caller took does not count as time without a message.
                self._patience.progress()

    def _poll(self) -> tuple[list[Message], int]:
        """Return the messages and notices that are there, about a piece at most, and roughly their size in bytes.

        Waits up to _POLL_S for the first one.
        """
        # A call for several messages waits until it has all of them, so only the call for one gets a time-out.
        arrived = self._consumer.consume(1, _POLL_S)
        size = sum(map(len, arrived))
        while arrived and len(arrived) < PIECE_MESSAGES and size < PIECE_BYTES:
            step = self._consumer.consume(self._step, 0)
            if not step:
                break
            arrived += step
            # The last message stands for all of the step: exact enough, and much faster than adding up their sizes.
            size += len(step) * len(step[-1])
            self._step = max(1, min(_STEP, PIECE_BYTES // (len(step[-1]) + 1)))
        return arrived, size

    def _sort(self, arrived: list[Message]) -> list[Message]:
        """Return the messages of ranges that are being read; handle notices and events, and start the next ranges."""
        notices: list[Message] = []
        if any(map(Message.error, arrived)):
            notices = [message for message in arrived if message.error()]
            arrived = [message for message in arrived if not message.error()]
        kept: list[Message] = []
        for partition, run in groupby(arrived, Message.partition):
            # librdkafka may have fetched more of a partition whose range has ended: drop that.
            if under_way := self._under_way.get(partition):
                kept += self._take(under_way, list(run))
        for notice in notices:
            self._act_on(notice)
        for event in self._events:
            self._patience.hear(event)
        self._events.clear()
        if kept or self._ended:
            self._patience.progress()
        if self._ended:
            self._start_waiting()
        self._patience.check(self._under_way.values())
        return kept

    def _take(self, under_way: _UnderWay, run: list[Message]) -> list[Message]:
        """Return the messages of ``run``, all of one partition, that are before the end of the range."""
        first, last = _offset(run[0]), _offset(run[-1])
        if first < under_way.next:
            raise RuntimeError(f"offset {first} came after {under_way.next - 1} in {under_way}")
        under_way.next = last + 1
        if last < under_way.range.end:
            under_way.messages += len(run)
            under_way.last = run[-1]
            return run
        cut = bisect_left(run, under_way.range.end, key=_offset)
        under_way.messages += cut
        under_way.last = run[cut - 1] if cut else under_way.last
        self._end(under_way, reached=_offset(run[cut]))
        return run[:cut]

    def _act_on(self, notice: Message) -> None:
        """Handle an error that librdkafka delivers as a message. Raises ConsumeFailed or KafkaException."""
        error = notice.error()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            # Offsets without a message at the end of a range show only here: the end of the partition lies behind them.
            if under_way := self._under_way.get(notice.partition()):
                under_way.partition_end = _offset(notice)
                if under_way.partition_end >= under_way.range.end:
                    self._end(under_way, reached=under_way.partition_end)
        elif notice.topic() is None:
            # It concerns the consumer group, which we do not use and the user may have no right to, so it only counts
            # as an event.
            self._events.append(error)
        elif kind := KINDS.get(error.code()):
            # The driver explains these to the user; running the task again at once would not help.
            raise ConsumeFailed(
                Failure(kind, f"partition {notice.partition()}, offset {notice.offset()}: {error.str()}")
            )
        else:
            raise KafkaException(error)

    def _end(self, under_way: _UnderWay, reached: int) -> None:
        r = under_way.range
        last = None if under_way.last is None else _record(under_way.last)
        self._read.append(RangeRead(r.partition, r.start, r.end, reached, under_way.messages, last))
        self._ended.append(r.partition)
        del self._under_way[r.partition]

    def _start_waiting(self) -> None:
        """Start waiting ranges in place of those that ended; a consumer reads a partition at one offset at a time."""
        if self._ended and (self._waiting or self._under_way):
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in self._ended])
        self._ended.clear()
        started: list[TopicPartition] = []
        while self._waiting and len(self._under_way) < _AT_ONCE and self._waiting[0].partition not in self._under_way:
            r = self._waiting.popleft()
            self._under_way[r.partition] = _UnderWay(r, r.start)
            started.append(TopicPartition(self._topic, r.partition, r.start))
        if started:
            self._consumer.incremental_assign(started)


def _record(message: Message) -> Record:
    kind, milliseconds = message.timestamp()
    digest = hashlib.blake2b(digest_size=16)
    for part in (message.key(), message.value()):
        # The lengths separate key and value, and tell a missing one from an empty one.
        digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    timestamp = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
    return Record(_offset(message), timestamp, digest.hexdigest())


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "every message of a consumer has an offset"
    return offset
