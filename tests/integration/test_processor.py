"""The whole path on a real broker with real processes: producer, topic, Spark, published files."""

import re
import time
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from runtime.settings.setting import ROOT
from tests.support import scrape, topics
from tests.support.datasets import Published
from tests.support.listeners import free_ports
from tests.support.pipeline import processor, produce, read_manifest, tickets_published
from tests.support.processes import Processes, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_tickets_go_all_the_way_in_growing_batches_and_through_both_formats(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    produce(processes, broker, topic, 500)
    first = processes.run(*processor(broker, topic, output))
    assert "batch 1: 500 messages read, 500 tickets, 0 rejected" in first.stderr
    assert "heap 1024 MiB (asked for 1g)" in first.stderr
    assert re.search(
        rf"500 tickets, 0 rejected, published in \d+\.\d s in {re.escape(str(output))}, lag 0$", first.stderr, re.M
    )
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 500
    for dataset in output.iterdir():
        if dataset.is_dir() and dataset.name != ".pipeline":
            assert len(list(dataset.iterdir())) == 1

    produce(processes, broker, topic, 300)
    processes.run(*processor(broker, topic, output, "--output-format", "json"))
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 800
    assert {file.suffix for file in output.glob("[!.]*/*")} == {".json"}

    again = processes.run(*processor(broker, topic, output, "--output-format", "parquet"))
    assert "nothing new in topic" in again.stderr
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 800
    assert read_manifest(output)["batch_id"] == 2


def test_an_empty_topic_makes_empty_datasets_with_their_schema(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(broker.address, topic, partitions=2)
    processes.run(*processor(broker, topic, output))
    published = Published(output)
    assert published.count("tickets_with_assignment") == 0
    assert published.rows("SELECT column_name, column_type FROM (DESCRIBE tickets_with_assignment)") == [
        ("ticket_id", "VARCHAR"),
        ("client_id", "VARCHAR"),
        ("created_at", "TIMESTAMP WITH TIME ZONE"),
        ("request", "VARCHAR"),
        ("request_type", "VARCHAR"),
        ("priority", "VARCHAR"),
        ("assigned_team", "VARCHAR"),
    ]
    assert published.rows("SELECT total_tickets, unique_clients, rejected_messages FROM metrics") == [(0, 0, 0)]
    assert published.rows("SELECT request_type, count FROM tickets_by_type") == [
        ("account", 0),
        ("billing", 0),
        ("technical", 0),
        ("general", 0),
    ]
    assert published.count("rejected_messages") == 0


def test_from_inside_its_own_folder_a_limit_cuts_a_backlog_into_batches(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    produce(processes, broker, topic, 250)
    command = processor(broker, topic, output, "--max-messages", "100")
    run = processes.run("spark_processor.py", *command[1:], cwd=ROOT / "processor")
    assert "batch 3: 50 messages read" in run.stderr
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 250


def test_a_missing_topic_is_an_error_and_is_not_created(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    run = processes.run(*processor(broker, topic, output), expect=3)
    assert f"has no topic '{topic}'" in run.stderr
    assert topic not in topics.names(broker.address)
    assert not (output / "_manifest.json").exists()


def test_at_an_interval_it_waits_for_the_topic_publishes_what_comes_and_stops_on_sigterm(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    (port,) = free_ports(1)
    service = processes.start(*processor(broker, topic, output, "--interval", "1", "--metrics-port", str(port)))
    service.wait_for_stderr(f"has no topic '{topic}'")
    assert scrape.health(port) == (
        503,
        {"status": "no progress", "seconds_since_progress": None, "seconds_allowed": 300.0},
    )
    assert scrape.metrics(port)["client_tickets_messages_read_total"] == 0
    produce(processes, broker, topic, 40)
    wait_for(lambda: tickets_published(output) == 40, 90, "40 tickets published")
    topics.send(broker.address, topic, [b"no ticket"], partition=0)
    produce(processes, broker, topic, 60)
    wait_for(lambda: tickets_published(output) == 100, 90, "100 tickets published")
    wait_for(lambda: scrape.metrics(port)["client_tickets_messages_read_total"] == 101, 30, "101 messages counted")
    assert scrape.health(port)[0] == 200
    require_metrics_like(scrape.metrics(port), output, topic)
    service.process.terminate()
    assert service.wait(20) == 0
    Published(output).require_agreement()


def require_metrics_like(metrics: dict[str, float], output: Path, topic: str) -> None:
    """Fail unless a processor that has begun this output, and has nothing left to read, counts what is in it."""
    prefix = "client_tickets"
    manifest = read_manifest(output)
    assert manifest["totals"]["rejected"] == metrics[f'{prefix}_rejected_total{{field="other"}}'] == 1
    by_type = dict.fromkeys(manifest["totals"]["by_type"], 0.0)
    for series, value in metrics.items():
        if series.startswith(f"{prefix}_tickets_total"):
            by_type[series.partition('request_type="')[2].rstrip('"}')] += value
    assert by_type == manifest["totals"]["by_type"]
    batches = manifest["batch_id"]
    assert metrics[f'{prefix}_batches_total{{result="published"}}'] == batches
    assert metrics[f"{prefix}_batch_duration_seconds_count"] == batches
    assert 0 <= time.time() - metrics[f"{prefix}_last_success_timestamp_seconds"] < 60
    assert manifest["partitions"]
    for number, partition in manifest["partitions"].items():
        labels = f'{{partition="{number}",topic="{topic}"}}'
        offsets = [metrics[f"{prefix}_{name}{labels}"] for name in ("next_offset", "end_offset", "lag_messages")]
        assert offsets == [partition["next_offset"], partition["next_offset"], 0]


def test_a_second_processor_on_the_same_output_leaves_the_first_alone(
    broker: EmbeddedBroker, topic: str, processes: Processes, output: Path
) -> None:
    topics.create(broker.address, topic)
    first = processes.start(*processor(broker, topic, output, "--interval", "1"))
    wait_for((output / "_manifest.json").exists, 60, "a first batch")
    second = processes.run(*processor(broker, topic, output), expect=5)
    assert f"another processor is writing {output}" in second.stderr
    produce(processes, broker, topic, 30)
    wait_for(lambda: tickets_published(output) == 30, 90, "30 tickets published")
    first.process.terminate()
    assert first.wait(20) == 0
