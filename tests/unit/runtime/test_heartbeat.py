from pathlib import Path

import pytest

from runtime.process import heartbeat
from runtime.process.heartbeat import Health, Heartbeat


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "heartbeat"
    monkeypatch.setenv("HEARTBEAT_FILE", str(path))
    return path


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr("runtime.process.heartbeat.time.time", lambda: now)


def test_before_the_first_beat_a_service_is_not_healthy(file: Path) -> None:
    assert heartbeat.main(["--max-age", "30"]) == 1


@pytest.mark.parametrize(("now", "code"), [(1_000_030.0, 0), (1_000_031.0, 1)])
def test_a_service_is_healthy_until_its_last_beat_is_too_old(
    file: Path, monkeypatch: pytest.MonkeyPatch, now: float, code: int
) -> None:
    at(monkeypatch, 1_000_000.0)
    Heartbeat(file).beat()
    at(monkeypatch, now)
    assert heartbeat.main(["--max-age", "30"]) == code


@pytest.mark.parametrize(("now", "code"), [(1_000_090.0, 0), (1_000_091.0, 1)])
def test_a_planned_rest_does_not_count_as_age(
    file: Path, monkeypatch: pytest.MonkeyPatch, now: float, code: int
) -> None:
    at(monkeypatch, 1_000_000.0)
    Heartbeat(file).beat(rest=60)
    at(monkeypatch, now)
    assert heartbeat.main(["--max-age", "30"]) == code


def test_without_the_variable_nothing_is_written_and_a_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEARTBEAT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    Heartbeat.from_environment({}).beat()
    assert list(tmp_path.iterdir()) == []
    assert heartbeat.main(["--max-age", "30"]) == 1


def test_the_age_is_known_without_a_file_too_and_no_clock_that_is_set_back_changes_it() -> None:
    now = [100.0]
    heart = Heartbeat(None, lambda: now[0])
    assert heart.age() is None
    heart.beat()
    now[0] = 103.5
    assert heart.age() == 3.5
    heart.beat(rest=60)
    assert heart.age() == -60
    now[0] = 164.5
    assert heart.age() == 1


@pytest.mark.parametrize(("age_s", "is_good"), [(None, False), (-60.0, True), (0.0, True), (30.0, True), (30.1, False)])
def test_health_is_a_beat_that_is_young_enough(age_s: float | None, is_good: bool) -> None:
    assert Health(age_s, 30).is_good is is_good


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    Heartbeat.from_environment({"HEARTBEAT_FILE": str(tmp_path / "beat")}).beat()
    assert (tmp_path / "beat").exists()
