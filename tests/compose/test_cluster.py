"""The profile ``cluster``: Spark's own master and two workers, which may die."""

import pytest

from tests.compose.project import Project
from tests.compose.published import assert_exact, rows, wait_until_caught_up

# The first test of a session waits for the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

# Enough for a task on each worker.
TICKETS = 700_000


def test_a_worker_killed_in_the_middle_of_a_batch_loses_nothing(project: Project) -> None:
    project.compose("up", "--build", "-d", "redpanda", "producer", settings={"PRODUCER_RATE": "1"})
    project.wait_until_healthy("redpanda", "producer")
    project.compose("stop", "producer")
    project.compose("run", "--rm", "-T", "producer", "--rate", "0", "--count", str(TICKETS))

    services = ("redpanda", "spark-master", "spark-worker", "processor")
    project.compose("--profile", "cluster", "up", "--build", "-d", "--scale", "spark-worker=2", *services)
    busy = working(project)
    project.docker("kill", busy)

    # Each ticket once: the batch that lost a worker was published, and no unfinished file of that worker.
    assert wait_until_caught_up(project) >= TICKETS
    assert "Lost executor" in (project.output / ".pipeline/spark.log").read_text(encoding="utf-8")
    assert_exact(project)

    project.compose("--profile", "cluster", "start", "spark-worker")
    project.wait_until_healthy("spark-master", "spark-worker", "processor")


def working(project: Project) -> str:
    """Return the container of a worker that has a task of the batch right now."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [worker["Id"] for worker in project.containers("spark-worker") if has_task(project, worker["Id"])]
        return bool(found)

    project.wait(look, "a worker to run a task")
    assert rows(project.output) == 0
    return found[0]


def has_task(project: Project, worker: str) -> bool:
    """Whether a worker runs Spark's Python daemon and a process that it forked for a task."""
    return project.docker("top", worker, "-eo", "pid,args").stdout.count("pyspark.daemon") > 1
