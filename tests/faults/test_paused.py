"""Processors, and workers of one that was killed, that are paused and wake up while another one works, or later."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support.pipeline import fill, jvm_of, processor, require_exact, wait_until_it_reads
from tests.support.processes import Processes, is_alive, processes_of, wait_for

pytestmark = pytest.mark.integration

TICKETS = 300_000


def children_of(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def dataset_files(output: Path) -> dict[Path, bytes]:
    """Return every file that a reader may read."""
    return {path: path.read_bytes() for path in output.glob("[!.]*/*")} | {
        output / "_manifest.json": (output / "_manifest.json").read_bytes()
    }


def test_a_processor_that_is_paused_in_the_middle_of_a_batch_publishes_it_when_it_wakes_up(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    fill(processes, broker, topic, TICKETS)
    paused = processes.start(*processor(broker, topic, output))
    wait_until_it_reads(output)
    paused.send(signal.SIGSTOP)
    refused = processes.run(*processor(broker, topic, output), expect=5)
    assert f"another processor is writing {output}" in refused.stderr
    paused.send(signal.SIGCONT)
    assert paused.wait(120) == 0, paused.output
    require_exact(output, TICKETS)


def test_workers_of_a_killed_processor_that_wake_up_while_another_one_works_or_later_change_nothing(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    fill(processes, broker, topic, TICKETS)
    killed = processes.start(*processor(broker, topic, output))
    wait_until_it_reads(output)
    jvm = jvm_of(killed)
    # Spark's daemon ends its workers when the JVM has ended, and Linux ends stopped processes when their daemon or
    # session ends. Only a worker that has lost its daemon before can stay paused for longer.
    (daemon,) = children_of(jvm)
    workers = processes_of(jvm) - {jvm, daemon}
    assert len(workers) == 2
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: not is_alive(daemon), 10, "the end of the daemon")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    early, late = workers
    try:
        killed.send(signal.SIGKILL)
        killed.wait()
        wait_for(lambda: not is_alive(jvm), 10, "the end of the JVM")
        assert all(map(is_alive, workers))
        abandoned = set((output / ".pipeline" / "staging").iterdir())

        second = processes.start(*processor(broker, topic, output))
        wait_for(lambda: not any(folder.exists() for folder in abandoned), 60, "the second to clean up")
        wait_until_it_reads(output)
        os.kill(early, signal.SIGCONT)
        assert second.wait(120) == 0, second.output
        require_exact(output, TICKETS)

        before = dataset_files(output)
        assert is_alive(late)
    finally:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not any(map(is_alive, workers)), 60, "the end of the workers")
    assert dataset_files(output) == before
    assert not list((output / ".pipeline").glob("staging/*"))
    again = processes.run(*processor(broker, topic, output))
    assert "nothing new in topic" in again.stderr
    require_exact(output, TICKETS)
