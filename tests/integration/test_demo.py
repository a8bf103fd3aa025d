"""The demo as a user runs it: everything real, in folders of the test."""

import signal
from pathlib import Path

import duckdb
import pytest

from tests.support.processes import Processes, Running, is_alive, wait_for

pytestmark = pytest.mark.integration


def start(processes: Processes, folder: Path, *more: str) -> Running:
    arguments = ["-m", "embedded.demo", "--data-dir", str(folder / "broker"), "--output-path", str(folder / "output")]
    return processes.start(*arguments, *more)


def cells(demo: Running) -> list[list[str]]:
    """Return the words of each line that it printed."""
    return [line.split() for line in demo.stdout.splitlines()]


def test_the_demo_shows_what_it_published_and_adds_to_it_when_run_again(processes: Processes, tmp_path: Path) -> None:
    first = start(processes, tmp_path)
    assert first.wait() == 0, first.output
    assert ["tickets", "2,000"] in cells(first), first.output
    assert f'pd.read_parquet("{tmp_path}/output/tickets_with_assignment")' in first.stdout

    second = start(processes, tmp_path, "--output-format", "json")
    assert second.wait() == 0, second.output
    assert "the output is in parquet, but --output-format asks for json, so it is converted" in second.stderr
    assert ["tickets", "4,000"] in cells(second), second.output
    assert ["batches", "2"] in cells(second)
    assert f'pathlib.Path("{tmp_path}/output/tickets_with_assignment").glob("*.json")' in second.stdout

    files = f"{tmp_path}/output/tickets_with_assignment/*.json"
    with duckdb.connect() as session:
        counted = session.execute(f"select count(*), count(distinct ticket_id) from read_json('{files}')").fetchall()
    assert counted == [(4000, 4000)]


def test_the_demo_ends_with_the_code_of_the_step_that_failed(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "output").touch()
    demo = start(processes, tmp_path, "--count", "5")
    assert demo.wait() == 5
    assert "the processor ended with exit code 5; its message is above" in demo.stderr


def test_the_demo_stops_when_asked_and_leaves_nothing_running(processes: Processes, tmp_path: Path) -> None:
    demo = start(processes, tmp_path, "--count", "5")
    demo.wait_for_stdout("processor")
    children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]

    demo.send(signal.SIGTERM)

    assert demo.wait(deadline_s=60) == 0, demo.output
    assert "Published so far" not in demo.stdout
    wait_for(lambda: not any(map(is_alive, children)), what="end of broker and processor")
