"""The status that a processor writes."""

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from store.files import Disk
from store.status import Progress, StatusFile, read_status

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


class Watch:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


def test_the_status_has_state_time_progress_and_process(tmp_path: Path) -> None:
    watch = Watch()
    status = StatusFile(tmp_path, 30.0, Disk(), watch.now)
    watch.time += timedelta(seconds=5)
    status.set("reading", Progress(7, 0, 1000), {0: 500, 1: 500})
    watch.time += timedelta(seconds=2)
    status.set("reading", Progress(7, 250, 1000))
    assert json.loads((tmp_path / "_status.json").read_text()) == {
        "state": "reading",
        "since": "2026-01-31T09:30:05Z",
        "updated_at": "2026-01-31T09:30:07Z",
        "interval_s": 30.0,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "end_offsets": {"0": 500, "1": 500},
        "progress": {"batch_id": 7, "messages": 250, "of": 1000},
    }
    status.set("idle")
    told = json.loads((tmp_path / "_status.json").read_text())
    assert (told["state"], told["since"], told["progress"]) == ("idle", "2026-01-31T09:30:07Z", None)
    assert told["end_offsets"] == {"0": 500, "1": 500}
    assert [path.name for path in tmp_path.iterdir()] == ["_status.json"]


def test_a_status_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    class Full(Disk):
        def create(self, path: Path) -> BinaryIO:
            raise OSError(28, "No space left on device")

    StatusFile(tmp_path, 0.0, Full(), Watch().now).set("idle")
    assert list(tmp_path.iterdir()) == []


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    StatusFile(tmp_path, 30.0, Disk(), Watch().now).set("reading", Progress(7, 1, 2), {0: 5})
    status = read_status(Disk(), tmp_path)
    assert status is not None
    assert (status.state, status.since, status.interval_s) == ("reading", START, 30.0)
    assert (status.progress, status.end_offsets) == (Progress(7, 1, 2), {0: 5})


def test_after_a_task_between_two_runs_a_service_is_still_a_stopped_service(tmp_path: Path) -> None:
    StatusFile(tmp_path, 30.0, Disk(), Watch().now).set("stopped", None, {0: 5})
    task = StatusFile.between_runs(tmp_path, Disk(), Watch().now)
    task.set("retrying")
    task.set("stopped")
    status = read_status(Disk(), tmp_path)
    assert status is not None
    assert (status.state, status.interval_s, status.end_offsets) == ("stopped", 30.0, {0: 5})

    (tmp_path / "_status.json").unlink()
    StatusFile.between_runs(tmp_path, Disk(), Watch().now).set("stopped")
    alone = read_status(Disk(), tmp_path)
    assert alone is not None
    assert (alone.interval_s, alone.end_offsets) == (0.0, {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "of a newer release"}', b"\xff"])
def test_a_status_that_cannot_be_understood_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "_status.json").write_bytes(content)
    assert read_status(Disk(), tmp_path) is None


def test_without_a_status_file_there_is_no_status(tmp_path: Path) -> None:
    assert read_status(Disk(), tmp_path) is None
    (tmp_path / "file").write_text("")
    assert read_status(Disk(), tmp_path / "file") is None
