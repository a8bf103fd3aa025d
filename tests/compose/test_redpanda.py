"""What only Redpanda itself can show: that it understood the flags which keep acknowledged tickets."""

import os

import pytest

from tests.compose.conftest import REAL
from tests.compose.project import Project

pytestmark = [
    pytest.mark.compose,
    pytest.mark.skipif(REAL not in os.environ, reason=f"this machine lacks images of Redpanda: without {REAL}=1"),
]


def test_redpanda_acknowledges_only_what_the_disk_has(project: Project) -> None:
    project.compose("up", "-d", "redpanda")
    project.wait_until_healthy("redpanda")
    command = project.compose("exec", "-T", "redpanda", "cat", "/proc/1/cmdline").stdout.split("\0")
    assert "--unsafe-bypass-fsync=false" in command
    assert project.rpk("cluster", "config", "get", "write_caching_default").strip() == "false"
    assert project.rpk("cluster", "config", "get", "auto_create_topics_enabled").strip() == "false"
