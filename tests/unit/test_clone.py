"""A clone as git on Windows makes it, with ``core.autocrlf=true``: what shells, Docker and make read still works."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.settings.setting import ROOT
from runtime.settings.text_files import read_env_file

BINARY = {".gz", ".jar", ".parquet", ".png", ".sqlite", ".zip"}


def git(*arguments: str, cwd: Path) -> str:
    # Nobody's settings of git but those given here.
    alone = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], cwd=cwd, env=alone, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the files as they are here, committed or not."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this machine lacks git, or the files came without it")
    source = tmp_path / "source"
    source.mkdir()
    trust = ["-c", f"safe.directory={ROOT}"]
    for name in git(*trust, "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    git("init", "-q", cwd=source)
    git("-c", "core.autocrlf=true", "add", "-A", cwd=source)
    git("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "commit", "-qm", "all", cwd=source)
    git("clone", "-q", "-c", "core.autocrlf=true", "source", "clone", cwd=tmp_path)
    return tmp_path / "clone"


def test_every_file_of_a_clone_with_autocrlf_is_as_it_was(clone: Path) -> None:
    files = {path.relative_to(clone): path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    files = {path: raw for path, raw in files.items() if path.parts[0] != ".git"}
    read_by_programs = {
        *("Makefile", "docker-compose.yml", ".dockerignore", ".env", "scripts/setup", "processor/docker-entry.sh"),
        *("processor/slim.sh", "processor/Dockerfile", "producer/Dockerfile", "processor/requirements.lock"),
        *("dashboard/docker-entry.sh", "dashboard/Dockerfile", "dashboard/requirements.lock", "dashboard/style.css"),
        *("runtime/java/jars.lock", "requirements-build.lock", "requirements-dev.lock", ".ci/run"),
    }

    assert read_by_programs <= {str(path) for path in files}
    assert [path for path, raw in files.items() if raw != (ROOT / path).read_bytes()] == []
    assert [
        path
        for path, raw in files.items()
        if b"\r" in raw and path.suffix not in BINARY and path.parent.name != "exports"
    ] == []


def test_shells_and_make_and_the_services_take_what_is_in_a_clone_with_autocrlf(clone: Path) -> None:
    scripts = ("processor/docker-entry.sh", "processor/slim.sh", "dashboard/docker-entry.sh")
    for script in map(clone.joinpath, scripts):
        subprocess.run(["sh", "-n", script], check=True)
        assert os.access(script, os.X_OK) == os.access(ROOT / script.relative_to(clone), os.X_OK)
    subprocess.run(["bash", "-n", clone / "scripts/setup"], check=True)
    shown = subprocess.run(["make", "help"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert "make demo" in shown
    assert read_env_file(clone / ".env")["TOPIC_NAME"] == "client_tickets"
