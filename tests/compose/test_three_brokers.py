"""The profile ``three-brokers``: every ticket on three brokers, one of which may be away."""

import pytest

from tests.compose.project import Project

# The first test of a session waits for the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

PROFILE = ("--profile", "three-brokers")


def test_with_three_brokers_one_may_be_killed(project: Project) -> None:
    brokers = ("redpanda", "redpanda-1", "redpanda-2")
    project.compose(*PROFILE, "up", "--build", "-d", *brokers, "producer", "replication")
    project.wait_until_healthy(*brokers, "producer")
    project.wait(lambda: replicas(project) == ["3"] * 4, "every partition on three brokers")
    assert project.container("replication")["State"]["ExitCode"] == 0

    project.compose(*PROFILE, "kill", "redpanda-2")
    before = project.written()
    project.wait(lambda: project.written() > before + 50, "tickets without the third broker")
    assert project.container("producer")["State"]["Running"]


def replicas(project: Project) -> list[str]:
    """Return the number of replicas of each partition of the topic."""
    table = project.rpk("topic", "describe", "client_tickets", "-p").splitlines()
    return [str(line[line.index("[") : line.index("]")].count(" ") + 1) for line in table if "[" in line]
