"""Docker and Compose, and what of this clone its containers depend on. Standard library only."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from doctor.finding import Finding, ok, problem, warning
from runtime.process.interpreter import ROOT

_LIMIT_S = 5.0
OLDEST_COMPOSE = (1, 29)
_SOCKET = Path("/var/run/docker.sock")
# What a shell in a container, or make, reads.
_SCRIPTS = ("*/docker-entry.sh", "*/*.sh", "scripts/*", ".ci/*", "Makefile")


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the clone, the folder ``data``, Docker and Compose."""
    yield line_ends({str(file.relative_to(ROOT)): file.read_bytes() for file in _scripts(ROOT)})
    yield data_folder(ROOT / "data", _owner(ROOT / "data"), os.geteuid())
    yield from user_namespace(_text(Path("/proc/self/uid_map")))
    commands = (
        ("docker", "info", "--format", "{{json .}}"),
        ("docker-compose", "version", "--short"),
        ("docker", "compose", "version", "--short"),
    )
    with ThreadPoolExecutor(len(commands)) as pool:
        info, standalone, plugin = pool.map(_run, commands)
    if shutil.which("docker", path=environ.get("PATH")) is None:
        yield ok("Docker is not installed; only make up and make down need it")
    else:
        yield from daemon(info, environ, _SOCKET.exists(), os.access(_SOCKET, os.W_OK))
    yield compose(_version(standalone), _version(plugin))


def _scripts(root: Path) -> Iterable[Path]:
    return sorted({file for pattern in _SCRIPTS for file in root.glob(pattern) if file.is_file()})


def line_ends(scripts: Mapping[str, bytes]) -> Finding:
    """Judge the line ends of scripts, name → content."""
    wrong = [name for name, content in scripts.items() if b"\r\n" in content]
    if wrong:
        return problem(
            f"{len(wrong)} scripts have the line ends of Windows (CRLF), such as {wrong[0]}: no shell takes them",
            "run git config core.autocrlf false, then git rm -rq --cached . and git reset --hard; or clone again",
        )
    return ok(f"{len(scripts)} scripts have the line ends of Unix")


def _owner(folder: Path) -> int | None:
    return folder.stat().st_uid if folder.is_dir() else None


def data_folder(folder: Path, owner: int | None, user: int) -> Finding:
    """Judge who owns ``data``: the containers write as that user."""
    if owner is None:
        return warning(f"{folder} is missing: Docker would make it, for root", f"mkdir {folder}")
    if owner:
        return ok(f"{folder} belongs to user {owner}: containers write there as that user")
    told = f"{folder} belongs to root, so what containers publish there belongs to user 10001"
    if user:
        return warning(f"{told}, and a processor outside of them cannot write there", f"sudo chown -R {user} {folder}")
    return ok(told)


def user_namespace(uid_map: str) -> Iterator[Finding]:
    """Tell when root here is not root of the machine. ``uid_map`` is the text of /proc/self/uid_map."""
    words = uid_map.split()
    if words and words != ["0", "0", "4294967295"]:
        yield ok(f"this runs in a user namespace: root here is user {words[1]} outside, and so are the files of root")


def daemon(
    answer: "subprocess.CompletedProcess[bytes] | None", environ: Mapping[str, str], there: bool, allowed: bool
) -> Iterator[Finding]:
    """Judge what ``docker info`` answered (None: nothing in time); ``there`` and ``allowed`` are about its socket."""
    told = _object(answer.stdout) if answer is not None else {}
    if version := told.get("ServerVersion"):
        yield ok(f"Docker {version} answers")
        options = [str(option) for option in told.get("SecurityOptions") or []]
        if any(option.startswith(("name=rootless", "name=userns")) for option in options):
            yield ok(
                "Docker is rootless or remaps users: files that containers publish belong to whom their root is outside"
            )
        return
    if environ.get("DOCKER_HOST"):
        remedy = f"correct or unset DOCKER_HOST ({environ['DOCKER_HOST']})"
    elif not there:
        remedy = "start it: sudo systemctl start docker, or Docker Desktop"
    elif not allowed:
        remedy = "let this user ask it: sudo usermod -aG docker $USER, then log in again"
    else:
        remedy = "see whether it runs: sudo systemctl status docker"
    yield warning("Docker is installed, but its daemon does not answer; only make up and make down need it", remedy)


def compose(standalone: str | None, plugin: str | None) -> Finding:
    """Judge the versions of ``docker-compose`` and ``docker compose``; None for one that is not there."""
    found = {"docker-compose": standalone, "docker compose": plugin}
    versions = {name: version for name, version in found.items() if version}
    if not versions:
        return ok("Docker Compose is not installed; only make up and make down need it")
    # make takes the first of them.
    name, version = next(iter(versions.items()))
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_COMPOSE:
        return warning(
            f"{name} has version {version}, and docker-compose.yml needs 1.29 or later", "install Docker Compose 2"
        )
    return ok(", ".join(f"{name} {version}" for name, version in versions.items()))


def _version(done: "subprocess.CompletedProcess[bytes] | None") -> str | None:
    return done.stdout.decode("utf-8", "replace").strip() or None if done is not None and not done.returncode else None


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[bytes] | None":
    """Return how a command ended; None when it is not there, or does not end in time."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
