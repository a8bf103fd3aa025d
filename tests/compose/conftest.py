"""One Docker daemon and one set of images a session, one project a test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.base_image import TAG, import_base_image
from tests.compose.daemon import docker_daemon, is_ours
from tests.compose.project import Project
from tests.compose.shell import find, run
from tests.compose.stand_in import build_stand_in, redpanda_tag

# Set it on a machine that reaches an image registry, to run the same tests against Redpanda itself.
REAL = "COMPOSE_REAL_REDPANDA"

BUILT = ("client-tickets-processor", "client-tickets-producer", "client-tickets-dashboard")

_INSTALL = "tests/compose/install_tools.sh installs it, as root on Debian"


@pytest.fixture(scope="session")
def daemon() -> Iterator[dict[str, str]]:
    """A daemon that has the images which docker-compose.yml and the Dockerfiles start from."""
    if not find("docker"):
        pytest.skip(f"this machine lacks docker; {_INSTALL}")
    if not find("docker-compose") and run("docker", "compose", "version", check=False).returncode:
        pytest.skip(f"this machine lacks docker-compose; {_INSTALL}")
    if run("docker", "info", check=False).returncode and not (find("dockerd") and os.geteuid() == 0):
        pytest.skip(f"this machine lacks a Docker daemon that answers, and one that this user may start; {_INSTALL}")
    with docker_daemon() as address:
        if run("docker", "ps", "-aq", "--filter", "name=^redpanda_exercice2$", extra=address).stdout:
            pytest.fail("a container redpanda_exercice2 exists; take it down first: docker-compose down")
        made = [] if os.environ.get(REAL) else _make_stand_ins(address)
        yield address
        if made and not is_ours(address):
            # In a user's own daemon these tags must not stay on our stand-ins.
            run("docker", "rmi", *made, *BUILT, extra=address, check=False)


def _make_stand_ins(address: dict[str, str]) -> list[str]:
    """Make stand-ins for missing images of a registry and return their names; existing images are left alone."""
    made = []
    for tag, make in ((TAG, import_base_image), (redpanda_tag(), build_stand_in)):
        if is_ours(address) or not run("docker", "images", "-q", tag, extra=address).stdout:
            make(address)
            made.append(tag)
    return made


@pytest.fixture
def project(tmp_path: Path, daemon: dict[str, str]) -> Iterator[Project]:
    """A project that is removed afterwards, with containers, networks and volumes."""
    project = Project(tmp_path, daemon)
    try:
        yield project
    finally:
        project.down()
