"""The entry point of the processor's container, run by a real shell: who owns what, and what it leaves alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runtime.settings.setting import ROOT

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="this machine lacks root, which gives files to others"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="this machine lacks setpriv (Linux)"),
]

# Runs in place of the processor: prints its user, and writes into the output.
WRITE = 'id -u && mkdir -p "$0" && touch "$0/new"'


class Container:
    """The script with its folders in a folder of the test, which every user may enter."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.data = self.app / "data"
        self.data.mkdir(parents=True)
        self._script = folder / "docker-entry.sh"
        text = (ROOT / "processor/docker-entry.sh").read_text(encoding="utf-8")
        self._script.write_text(text.replace("/app", str(self.app)).replace("/var/lib/extrausers", str(folder)))
        programs = folder / "bin"
        programs.mkdir()
        tini = programs / "tini"
        tini.write_text('#!/bin/sh\nshift\nexec "$@"\n')
        tini.chmod(0o755)
        self._environment = {"PATH": f"{programs}:{os.environ['PATH']}", "SPARK_MASTER": "local[1]"}

    def run(self, *before: str, environ: Mapping[str, str] | None = None, writes: str = "data/output") -> str:
        """Run the script, by ``before`` where given; return what the command in it printed."""
        command = [*before, "sh", str(self._script), "sh", "-c", WRITE, writes]
        done = subprocess.run(
            command,
            env={**self._environment, **(environ or {})},
            cwd=self.app,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def container() -> Iterator[Container]:
    with tempfile.TemporaryDirectory(prefix="client-tickets-entry-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Container(folder)


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.mark.parametrize(("owns", "becomes"), [(0, 10001), (1000, 1000), (54321, 54321)])
def test_the_files_belong_to_the_owner_of_the_data_or_to_an_unprivileged_user(
    container: Container, owns: int, becomes: int
) -> None:
    os.chown(container.data, owns, owns)
    earlier = container.data / "output" / "of an earlier run"
    earlier.mkdir(parents=True)

    assert container.run() == f"{becomes}\n"
    assert owner(container.data / "output/new") == becomes
    assert owner(earlier) == becomes


@pytest.mark.parametrize(
    "path", ["data/output/", "data//output/.", "{data}/output", "data/other/../output", "./data/output/deep/.."]
)
def test_a_path_without_links_gets_the_owner_however_it_is_written(container: Container, path: str) -> None:
    earlier = container.data / "output" / "of an earlier run"
    earlier.mkdir(parents=True)

    container.run(environ={"OUTPUT_PATH": path.format(data=container.data)})

    assert owner(earlier) == 10001


@pytest.mark.parametrize(
    "path",
    [
        "data/link",
        "data/link/",
        "data/link//",
        "data/link/.",
        "{data}/link/",
        "data/link/sub",
        "data/../outside",
        "data/..",
    ],
)
def test_nothing_behind_a_link_or_outside_of_the_data_changes_its_owner(container: Container, path: str) -> None:
    outside = container.app / "outside"
    (outside / "sub").mkdir(parents=True)
    (container.data / "link").symlink_to(outside)
    os.chown(container.data, 1000, 1000)
    (container.data / "output").mkdir()
    os.chown(container.data / "output", 1000, 1000)

    container.run(environ={"OUTPUT_PATH": path.format(data=container.data)})

    assert {owner(outside), owner(outside / "sub"), owner(container.data / "link"), owner(container.app)} == {0}


def test_nothing_is_made_behind_a_link(container: Container) -> None:
    outside = container.app / "outside"
    outside.mkdir()
    (container.data / "link").symlink_to(outside)
    os.chown(container.data, 1000, 1000)

    container.run(environ={"OUTPUT_PATH": "data/link/new"})

    assert list(outside.iterdir()) == []


@pytest.fixture
def user_namespace() -> list[str]:
    """Return the command that makes user 1000 of the host the root of a container, as rootless Docker does."""
    as_user = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"]
    command = [*as_user, "unshare", "--user", "--map-root-user"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lacks user namespaces for ordinary users")
    return command


def test_where_root_is_an_ordinary_user_of_the_host_it_stays_root_and_the_files_belong_to_that_user(
    container: Container, user_namespace: list[str]
) -> None:
    os.chown(container.data, 1000, 1000)

    assert container.run(*user_namespace) == "0\n"
    assert owner(container.data / "output") == 1000
    assert owner(container.data / "output/new") == 1000


def test_where_the_owner_of_the_data_is_unknown_in_the_container_it_stays_root(
    container: Container, user_namespace: list[str]
) -> None:
    # As under userns-remap: the owner of ./data on the host has no number inside.
    os.chown(container.data, 4321, 4321)
    container.data.chmod(0o777)

    assert container.run(*user_namespace) == "0\n"
    assert owner(container.data / "output/new") == 1000
