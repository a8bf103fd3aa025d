"""Folders that were swapped out stay for ten minutes, whatever the clock does, and are then removed."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.process.clock import Clock
from store.replaced import ReplacedFolders
from tests.support.disks import QuickDisk


class Time(Clock):
    """A monotonic clock, and a system clock that a test can set."""

    def __init__(self) -> None:
        self.passed = 1000.0
        self.date = datetime(2026, 1, 31, 11, 0, tzinfo=UTC)

    def seconds(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return self.date

    def go_on(self, seconds: float) -> None:
        self.passed += seconds
        self.date += timedelta(seconds=seconds)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "staging").mkdir()
    return tmp_path


def swapped_out(state: Path, name: str = "tickets") -> Path:
    folder = state / "staging" / name
    folder.mkdir()
    (folder / "file.parquet").write_bytes(b"old")
    return folder


def replaced(state: Path, time: Time) -> ReplacedFolders:
    """Return the folders as seen by a new process."""
    return ReplacedFolders(state / "replaced", QuickDisk(), time)


def names(state: Path) -> list[str]:
    folder = state / "replaced"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_folder_stays_whole_for_ten_minutes_and_is_then_removed(state: Path, time: Time) -> None:
    folders = replaced(state, time)
    folders.keep(swapped_out(state), "compaction-000004-tickets")
    assert names(state) == ["20260131T110000Z-compaction-000004-tickets"]
    time.go_on(599)
    folders.remove_old()
    assert folders.next_s() == 1
    assert (state / "replaced" / names(state)[0] / "file.parquet").read_bytes() == b"old"
    time.go_on(1)
    folders.remove_old()
    assert not (state / "replaced").exists()
    assert folders.next_s() is None


def test_each_has_a_time_of_its_own(state: Path, time: Time) -> None:
    folders = replaced(state, time)
    folders.keep(swapped_out(state, "one"), "one")
    time.go_on(400)
    folders.keep(swapped_out(state, "other"), "other")
    time.go_on(200)
    folders.remove_old()
    assert names(state) == ["20260131T110640Z-other"]
    assert folders.next_s() == 400


def test_the_next_process_takes_the_age_from_the_name(state: Path, time: Time) -> None:
    replaced(state, time).keep(swapped_out(state), "tickets")
    time.go_on(500)
    folders = replaced(state, time)
    folders.remove_old()
    assert folders.next_s() == 100
    time.go_on(100)
    folders.remove_old()
    assert names(state) == []


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)])
def test_setting_the_system_clock_changes_nothing_within_a_process(state: Path, time: Time, jump: timedelta) -> None:
    folders = replaced(state, time)
    folders.keep(swapped_out(state), "tickets")
    time.date += jump
    time.go_on(599)
    folders.remove_old()
    assert len(names(state)) == 1
    time.go_on(1)
    folders.remove_old()
    assert names(state) == []


def test_a_folder_from_the_future_stays_ten_minutes_from_now_also_over_restarts(state: Path, time: Time) -> None:
    replaced(state, time).keep(swapped_out(state), "compaction-000004-tickets")
    time.date -= timedelta(days=400)
    replaced(state, time).remove_old()
    assert names(state) == ["20241227T110000Z-compaction-000004-tickets"]
    time.go_on(600)
    replaced(state, time).remove_old()
    assert names(state) == []


def test_a_name_without_a_time_counts_from_now(state: Path, time: Time) -> None:
    (state / "replaced" / "by hand").mkdir(parents=True)
    folders = replaced(state, time)
    folders.remove_old()
    assert names(state) == ["20260131T110000Z-by hand"]
    assert folders.next_s() == 600


def test_one_that_cannot_be_removed_is_removed_later(state: Path, time: Time, caplog: pytest.LogCaptureFixture) -> None:
    class Busy(QuickDisk):
        busy = True

        def remove_folder(self, path: Path) -> None:
            if self.busy:
                raise OSError(39, "Directory not empty", str(path))
            super().remove_folder(path)

    disk = Busy()
    folders = ReplacedFolders(state / "replaced", disk, time)
    folders.keep(swapped_out(state), "tickets")
    time.go_on(600)
    with caplog.at_level(logging.WARNING):
        folders.remove_old()
    assert "cannot be removed yet: [Errno 39] Directory not empty" in caplog.text
    assert folders.next_s() == 0
    disk.busy = False
    folders.remove_old()
    assert names(state) == []
