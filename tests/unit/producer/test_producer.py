"""Producing tickets, with a scripted client."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from contract.ticket import decode
from producer import delivery as delivery_module
from producer import producer as producer_module
from producer.config import ProducerConfig
from producer.delivery import Delivery
from producer.producer import ProductionManager
from producer.progress import Progress, Reporter
from producer.sources.random import RandomTickets
from producer.ticket import Message
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError, NotAcknowledged
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown
from tests.support.screen import Screen

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Answer:
    is_done: bool = False
    exception: BaseException | None = None


@dataclass
class Broker:
    """A client whose answers the test sets; by default it acknowledges at once."""

    answer: Callable[[int], Answer] = lambda number: Answer(is_done=True)
    records: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    partitions: set[int] = field(default_factory=lambda: {0, 1, 2, 3})
    chosen: list[int] = field(default_factory=list)
    closed: bool = False

    def partitions_for(self, topic: str) -> set[int]:
        return self.partitions

    def send(self, topic: str, value: bytes, key: bytes, *, partition: int) -> Answer:
        self.records.append((topic, value, key))
        self.chosen.append(partition)
        self.answers.append(self.answer(len(self.records)))
        return self.answers[-1]

    def close(self, timeout: float) -> None:
        self.closed = True


def config(rate: float = 0, count: int = 0, duration: float = 0) -> ProducerConfig:
    return ProducerConfig("localhost:9092", "tickets", 4, rate, count, duration, 1, 1, "INFO", "text", KafkaSecurity())


class Time(Shutdown):
    """A clock that only waiting advances; at ``stop_at`` a stop is requested."""

    def __init__(self, stop_at: float = 1e9) -> None:
        super().__init__()
        self.now = 0.0
        self._stop_at = stop_at

    def wait(self, seconds: float | None = None) -> bool:
        assert seconds is not None
        self.now += max(seconds, 0.0001)
        if self.now >= self._stop_at:
            self.ask()
        return self.asked


def manager(broker: Broker, settings: ProducerConfig, stop_at: float = 1e9) -> ProductionManager:
    time = Time(stop_at)
    source, delivery = RandomTickets(1), Delivery(broker, settings.topic)
    return ProductionManager(settings, source, delivery, time, lambda progress: None, lambda: time.now)


def test_a_count_is_sent_exactly_and_keyed_by_the_client() -> None:
    broker = Broker()

    progress = manager(broker, config(count=1_234)).run()

    assert progress == Progress(sent=1_234, acknowledged=1_234, failed=0)
    assert broker.closed
    assert all(topic == "tickets" for topic, _, _ in broker.records)
    assert all(decode(value).client_id.encode() == key for _, value, key in broker.records)


def test_a_duration_sends_what_is_due_in_it() -> None:
    assert manager(Broker(), config(rate=100, duration=10)).run().sent == 1_000
    assert manager(Broker(), config(rate=3, duration=0.5)).run().sent == 2


def test_a_stall_near_the_end_is_caught_up_after_it() -> None:
    broker = Broker()
    run = manager(broker, config(rate=100, duration=2))

    def stall(number: int) -> Answer:
        if number == 190:
            run._clock = lambda: now() + 0.5
        return Answer(is_done=True)

    now, broker.answer = run._clock, stall

    assert run.run().sent == 200


def test_the_first_ticket_does_not_wait_for_the_partitions_to_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first one is late and the second on time, so a short run is faster than its rate."""
    broker, moments = Broker(), list[float]()
    run = manager(broker, config(rate=1, duration=10))
    now = run._clock

    def answer(number: int) -> Answer:
        moments.append(run._clock())
        return Answer(is_done=True)

    def ask_the_broker(topic: str) -> set[int]:
        # The client looks them up once, then keeps them.
        run._clock = lambda: now() + 0.5
        return {0, 1, 2, 3}

    broker.answer = answer
    monkeypatch.setattr(broker, "partitions_for", ask_the_broker)

    run.run()

    assert moments[1] - moments[0] == pytest.approx(1.0, abs=0.02)


