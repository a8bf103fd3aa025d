"""``make setup``: quick when there is nothing to do, and one clear line for what it cannot do itself."""

import shutil
import time
from pathlib import Path

import pytest

from runtime.settings.setting import ROOT
from tests.support.processes import Processes

pytestmark = pytest.mark.integration

NO_NETWORK = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy the files that set-up reads into a new folder."""
    folder = tmp_path / "clone"
    for name in ("Makefile", "scripts", "runtime", "requirements-build.lock", "requirements-dev.lock"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    return folder


def stand_in_for_python(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_second_call_takes_under_two_seconds(processes: Processes) -> None:
    processes.start_command(["make", "setup"]).wait(deadline_s=300)

    began = time.monotonic()
    again = processes.start_command(["make", "setup"])

    assert again.wait() == 0, again.output
    assert time.monotonic() - began < 2
    assert again.stdout.endswith("0 of them downloaded now\n")
    assert again.stdout.count("\n") == 1


def test_what_another_python_or_java_left_in_the_environment_changes_nothing(
    processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").write_text("raise ImportError('of another program')")
    foreign = {"PYTHONHOME": "/nowhere", "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1", "PIP_TARGET": "/nowhere"}
    setup = processes.start_command(["make", "setup"], env=foreign | {"JAVA_TOOL_OPTIONS": "-Xmx1x", "LC_ALL": "C"})
    assert setup.wait(deadline_s=300) == 0, setup.output
    assert setup.stderr == ""


def test_bare_make_lists_the_commands(processes: Processes) -> None:
    listed = processes.start_command(["make"])
    assert listed.wait() == 0
    commands = [line.split()[1] for line in listed.stdout.splitlines()]
    assert {"setup", "demo", "broker", "test", "check", "up", "down"} <= set(commands)


def test_names_the_java_to_install(processes: Processes, clone: Path) -> None:
    setup = processes.start_command(["make", "setup"], env={"JAVA_HOME": str(clone)}, cwd=clone)
    assert setup.wait() == 2
    assert setup.stderr.startswith(
        f"ERROR JAVA_HOME={clone} holds no bin/java; correct it, or unset it and install Java"
    )
    assert not (clone / ".venv").exists()


def test_names_the_python_to_install(processes: Processes, clone: Path) -> None:
    old = stand_in_for_python(clone / "old", 'if [ "$1" = --version ]; then echo Python 3.9.1; else exit 1; fi')
    setup = processes.start_command(["make", "setup", f"PYTHON={old}"], cwd=clone)
    assert setup.wait() == 2
    assert setup.stderr.startswith("error: Python 3.9.1 is too old; install 3.11 or later")

    missing = processes.start_command(["make", "setup", "PYTHON=python-of-nobody"], cwd=clone)
    assert missing.wait() == 2
    assert missing.stderr.startswith("error: Python is missing; install python3 3.11 or later")


def test_names_the_package_that_holds_venv(processes: Processes, clone: Path) -> None:
    python = stand_in_for_python(clone / "bare", 'case "$2" in *ensurepip*) exit 1;; esac')
    setup = processes.start_command(["make", "setup", f"PYTHON={python}"], cwd=clone)
    assert setup.wait() == 2
    assert setup.stderr.startswith("error: Python's venv module is missing; install it (Debian, Ubuntu: python3-venv)")


def test_says_that_there_is_no_network_and_starts_afresh_the_next_time(processes: Processes, clone: Path) -> None:
    for _ in range(2):
        setup = processes.start_command(
            ["make", "setup"], env={**NO_NETWORK, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}, cwd=clone
        )
        assert setup.wait() == 2
        assert setup.stdout.startswith("creating .venv with Python 3.")
        assert "error: cannot install the Python packages; is there a network?" in setup.stderr
        assert len(setup.stderr.splitlines()) == 2
