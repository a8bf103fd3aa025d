"""Produce tickets: pace them, send them, wait for acknowledgements, stop."""

import gc
import time
from collections.abc import Callable

from producer.answers import AnswerKey, Faulty
from producer.config import ProducerConfig
from producer.delivery import DELIVERY_TIMEOUT_S, Delivery, connect
from producer.pacing import Pacer, planned
from producer.progress import Progress
from producer.sources.random import RandomTickets
from producer.ticket import TicketSource
from runtime.errors import NotAcknowledged
from runtime.process.shutdown import Shutdown

# How long a stop waits for tickets in flight. The grace period of a container must be longer.
FLUSH_S = 12.0

# How long after its duration a run may still send tickets that were due within it.
OVERTIME_S = 5.0

_REPORT_EVERY_S = 0.1
_FULL_PAUSE_S = 0.01
_DRY_PAUSE_S = 0.02

# For gc.set_threshold: how many new objects start a collection of the young ones, how many of those start one of the
# middle generation, and how many of those a full one.
_GC_THRESHOLDS = (10_000, 20, 100)

Report = Callable[[Progress], None]


class ProductionManager:
    """Sends tickets at the rate of the config until its count, its duration, a failure or a stop."""

    def __init__(
        self,
        config: ProducerConfig,
        source: TicketSource,
        delivery: Delivery,
        stop: Shutdown,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._source = source
        self._delivery = delivery
        self._stop = stop
        self._report = report
        self._clock = clock
        self._reported = clock()

    def run(self) -> Progress:
        """Send tickets, then wait for the acknowledgements; return the final counts.

        Raises NotAcknowledged with the number of tickets that are not known to be in the topic, and BrokerError.
        """
        try:
            self._delivery.prepare()
            self._produce()
            self._confirm()
        finally:
            counted = self._delivery.progress
            self._report(counted)
            self._delivery.close()
            self._delivery.settle_all()
            self._source.confirm(self._delivery.confirmed)
            # Report again only if closing changed the counts; otherwise its time would count as time of the tickets.
            if self._delivery.progress != counted:
                self._report(self._delivery.progress)
        progress = self._delivery.progress
        if progress.unacknowledged:
            cause = self._delivery.cause
            raise NotAcknowledged(unacknowledged(progress, type(cause).__name__ if cause else "no answer"))
        return progress

    def _produce(self) -> None:
        self._report(Progress())
        start = self._clock()
        pacer = Pacer(self._config.rate, start)
        end = start + self._config.duration if self._config.duration else float("inf")
        deadline = end + (OVERTIME_S if self._config.rate else 0)
        left = self._tickets_planned()
        while left > 0 and not self._source.ended and not self._stop.asked and not self._delivery.cause:
            now = self._clock()
            if now >= deadline:
                return
            number = int(min(pacer.due(now), self._delivery.room, left))
            before = self._delivery.progress.sent
            if number:
                self._delivery.send(self._source.take(number))
            sent = self._delivery.progress.sent - before
            pacer.spend(sent)
            left -= sent
            self._look()
            self._stop.wait(self._pause(pacer, deadline) if sent or not number else _DRY_PAUSE_S)
        if self._config.duration and not self._config.count and not self._source.ended:
            self._stop.wait(max(0.0, end - self._clock()))

    def _tickets_planned(self) -> float:
        """Return how many tickets to send at most."""
        limits = [float("inf")]
        if self._config.count:
            limits.append(self._config.count)
        if self._config.duration and self._config.rate:
            limits.append(planned(self._config.rate, self._config.duration))
        return min(limits)

    def _pause(self, pacer: Pacer, deadline: float) -> float:
        if not self._delivery.room:
            return _FULL_PAUSE_S
        now = self._clock()
        longest = _REPORT_EVERY_S if self._delivery.progress.in_flight else 1.0
        return max(0.0, min(pacer.pause(now), longest, deadline - now))

    def _confirm(self) -> None:
        """Wait until no ticket is in flight: as long as the client retries, or FLUSH_S when asked to stop."""
        deadline = self._clock() + DELIVERY_TIMEOUT_S + FLUSH_S
        hurried = False
        while self._delivery.progress.in_flight and self._clock() < deadline:
            if not hurried and (self._stop.asked or self._delivery.cause):
                hurried = True
                deadline = self._clock() + FLUSH_S
            time.sleep(_FULL_PAUSE_S)
            self._delivery.settle_all()
            self._look()

    def _look(self) -> None:
        self._delivery.settle()
        self._source.confirm(self._delivery.confirmed)
        now = self._clock()
        if now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            self._report(self._delivery.progress)


def unacknowledged(progress: Progress, cause: str) -> str:
    """Return the message about tickets that were not acknowledged."""
    return (
        f"{progress.unacknowledged:,} of {progress.sent:,} tickets were not acknowledged ({cause}); "
        "they may be in the topic or not, the others are in it"
    )


def produce(config: ProducerConfig, worker: int, stop: Shutdown, report: Report) -> Progress:
    """Produce random tickets in this process, as worker number ``worker`` from 0.

    Raises like ``ProductionManager.run``.
    """
    tickets = RandomTickets(config.seed, worker)
    if not config.is_faulty and config.answers is None:
        return send(tickets, config, worker, stop, report)
    key = AnswerKey(config.answers) if config.answers else None
    note = key.note if key else lambda line: None
    last = Progress()

    def remember(progress: Progress) -> None:
        nonlocal last
        last = progress
        report(progress)

    try:
        source = Faulty(tickets, config.invalid_rate, config.duplicate_rate, config.seed, note)
        return send(source, config, worker, stop, remember)
    finally:
        if key:
            key.close(last.sent, last.acknowledged)


def send(source: TicketSource, config: ProducerConfig, worker: int, stop: Shutdown, report: Report) -> Progress:
    """Send the tickets of ``source`` in this process. Raises like ``ProductionManager.run``."""
    delivery = Delivery(connect(config, worker), config.topic)
    _collect_garbage_rarely()
    return ProductionManager(config, source, delivery, stop, report).run()


def _collect_garbage_rarely() -> None:
    """Collect garbage rarely: going through all tickets in flight again and again would take a tenth of the time.

    There is little to collect, because tickets are freed by reference counting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
