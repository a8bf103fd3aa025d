"""A Docker daemon for the tests: the one that answers, else one of our own that ends with them."""

import fcntl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.jars import cache_folder
from tests.compose.shell import environment, find, run

_BRIDGE = Path("/sys/class/net/docker0")
_START_S = 60
_STOP_S = 60


@contextmanager
def docker_daemon() -> Iterator[dict[str, str]]:
    """Yield the environment that leads ``docker`` to a daemon.

    Our own daemon keeps its images in a folder of the cache, where they serve the next run and no other daemon sees
    them: two of them only stand in for what their names say.
    """
    if run("docker", "info", check=False).returncode == 0:
        yield {}
        return
    lock = Path(tempfile.gettempdir()) / "client-tickets-docker.lock"
    with lock.open("w") as held, tempfile.TemporaryDirectory(prefix="client-tickets-docker-") as folder:
        # Two daemons would share the machine's bridge and ports; a second run waits for the first.
        fcntl.flock(held, fcntl.LOCK_EX)
        address = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        had_bridge = _BRIDGE.exists()
        process = _start(Path(folder), address)
        try:
            yield address
            # What this run's images replaced; the cache of the builder stays.
            run("docker", "image", "prune", "-f", extra=address)
        finally:
            process.terminate()
            process.wait(_STOP_S)
            if not had_bridge:
                run("ip", "link", "delete", _BRIDGE.name, check=False)


def is_ours(address: dict[str, str]) -> bool:
    """Whether the daemon was started by us."""
    return bool(address)


def _start(folder: Path, address: dict[str, str]) -> subprocess.Popen[bytes]:
    dockerd = find("dockerd")
    assert dockerd is not None, "this machine has no Docker daemon that answers and no dockerd to start one"
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                dockerd,
                f"--host={address['DOCKER_HOST']}",
                f"--data-root={cache_folder().parent / 'docker'}",
                f"--exec-root={folder}/exec",
                f"--pidfile={folder}/docker.pid",
            ],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C must not end it before the containers are down.
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_S
    while run("docker", "info", extra=address, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(f"the Docker daemon did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.2)
    return process
