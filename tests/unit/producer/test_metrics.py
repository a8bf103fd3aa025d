"""What the producer shows to Prometheus."""

from prometheus_client import generate_latest

from producer.metrics import Metrics
from producer.progress import Progress


def shown(metrics: Metrics) -> dict[str, float | None]:
    names = ("sent_total", "acknowledged_total", "failed_total", "in_flight")
    return {name: metrics.registry.get_sample_value(f"client_tickets_{name}") for name in names}


def test_the_counts_that_were_reported_last_are_shown() -> None:
    metrics = Metrics()
    assert shown(metrics) == {"sent_total": 0, "acknowledged_total": 0, "failed_total": 0, "in_flight": 0}
    metrics.update(Progress(sent=10, acknowledged=4, failed=1))
    assert shown(metrics) == {"sent_total": 10, "acknowledged_total": 4, "failed_total": 1, "in_flight": 5}
    metrics.update(Progress(sent=12, acknowledged=11, failed=1))
    assert shown(metrics) == {"sent_total": 12, "acknowledged_total": 11, "failed_total": 1, "in_flight": 0}


def test_nothing_else_is_shown() -> None:
    lines = generate_latest(Metrics().registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "client_tickets_sent_total 0.0",
        "client_tickets_acknowledged_total 0.0",
        "client_tickets_failed_total 0.0",
        "client_tickets_in_flight 0.0",
    ]
