"""The temporary folder of a run: gone at its end, and after kill -9 at the next start; never somebody else's."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runtime.process.scratch import Scratch, remove_abandoned

PREFIX = "client-tickets-test-"


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_run(folder: Path) -> None:
    """Leave behind what a killed run leaves."""
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "spark-123").mkdir()
    (folder / "spark-123" / "block").write_text("data")


def test_is_gone_at_the_end_with_all_that_is_in_it(temporary: Path) -> None:
    scratch = Scratch(PREFIX)
    (scratch.path / "spark-123").mkdir()
    assert scratch.path.parent == temporary
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    scratch.remove()
    scratch.remove()
    assert list(temporary.iterdir()) == []


def test_the_next_run_removes_what_a_killed_one_left(temporary: Path) -> None:
    killed_run(temporary / f"{PREFIX}killed")
    scratch = Scratch(PREFIX)
    assert list(temporary.iterdir()) == [scratch.path]
    scratch.remove()


def test_a_run_that_is_alive_keeps_its_folder(temporary: Path) -> None:
    alive = Scratch(PREFIX)
    remove_abandoned(PREFIX, temporary)
    assert alive.path.exists()
    alive.remove()


def test_a_child_that_was_handed_the_lock_keeps_the_folder_after_its_parent(temporary: Path) -> None:
    scratch = Scratch(PREFIX)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[scratch.lock_fd]
    ) as child:
        os.close(scratch.lock_fd)
        remove_abandoned(PREFIX, temporary)
        assert scratch.path.exists()
        child.communicate(b"\n")
    remove_abandoned(PREFIX, temporary)
    assert not scratch.path.exists()


def test_what_could_not_be_removed_is_removed_by_a_later_run(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch(PREFIX)
    (scratch.path / "busy").mkdir()
    with monkeypatch.context() as context:
        context.setattr("runtime.process.scratch.shutil.rmtree", lambda path, ignore_errors=False: None)
        scratch.remove()
    assert sorted(path.name for path in scratch.path.iterdir()) == ["busy", "lock"]
    remove_abandoned(PREFIX, temporary)
    assert list(temporary.iterdir()) == []


def test_leaves_alone_what_is_not_provably_ours(temporary: Path) -> None:
    killed_run(temporary / "spark-of-somebody")
    (temporary / f"{PREFIX}without-lock").mkdir()
    (temporary / f"{PREFIX}file").touch()
    killed_run(temporary / "elsewhere")
    (temporary / f"{PREFIX}link").symlink_to(temporary / "elsewhere")
    before = sorted(temporary.rglob("*"))
    remove_abandoned(PREFIX, temporary)
    assert sorted(temporary.rglob("*")) == before


def test_leaves_alone_what_belongs_to_another_user(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_run(temporary / f"{PREFIX}other")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    remove_abandoned(PREFIX, temporary)
    assert (temporary / f"{PREFIX}other" / "lock").exists()


def test_can_lie_where_the_result_of_a_run_will_be(temporary: Path) -> None:
    cache = temporary / "cache"
    cache.mkdir()
    killed_run(cache / f"{PREFIX}killed")
    killed_run(temporary / f"{PREFIX}killed")
    with Scratch(PREFIX, cache) as scratch:
        assert list(cache.iterdir()) == [scratch.path]
    assert list(cache.iterdir()) == []
    # A folder in another place.
    assert (temporary / f"{PREFIX}killed").exists()