def test_the_last_counts_are_reported_before_the_client_is_closed() -> None:
    broker, reports = Broker(), list[tuple[Progress, bool]]()
    run = manager(broker, config(count=700))
    run._report = lambda progress: reports.append((progress, broker.closed))

    run.run()

    assert reports[-1] == (Progress(sent=700, acknowledged=700), False)


def test_what_closing_the_client_decides_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "FLUSH_S", 0.1)
    broker, reports, stop = Broker(), list[Progress](), Shutdown()

    def stay_silent(number: int) -> Answer:
        stop.ask()
        return Answer()

    def give_up(timeout: float) -> None:
        for answer in broker.answers:
            answer.is_done, answer.exception = True, KafkaTimeoutError()

    broker.answer = stay_silent
    monkeypatch.setattr(broker, "close", give_up)

    with pytest.raises(NotAcknowledged, match="KafkaTimeoutError"):
        ProductionManager(config(), RandomTickets(1), Delivery(broker, "tickets"), stop, reports.append).run()

    assert reports[-1] == Progress(sent=500, failed=500)


def test_whichever_of_count_and_duration_is_first_ends_the_run() -> None:
    assert manager(Broker(), config(rate=100, duration=2, count=1_000)).run().sent == 200
    assert manager(Broker(), config(rate=100, duration=100, count=10)).run().sent == 10


def test_a_stop_ends_an_endless_run_and_waits_for_tickets_in_flight() -> None:
    assert manager(Broker(), config(rate=100), stop_at=3.0).run() == Progress(sent=300, acknowledged=300)


def test_a_silent_broker_gets_no_more_than_the_limit_and_a_stop_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "MAX_IN_FLIGHT", 100)
    monkeypatch.setattr(producer_module, "FLUSH_S", 0.2)
    broker = Broker(answer=lambda number: Answer())
    stop, source = Shutdown(), RandomTickets(1)
    threading.Timer(0.2, stop.ask).start()

    with pytest.raises(NotAcknowledged, match=r"^100 of 100 tickets were not acknowledged \(no answer\)"):
        ProductionManager(config(), source, Delivery(broker, "tickets"), stop, lambda progress: None).run()
    assert broker.closed


def test_a_failed_ticket_ends_the_run_with_the_number_and_the_cause() -> None:
    failing = Broker(answer=lambda number: Answer(True, MessageSizeTooLargeError() if number == 10 else None))

    with pytest.raises(NotAcknowledged, match=r"^1 of [0-9]+ tickets .* \(MessageSizeTooLargeError\)"):
        manager(failing, config(rate=1_000)).run()
    assert len(failing.records) < 1_000


def test_a_topic_that_vanished_is_an_error_of_the_broker() -> None:
    def vanish(number: int) -> Answer:
        raise KafkaTimeoutError

    with pytest.raises(BrokerError, match="topic tickets is gone"):
        manager(Broker(answer=vanish), config()).run()


def test_a_partition_that_vanished_is_an_error_of_the_broker() -> None:
    def vanish(number: int) -> Answer:
        # The error of kafka-python.
        raise ValueError("Unrecognized partition 3 for topic tickets")

    with pytest.raises(BrokerError, match="topic tickets is gone"):
        manager(Broker(answer=vanish), config()).run()


def test_a_topic_whose_partitions_are_unknown_is_an_error_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(topic: str) -> set[int]:
        raise KafkaTimeoutError

    broker = Broker()
    monkeypatch.setattr(broker, "partitions_for", vanish)

    with pytest.raises(BrokerError, match="topic tickets is gone"):
        manager(broker, config()).run()
    assert broker.closed


def test_a_fault_of_the_source_is_not_taken_for_one_of_the_topic() -> None:
    def tickets() -> Iterator[Message]:
        raise ValueError("broken source")
        yield

    with pytest.raises(ValueError, match="broken source"):
        Delivery(Broker(), "tickets").send(tickets())


