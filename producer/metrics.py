"""The metrics of the producer. docs/metrics.md promises their names and meanings."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from producer.config import ProducerConfig
from producer.producer import Report
from producer.progress import Progress
from runtime.process.heartbeat import Health, Heartbeat
from runtime.process.metrics import new_registry, served

# docker-compose.yml asks for the same.
HEALTHY_FOR_S = 30.0


class Metrics(Collector):
    """Shows the counts that were reported last: of one process, or of all workers together."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self._progress = Progress()
        self.registry.register(self)

    def update(self, progress: Progress) -> None:
        """Take the current counts."""
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, all of one moment."""
        progress = self._progress
        for name, meaning, count in (
            ("sent", "Tickets handed to the Kafka client.", progress.sent),
            ("acknowledged", "Tickets that the broker has acknowledged.", progress.acknowledged),
            ("failed", "Tickets that the Kafka client gave up.", progress.failed),
        ):
            yield CounterMetricFamily(f"client_tickets_{name}", meaning, value=count)
        yield GaugeMetricFamily(
            "client_tickets_in_flight", "Tickets sent, neither acknowledged nor failed yet.", value=progress.in_flight
        )


@contextmanager
def counted(config: ProducerConfig, heartbeat: Heartbeat) -> Iterator[Report]:
    """Serve the counts that are reported in the block. Raises SettingError if the port cannot be opened."""
    metrics = Metrics()
    with served(
        config.metrics_host, config.metrics_port, metrics.registry, lambda: Health(heartbeat.age(), HEALTHY_FOR_S)
    ):
        yield metrics.update
