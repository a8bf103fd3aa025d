"""When offsets are committed to the consumer group, and what is said when they are not: no broker."""

import logging
import threading
from datetime import UTC, datetime
from functools import partial

import pytest

from processor.group import GroupOffsets, GroupState, NotCommitted, NotOurs, Position, whose
from store.counts import Totals
from store.manifest import Manifest, Partition
from tests.support.processes import wait_for
from tests.support.staging import SOURCE

OURS = "0123456789abcdef0123456789abcdef"

LEFT_ALONE = (
    "consumer group g is left alone, because it has active consumers (2); so its offsets do not show the lag of this "
    "output. Set CONSUMER_GROUP (--consumer-group) to a name that nothing else uses, or to nothing, or delete the "
    "group if nobody needs it (rpk group delete g)"
)


def failed(problem: str) -> str:
    return (
        f"consumer group g does not show how far this output is: {problem}. Batches are not affected, and each one "
        "tries again"
    )


def manifest(next_offset: int) -> Manifest:
    partitions = {0: Partition(0, next_offset, tickets=next_offset), 1: Partition(7, 7)}
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    return Manifest(OURS, 1, "c", None, "batch", "parquet", 1, moment, SOURCE, partitions, Totals(), {})


def position(next_offset: int) -> Position:
    return Position("client_tickets", OURS, {0: next_offset, 1: 7})


class Broker:
    """Takes one position after the other, each with the answer that the test gives; without one it takes all."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.taken: list[Position] = []
        self.asked = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def commit(self, given: Position) -> None:
        self.asked.set()
        assert self.may_go_on.wait(30)
        self.taken.append(given)
        if self.answers and (error := self.answers.pop(0)):
            raise error

    def has_taken(self, count: int) -> bool:
        return len(self.taken) == count


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (GroupState(0, {}), ""),
        (GroupState(0, {("client_tickets", 0): OURS, ("client_tickets", 3): OURS}), ""),
        (GroupState(1, {("client_tickets", 0): OURS}), "it has active consumers (1)"),
        (
            GroupState(0, {("client_tickets", 0): OURS, ("client_tickets", 1): "another output"}),
            "it holds an offset of topic client_tickets, partition 1, that another output or a consumer committed",
        ),
        (
            GroupState(0, {("orders", 0): ""}),
            "it holds an offset of topic orders, partition 0, that another output or a consumer committed",
        ),
    ],
)
def test_a_group_is_ours_if_nobody_is_in_it_and_all_its_offsets_are_ours(state: GroupState, why: str) -> None:
    assert whose(state, OURS) == why


def test_the_last_position_is_committed_before_the_end_with_the_output_as_its_owner() -> None:
    broker = Broker()
    broker.may_go_on.clear()
    group = GroupOffsets("g", broker.commit)
    group.show(manifest(5))
    # It answers while the run waits for it.
    threading.Timer(0.1, broker.may_go_on.set).start()
    group.close()
    assert broker.taken == [position(5)]


def test_a_slow_broker_holds_nobody_up_and_gets_the_newest_position_only() -> None:
    broker = Broker()
    broker.may_go_on.clear()
    group = GroupOffsets("g", broker.commit)
    group.show(manifest(1))
    assert broker.asked.wait(30)
    for offset in (2, 3, 4):
        group.show(manifest(offset))
    broker.may_go_on.set()
    group.close()
    assert broker.taken == [position(1), position(4)]


def test_a_broker_that_never_answers_costs_the_end_of_a_run_a_limited_time_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker()
    broker.may_go_on.clear()
    group = GroupOffsets("g", broker.commit, close_s=0.05)
    group.show(manifest(1))
    group.close()
    assert caplog.messages == [failed("the broker did not answer within 0.05 s")]
    broker.may_go_on.set()


def test_a_group_of_somebody_else_is_left_alone_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker(NotOurs("it has active consumers (2)"))
    group = GroupOffsets("g", broker.commit)
    group.show(manifest(1))
    wait_for(lambda: broker.taken)
    group.show(manifest(2))
    group.close()
    assert broker.taken == [position(1)]
    assert caplog.messages == [LEFT_ALONE]
    assert caplog.records[0].levelno == logging.WARNING


def test_failures_are_told_once_until_it_has_worked_in_between(caplog: pytest.LogCaptureFixture) -> None:
    away = NotCommitted("KafkaTimeoutError")
    broker = Broker(away, away, None, away, ZeroDivisionError("a bug"), None, ZeroDivisionError("a bug"))
    group = GroupOffsets("g", broker.commit)
    for offset in range(1, 8):
        group.show(manifest(offset))
        wait_for(partial(broker.has_taken, offset))
    group.close()
    assert caplog.messages == [
        failed("KafkaTimeoutError"),
        failed("KafkaTimeoutError"),
        failed("ZeroDivisionError: a bug"),
    ]


def test_without_a_group_nothing_is_committed() -> None:
    broker = Broker()
    group = GroupOffsets("", broker.commit)
    group.show(manifest(1))
    group.close()
    assert broker.taken == []
