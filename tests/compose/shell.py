"""Running docker and its friends."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_OURS = {
    # A distribution's dockerd may not work with a newer docker client elsewhere in PATH.
    "PATH": f"/usr/bin:/usr/sbin:{os.environ['PATH']}",
    # Builds the stages of an image at the same time; docker-compose v2 always does.
    "DOCKER_BUILDKIT": "1",
}


class CommandError(Exception):
    """A command failed that had to succeed; the message ends with its output."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a child process."""
    return {**os.environ, **_OURS, **(extra or {})}


def find(name: str) -> str | None:
    """Return the path of a program, None if the machine lacks it."""
    return shutil.which(name, path=_OURS["PATH"])


def run(
    *command: str | Path,
    extra: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float = 540,
) -> subprocess.CompletedProcess[str]:
    """Run a command with its output captured. Raises CommandError when it is checked and fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env=environment(extra),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise CommandError(f"{_shown(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-6000:]}")
    return done


def _shown(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)
