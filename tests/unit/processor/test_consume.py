"""What needs no broker: a script stands in for the consumer. The rest is in tests/integration/test_consume.py."""

from types import TracebackType
from typing import Any, Self

import msgspec
import pytest
from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from processor import consume
from processor.consume import utc_microseconds
from processor.outcome import ConsumeFailed, Failure, FailureKind, RangeRead
from processor.plan import OffsetRange


def message(offset: int, partition: int = 0) -> Message:
    return Message("tickets", partition, offset, value=b"%d" % offset)


def notice(code: int, offset: int = -1, topic: str | None = "tickets") -> Message:
    return Message(topic, 0, offset, error=KafkaError(code, "any text"))


class Script:
    """Replaces the consumer: each call that may wait returns the next list, at the end an empty one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *arrivals: list[Message]) -> None:
        self.arrivals = list(arrivals)
        self.options: dict[str, Any] = {}
        self.closed = False
        self.now = 0.0
        monkeypatch.setattr(consume, "Consumer", self.open)

    def open(self, options: dict[str, Any]) -> Self:
        self.options = options
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def consume(self, count: int, timeout: float) -> list[Message]:
        if not timeout:
            return []
        self.now += timeout
        return self.arrivals.pop(0) if self.arrivals else []

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        pass

    incremental_unassign = incremental_assign

    def read(self, *ranges: OffsetRange) -> list[int | None]:
        pieces = consume.consume("127.0.0.1:1", {}, "tickets", ranges, 30, lambda: self.now)
        return [message.offset() for piece in pieces for message in piece.messages]


def test_messages_after_the_end_of_a_range_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [message(0), message(0, partition=1), message(1), message(2), message(1, partition=1), message(3)]

    assert Script(monkeypatch, mixed).read(OffsetRange(0, 0, 2), OffsetRange(1, 0, 1)) == [0, 0, 1]


def test_the_time_that_the_caller_takes_is_not_time_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "PIECE_MESSAGES", 1)
    script = Script(monkeypatch, [message(0)], [], [message(1)], [], [message(2)])

    for _ in consume.consume("127.0.0.1:1", {}, "tickets", [OffsetRange(0, 0, 2)], 30, lambda: script.now):
        script.now += 1_000


def test_the_consumer_is_closed_when_its_reader_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "PIECE_MESSAGES", 1)
    script = Script(monkeypatch, [message(0)], [message(1)])
    pieces = consume.consume("127.0.0.1:1", {}, "tickets", [OffsetRange(0, 0, 10)])
    next(pieces)
    assert not script.closed

    pieces.close()

    assert script.closed


def test_the_consumer_is_closed_when_reading_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch)

    with pytest.raises(
        ConsumeFailed, match=r"no progress: nothing arrived for 30 s of partition 0 from offset 4 up to"
    ):
        script.read(OffsetRange(0, 4, 10))
    assert script.closed


def test_an_offset_that_comes_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="offset 1 came after 1"):
        Script(monkeypatch, [message(0), message(1)], [message(1)]).read(OffsetRange(0, 0, 10))


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.UNKNOWN])
def test_an_unexpected_error_of_a_partition_is_raised_unchanged(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KafkaException) as error:
        Script(monkeypatch, [message(0), notice(code, 1)]).read(OffsetRange(0, 0, 10))
    assert error.value.args[0].code() == code


@pytest.mark.parametrize(
    "code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION]
)
def test_a_deleted_offset_is_reported_with_its_partition(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConsumeFailed) as error:
        Script(monkeypatch, [notice(code, 7)]).read(OffsetRange(0, 7, 10))
    assert error.value.failure == Failure(FailureKind.OFFSET_GONE, "partition 0, offset 7: any text")


def test_an_error_that_concerns_the_group_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = notice(KafkaError.GROUP_AUTHORIZATION_FAILED, topic=None)

    assert Script(monkeypatch, [refused], [message(0), message(1)]).read(OffsetRange(0, 0, 1)) == [0]


@pytest.mark.parametrize("kind", [TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME])
@pytest.mark.parametrize(
    ("stamp", "microseconds"),
    [
        (0, 0),
        (1_700_000_000_123, 1_700_000_000_123_000),
        (253_402_300_799_999, 253_402_300_799_999_000),
        (253_402_300_800_000, None),
        (1_700_000_000_000_000, None),
        (1_700_000_000_000_000_000, None),
        (-1, None),
        (-(2**62), None),
        (2**63 - 1, None),
    ],
)
def test_a_timestamp_is_milliseconds_of_the_years_1970_to_9999(kind: int, stamp: int, microseconds: int | None) -> None:
    assert utc_microseconds(Message(timestamp=(kind, stamp))) == microseconds


def test_a_message_without_a_timestamp_has_none() -> None:
    assert utc_microseconds(Message(timestamp=(TIMESTAMP_NOT_AVAILABLE, 0))) is None


@pytest.mark.parametrize("outcome", [RangeRead(1, 2, 5, 7, 3), Failure(FailureKind.TOPIC_GONE, "partition 1")])
def test_an_outcome_can_be_encoded_in_a_receipt(outcome: RangeRead | Failure) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=type(outcome)) == outcome
