"""One processor an output, and an output that cannot be written."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from runtime.errors import OutputUnavailable
from runtime.settings.location import OutputLocation
from store.output import Output

HOLD_LOCK = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"))


def test_a_new_output_is_created_and_has_no_manifest(output: Output) -> None:
    with output.locked() as locked:
        assert locked.recover() is None
    assert sorted(path.name for path in output.root.iterdir()) == [".pipeline"]


def test_a_second_processor_is_refused_while_the_first_one_holds_the_lock(output: Output) -> None:
    output.state.mkdir(parents=True)
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, output.state / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        with pytest.raises(OutputUnavailable, match=r"another processor is writing .*/output; wait") as caught:
            output.locked().__enter__()
        assert caught.value.exit_code == 5
    finally:
        first.communicate()
    with output.locked():
        pass


def test_only_one_of_two_processors_gets_the_lock(output: Output) -> None:
    with output.locked(), pytest.raises(OutputUnavailable, match="another processor"):
        Output(OutputLocation(output.root)).locked().__enter__()


def test_the_lock_is_free_again_after_a_failure(output: Output) -> None:
    with pytest.raises(ValueError, match="oops"), output.locked():
        raise ValueError("oops")
    with output.locked():
        pass


def test_a_file_where_the_output_should_be_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "output"):
        with pytest.raises(
            OutputUnavailable, match=rf"cannot write {tmp_path}/file: File exists; a file is in the place of a folder"
        ):
            Output(OutputLocation(root)).locked().__enter__()


def test_a_staging_folder_that_cannot_be_made_is_not_writable(output: Output) -> None:
    output.state.mkdir(parents=True)
    (output.state / "staging").touch()
    with pytest.raises(OutputUnavailable, match=r"cannot write .*/staging"):
        output.begin(None, "batch", "parquet")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(file: BinaryIO, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("store.files.fcntl.flock", flock)
    with pytest.raises(OutputUnavailable) as caught:
        Output(OutputLocation(tmp_path)).locked().__enter__()
    assert str(caught.value) == (
        f"cannot lock {tmp_path}/.pipeline/lock: {os.strerror(number)}; its file system does not support locks "
        "(flock), or the lock service of its network is not running; choose an --output-path on a file system with "
        "locks: nothing was changed"
    )
    assert caught.value.exit_code == 5
