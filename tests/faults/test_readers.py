"""Readers that loop over all datasets while batches are published and merged, and while a processor is killed."""

import random
import signal
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, tickets_published
from tests.support.processes import Processes, Running, wait_for
from tests.support.reader import LIBRARIES

pytestmark = pytest.mark.integration

KILLS = 3
READS = 20


def reads(reader: Running) -> int:
    """Return how often a reader has read so far: it writes a line each time."""
    return sum(line.isdigit() for line in reader.stdout.splitlines())


def merged_files(output: Path) -> list[Path]:
    """Return the files that a merge has made."""
    return list((output / "tickets_with_assignment").glob("*-to-*"))


def test_no_reader_ever_sees_a_count_that_goes_down_or_an_error_but_for_files_that_were_merged(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    topics.create(broker.address, topic, partitions=2)
    processes.run(*processor(broker, topic, output))
    readers = {name: processes.start("-m", "tests.support.reader", name, output) for name in LIBRARIES}
    sender = processes.start(
        *("producer/ticket_producer.py", "--broker", broker.address, "--topic", topic, "--rate", "300")
    )
    moments = random.Random(23)
    kills = 0

    def enough_reads() -> bool:
        return min(map(reads, readers.values())) > READS

    # On a busy machine it takes longer until readers, which have a low priority, have read often enough, and until so
    # many batches are published that files are merged.
    while kills < KILLS or (kills < 5 * KILLS and not (enough_reads() and merged_files(output))):
        kills += 1
        topics.send(broker.address, topic, [b"bad", b"worse"])
        command = processor(broker, topic, output, "--interval", "0.1")
        service = processes.start(*command, env={"COMPACT_FILES": "12"})
        before = tickets_published(output)
        wait_for(lambda: tickets_published(output) > before, 240, "a batch")  # noqa: B023
        # At a random moment of the next batches: staging, commit record, renames.
        with pytest.raises(AssertionError, match="still runs"):
            service.wait(moments.uniform(0.5, 3))
        service.send(signal.SIGKILL)
        service.wait()
    sender.send(signal.SIGTERM)
    assert sender.wait() == 0
    processes.run(*processor(broker, topic, output))
    total = len(topics.read(broker.address, topic))
    for name, reader in readers.items():
        reader.send(signal.SIGTERM)
        assert reader.wait() == 0, f"{name}\n{reader.output}"
        assert reads(reader) > READS, f"{name} read only {reads(reader)} times"
        # Polars opens a file twice, and a one-file dataset can be replaced in between.
        assert name == "polars" or "read again" not in reader.stderr
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") + published.count("rejected_messages") == total
    assert published.count("rejected_messages") == 2 * kills
    # Whether a kill hits a merge is chance, but some files must have been merged.
    assert merged_files(output)
