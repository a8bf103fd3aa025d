"""kill -9 at every step of a batch, and stops in the middle: the next run is exact, and nothing shows too early."""

import signal
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from runtime.process.failpoint import VARIABLE
from tests.support.datasets import Published
from tests.support.pipeline import processor, produce, read_manifest, tickets_published
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration

TICKETS = 400


@pytest.fixture(scope="module")
def filled_topic(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A topic with 400 tickets; each test reads it into an output of its own."""
    topic = "crashes"
    processes = Processes(tmp_path_factory.mktemp("filling"))
    try:
        produce(processes, broker, topic, TICKETS)
    finally:
        processes.end_all()
    return topic


def require_exact(output: Path, tickets: int) -> None:
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == tickets
    assert not (output / ".pipeline" / "commit.json").exists()
    assert not (output / ".pipeline" / "staging").exists()
    for dataset, names in read_manifest(output)["files"].items():
        assert {file.name for file in (output / dataset).iterdir()} == set(names)


def nothing_shows(output: Path) -> bool:
    """Whether a reader finds neither a ledger nor a dataset."""
    return {path.name for path in output.iterdir()} <= {".pipeline", "_status.json"}


def in_the_middle_of_a_batch(processes: Processes, broker: EmbeddedBroker, topic: str, output: Path) -> Running:
    """Start a processor on 300,000 tickets and return it once one of its tasks has begun a file."""
    produce(processes, broker, topic, 300_000)
    running = processes.start(*processor(broker, topic, output))
    staged = output / ".pipeline" / "staging"
    wait_for(lambda: list(staged.glob("*/tickets_with_assignment-*")), 120, "a staged file")
    return running


@pytest.mark.parametrize("point", ["before-staging", "staged"])
def test_killed_before_the_commit_record_nothing_shows_and_the_next_run_is_exact(
    point: str, broker: EmbeddedBroker, filled_topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    processes.run(*processor(broker, filled_topic, output), env={VARIABLE: point}, expect=-signal.SIGKILL)
    assert nothing_shows(output)
    assert list((output / ".pipeline" / "staging").iterdir())
    processes.run(*processor(broker, filled_topic, output))
    require_exact(output, TICKETS)


@pytest.mark.parametrize("point", ["committed", "between-renames", "before-manifest"])
def test_killed_after_the_commit_record_the_next_run_completes_the_batch(
    point: str, broker: EmbeddedBroker, filled_topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    processes.run(*processor(broker, filled_topic, output), env={VARIABLE: point}, expect=-signal.SIGKILL)
    assert not (output / "_manifest.json").exists()
    after = processes.run(*processor(broker, filled_topic, output))
    assert "finishing batch 1" in after.stderr
    assert "nothing new in topic" in after.stderr
    require_exact(output, TICKETS)


def test_killed_while_tasks_write_the_next_run_is_exact(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    running = in_the_middle_of_a_batch(processes, broker, topic, output)
    running.send(signal.SIGKILL)
    running.wait()
    assert nothing_shows(output)
    processes.run(*processor(broker, topic, output))
    require_exact(output, 300_000)


def test_sigterm_in_the_middle_of_a_batch_ends_in_time_and_the_next_run_is_exact(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    running = in_the_middle_of_a_batch(processes, broker, topic, output)
    running.send(signal.SIGTERM)
    assert running.wait(20) == 0
    assert "stopped in the middle of a batch" in running.stderr
    assert tickets_published(output) == 0
    processes.run(*processor(broker, topic, output))
    require_exact(output, 300_000)


def test_a_task_whose_worker_dies_is_tried_again_and_leaves_one_copy(
    broker: EmbeddedBroker, filled_topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    processes.run(*processor(broker, filled_topic, output), env={VARIABLE: "task-staged"})
    assert "worker exited unexpectedly" in (output / ".pipeline" / "spark.log").read_text(errors="replace")
    require_exact(output, TICKETS)
