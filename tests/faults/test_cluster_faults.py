"""A standalone cluster of Spark whose worker or master dies while a batch is read."""

import os
import signal
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support.cluster import Cluster
from tests.support.datasets import Published
from tests.support.pipeline import fill, processor, produce, read_manifest, require_exact, wait_until_it_reads
from tests.support.processes import Processes

pytestmark = pytest.mark.integration

TICKETS = 200_000


@pytest.fixture
def cluster(processes: Processes, tmp_path: Path) -> Cluster:
    return Cluster(processes, tmp_path)


def test_a_worker_and_then_the_master_killed_in_the_middle_of_a_batch_lose_nothing(
    cluster: Cluster, broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    fill(processes, broker, topic, TICKETS)
    command = processor(broker, topic, output, "--master", cluster.address)
    master = cluster.start_master()
    worker, _ = cluster.start_worker(), cluster.start_worker()

    first = processes.start(*command, env={"SPARK_LOCAL_IP": "127.0.0.1"})
    wait_until_it_reads(output)
    # With all processes that it has started, as when its machine fails.
    os.killpg(worker.pid, signal.SIGKILL)
    assert first.wait(180) == 0, first.output
    assert "Lost executor" in (output / ".pipeline/spark.log").read_text(encoding="utf-8")
    require_exact(output, TICKETS)

    fill(processes, broker, topic, TICKETS)
    second = processes.start(*command, env={"SPARK_LOCAL_IP": "127.0.0.1"})
    wait_until_it_reads(output)
    master.process.kill()
    assert second.wait(180) == 0, second.output
    require_exact(output, 2 * TICKETS)

    produce(processes, broker, topic, 1000)
    refused = processes.run(*command, expect=2)
    assert f"no Spark master can be reached at {cluster.address}" in refused.stderr
    assert "Traceback" not in refused.stderr
    cluster.start_master()
    cluster.wait_for_workers(1)
    rules = tmp_path / "routing.toml"
    rules.write_text('[[rule]]\nteam = "Desk"\n', encoding="utf-8")
    last = processes.start(*command, "--routing-file", str(rules), env={"SPARK_LOCAL_IP": "127.0.0.1"})
    # Workers on other machines would not see the file either: they get the rules with their tasks.
    last.wait_for_stderr(f"teams by {rules}")
    rules.unlink()
    assert last.wait(180) == 0, last.output
    Published(output).require_agreement(teams=5)
    assert read_manifest(output)["totals"]["by_team"]["Desk"] == 1000
