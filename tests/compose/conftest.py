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

# On a machine with a registry of images: run the same tests against Redpanda itself.
REAL = "COMPOSE_REAL_REDPANDA"


@pytest.fixture(scope="session")
def daemon() -> Iterator[dict[str, str]]:
    """A daemon that has the images which docker-compose.yml and the Dockerfiles start from."""
    wanted = {"docker": find("docker"), "docker-compose": find("docker-compose")}
    missing = [name for name, path in wanted.items() if path is None]
    if missing:
        pytest.skip(f"this machine lacks {' and '.join(missing)}; tests/compose/install_tools.sh installs them as root")
    with docker_daemon() as address:
        if run("docker", "ps", "-aq", "--filter", "name=^redpanda_exercice2$", extra=address).stdout:
            pytest.fail("a container redpanda_exercice2 exists; take it down first: docker-compose down")
        made = [] if os.environ.get(REAL) else _stand_ins(address)
        yield address
        if not is_ours(address) and made:
            # In somebody's daemon these names must go on meaning what they say.
            run("docker", "rmi", *made, extra=address, check=False)


def _stand_ins(address: dict[str, str]) -> list[str]:
    """Make the images that a registry would give and return their names; those that somebody has are left alone."""
    if not is_ours(address) and run("docker", "images", "-q", redpanda_tag(), extra=address).stdout:
        return []
    import_base_image(address)
    build_stand_in(address)
    return [redpanda_tag(), TAG]


@pytest.fixture
def project(tmp_path: Path, daemon: dict[str, str]) -> Iterator[Project]:
    """A project that is gone afterwards, with containers, networks and volumes."""
    project = Project(tmp_path, daemon)
    try:
        yield project
    finally:
        project.down()
