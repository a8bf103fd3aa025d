"""The real docker-compose.yml in a folder of its own, with a name of its own."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from runtime.settings.setting import ROOT
from tests.compose.shell import find, run

_READY_S = 120


class Project:
    """A copy of the repository, so that its ``./data`` is not the user's, with its containers."""

    def __init__(self, folder: Path, daemon: Mapping[str, str], name: str = "client-tickets-test") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.output = self.data / "output"
        self._daemon = daemon
        self._name = name
        files = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
        for file in files:
            if (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)

    def compose(
        self, *arguments: str, settings: Mapping[str, str] | None = None, check: bool = True
    ) -> CompletedProcess[str]:
        """Run docker-compose with ``settings`` from the shell."""
        own = find("docker-compose")
        command = [own] if own else ["docker", "compose"]
        extra = {**self._daemon, **(settings or {})}
        return run(*command, "-p", self._name, *arguments, extra=extra, cwd=self.folder, check=check)

    def docker(self, *arguments: str, check: bool = True) -> CompletedProcess[str]:
        """Run docker."""
        return run("docker", *arguments, extra=self._daemon, check=check)

    def down(self) -> None:
        """Remove containers, networks and volumes, of all profiles."""
        flags = [part for profile in ("cluster", "three-brokers", "console") for part in ("--profile", profile)]
        self.compose(*flags, "down", "-v", "--remove-orphans", "-t", "30")

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return the ``docker inspect`` of the containers of a service, also of stopped ones."""
        label = f"label=com.docker.compose.service={service}"
        project = f"label=com.docker.compose.project={self._name}"
        names = self.docker("ps", "-aq", "--filter", label, "--filter", project).stdout.split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *names).stdout) if names else []
        return [one for one in found if one["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"]

    def container(self, service: str) -> dict[str, Any]:
        """Return the only container of a service."""
        (found,) = self.containers(service)
        return found

    def wait_until_healthy(self, *services: str) -> None:
        """Return once every container of ``services`` is healthy."""
        for service in services:
            self.wait(partial(self._are_healthy, service), f"{service} to be healthy")

    def _are_healthy(self, service: str) -> bool:
        found = self.containers(service)
        return bool(found) and all(one["State"].get("Health", {}).get("Status") == "healthy" for one in found)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = _READY_S) -> None:
        """Return once ``condition`` holds; fail with the logs if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                state = self.compose("ps", check=False).stdout
                logs = self.compose("logs", "--tail", "40", "--no-color", check=False).stdout
                raise AssertionError(f"waited {seconds:g} s for {what}\n{state}\n{logs}")
            time.sleep(0.3)

    def rpk(self, *arguments: str) -> str:
        """Run rpk in the broker's container, as docs/compose.md tells a user to."""
        return self.compose("exec", "-T", "redpanda", "rpk", *arguments).stdout

    def written(self) -> int:
        """Return how many messages the topic holds: the sum of its high watermarks."""
        table = self.rpk("topic", "describe", "client_tickets", "-p").splitlines()
        header = table[0].split()
        column = header.index("HIGH-WATERMARK") - len(header)
        return sum(int(line.split()[column]) for line in table[1:] if line.strip())
