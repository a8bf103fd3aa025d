"""The profile ``cluster``: Spark's own master and two workers, which may die."""

import pytest

from tests.compose.project import Project
from tests.compose.published import assert_exact, rows, wait_until_caught_up

pytestmark = pytest.mark.compose

TICKETS = 1_100_000


def test_a_worker_killed_in_the_middle_of_a_batch_costs_nothing(project: Project) -> None:
    project.compose("up", "--build", "-d", "redpanda", "producer", settings={"PRODUCER_RATE": "1"})
    project.wait_until_healthy("redpanda", "producer")
    project.compose("stop", "producer")
    project.compose("run", "--rm", "-T", "producer", "--rate", "0", "--count", str(TICKETS))

    services = ("redpanda", "spark-master", "spark-worker", "processor")
    project.compose("--profile", "cluster", "up", "--build", "-d", "--scale", "spark-worker=2", *services)
    busy = working(project)
    project.docker("kill", busy)

    # More than was there before: the batch that lost a worker, and nothing of what the worker had half done.
    assert wait_until_caught_up(project) >= TICKETS
    assert "Lost executor" in (project.output / ".pipeline/spark.log").read_text(encoding="utf-8")
    assert_exact(project)

    project.compose("--profile", "cluster", "start", "spark-worker")
    project.wait_until_healthy("spark-master", "spark-worker", "processor")


def working(project: Project) -> str:
    """Return the container of a worker that writes files of a batch right now."""
    staging = project.output / ".pipeline/staging"
    project.wait(lambda: any(staging.glob("**/tickets_with_assignment-*")), "a batch to be under way")
    assert rows(project.output) == 0
    for worker in project.containers("spark-worker"):
        identity: str = worker["Id"]
        if "pyspark.daemon" in project.docker("top", identity, "-eo", "pid,args").stdout:
            return identity
    raise AssertionError("no worker runs Python, yet a batch is under way")
