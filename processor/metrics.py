"""The metrics of the processor. docs/metrics.md promises their names, labels and meanings."""

from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from contract.ticket import FIELDS, PRIORITIES, REQUEST_TYPES
from processor.config import ProcessorConfig
from processor.lag import Lag
from processor.receipt import Receipt, read_by_partition
from runtime.process.heartbeat import Health, Heartbeat
from runtime.process.metrics import new_registry, served

# A batch of 5,000,000 messages takes a minute. docker-compose.yml asks for the same.
HEALTHY_FOR_S = 300.0

OTHER = "other"

_MISSING = "missing field: "
# A service that keeps up needs 0.1 s for a batch, a backlog of millions a minute.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """A ``Recorder`` for Prometheus. Counters start at 0 with the process, those of all label values at once."""

    def __init__(self, topic: str) -> None:
        self.registry = registry = new_registry()
        self._topic = topic
        self._read = Counter(
            "client_tickets_messages_read_total", "Messages of the topic in published batches.", registry=registry
        )
        self._tickets = Counter(
            "client_tickets_tickets_total",
            "Tickets published.",
            ["request_type", "priority"],
            registry=registry,
        )
        self._rejected = Counter(
            "client_tickets_rejected_total",
            "Messages that are not tickets, by the first wrong field.",
            ["field"],
            registry=registry,
        )
        self._duplicates = Counter(
            "client_tickets_duplicates_total",
            "Tickets rejected because of an earlier one with the same ticket_id.",
            registry=registry,
        )
        self._batches = Counter("client_tickets_batches_total", "Batches that ended.", ["result"], registry=registry)
        self._seconds = Histogram(
            "client_tickets_batch_duration_seconds",
            "Time that a published batch took.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._succeeded = Gauge(
            "client_tickets_last_success_timestamp_seconds",
            "When the output was last changed or found up to date.",
            registry=registry,
        )
        self._next, self._end, self._lag = (
            Gauge(f"client_tickets_{name}", meaning, ["topic", "partition"], registry=registry)
            for name, meaning in (
                ("next_offset", "Offset that is read next."),
                ("end_offset", "Offset after the last message, at the last look."),
                ("lag_messages", "Offsets still to be read, at the last look."),
            )
        )
        # Without the 0 of the start, Prometheus does not see the first increase.
        for request_type in REQUEST_TYPES:
            for priority in PRIORITIES:
                self._tickets.labels(request_type, priority)
        for field in (*FIELDS, OTHER):
            self._rejected.labels(field)
        for result in ("published", "failed", "stopped"):
            self._batches.labels(result)

    def lag(self, lag: Mapping[int, Lag]) -> None:
        """Show where each partition stands."""
        for partition, of in lag.items():
            labels = (self._topic, str(partition))
            self._next.labels(*labels).set(of.next_offset)
            self._end.labels(*labels).set(of.end_offset)
            self._lag.labels(*labels).set(of.messages)

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        """Count a batch."""
        for read in read_by_partition(receipts).values():
            self._read.inc(read.messages)
            self._duplicates.inc(read.duplicates)
        for receipt in receipts:
            for row in receipt.hours:
                self._tickets.labels(row.request_type, row.priority).inc(row.count)
        for field, count in rejected_by_field(receipts).items():
            self._rejected.labels(field).inc(count)
        self._batches.labels("published").inc()
        self._seconds.observe(seconds)
        self.succeeded(at)

    def not_published(self, result: Literal["failed", "stopped"]) -> None:
        """Count an abandoned batch."""
        self._batches.labels(result).inc()

    def succeeded(self, at: datetime) -> None:
        """Show the time of the last success."""
        self._succeeded.set(at.timestamp())


def rejected_by_field(receipts: Sequence[Receipt]) -> Counts[str]:
    """Return how many messages were rejected because of each field, OTHER for reasons that do not name one."""
    counts: Counts[str] = Counts()
    for receipt in receipts:
        for kind, found in receipt.reasons.items():
            counts[_field_of(kind)] += found.count
    return counts


def _field_of(kind: str) -> str:
    """Return the field that a kind of reason names: ``priority: must be …``, ``missing field: request, priority``."""
    named = kind.removeprefix(_MISSING)
    field = named.partition("," if named != kind else ":")[0]
    return field if field in FIELDS else OTHER


@contextmanager
def recording(config: ProcessorConfig, heartbeat: Heartbeat) -> Iterator[Metrics]:
    """Serve the metrics of the block. Raises SettingError if the port cannot be opened."""
    metrics = Metrics(config.topic)
    with served(
        config.metrics_host, config.metrics_port, metrics.registry, lambda: Health(heartbeat.age(), HEALTHY_FOR_S)
    ):
        yield metrics
