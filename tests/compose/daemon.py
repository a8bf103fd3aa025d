"""A Docker daemon for the tests: the one that answers, else one of our own that ends with them."""

import ctypes
import fcntl
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runtime.java.jars import cache_folder
from tests.compose.shell import environment, find, run

_BRIDGE = Path("/sys/class/net/docker0")
_START_S = 60
_STOP_S = 60
_PR_SET_PDEATHSIG = 1


@contextmanager
def docker_daemon() -> Iterator[dict[str, str]]:
    """Yield an environment in which ``docker`` reaches a daemon.

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
        process = _start(Path(folder), address, held.fileno())
        try:
            _clear(address)
            yield address
            # Images that this run replaced; the builder's cache stays.
            run("docker", "image", "prune", "-f", extra=address)
        finally:
            process.terminate()
            process.wait(_STOP_S)
            if not had_bridge:
                run("ip", "link", "delete", _BRIDGE.name, check=False)


def _clear(address: Mapping[str, str]) -> None:
    """Remove what a killed run left in our daemon."""
    containers = run("docker", "ps", "-aq", extra=address).stdout.split()
    if containers:
        run("docker", "rm", "-f", "-v", *containers, extra=address)
    run("docker", "volume", "prune", "-f", extra=address)
    run("docker", "network", "prune", "-f", extra=address)


def is_ours(address: dict[str, str]) -> bool:
    """Whether the daemon was started by us."""
    return bool(address)


def _start(folder: Path, address: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
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
            preexec_fn=_stop_with_parent,
            # The daemon inherits the lock, so it is free only when the daemon has ended.
            pass_fds=[lock],
        )
    deadline = time.monotonic() + _START_S
    while run("docker", "info", extra=address, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            raise AssertionError(f"the Docker daemon did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.2)
    return process


def _stop_with_parent() -> None:
    """Ask Linux to stop the daemon, and with it the containers, when the tests are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
