"""``--dedupe``: what becomes of tickets that come again, from the topic to the ledger, without Spark."""

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import encode
from processor.batch import find_duplicates
from processor.config import ProcessorConfig
from processor.consume import Piece
from processor.duplicates import NO_DUPLICATES, Duplicates
from processor.group import GroupOffsets
from processor.outcome import TasksLost
from processor.plan import Bounds, OffsetRange
from processor.processor import SparkProcessor
from processor.receipt import Receipt
from processor.recorder import NoRecorder
from runtime.errors import DataConflict
from runtime.process.clock import Clock
from runtime.process.display import LogDisplay
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown
from runtime.settings.location import OutputLocation
from store.files import Disk
from store.forget import forget
from store.ids import IdSet
from store.manifest import Erasure, Manifest, Partition, Record, Source, read_manifest
from store.output import Output
from store.staging import Staging
from store.verify import verify
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import SOURCE, UPDATED_AT, messages, stage, staging, ticket

FORMATS = ("parquet", "json")
EARLIER = "duplicate: the ticket_id was published earlier"


class Topic:
    """A topic in memory: the messages of each partition."""

    def __init__(self, *partitions: list[bytes]) -> None:
        self.partitions = list(partitions)

    def check(self) -> None:
        """Do nothing: the broker is well."""

    def look_up(self) -> tuple[Source, dict[int, Bounds]]:
        return SOURCE, {number: Bounds(0, len(values)) for number, values in enumerate(self.partitions)}

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        raise NotImplementedError

    def offsets_at(self, timestamp: int, partitions: Iterable[int]) -> dict[int, int]:
        raise NotImplementedError

    def records(self, offsets: Mapping[int, int]) -> dict[int, Record]:
        return {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        yield

    def piece(self, r: OffsetRange) -> Piece:
        return messages(self.partitions[r.partition][r.start : r.end], r.partition, r.start)


class Tasks:
    """Runs a task for each three offsets of a partition; ``before_run`` may raise, or change the topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self.ran: list[list[tuple[int, int, int]]] = []
        self.staged_ids: list[bool] = []
        self.before_run: Callable[[int], object] = lambda number: None

    def launch(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def run(
        self,
        ranges: Sequence[OffsetRange],
        staging: Staging,
        progress: Callable[[int], None],
        duplicates: Duplicates | None = None,
        erasures: Sequence[Erasure] = (),
    ) -> list[Receipt]:
        self.ran.append([(r.partition, r.start, r.end) for r in ranges])
        self.before_run(len(self.ran))
        parts = [
            OffsetRange(r.partition, start, min(start + 3, r.end)) for r in ranges for start in range(r.start, r.end, 3)
        ]
        receipts = [
            stage(
                staging, [self._topic.piece(part)], None if duplicates is None else duplicates.within([part]), erasures
            )
            for part in parts
        ]
        self.staged_ids.append(any(receipt.ids for receipt in receipts))
        progress(sum(r.length for r in ranges))
        return receipts


class Pipeline:
    """A topic, and an output that is brought up to its end."""

    def __init__(self, folder: Path, *partitions: list[bytes], file_format: str = "parquet") -> None:
        self.root = folder / "output"
        self.topic = Topic(*partitions)
        self.tasks = Tasks(self.topic)
        self._format = file_format

    def run(
        self,
        dedupe: str = "all",
        max_messages: int = 1000,
        stop: Shutdown | None = None,
        disk: Disk | None = None,
    ) -> Manifest:
        """Start a processor and let it read everything."""
        location = OutputLocation(self.root)
        config = ProcessorConfig(
            broker="localhost:9092",
            topic="client_tickets",
            output=location,
            memory="512m",
            output_format=self._format,
            max_messages=max_messages,
            dedupe=dedupe,
        )
        output, heartbeat = Output(location, disk or QuickDisk()), Heartbeat(self.root.parent / "heartbeat")
        SparkProcessor(
            config,
            output,
            self.topic,
            self.tasks,
            stop or Shutdown(),
            heartbeat,
            Clock(),
            LogDisplay(),
            GroupOffsets("", print),
            NoRecorder(),
        ).run()
        found = read_manifest(Disk(), self.root)
        assert found is not None
        return found

    def published(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT ticket_id FROM tickets_with_assignment ORDER BY ALL")]

    def rejected(self) -> list[tuple[Any, ...]]:
        return self.sql('SELECT partition, "offset", reason FROM rejected_messages ORDER BY ALL')

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        return Published(self.root).rows(query)


def ids(*numbers: int) -> list[str]:
    return sorted(ticket(number).ticket_id for number in numbers)


def values(*numbers: int) -> list[bytes]:
    return [encode(ticket(number)) for number in numbers]


def capital(number: int) -> bytes:
    return encode(ticket(number, ticket_id=ticket(number).ticket_id.upper()))


def first_at(partition: int, offset: int) -> str:
    return f"duplicate: the ticket_id is that of an earlier message, found at partition {partition}, offset {offset}"


def test_unique_tickets_cost_one_reading_and_every_ticket_is_published(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0, 1, 2, 3), values(4, 5))
    manifest = pipeline.run()
    assert pipeline.tasks.ran == [[(0, 0, 4), (1, 0, 2)]]
    assert pipeline.published() == ids(0, 1, 2, 3, 4, 5)
    assert manifest.partitions == {0: Partition(0, 4, tickets=4), 1: Partition(0, 2, tickets=2)}
    assert manifest.deduped_from == 1
    Published(pipeline.root).require_agreement()


@pytest.mark.parametrize("file_format", FORMATS)
def test_duplicates_are_rejected_and_only_the_ranges_that_hold_some_are_read_once_more(
    tmp_path: Path, file_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = Pipeline(
        tmp_path,
        # Twice in one range, in two ranges, and in another partition.
        [*values(0, 1, 0), *values(2, 3, 4), capital(1), b"bad", *values(5)],
        [*values(6), capital(2), *values(7), *values(8, 9, 10)],
        file_format=file_format,
    )
    first = pipeline.run()
    assert pipeline.tasks.ran == [[(0, 0, 9), (1, 0, 6)], [(0, 0, 3), (0, 6, 9), (1, 0, 3)]]
    assert pipeline.published() == ids(*range(11))
    not_json = "not JSON: JSON is malformed: invalid character (byte 0)"
    assert pipeline.rejected() == [
        (0, 2, first_at(0, 0)),
        (0, 6, first_at(0, 1)),
        (0, 7, not_json),
        (1, 1, first_at(0, 3)),
    ]
    assert first.partitions == {
        0: Partition(0, 9, tickets=6, rejected=1, duplicates=2),
        1: Partition(0, 6, tickets=5, duplicates=1),
    }
    assert (first.totals.tickets, first.totals.rejected) == (11, 4)
    assert pipeline.sql("SELECT total_tickets, rejected_messages FROM metrics") == [(11, 4)]
    assert "batch 1: 3 duplicates among 15 messages; 9 of these are read once more" in caplog.text
    assert "batch 1: 15 messages read, 11 tickets, 1 rejected, 3 duplicates, published in" in caplog.text
    assert "1 of 15 messages were rejected" in caplog.text
    Published(pipeline.root).require_agreement()

    # The ticket of an earlier batch wins, whatever its partition and offset, and the bytes are kept unchanged.
    pipeline.topic.partitions[0] += [*values(10), capital(11)]
    pipeline.topic.partitions[1] += [*values(11, 12, 12), capital(0)]
    second = pipeline.run()
    assert pipeline.tasks.ran[2:] == [[(0, 9, 11), (1, 6, 10)], [(0, 9, 11), (1, 6, 9), (1, 9, 10)]]
    assert pipeline.published() == sorted([*ids(*range(11), 12), ticket(11).ticket_id.upper()])
    assert pipeline.rejected()[3:] == [
        (0, 9, EARLIER),
        (1, 1, first_at(0, 3)),
        (1, 6, first_at(0, 10)),
        (1, 8, first_at(1, 7)),
        (1, 9, EARLIER),
    ]
    assert pipeline.sql('SELECT payload FROM rejected_messages WHERE partition = 1 AND "offset" = 9') == [(capital(0),)]
    assert second.partitions == {
        0: Partition(0, 11, tickets=7, rejected=1, duplicates=3),
        1: Partition(0, 10, tickets=6, duplicates=4),
    }
    assert second.deduped_from == 1
    Published(pipeline.root).require_agreement()


def test_a_batch_of_only_duplicates_publishes_no_tickets(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0, 1))
    pipeline.run()
    pipeline.topic.partitions[0] += values(1, 0)
    manifest = pipeline.run()
    assert manifest.partitions == {0: Partition(0, 4, tickets=2, duplicates=2)}
    assert manifest.batch_id == 2
    pipeline.topic.partitions[0] += values(0)
    assert pipeline.run().partitions == {0: Partition(0, 5, tickets=2, duplicates=3)}
    Published(pipeline.root).require_agreement()


def test_the_batches_of_one_run_know_of_each_other(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0, 1, 2, 0, 3, 1, 2, 4))
    manifest = pipeline.run(max_messages=3)
    assert manifest.batch_id == 3
    assert pipeline.published() == ids(0, 1, 2, 3, 4)
    assert manifest.partitions == {0: Partition(0, 8, tickets=5, duplicates=3)}
    # Two files for each batch that had tickets, and the one that names them: nothing is left to remove.
    assert len(list((pipeline.root / ".pipeline" / "ids").iterdir())) == 7


def test_off_publishes_every_message_and_keeps_no_ids(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0, 0))
    manifest = pipeline.run(dedupe="off")
    assert pipeline.published() == ids(0, 0)
    assert pipeline.tasks.staged_ids == [False]
    assert not (pipeline.root / ".pipeline" / "ids").exists()
    assert manifest.deduped_from is None
    report = verify(OutputLocation(pipeline.root))
    assert (report.repeated, report.differences) == (1, [])


def test_turned_on_later_dedupe_knows_earlier_tickets_and_turned_off_it_removes_the_ids(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = Pipeline(tmp_path, values(0, 1, 0))
    pipeline.run(dedupe="off")
    pipeline.topic.partitions[0] += values(1, 2, 2)
    on = pipeline.run()
    assert "making the set of known ticket ids from 3 published tickets" in caplog.text
    assert pipeline.published() == ids(0, 0, 1, 2)
    assert pipeline.rejected() == [(0, 3, EARLIER), (0, 5, first_at(0, 4))]
    # Tickets that were published twice before stay, so this is not an error.
    assert on.deduped_from == 2
    assert verify(OutputLocation(pipeline.root)).differences == []

    pipeline.topic.partitions[0] += values(2, 3)
    off = pipeline.run(dedupe="off")
    assert off.deduped_from is None
    assert off.partitions == {0: Partition(0, 8, tickets=6, duplicates=2)}
    assert not (pipeline.root / ".pipeline" / "ids").exists()

    pipeline.topic.partitions[0] += values(3, 4)
    again = pipeline.run()
    assert again.deduped_from == 4
    assert again.partitions == {0: Partition(0, 10, tickets=7, duplicates=3)}
    assert pipeline.published() == ids(0, 0, 1, 2, 2, 3, 4)
    pipeline.topic.partitions[0] += values(5)
    assert pipeline.run().deduped_from == 4


class StopsWhileIndexing(QuickDisk):
    """Asks to stop when the status says that the set of ids is being made."""

    def __init__(self, stop: Shutdown) -> None:
        self._stop = stop

    def replace(self, old: Path, new: Path) -> None:
        super().replace(old, new)
        if new.name == "_status.json" and json.loads(new.read_bytes())["state"] == "indexing":
            self._stop.ask()


def test_a_stop_while_the_set_is_made_publishes_nothing_and_the_next_run_makes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = Pipeline(tmp_path, values(0, 1))
    pipeline.run(dedupe="off")
    pipeline.topic.partitions[0] += values(1)
    stop = Shutdown()
    pipeline.run(stop=stop, disk=StopsWhileIndexing(stop))
    assert "stopped in the middle of making the set of known ticket ids: nothing of it was published" in caplog.text
    assert len(pipeline.tasks.ran) == 1
    assert pipeline.run().partitions == {0: Partition(0, 3, tickets=2, duplicates=1)}


def test_a_run_without_anything_new_leaves_the_set_as_it_is(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0))
    pipeline.run()
    pipeline.run(dedupe="off")
    pipeline.topic.partitions[0] += values(0)
    assert pipeline.run().deduped_from == 1


def test_a_second_reading_that_dies_is_done_again_with_the_whole_batch(tmp_path: Path) -> None:
    def die_once(number: int) -> None:
        if number == 2:
            raise TasksLost("Spark's JVM ended")

    pipeline = Pipeline(tmp_path, values(0, 1, 2, 3, 0))
    pipeline.tasks.before_run = die_once
    manifest = pipeline.run()
    assert pipeline.tasks.ran == [[(0, 0, 5)], [(0, 3, 5)], [(0, 0, 5)], [(0, 3, 5)]]
    assert pipeline.published() == ids(0, 1, 2, 3)
    assert manifest.partitions == {0: Partition(0, 5, tickets=4, duplicates=1)}
    assert (manifest.commit, manifest.batch_id) == (1, 1)
    Published(pipeline.root).require_agreement()


def test_a_second_reading_that_fails_for_good_publishes_nothing_and_the_next_run_is_exact(tmp_path: Path) -> None:
    def fail_once(number: int) -> None:
        if number == 4:
            raise RuntimeError("a task failed 4 times")

    pipeline = Pipeline(tmp_path, values(0, 1))
    pipeline.run()
    pipeline.topic.partitions[0] += values(2, 1, 3)
    pipeline.tasks.before_run = lambda number: fail_once(number + 1)
    with pytest.raises(RuntimeError):
        pipeline.run()
    assert pipeline.published() == ids(0, 1)
    assert pipeline.run().partitions == {0: Partition(0, 5, tickets=4, duplicates=1)}
    assert pipeline.published() == ids(0, 1, 2, 3)
    Published(pipeline.root).require_agreement()


def test_a_topic_that_holds_other_messages_at_the_second_reading_stops_it_and_nothing_is_published(
    tmp_path: Path,
) -> None:
    pipeline = Pipeline(tmp_path, values(0, 1, 0))

    def compact(number: int) -> None:
        if number == 2:
            pipeline.topic.partitions[0] = [b"bad", *values(1, 0)]

    pipeline.tasks.before_run = compact
    with pytest.raises(DataConflict, match="partition 0 was read once more without its duplicates"):
        pipeline.run()
    assert read_manifest(Disk(), pipeline.root) is None


def test_ids_that_were_cut_on_their_way_to_the_driver_are_refused(tmp_path: Path) -> None:
    folder = staging(tmp_path)
    receipt = stage(folder, [messages(values(0, 1))], NO_DUPLICATES)
    assert receipt.ids is not None
    path = tmp_path / receipt.ids
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataConflict, match="the batch does not add up: 2 tickets were read, but 1 ids"):
        find_duplicates(folder, [receipt], IdSet(tmp_path, folder.disk))


def test_ids_whose_commit_failed_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(tmp_path, values(0))
    pipeline.run()
    pipeline.topic.partitions[0] += values(1, 2, 1)

    def fail(output: Output, record: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Output, "commit", fail)
        with pytest.raises(OSError, match="no space"):
            pipeline.run()
    manifest = pipeline.run()
    assert pipeline.published() == ids(0, 1, 2)
    assert manifest.partitions == {0: Partition(0, 4, tickets=3, duplicates=1)}


def test_a_set_that_is_lost_between_two_batches_is_made_again(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, values(0, 1))
    pipeline.run()
    shutil.rmtree(pipeline.root / ".pipeline" / "ids")
    pipeline.topic.partitions[0] += values(1, 2)
    manifest = pipeline.run()
    assert manifest.partitions == {0: Partition(0, 4, tickets=3, duplicates=1)}
    assert manifest.deduped_from == 1


def test_a_conversion_keeps_the_ids_and_what_the_ledger_says_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = Pipeline(tmp_path, values(0, 1))
    pipeline.run()
    as_json = Pipeline(tmp_path, [*values(0, 1, 1, 2)], file_format="json")
    manifest = as_json.run()
    assert manifest.partitions == {0: Partition(0, 4, tickets=3, duplicates=1)}
    assert (manifest.deduped_from, manifest.commit, manifest.batch_id) == (1, 3, 2)
    assert "making the set" not in caplog.text
    Published(pipeline.root).require_agreement()


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_ids_and_the_duplicates_of_a_forgotten_client_are_removed(tmp_path: Path, file_format: str) -> None:
    ann, bob = encode(ticket(1, client_id="ANN")), encode(ticket(2, client_id="BOB"))
    pipeline = Pipeline(tmp_path, [ann, bob, ann, bob], file_format=file_format)
    assert pipeline.run().partitions[0] == Partition(0, 4, tickets=2, duplicates=2)
    unread = encode(ticket(3, client_id="ANN"))
    pipeline.topic.partitions[0] += [unread, unread]
    output = Output(OutputLocation(pipeline.root), QuickDisk())
    with output.locked():
        before = output.recover()
        assert before is not None
        done = forget(output, before, ["ANN"], {0: 6}, UPDATED_AT)
    assert (done.tickets, done.rejected, done.to_come) == (1, 1, {0: 6})
    assert done.manifest.partitions[0] == Partition(0, 4, tickets=2, duplicates=1, forgotten=1)
    # Later tickets are checked as if the client had never been there.
    pipeline.topic.partitions[0] += [unread, ann, ann, bob]
    after = pipeline.run()
    assert after.partitions[0] == Partition(0, 10, tickets=4, duplicates=3, forgotten=3)
    assert (after.erased_tickets, after.erasures, after.deduped_from, after.totals.unique_clients) == (1, [], 1, 2)
    assert pipeline.published() == [f"3e476c38-2a7f-4d89-a08f-{number:012x}" for number in (1, 2, 3)]
    Published(pipeline.root).require_agreement()