def test_a_key_has_one_partition_and_gets_another_only_when_the_topic_grows() -> None:
    broker = Broker()
    delivery = Delivery(broker, "tickets")
    tickets = [Message(client, b"{}") for client in (b"CLIENT_1", b"CLIENT_2")]

    delivery.send(tickets * 2)
    broker.partitions = set(range(12))
    delivery.send(tickets)

    # The murmur2 partitions of the two keys, the same in all Kafka clients: of 4 partitions, then of 12.
    assert broker.chosen == [2, 1, 2, 1, 6, 5]


def test_one_slow_partition_does_not_hide_what_the_others_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "MAX_IN_FLIGHT", 10)
    broker = Broker(answer=lambda number: Answer(is_done=number > 1))
    delivery, source = Delivery(broker, "tickets"), RandomTickets(1)
    delivery.send(source.take(10))

    delivery.settle()

    assert delivery.progress == Progress(sent=10, acknowledged=9, failed=0)
    assert delivery.room == 9


def test_progress_shows_counts_and_the_rate_now_and_overall(caplog: pytest.LogCaptureFixture) -> None:
    now, screen = [100.0], Screen()
    caplog.set_level(logging.INFO)
    reporter = Reporter(screen, Heartbeat(None), 0, clock=lambda: now[0])
    reporter.update(Progress())
    for seconds, count in ((2, 100), (5, 1_000), (10, 3_000)):
        now[0] = 100.0 + seconds
        reporter.update(Progress(count, count, 0))
    # Closing the client takes time.
    now[0] += 5
    reporter.close()

    assert screen.lines == [
        "sent 1,000, acknowledged 1,000, failed 0, 200.0/s now, 200.0/s overall",
        "sent 3,000, acknowledged 3,000, failed 0, 400.0/s now, 300.0/s overall",
        "closed",
    ]
    assert caplog.messages == ["done: sent 3,000, acknowledged 3,000, failed 0, 300.0/s since the start"]


def test_a_silent_broker_is_warned_of_once_and_its_return_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    caplog.set_level(logging.INFO)
    reporter = Reporter(Screen(), Heartbeat(None), 0, clock=lambda: now[0])
    for now[0], acknowledged in ((0, 0), (1, 5), (4, 5), (7, 5), (8, 5), (60, 5), (61, 9)):
        reporter.update(Progress(10, acknowledged, 0))

    assert caplog.messages == [
        "no acknowledgement for 5 s, 5 tickets in flight; the client keeps trying",
        "the broker acknowledges again after 60 s",
    ]


def test_a_slow_rate_is_not_taken_for_a_silent_broker(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    reporter = Reporter(Screen(), Heartbeat(None), 60, clock=lambda: now[0])
    for now[0] in (0, 30, 60, 90):
        reporter.update(Progress(1, 1, 0))

    assert caplog.messages == []


def test_only_tickets_without_a_gap_before_them_are_confirmed() -> None:
    broker = Broker(answer=lambda number: Answer(is_done=number not in (2, 4)))
    delivery = Delivery(broker, "tickets")
    assert delivery.confirmed == 0
    delivery.send([Message(b"C", b"{}")] * 5)

    delivery.settle_all()
    assert (delivery.progress.acknowledged, delivery.confirmed) == (3, 1)
    broker.answers[1].is_done = True
    delivery.settle_all()
    assert (delivery.progress.acknowledged, delivery.confirmed) == (4, 3)
    broker.answers[3].is_done, broker.answers[3].exception = True, KafkaTimeoutError()
    delivery.settle()
    # A failed ticket is never confirmed, nor are those after it.
    assert (delivery.progress.acknowledged, delivery.confirmed) == (4, 3)


def test_a_source_that_ends_ends_the_run_and_learns_what_was_acknowledged() -> None:
    class Few:
        ended = False
        confirmed = 0

        def take(self, number: int) -> list[Message]:
            messages, self._left = self._left[:number], self._left[number:]
            self.ended = not messages
            return messages

        def confirm(self, acknowledged: int) -> None:
            self.confirmed = acknowledged

        _left = [Message(b"C", b"{}")] * 700

    few, time = Few(), Time()
    progress = ProductionManager(
        config(), few, Delivery(Broker(), "tickets"), time, lambda progress: None, lambda: time.now
    ).run()

    assert progress == Progress(sent=700, acknowledged=700)
    assert few.confirmed == 700
