"""What the processor shows to Prometheus."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from contract.ticket import encode, kind_of
from processor.lag import Lag
from processor.metrics import Metrics, rejected_by_field
from processor.receipt import Receipt
from processor.rejections import Rejections
from tests.support import golden
from tests.support.staging import messages, stage, staging, ticket

AT = datetime(2026, 1, 31, 11, 0, 0, 500_000, tzinfo=UTC)


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"client_tickets_{name}", labels)


def read(folder: Path) -> Receipt:
    """Return the receipt of three tickets and four other messages."""
    values: list[bytes | None] = [
        encode(ticket(1)),
        encode(ticket(2, request_type="technical", priority="critical")),
        encode(ticket(3, request_type="technical", priority="critical")),
        encode(ticket(4)).replace(b'"low"', b'"urgent, says CLIENT_7"'),
        encode(ticket(5)).replace(b'"request_type"', b'"type"'),
        b"CLIENT_8 was here",
        None,
    ]
    return stage(staging(folder), [messages(values)])


def test_before_anything_happens_every_series_is_there_and_0_but_those_of_partitions() -> None:
    metrics = Metrics("client_tickets")
    assert shown(metrics, "messages_read_total") == 0
    assert shown(metrics, "tickets_total", request_type="general", priority="high") == 0
    assert shown(metrics, "rejected_total", field="request") == 0
    assert shown(metrics, "rejected_total", field="other") == 0
    assert shown(metrics, "duplicates_total") == 0
    assert [shown(metrics, "batches_total", result=result) for result in ("published", "failed", "stopped")] == [
        0,
        0,
        0,
    ]
    assert shown(metrics, "batch_duration_seconds_count") == 0
    assert shown(metrics, "last_success_timestamp_seconds") == 0
    assert b"partition" not in generate_latest(metrics.registry)


def test_a_published_batch_is_counted(tmp_path: Path) -> None:
    metrics = Metrics("client_tickets")
    for _ in range(2):
        metrics.published([read(tmp_path), Receipt(duplicates={0: 5})], 4.5, AT)
    assert shown(metrics, "messages_read_total") == 14
    assert shown(metrics, "tickets_total", request_type="billing", priority="low") == 2
    assert shown(metrics, "tickets_total", request_type="technical", priority="critical") == 4
    assert shown(metrics, "tickets_total", request_type="technical", priority="low") == 0
    assert shown(metrics, "rejected_total", field="priority") == 2
    assert shown(metrics, "rejected_total", field="request_type") == 2
    assert shown(metrics, "rejected_total", field="other") == 4
    assert shown(metrics, "rejected_total", field="ticket_id") == 0
    assert shown(metrics, "duplicates_total") == 10
    assert shown(metrics, "batches_total", result="published") == 2
    assert shown(metrics, "batch_duration_seconds_sum") == 9
    assert shown(metrics, "batch_duration_seconds_bucket", le="2.5") == 0
    assert shown(metrics, "batch_duration_seconds_bucket", le="5.0") == 2
    assert shown(metrics, "last_success_timestamp_seconds") == 1_769_857_200.5
    # Neither ids nor anything else that somebody wrote.
    assert b"CLIENT_" not in generate_latest(metrics.registry)


def test_a_batch_that_was_given_up_is_counted_by_its_reason_and_is_no_success() -> None:
    metrics = Metrics("client_tickets")
    metrics.not_published("failed")
    metrics.not_published("stopped")
    metrics.not_published("failed")
    assert [shown(metrics, "batches_total", result=result) for result in ("published", "failed", "stopped")] == [
        0,
        2,
        1,
    ]
    assert shown(metrics, "last_success_timestamp_seconds") == 0


def test_the_lag_is_shown_by_partition_also_when_it_is_0() -> None:
    metrics = Metrics("orders")
    metrics.lag({0: Lag(5, 9), 1: Lag(7, 7)})
    assert [shown(metrics, name, topic="orders", partition="0") for name in ("next_offset", "end_offset")] == [5, 9]
    assert [shown(metrics, "lag_messages", topic="orders", partition=number) for number in "01"] == [4, 0]
    metrics.lag({0: Lag(9, 9), 1: Lag(7, 8)})
    assert [shown(metrics, "lag_messages", topic="orders", partition=number) for number in "01"] == [0, 1]


@pytest.mark.parametrize(
    ("reason", "field"),
    [
        ("ticket_id: must be a UUID such as 3e476c38-2a7f-4d89-a08f-9e5f60456fa3", "ticket_id"),
        ("request: must be a string of 1 to 10,000 characters", "request"),
        ("request_type: must be one of account, billing, technical, general", "request_type"),
        ("created_at: in UTC it lies outside the years 0001 to 9999", "created_at"),
        ("missing field: priority", "priority"),
        ("missing field: client_id, priority", "client_id"),
        ("not JSON: Input data was truncated", "other"),
        ("not a JSON object", "other"),
        ("no value (a tombstone)", "other"),
        ("other reasons", "other"),
        ("missing field: colour", "other"),
    ],
)
def test_a_rejection_is_counted_by_the_first_field_that_is_wrong(reason: str, field: str) -> None:
    assert rejected_by_field([Receipt(reasons={reason: Rejections(3, 0, 17)})]) == {field: 3}


def test_every_reason_of_the_contract_has_one_of_seven_labels() -> None:
    counted = set()
    for message in golden.rejected():
        (field,) = rejected_by_field([Receipt(reasons={kind_of(message.reason): Rejections(1, 0, 0)})])
        counted.add(field)
    assert counted == {
        *("ticket_id", "client_id", "created_at", "request", "request_type", "priority"),
        "other",
    }
