"""What the processor decides, with a topic, tasks and a clock that do as they are told: no JVM, no broker."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from contract.routing import DEFAULT
from contract.ticket import encode
from processor.config import ProcessorConfig
from processor.duplicates import Duplicates
from processor.group import GroupOffsets, Position
from processor.lag import Lag
from processor.outcome import Failure, FailureKind, TasksLost
from processor.plan import Bounds, OffsetRange
from processor.processor import SparkProcessor
from processor.receipt import Receipt
from processor.routing_file import RoutingFile
from runtime.errors import BrokerError, DataConflict, OutputUnavailable, PipelineError, SettingError
from runtime.process.display import LogDisplay
from runtime.process.heartbeat import Heartbeat
from runtime.settings.location import OutputLocation
from store.datasets import DATASETS
from store.files import Disk
from store.manifest import Erasure, Gap, Manifest, Partition, Record, RuleSet, Source, Window, read_manifest
from store.output import Output
from store.staging import Staging
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import NIGHT_SHIFT, SOURCE, messages, stage, ticket
from tests.support.time import Time

Progress = Callable[[int], None]
Work = Callable[[Sequence[OffsetRange], Staging, Progress], list[Receipt]]
Answer = tuple[Source, dict[int, Bounds]]

GONE = BrokerError("the broker does not answer")


@dataclass
class Topic:
    """A topic whose answers the test gives, one for each look-up; the last one is given again.

    After tasks have run, the topic is looked at once more, to confirm or to explain: that look has answers of its own,
    ``afterwards``, and without these nothing has changed.
    """

    answers: list[Answer | BrokerError] = field(default_factory=list)
    afterwards: list[Answer | BrokerError] = field(default_factory=list)
    tasks_ran: bool = False
    last: Answer | BrokerError = GONE
    unusable: list[BrokerError | None] = field(default_factory=lambda: [None])
    checks: int = 0
    looks: int = 0
    messages: dict[int, Record] = field(default_factory=dict)
    asked_for: list[dict[int, int]] = field(default_factory=list)
    times: dict[int, dict[int, int]] = field(default_factory=dict)
    unstable: int = 0

    def holds(self, *bounds: tuple[int, int], source: Source = SOURCE) -> None:
        """Let the next look-up find partitions with these offsets, from the first up to but not including the end."""
        self.answers.append((source, {number: Bounds(*held) for number, held in enumerate(bounds)}))

    def check(self) -> None:
        self.checks += 1
        if error := self.unusable.pop(0) if len(self.unusable) > 1 else self.unusable[0]:
            raise error

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.tasks_ran = True
        yield

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        assert isinstance(self.last, tuple)
        return {p: self.last[1][p].end + self.unstable for p in partitions}

    def offsets_at(self, timestamp: int, partitions: Iterable[int]) -> dict[int, int]:
        return {partition: offset for partition, offset in self.times[timestamp].items() if partition in partitions}

    def records(self, offsets: Mapping[int, int]) -> dict[int, Record]:
        self.asked_for.append(dict(offsets))
        return {partition: record for partition, record in self.messages.items() if partition in offsets}

    def look_up(self) -> Answer:
        self.looks += 1
        if self.tasks_ran:
            answer = self.afterwards.pop(0) if self.afterwards else self.last
        else:
            answer = self.last = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.tasks_ran = False
        if isinstance(answer, BrokerError):
            raise answer
        return answer


def read_all(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
    """Stage a ticket for each offset, one task for each range."""
    return [
        stage(
            staging,
            [messages([encode(ticket(1_000 * r.partition + n)) for n in range(r.start, r.end)], r.partition, r.start)],
        )
        for r in ranges
    ]


def read_all_and_tell_the_last(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
    """Stage a ticket for each offset, and report record_at() as the last message of each partition."""
    receipts = read_all(ranges, staging, progress)
    for receipt in receipts:
        receipt.reads = [msgspec.structs.replace(r, last=record_at(r.end - 1)) for r in receipt.reads]
    return receipts


def record_at(offset: int, checksum: str = "read") -> Record:
    return Record(offset, 1_769_850_000_000, checksum)


@dataclass
class Tasks:
    """Tasks that do what the test says; by default they read everything."""

    work: Work = read_all
    launched: int = 0
    ran: list[list[OffsetRange]] = field(default_factory=list)
    stopped: int = 0

    def launch(self) -> None:
        self.launched += 1

    def run(
        self,
        ranges: Sequence[OffsetRange],
        staging: Staging,
        progress: Progress,
        duplicates: Duplicates | None = None,
        erasures: Sequence[Erasure] = (),
    ) -> list[Receipt]:
        self.ran.append(list(ranges))
        return self.work(ranges, staging, progress)

    def stop(self) -> None:
        self.stopped += 1


@dataclass
class Told:
    """What a recorder was told, in order."""

    calls: list[tuple[object, ...]] = field(default_factory=list)

    def lag(self, lag: Mapping[int, Lag]) -> None:
        self.calls.append(("lag", {number: (of.next_offset, of.end_offset) for number, of in lag.items()}))

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        messages = sum(read.messages for receipt in receipts for read in receipt.reads)
        self.calls.append(("published", messages, seconds, f"{at:%H:%M:%S}"))

    def not_published(self, result: str) -> None:
        self.calls.append((result,))

    def succeeded(self, at: datetime) -> None:
        self.calls.append(("succeeded", f"{at:%H:%M:%S}"))


class WatchedDisk(QuickDisk):
    """Remembers each status that was written, and calls the test for each file that is begun."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.on_create: Callable[[Path], None] = lambda path: None

    def create(self, path: Path) -> BinaryIO:
        self.on_create(path)
        return super().create(path)

    def replace(self, old: Path, new: Path) -> None:
        super().replace(old, new)
        if new.name == "_status.json":
            self.told.append(json.loads(new.read_bytes()))


class Bench:
    """A processor with a real output on the disk; everything else is a fake."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "output"
        self.beat = folder / "heartbeat"
        self.topic, self.tasks, self.time, self.disk = Topic(), Tasks(), Time(), WatchedDisk()
        self.committed: list[Position] = []
        self.group = GroupOffsets("g", self.committed.append)
        self.recorder = Told()

    def run(
        self,
        interval_s: float = 0.0,
        max_messages: int = 100,
        accept_gap: bool = False,
        output_format: str = "parquet",
        format_source: str = "the default",
        compact_files: int = 64,
        start: str | datetime | None = None,
        until: datetime | None = None,
        topic: str = "client_tickets",
        routing_file: RoutingFile | None = None,
    ) -> None:
        location = OutputLocation(self.root)
        config = ProcessorConfig(
            broker="localhost:9092",
            topic=topic,
            output=location,
            memory="512m",
            output_format=output_format,
            interval_s=interval_s,
            max_messages=max_messages,
            accept_gap=accept_gap,
            format_source=format_source,
            compact_files=compact_files,
            start=start,
            until=until,
            routing_file=routing_file,
        )
        output, heartbeat = Output(location, self.disk, self.time), Heartbeat(self.beat)
        collaborators = (self.topic, self.tasks, self.time, heartbeat, self.time, LogDisplay(), self.group)
        SparkProcessor(config, output, *collaborators, self.recorder).run()

    def manifest(self) -> Manifest:
        found = read_manifest(Disk(), self.root)
        assert found is not None
        return found

    def files(self) -> dict[str, bytes]:
        """Return what is published, and the ledger."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in [self.root / "_manifest.json", *(f for d in DATASETS for f in (self.root / d.name).iterdir())]
        }

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "_status.json").read_bytes())
        return found

    def states(self) -> list[str]:
        """Return the states that the processor wrote to its status, one for each change."""
        states = [status["state"] for status in self.disk.told]
        return [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]

    def staged(self) -> list[str]:
        staging = self.root / ".pipeline" / "staging"
        return sorted(path.name for path in staging.iterdir()) if staging.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output of one batch, for copies of it: three tickets from the one partition of the topic."""
    first = Bench(tmp_path_factory.mktemp("published"))
    first.topic.holds((0, 3))
    first.run()
    return first.root


@pytest.fixture
def going_on(bench: Bench, published: Path) -> Bench:
    shutil.copytree(published, bench.root)
    return bench


def test_the_first_run_on_an_empty_topic_makes_empty_datasets(bench: Bench) -> None:
    bench.topic.holds((0, 0), (0, 0))
    bench.run()
    manifest = bench.manifest()
    assert (manifest.commit, manifest.batch_id, manifest.source) == (1, 1, SOURCE)
    assert manifest.partitions == {0: Partition(0, 0), 1: Partition(0, 0)}
    assert {dataset: len(files) for dataset, files in manifest.files.items()} == {
        "tickets_with_assignment": 1,
        "high_priority_tickets": 1,
        "metrics": 1,
        "tickets_by_type": 1,
        "tickets_by_priority": 1,
        "tickets_by_team": 1,
        "tickets_by_hour": 1,
        "rejected_messages": 1,
    }
    Published(bench.root).require_agreement()
    assert bench.tasks.ran == []


def test_what_the_topic_holds_is_published(bench: Bench) -> None:
    bench.topic.holds((0, 3), (7, 9))
    bench.run()
    Published(bench.root).require_agreement()
    assert bench.manifest().partitions == {0: Partition(0, 3, tickets=3), 1: Partition(7, 9, tickets=2)}
    assert bench.manifest().updated_at == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert bench.committed == [Position("client_tickets", bench.manifest().output_id, {0: 3, 1: 9})]
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3), OffsetRange(1, 7, 9)]]
    assert bench.staged() == []
    assert bench.beat.exists()


def test_nothing_new_makes_no_batch(going_on: Bench, caplog: pytest.LogCaptureFixture) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 3))
    with caplog.at_level(logging.INFO):
        going_on.run()
    assert going_on.files() == before
    assert (going_on.tasks.ran, going_on.tasks.stopped) == ([], 1)
    assert going_on.committed == [Position("client_tickets", going_on.manifest().output_id, {0: 3})]
    assert caplog.messages == [
        "nothing new in topic client_tickets, lag 0",
        "done; run it again for newer messages, or with --interval 30 to go on by itself",
    ]


def test_a_backlog_is_read_in_batches_of_limited_size_up_to_the_end_as_of_the_first_look(bench: Bench) -> None:
    bench.topic.holds((0, 5))
    # Messages that come while the backlog is read are left for the next run.
    bench.topic.holds((0, 50))
    bench.run(max_messages=2)
    # Once to plan, and once more before each commit.
    assert bench.topic.looks == 4
    assert bench.tasks.ran == [[OffsetRange(0, 0, 2)], [OffsetRange(0, 2, 4)], [OffsetRange(0, 4, 5)]]
    assert bench.manifest().batch_id == 3
    assert bench.manifest().partitions == {0: Partition(0, 5, tickets=5)}
    Published(bench.root).require_agreement()


def test_a_batch_and_a_look_that_finds_nothing_tell_how_much_is_unread(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.topic.holds((0, 5))
    # Two more arrived while the first batch was read.
    bench.topic.afterwards = [(SOURCE, {0: Bounds(0, 7)})]
    with caplog.at_level(logging.INFO):
        bench.run(max_messages=2)
        bench.topic.holds((0, 5))
        bench.run()
    events = [record.event.values() for record in caplog.records if hasattr(record, "event")]
    assert [(each["event"], each.get("batch"), each.get("lag")) for each in events] == [
        ("batch", 1, 5),
        ("batch", 2, 1),
        ("batch", 3, 0),
        ("done", None, None),
        ("idle", None, 0),
        ("done", None, None),
    ]
    assert bench.committed[-1] == Position("client_tickets", bench.manifest().output_id, {0: 5})
    first = events[0]
    assert (first["read"], first["tickets"], first["rejected"]) == (2, 2, 0)
    assert caplog.messages[0].endswith(f"in {bench.root}, lag 5")


def test_new_rules_are_kept_and_told_once_with_the_batch_in_which_they_begin(
    going_on: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    file = RoutingFile(Path("routing.toml"), NIGHT_SHIFT, (1, 5, 8, 11, 14))
    told = (
        "batch 2 is the first with new rules for teams: technical with high or critical priority to Night Shift "
        "instead of Technical Support; what was published before keeps its teams"
    )
    with caplog.at_level(logging.INFO):
        for end in (3, 5, 6):
            # Without a new message no batch begins, so no rules do.
            going_on.topic.answers.clear()
            going_on.topic.holds((0, end))
            going_on.run(routing_file=file)
            assert [message for message in caplog.messages if "new rules for teams" in message] == (
                [] if end == 3 else [told]
            )
    manifest = going_on.manifest()
    assert manifest.batch_id == 3
    assert manifest.routing == [RuleSet(1, list(DEFAULT.rules)), RuleSet(2, list(NIGHT_SHIFT.rules))]


def test_a_new_output_tells_of_no_change_of_rules(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.topic.holds((0, 1))
    with caplog.at_level(logging.INFO):
        bench.run(routing_file=RoutingFile(Path("routing.toml"), NIGHT_SHIFT, (1, 5, 8, 11, 14)))
    assert bench.manifest().routing == [RuleSet(1, list(NIGHT_SHIFT.rules))]
    assert [message for message in caplog.messages if "new rules for teams" in message] == []


def test_messages_deleted_unread_are_refused_and_nothing_is_changed(going_on: Bench) -> None:
    before = going_on.files()
    going_on.topic.holds((5, 8))
    with pytest.raises(DataConflict, match="2 messages were deleted unread"):
        going_on.run()
    assert going_on.files() == before
    assert going_on.tasks.ran == []


def test_an_accepted_gap_is_recorded_and_read_past(going_on: Bench, caplog: pytest.LogCaptureFixture) -> None:
    going_on.topic.holds((5, 8))
    going_on.run(accept_gap=True)
    assert going_on.tasks.ran == [[OffsetRange(0, 5, 8)]]
    assert going_on.manifest().gaps == [Gap(0, 3, 5, 2)]
    assert going_on.manifest().partitions == {0: Partition(0, 8, tickets=6, gaps=2)}
    assert "partition 0: offsets 3 to 4 were deleted unread" in caplog.messages


def test_a_gap_at_the_end_of_the_topic_is_recorded_once(going_on: Bench) -> None:
    going_on.topic.holds((5, 5))
    going_on.run(accept_gap=True)
    assert going_on.manifest().partitions == {0: Partition(0, 5, tickets=3, gaps=2)}
    assert going_on.manifest().batch_id == 2
    going_on.run(accept_gap=True)
    assert going_on.manifest().batch_id == 2
    assert going_on.tasks.ran == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("client_tickets", "cluster-1", "topic-2"), "from topic id topic-1, but the broker now offers topic-2"),
        (Source("client_tickets", "cluster-2", "topic-1"), "from cluster cluster-1, but the broker now offers cluster"),
        (Source("other", "cluster-1", "topic-1"), "from topic client_tickets, but the broker now offers other"),
    ],
)
def test_another_topic_is_refused_and_nothing_is_changed(going_on: Bench, source: Source, said: str) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 9), source=source)
    # Not even the format is changed: the source is checked first.
    with pytest.raises(DataConflict, match=said) as caught:
        going_on.run(output_format="json")
    assert caught.value.exit_code == 4
    assert going_on.files() == before
    assert going_on.tasks.ran == []


def test_another_format_converts_what_is_there_before_anything_is_read(going_on: Bench) -> None:
    found: list[tuple[int, int, str, str]] = []

    def look_then_read(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        now = going_on.manifest()
        found.append((now.commit, now.batch_id, now.kind, now.format))
        return read_all(ranges, staging, progress)

    going_on.topic.holds((0, 5))
    going_on.tasks.work = look_then_read
    going_on.run(output_format="json")
    assert found == [(2, 1, "conversion", "json")]
    assert (going_on.manifest().commit, going_on.manifest().batch_id) == (3, 2)
    assert {path.rpartition(".")[2] for path in going_on.files()} == {"json"}
    assert going_on.manifest().partitions == {0: Partition(0, 5, tickets=5)}
    Published(going_on.root).require_agreement()
    assert going_on.states() == ["waiting for broker", "converting", "reading", "publishing", "stopped"]


def test_another_format_converts_although_there_is_nothing_to_read(
    going_on: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    going_on.topic.holds((0, 3))
    going_on.run(output_format="json", format_source="OUTPUT_FORMAT (from /tickets/.env)")
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        "the output is in parquet, but OUTPUT_FORMAT (from /tickets/.env) asks for json, so it is converted; to keep "
        "parquet set OUTPUT_FORMAT=parquet in .env or give --output-format parquet"
    )
    assert (going_on.manifest().commit, going_on.manifest().batch_id, going_on.manifest().format) == (2, 1, "json")
    assert going_on.tasks.ran == []


def test_a_stop_in_the_middle_of_a_conversion_leaves_everything_as_it_was(
    going_on: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    before, clients = going_on.files(), (going_on.root / ".pipeline" / "clients.sqlite").read_bytes()
    going_on.topic.holds((0, 5))
    going_on.disk.on_create = lambda path: going_on.time.ask() if path.name.startswith("metrics") else None
    with caplog.at_level(logging.INFO):
        going_on.run(output_format="json")
    assert going_on.files() == before
    assert (going_on.root / ".pipeline" / "clients.sqlite").read_bytes() == clients
    assert going_on.staged() == []
    assert (going_on.tasks.ran, going_on.tasks.stopped) == ([], 1)
    assert "stopped in the middle of a conversion" in caplog.text


def test_a_conversion_counts_as_progress(going_on: Bench) -> None:
    going_on.topic.holds((0, 3))
    found: list[bool] = []
    going_on.disk.on_create = lambda path: (
        found.append(going_on.beat.exists()) if path.parent != going_on.root else None
    )
    going_on.run(output_format="json")
    assert found[:3] == [False, True, True]


CRASH = RuntimeError("a task failed 4 times")


def fail(*arguments: object) -> list[Receipt]:
    raise CRASH


def report(kind: FailureKind) -> Work:
    """Return tasks one of which reports a failure."""
    return lambda *arguments: [*read_all(*arguments), Receipt(failure=Failure(kind, "partition 0, offset 3"))]


REPLACED = (Source("client_tickets", "cluster-1", "topic-2"), {0: Bounds(0, 5)})


@pytest.mark.parametrize(
    ("failure", "unusable", "then", "kind", "said"),
    [
        # The broker is checked first, because without it no cause can be found.
        (FailureKind.NO_PROGRESS, GONE, (SOURCE, {0: Bounds(9, 9)}), BrokerError, "the broker does not answer"),
        (FailureKind.TOPIC_GONE, None, BrokerError("no such topic"), BrokerError, "no such topic"),
        (FailureKind.OFFSET_GONE, None, (SOURCE, {0: Bounds(4, 9)}), DataConflict, "1 messages were deleted unread"),
        (
            FailureKind.NO_PROGRESS,
            None,
            (SOURCE, {0: Bounds(0, 2)}),
            DataConflict,
            "partition 0 ended at offset 5 or later and ends at 2 now: the topic was replaced or truncated",
        ),
        (FailureKind.TOPIC_GONE, None, REPLACED, DataConflict, "from topic id topic-1, but the broker now offers"),
        (
            FailureKind.OFFSET_GONE,
            None,
            (SOURCE, {0: Bounds(0, 5)}),
            DataConflict,
            r"messages were deleted while they were read \(retention; partition 0, offset 3\)",
        ),
        (
            FailureKind.NO_PROGRESS,
            None,
            (SOURCE, {0: Bounds(0, 5)}),
            BrokerError,
            r"the topic could not be read \(no progress: partition 0, offset 3\)",
        ),
    ],
    ids=["broker gone", "topic gone", "retention", "truncated", "replaced", "offset gone", "none of these"],
)
def test_a_task_that_could_not_read_is_explained_by_what_the_broker_says_afterwards(
    going_on: Bench,
    failure: FailureKind,
    unusable: BrokerError | None,
    then: Answer | BrokerError,
    kind: type[Exception],
    said: str,
) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 5))
    going_on.topic.afterwards = [then]
    going_on.topic.unusable = [None, unusable]
    going_on.tasks.work = report(failure)
    with pytest.raises(kind, match=said):
        going_on.run()
    assert (going_on.topic.checks, going_on.tasks.stopped) == (2, 1)
    assert going_on.files() == before
    assert going_on.staged() == []


@pytest.mark.parametrize("kind", [FailureKind.LOGIN_REFUSED, FailureKind.ACCESS_REFUSED])
def test_a_task_whose_login_was_refused_says_which_settings_to_check(going_on: Bench, kind: FailureKind) -> None:
    going_on.topic.holds((0, 5))
    going_on.tasks.work = report(kind)
    with pytest.raises(
        BrokerError, match=rf"\({kind}: partition 0, offset 3\); check KAFKA_SASL_USERNAME, its password"
    ):
        going_on.run()


def test_an_unexpected_error_of_a_task_is_raised_unchanged(going_on: Bench) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 5))
    going_on.tasks.work = fail
    with pytest.raises(RuntimeError) as caught:
        going_on.run()
    assert caught.value is CRASH
    assert going_on.files() == before


@pytest.mark.parametrize(
    ("then", "said"),
    [((SOURCE, {0: Bounds(3, 5)}), "3 messages were deleted unread"), (REPLACED, "from topic id topic-1")],
    ids=["retention", "replaced"],
)
def test_a_failure_of_the_first_batch_is_explained_too(bench: Bench, then: Answer, said: str) -> None:
    bench.topic.holds((0, 5))
    bench.topic.afterwards = [then]
    bench.tasks.work = report(FailureKind.OFFSET_GONE)
    with pytest.raises(DataConflict, match=said):
        bench.run()
    assert not (bench.root / "_manifest.json").exists()


def test_messages_deleted_while_they_are_read_are_an_error_even_with_accept_gap(going_on: Bench) -> None:
    going_on.topic.holds((0, 6))
    going_on.topic.holds((5, 6))
    going_on.topic.afterwards = [(SOURCE, {0: Bounds(5, 6)})]
    going_on.tasks.work = report(FailureKind.OFFSET_GONE)
    with pytest.raises(DataConflict, match="2 messages were deleted unread"):
        going_on.run(accept_gap=True)
    going_on.tasks.work = read_all
    going_on.run(accept_gap=True)
    assert going_on.manifest().gaps == [Gap(0, 3, 5, 2)]


@pytest.mark.parametrize(
    ("then", "kind", "said"),
    [
        (REPLACED, DataConflict, "from topic id topic-1, but the broker now offers topic-2"),
        ((SOURCE, {0: Bounds(0, 4)}), DataConflict, "ended at offset 5 or later and ends at 4 now"),
        (GONE, BrokerError, "the broker does not answer"),
    ],
    ids=["replaced", "truncated", "gone"],
)
def test_nothing_is_committed_if_the_topic_was_replaced_or_cannot_be_asked_after_the_reading(
    going_on: Bench, then: Answer | BrokerError, kind: type[Exception], said: str
) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 5))
    going_on.topic.afterwards = [then]
    with pytest.raises(kind, match=said):
        going_on.run()
    assert going_on.files() == before


def test_messages_deleted_after_they_were_read_do_not_stop_the_batch(going_on: Bench) -> None:
    going_on.topic.holds((0, 5))
    going_on.topic.afterwards = [(SOURCE, {0: Bounds(5, 7)})]
    going_on.run()
    assert going_on.manifest().partitions == {0: Partition(0, 5, tickets=5)}


def test_when_the_jvm_ends_a_warning_says_so_and_the_batch_is_read_again(
    going_on: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def die_once(*arguments: object) -> list[Receipt]:
        going_on.tasks.work = read_all
        raise TasksLost("Spark's JVM ended in the middle of a batch (code -9)")

    going_on.topic.holds((0, 5))
    going_on.tasks.work = die_once
    going_on.run()
    assert "Spark's JVM ended in the middle of a batch (code -9); starting a new one" in caplog.text
    assert going_on.manifest().partitions == {0: Partition(0, 5, tickets=5)}
    assert going_on.staged() == []


def test_a_jvm_that_ends_three_times_in_a_row_ends_the_run(going_on: Bench) -> None:
    def die(*arguments: object) -> list[Receipt]:
        raise TasksLost("Spark's JVM ended")

    going_on.topic.holds((0, 5))
    going_on.tasks.work = die
    with pytest.raises(PipelineError, match=r"Spark's JVM ended; that was 3 times in a row: is there enough memory\?"):
        going_on.run(interval_s=10)
    assert len(going_on.tasks.ran) == 3


def test_a_stop_while_failed_tasks_are_explained_ends_well(going_on: Bench) -> None:
    def ask_and_fail(*arguments: object) -> list[Receipt]:
        going_on.time.ask()
        return [Receipt(failure=Failure(FailureKind.NO_PROGRESS, "partition 0"))]

    going_on.topic.holds((0, 5))
    going_on.topic.afterwards = [GONE]
    going_on.tasks.work = ask_and_fail
    going_on.run()
    assert going_on.tasks.ran == [[OffsetRange(0, 3, 5)]]


def test_a_stop_while_the_broker_is_gone_ends_well(bench: Bench) -> None:
    class Ask(list[Answer | BrokerError]):
        def __getitem__(self, place: object) -> Answer | BrokerError:  # type: ignore[override]
            bench.time.ask()
            return GONE

    bench.topic.answers = Ask([GONE])
    bench.run()
    assert bench.tasks.stopped == 1


def test_a_gap_that_is_refused_is_refused_before_a_conversion(going_on: Bench) -> None:
    before = going_on.files()
    going_on.topic.holds((4, 9))
    with pytest.raises(DataConflict, match="1 messages were deleted unread"):
        going_on.run(output_format="json")
    assert going_on.files() == before


def test_attempts_that_fail_leave_nothing_in_staging(going_on: Bench) -> None:
    def write_and_fail(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        return [*read_all(ranges, staging, progress), Receipt(failure=Failure(FailureKind.NO_PROGRESS, ""))]

    going_on.topic.holds((0, 5))
    going_on.topic.unusable = [None, GONE]
    going_on.tasks.work = write_and_fail
    going_on.time.stop_at = 12
    going_on.run(interval_s=10)
    assert len(going_on.tasks.ran) == 3
    assert going_on.staged() == []


def test_a_task_that_cannot_write_is_an_output_that_cannot_be_used(going_on: Bench) -> None:
    before = going_on.files()
    going_on.topic.holds((0, 5))
    full = "cannot write /staging/file: No space left on device; free space there, then start again"
    going_on.tasks.work = lambda *arguments: [*read_all(*arguments), Receipt(failure=Failure(FailureKind.DISK, full))]
    with pytest.raises(OutputUnavailable, match=f"^{full}$"):
        going_on.run()
    assert going_on.staged() == []
    assert going_on.files() == before


def test_a_stop_while_the_tasks_run_abandons_the_batch(going_on: Bench, caplog: pytest.LogCaptureFixture) -> None:
    before = going_on.files()

    def cancelled(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        read_all(ranges, staging, progress)
        assert len(going_on.staged()) == 1
        going_on.time.ask()
        raise RuntimeError("the job was cancelled")

    going_on.topic.holds((0, 5))
    going_on.tasks.work = cancelled
    with caplog.at_level(logging.INFO):
        going_on.run()
    assert going_on.files() == before
    assert going_on.staged() == []
    assert (going_on.topic.checks, going_on.topic.looks, going_on.tasks.stopped) == (1, 1, 1)
    assert "stopped in the middle of a batch" in caplog.text


def test_a_stop_that_comes_too_late_for_a_batch_lets_it_be_published_and_no_other_one_begin(bench: Bench) -> None:
    def read_and_ask(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.time.ask()
        return read_all(ranges, staging, progress)

    bench.topic.holds((0, 5))
    bench.tasks.work = read_and_ask
    bench.run(max_messages=2)
    assert bench.manifest().partitions == {0: Partition(0, 2, tickets=2)}
    assert bench.tasks.ran == [[OffsetRange(0, 0, 2)]]


def test_a_stop_before_the_first_look_leaves_nothing(bench: Bench) -> None:
    bench.time.ask()
    bench.run()
    assert (bench.topic.looks, bench.tasks.stopped) == (0, 1)
    assert not (bench.root / "_manifest.json").exists()


@pytest.mark.parametrize(("interval_s", "pause"), [(2.0, 2.0), (30.0, 5.0)])
def test_a_service_retries_when_the_broker_is_gone_without_a_heartbeat(
    bench: Bench, interval_s: float, pause: float
) -> None:
    beats: list[bool] = []
    bench.topic.answers = [GONE, GONE]
    bench.topic.holds((0, 3))
    bench.time.while_waiting = [lambda: beats.append(bench.beat.exists())] * 3
    bench.time.stop_at = 2 * pause + interval_s
    bench.run(interval_s=interval_s)
    assert bench.time.waits == [pause, pause, interval_s]
    assert beats == [False, False, True]
    assert bench.manifest().partitions == {0: Partition(0, 3, tickets=3)}
    assert bench.states() == ["waiting for broker", "reading", "publishing", "idle", "stopped"]


def test_a_service_outlives_a_broker_that_goes_while_the_tasks_run(bench: Bench) -> None:
    def fail_once(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.tasks.work = read_all
        return [Receipt(failure=Failure(FailureKind.NO_PROGRESS, "partition 0"))]

    bench.topic.holds((0, 3))
    bench.topic.unusable = [None, GONE]
    bench.tasks.work = fail_once
    bench.time.stop_at = 15
    bench.run(interval_s=10)
    assert bench.time.waits == [5.0, 10.0]
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3)], [OffsetRange(0, 0, 3)]]
    assert bench.manifest().partitions == {0: Partition(0, 3, tickets=3)}
    assert bench.states() == [
        "waiting for broker",
        "reading",
        "waiting for broker",
        "reading",
        "publishing",
        "idle",
        "stopped",
    ]
    assert bench.staged() == []


def test_a_single_run_ends_when_the_broker_is_gone(bench: Bench) -> None:
    bench.topic.answers = [GONE]
    with pytest.raises(BrokerError) as caught:
        bench.run()
    assert caught.value is GONE
    assert bench.time.waits == []
    assert not bench.beat.exists()


def test_a_service_that_never_reached_the_broker_ends(bench: Bench) -> None:
    bench.topic.unusable = [GONE]
    with pytest.raises(BrokerError) as caught:
        bench.run(interval_s=10)
    assert caught.value is GONE
    assert bench.topic.looks == 0


@pytest.mark.parametrize(("used", "rest"), [(0.0, 10.0), (4.0, 6.0), (12.0, 0.0)])
def test_after_a_batch_a_service_waits_for_the_rest_of_the_interval(bench: Bench, used: float, rest: float) -> None:
    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.time.passed += used
        return read_all(ranges, staging, progress)

    due: list[float] = []
    bench.topic.holds((0, 3))
    bench.tasks.work = work
    bench.time.while_waiting = [lambda: due.append(bench.beat.stat().st_mtime - time.time())]
    bench.time.stop_at = 0
    bench.run(interval_s=10)
    assert bench.time.waits == [rest]
    # The pause is planned, so the heartbeat's age counts from its end.
    assert due == [pytest.approx(rest, abs=2)]


def test_a_service_publishes_what_came_while_it_rested(bench: Bench) -> None:
    bench.topic.holds((0, 3))
    bench.topic.holds((0, 3))
    bench.topic.holds((0, 4), (0, 2))
    bench.time.stop_at = 30
    bench.run(interval_s=10)
    assert bench.time.waits == [10.0, 10.0, 10.0]
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3)], [OffsetRange(0, 3, 4), OffsetRange(1, 0, 2)]]
    assert bench.manifest().batch_id == 2
    assert bench.manifest().partitions == {0: Partition(0, 4, tickets=4), 1: Partition(0, 2, tickets=2)}
    Published(bench.root).require_agreement()


def broken_broker(bench: Bench) -> None:
    bench.topic.unusable = [GONE]


def broken_look(bench: Bench) -> None:
    bench.topic.answers = [GONE]


def broken_task(bench: Bench) -> None:
    bench.tasks.work = fail


def broken_ledger(bench: Bench) -> None:
    bench.root.mkdir()
    (bench.root / "_manifest.json").write_text("{")


def broken_folder(bench: Bench) -> None:
    bench.root.touch()


def nothing_broken(bench: Bench) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "kind", "status"),
    [
        (nothing_broken, None, "stopped"),
        (broken_broker, BrokerError, "stopped"),
        (broken_look, BrokerError, "stopped"),
        (broken_task, RuntimeError, "stopped"),
        (broken_ledger, DataConflict, None),
        (broken_folder, OutputUnavailable, None),
    ],
)
def test_however_a_run_ends_its_tasks_are_stopped_once_and_the_lock_is_free(
    bench: Bench, spoil: Callable[[Bench], None], kind: type[Exception] | None, status: str | None
) -> None:
    bench.topic.holds((0, 3))
    spoil(bench)
    if kind is None:
        bench.run()
    else:
        with pytest.raises(kind):
            bench.run()
    assert bench.tasks.stopped == 1
    assert (bench.states()[-1] if bench.states() else None) == status
    if bench.root.is_dir():
        with Output(OutputLocation(bench.root)).locked():
            pass


def test_the_status_tells_what_is_done_how_far_it_is_and_where_the_topic_ends(bench: Bench) -> None:
    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.time.passed += 1
        progress(2)
        return read_all(ranges, staging, progress)

    bench.topic.holds((0, 3), (7, 9))
    bench.tasks.work = work
    bench.time.stop_at = 10
    bench.run(interval_s=10, max_messages=4)
    told = [(s["state"], s["since"], s["updated_at"], s["progress"]) for s in bench.disk.told]
    eleven, one, two, ten = (f"2026-01-31T11:00:{second:02d}Z" for second in (0, 1, 2, 10))
    assert told == [
        ("waiting for broker", eleven, eleven, None),
        ("reading", eleven, eleven, {"batch_id": 1, "messages": 0, "of": 4}),
        ("reading", eleven, one, {"batch_id": 1, "messages": 2, "of": 4}),
        ("publishing", one, one, {"batch_id": 1, "messages": 4, "of": 4}),
        ("reading", one, one, {"batch_id": 2, "messages": 0, "of": 1}),
        ("reading", one, two, {"batch_id": 2, "messages": 2, "of": 1}),
        ("publishing", two, two, {"batch_id": 2, "messages": 1, "of": 1}),
        ("idle", two, two, None),
        ("stopped", ten, ten, None),
    ]
    assert [s["end_offsets"] for s in bench.disk.told] == [{}] + 8 * [{"0": 3, "1": 9}]
    assert {s["interval_s"] for s in bench.disk.told} == {10.0}
    assert bench.status() == bench.disk.told[-1]


def test_a_long_batch_counts_each_finished_task_as_progress(bench: Bench) -> None:
    beats: list[bool] = []

    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        beats.append(bench.beat.exists())
        progress(2)
        beats.append(bench.beat.exists())
        return read_all(ranges, staging, progress)

    bench.topic.holds((0, 3))
    bench.tasks.work = work
    bench.run()
    assert beats == [False, True]


def test_a_long_batch_shows_its_finished_ranges(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.time.passed += 0.01
        progress(100)
        bench.time.passed += 9.99
        progress(200)
        return read_all(ranges, staging, progress)

    caplog.set_level(logging.INFO)
    bench.topic.holds((0, 300))
    bench.tasks.work = work
    bench.run(max_messages=1_000)
    told = [line for line in caplog.messages if " of " in line]
    assert told == ["batch 1: 200 of 300 messages (66 %), 20/s, about 5 s left"]


def test_an_idle_service_knows_where_the_topic_ends(going_on: Bench) -> None:
    going_on.topic.holds((0, 3))
    going_on.time.stop_at = 10
    going_on.run(interval_s=10)
    assert going_on.states() == ["waiting for broker", "idle", "stopped"]
    assert going_on.status()["end_offsets"] == {"0": 3}


def test_a_status_that_cannot_be_written_stops_nothing(bench: Bench) -> None:
    (bench.root / "_status.json").mkdir(parents=True)
    bench.topic.holds((0, 3))
    bench.run()
    assert bench.manifest().partitions == {0: Partition(0, 3, tickets=3)}


def remove(bench: Bench) -> None:
    shutil.rmtree(bench.root)


def remove_and_make_anew(bench: Bench) -> None:
    shutil.rmtree(bench.root)
    (bench.root / ".pipeline").mkdir(parents=True)
    (bench.root / ".pipeline" / "lock").touch()


def remove_the_state(bench: Bench) -> None:
    shutil.rmtree(bench.root / ".pipeline")


def move_away(bench: Bench) -> None:
    bench.root.rename(bench.root.with_name("elsewhere"))


@pytest.mark.parametrize("harm", [remove, remove_and_make_anew, remove_the_state, move_away])
def test_an_output_that_is_removed_under_a_running_service_ends_it_and_nothing_more_is_written(
    bench: Bench, harm: Callable[[Bench], None]
) -> None:
    left: list[set[Path]] = []

    def spoil() -> None:
        harm(bench)
        left.append(set(bench.root.rglob("*")))

    bench.topic.holds((0, 3))
    bench.topic.holds((0, 5))
    bench.time.while_waiting = [spoil]
    with pytest.raises(OutputUnavailable, match=rf"{bench.root}(/\.pipeline)? was removed (or exchanged )?while this"):
        bench.run(interval_s=10)
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3)]]
    assert set(bench.root.rglob("*")) - left[0] == set()


def test_an_output_that_is_removed_under_an_idle_service_ends_it_at_its_next_look(bench: Bench) -> None:
    bench.topic.holds((0, 3))
    bench.time.while_waiting = [lambda: remove(bench)]
    with pytest.raises(OutputUnavailable) as caught:
        bench.run(interval_s=10)
    assert str(caught.value) == (
        f"{bench.root} was removed while this processor worked on it; start again: a new output is filled from what "
        "the topic still holds; if its file system was only unmounted, mount it first"
    )
    assert bench.time.waits == [10.0]
    assert not bench.root.exists()


@pytest.mark.parametrize("harm", [remove, remove_the_state])
def test_an_output_that_is_removed_while_the_tasks_run_is_told_apart_from_a_full_disk(
    bench: Bench, harm: Callable[[Bench], None]
) -> None:
    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        harm(bench)
        (receipt,) = read_all(ranges, staging, progress)
        assert receipt.failure is not None
        assert "No such file or directory" in receipt.failure.detail
        return [receipt]

    bench.topic.holds((0, 3))
    bench.tasks.work = work
    with pytest.raises(OutputUnavailable, match=r"was removed (or exchanged )?while this processor worked on"):
        bench.run()
    assert not (bench.root / ".pipeline").exists()


@pytest.mark.parametrize("harm", ["an older one", "of another output", "none"])
def test_a_ledger_that_is_replaced_under_a_running_service_ends_it(bench: Bench, published: Path, harm: str) -> None:
    ledger = bench.root / "_manifest.json"
    kept: list[bytes] = []

    def keep() -> None:
        kept.append(ledger.read_bytes())

    def replace() -> None:
        if harm == "none":
            ledger.unlink()
        else:
            ledger.write_bytes(kept[0] if harm == "an older one" else (published / "_manifest.json").read_bytes())
        kept.append(b"" if harm == "none" else ledger.read_bytes())

    for end in (3, 4, 5):
        bench.topic.holds((0, end))
    bench.time.while_waiting = [keep, replace]
    with pytest.raises(DataConflict, match=rf"{ledger} was replaced while this processor worked on {bench.root}"):
        bench.run(interval_s=10)
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3)], [OffsetRange(0, 3, 4)]]
    assert (ledger.read_bytes() if ledger.exists() else b"") == kept[-1]
    assert not (bench.root / ".pipeline" / "commit.json").exists()
    assert len(list((bench.root / "tickets_with_assignment").iterdir())) == 2


def test_hours_altered_under_a_running_service_are_refused_at_the_next_batch(bench: Bench) -> None:
    hours = bench.root / "tickets_by_hour" / "tickets_by_hour.parquet"
    bench.topic.holds((0, 3))
    bench.topic.holds((0, 5))
    bench.time.while_waiting = [lambda: hours.write_bytes(hours.read_bytes()[:-1] + b"x")]
    with pytest.raises(DataConflict, match=rf"{hours} is not the file that was published: its checksum differs"):
        bench.run(interval_s=10)
    assert bench.manifest().next_offsets == {0: 3}


def test_a_second_processor_is_refused_before_it_asks_for_the_topic(going_on: Bench) -> None:
    before = going_on.files() | {"_status.json": (going_on.root / "_status.json").read_bytes()}
    with (
        Output(OutputLocation(going_on.root)).locked(),
        pytest.raises(OutputUnavailable, match=f"another processor is writing {going_on.root}"),
    ):
        going_on.run()
    assert (going_on.topic.checks, going_on.topic.looks, going_on.tasks.ran, going_on.tasks.stopped) == (0, 0, [], 1)
    assert going_on.files() | {"_status.json": (going_on.root / "_status.json").read_bytes()} == before


# A broker that reports no topic id

NAMELESS = msgspec.structs.replace(SOURCE, topic_id=None)
ANOTHER_MESSAGE = (
    "partition 0 holds another message at offset 2 than the one that was read: the topic was replaced; choose another "
    "--output-path for the new topic"
)


@pytest.fixture
def nameless(bench: Bench) -> Bench:
    """Return an output of three tickets from the partition 0 of a topic without an id."""
    bench.tasks.work = read_all_and_tell_the_last
    bench.topic.messages = {0: record_at(2)}
    bench.topic.holds((0, 3), source=NAMELESS)
    bench.run()
    bench.topic.answers.clear()
    return bench


def test_the_last_message_is_kept_and_compared_where_there_is_no_topic_id(nameless: Bench) -> None:
    assert nameless.manifest().partitions[0].last_record == record_at(2)
    nameless.topic.holds((0, 3), source=NAMELESS)
    nameless.run()
    # The records are compared before the first commit and at the start of the second run.
    assert nameless.topic.asked_for == [{0: 2}, {0: 2}]


def test_another_message_at_the_last_offset_is_another_topic(nameless: Bench) -> None:
    before = nameless.files()
    nameless.topic.messages = {0: record_at(2, "another")}
    nameless.topic.holds((0, 9), source=NAMELESS)
    with pytest.raises(DataConflict) as refused:
        nameless.run()
    assert str(refused.value) == ANOTHER_MESSAGE
    assert nameless.files() == before


def test_a_topic_without_an_id_that_is_replaced_while_it_is_read_is_not_committed(bench: Bench) -> None:
    bench.tasks.work = read_all_and_tell_the_last
    bench.topic.messages = {0: record_at(2, "another")}
    bench.topic.holds((0, 3), source=NAMELESS)
    with pytest.raises(DataConflict) as refused:
        bench.run()
    assert str(refused.value) == ANOTHER_MESSAGE
    assert read_manifest(Disk(), bench.root) is None


def test_a_last_message_that_was_deleted_or_compacted_away_proves_nothing(nameless: Bench) -> None:
    nameless.topic.messages = {}
    nameless.topic.holds((0, 3), source=NAMELESS)
    nameless.run()
    nameless.topic.answers.clear()
    nameless.topic.holds((3, 3), source=NAMELESS)
    nameless.run()
    assert nameless.topic.asked_for == [{0: 2}, {0: 2}]


def test_a_topic_with_an_id_is_not_asked_for_its_last_messages(bench: Bench) -> None:
    bench.tasks.work = read_all_and_tell_the_last
    bench.topic.holds((0, 3))
    bench.run()
    assert bench.manifest().partitions[0].last_record is None
    assert bench.topic.asked_for == []


def names(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.root / "tickets_with_assignment").iterdir())


def swapped_out(bench: Bench) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[1] for path in bench.root.glob(".pipeline/replaced/*"))


def test_when_small_files_are_too_many_they_are_merged_after_the_batch_and_the_pause_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.topic.holds((0, 10))
    with caplog.at_level(logging.INFO):
        bench.run(max_messages=2, compact_files=3)
    # Batches of two tickets: the first four became one file, and one came after.
    assert names(bench) == ["batch-000001-0000-to-000004-000005.parquet", "batch-000005-0000.parquet"]
    assert "merged 4 files of tickets_with_assignment in 0.0 s" in caplog.text
    assert bench.states().count("compacting") == 1
    assert bench.manifest().totals.tickets == 10
    assert swapped_out(bench) == ["tickets_with_assignment"]
    Published(bench.root).require_agreement()


def test_with_a_limit_of_0_nothing_is_merged(bench: Bench) -> None:
    bench.topic.holds((0, 10))
    bench.run(max_messages=1, compact_files=0)
    assert len(names(bench)) == 10


def test_small_files_are_merged_even_if_nothing_new_comes(bench: Bench) -> None:
    bench.topic.holds((0, 10))
    bench.run(max_messages=1, compact_files=0)
    bench.run(compact_files=3)
    assert names(bench) == ["batch-000001-0000-to-000010-000011.parquet"]
    Published(bench.root).require_agreement()


def test_a_service_removes_replaced_folders_after_ten_minutes_also_while_it_waits(bench: Bench) -> None:
    bench.topic.holds((0, 4))
    seen: list[tuple[float, int]] = []

    def look() -> None:
        seen.append((bench.time.passed, len(swapped_out(bench))))

    bench.time.while_waiting = [look] * 4
    bench.time.stop_at = 2000
    bench.run(interval_s=1000, max_messages=1, compact_files=3)
    assert seen == [(0, 1), (600, 0), (1000, 0)]
    assert bench.time.waits == [600, 400, 1000]
    assert not (bench.root / ".pipeline/replaced").exists()


def test_the_next_run_removes_replaced_folders_after_ten_minutes(bench: Bench) -> None:
    bench.topic.holds((0, 4))
    bench.run(max_messages=1, compact_files=3)
    bench.time.passed += 599
    bench.run(compact_files=3)
    assert swapped_out(bench) == ["tickets_with_assignment"]
    bench.time.passed += 1
    bench.run(compact_files=3)
    assert swapped_out(bench) == []


def test_where_folders_cannot_be_exchanged_nothing_is_merged_and_one_warning_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: Path, other: Path) -> None:
        raise OSError(22, "Invalid argument", str(one))

    monkeypatch.setattr(bench.disk, "exchange", refuse)
    bench.topic.holds((0, 10))
    with caplog.at_level(logging.WARNING):
        bench.run(max_messages=1, compact_files=3)
    assert len(names(bench)) == 10
    assert caplog.text.count("small files are not merged, because folders cannot be exchanged as a whole") == 1
    assert "stop the processor and all readers now and then, and run it with --compact --readers-stopped" in caplog.text
    Published(bench.root).require_agreement()


def test_a_stop_in_the_middle_of_a_merge_leaves_the_files_as_they_were(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(path: Path) -> None:
        if path.name.startswith("tickets_with_assignment-merged"):
            bench.time.ask()

    bench.disk.on_create = stop
    bench.topic.holds((0, 10))
    with caplog.at_level(logging.INFO):
        bench.run(max_messages=2, compact_files=3)
    assert len(names(bench)) == 4
    assert "stopped in the middle of a compaction: nothing of it was published" in caplog.text
    assert not (bench.root / ".pipeline/staging").exists()
    assert bench.manifest().kind == "batch"
    Published(bench.root).require_agreement()


HALF_PAST_NINE = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
TEN = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
MS_HALF_PAST_NINE, MS_TEN = 1_769_851_800_000, 1_769_853_600_000


def between_half_past_nine_and_ten(bench: Bench, **more: Any) -> None:
    """Read offsets 4 to 6 of partition 0, which holds 0 to 9, and none of partition 1, which ends before that."""
    bench.topic.times = {MS_HALF_PAST_NINE: {0: 4}, MS_TEN: {0: 7}}
    bench.run(start=HALF_PAST_NINE, until=TEN, **more)


def test_which_part_of_the_topic_is_read_is_committed_before_anything_is(bench: Bench) -> None:
    bench.topic.holds((0, 10))
    bench.topic.times = {MS_TEN: {0: 4}}
    bench.tasks.work = fail
    with pytest.raises(RuntimeError):
        bench.run(start=TEN)
    begun = bench.manifest()
    assert (begun.batch_id, begun.window) == (1, Window("2026-01-31T10:00:00Z"))
    assert begun.partitions == {0: Partition(4, 4)}
    # What the same time means now would leave something out.
    bench.topic.times = {MS_TEN: {0: 8}}
    bench.tasks.work = read_all
    bench.run(start=TEN)
    assert bench.manifest().partitions == {0: Partition(4, 10, tickets=6)}
    assert bench.manifest().window == begun.window
    Published(bench.root).require_agreement()


def test_latest_is_the_end_at_the_first_start_and_new_partitions_are_read_whole(bench: Bench) -> None:
    bench.topic.holds((0, 10))
    bench.run(start="latest")
    assert bench.tasks.ran == []
    bench.topic.answers = []
    bench.topic.holds((0, 14), (0, 2))
    bench.run(start="latest")
    assert bench.tasks.ran == [[OffsetRange(0, 10, 14), OffsetRange(1, 0, 2)]]
    assert bench.manifest().window == Window("latest")


def test_an_explicit_earliest_is_the_whole_topic(bench: Bench) -> None:
    bench.topic.holds((2, 5))
    bench.run(start="earliest")
    assert (bench.manifest().window, bench.manifest().batch_id) == (None, 1)
    assert bench.manifest().partitions == {0: Partition(2, 5, tickets=3)}


def test_a_part_of_the_topic_is_read_and_its_end_needs_no_broker(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.topic.holds((0, 10), (0, 3))
    with caplog.at_level(logging.INFO):
        between_half_past_nine_and_ten(bench, max_messages=2)
    assert bench.tasks.ran == [[OffsetRange(0, 4, 6)], [OffsetRange(0, 6, 7)]]
    published = bench.manifest()
    assert published.partitions == {0: Partition(4, 7, tickets=3), 1: Partition(3, 3)}
    assert published.window == Window("2026-01-31T09:30:00Z", "2026-01-31T10:00:00Z", {0: 7, 1: 3})
    part = "topic client_tickets from 2026-01-31T09:30:00Z until 2026-01-31T10:00:00Z"
    assert f"topic client_tickets is read {part.removeprefix('topic client_tickets ')}: 3 offsets" in caplog.text
    assert caplog.messages[-1] == f"done: {part} is published"
    Published(bench.root).require_agreement()

    bench.topic.answers = [GONE]
    looks, checks, launched = bench.topic.looks, bench.topic.checks, bench.tasks.launched
    between_half_past_nine_and_ten(bench)
    bench.run()
    assert (bench.topic.looks, bench.topic.checks, bench.tasks.launched) == (looks, checks, launched)
    assert bench.manifest() == published
    # What needs no topic is still done.
    between_half_past_nine_and_ten(bench, output_format="json")
    assert (bench.manifest().format, bench.manifest().window) == ("json", published.window)


def test_a_service_stays_healthy_and_is_done_after_the_end_of_its_window(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, bool, int]] = []

    def look() -> None:
        told.append((bench.status()["state"], bench.beat.exists(), bench.tasks.stopped))
        bench.beat.unlink()
        bench.topic.answers = [GONE]

    bench.topic.holds((0, 10), (0, 3))
    bench.time.while_waiting = [look] * 3
    bench.time.stop_at = 30
    with caplog.at_level(logging.INFO):
        between_half_past_nine_and_ten(bench, interval_s=10)
    # Spark is ended, since there is nothing left for it to do.
    assert told == [("done", True, 1), ("done", True, 2), ("done", True, 3)]
    assert bench.status()["end_offsets"] == {"0": 7, "1": 3}
    assert sum(message.startswith("done: ") for message in caplog.messages) == 1
    # Nothing is missing, so no alert may call the output out of date.
    assert bench.recorder.calls[-2:] == [("lag", {0: (7, 7), 1: (3, 3)}), ("succeeded", "11:00:20")]


def test_retention_after_the_end_of_the_window_and_new_partitions_change_nothing(bench: Bench) -> None:
    bench.topic.holds((0, 10), (0, 3))
    bench.topic.times = {MS_TEN: {0: 7, 1: 2}}
    bench.tasks.work = fail
    with pytest.raises(RuntimeError):
        bench.run(until=TEN)
    assert bench.manifest().window == Window("earliest", "2026-01-31T10:00:00Z", {0: 7, 1: 2})
    bench.tasks.work, bench.topic.answers, bench.topic.tasks_ran = read_all, [], False
    # Retention has deleted a part of what partition 0 was to give, and all that partition 1 was.
    bench.topic.holds((5, 50), (40, 60), (0, 9))
    with pytest.raises(DataConflict, match=r"partition 0 begins at offset 5, but 0 is the next to be read"):
        bench.run(until=TEN)
    bench.run(until=TEN, accept_gap=True)
    assert bench.tasks.ran[1:] == [[OffsetRange(0, 5, 7)]]
    assert bench.manifest().partitions == {0: Partition(0, 7, tickets=2, gaps=5), 1: Partition(0, 2, gaps=2)}
    assert bench.manifest().gaps == [Gap(0, 0, 5, 2), Gap(1, 0, 2, 2)]
    assert bench.manifest().is_complete


def test_a_deletion_after_the_end_of_the_window_does_not_explain_a_failed_task(bench: Bench) -> None:
    bench.topic.holds((0, 10), (0, 10))
    bench.topic.times = {MS_TEN: {0: 0, 1: 8}}
    bench.topic.afterwards = [(SOURCE, {0: Bounds(5, 20), 1: Bounds(3, 10)})]
    bench.tasks.work = report(FailureKind.OFFSET_GONE)
    with pytest.raises(DataConflict, match="partition 1 begins at offset 3, but 0 is the next to be read"):
        bench.run(until=TEN)


def test_a_transaction_that_is_open_at_the_first_start_is_waited_for(bench: Bench) -> None:
    bench.topic.holds((0, 3))
    bench.topic.times, bench.topic.unstable = {MS_TEN: {}}, 2
    bench.run(until=TEN)
    assert bench.manifest().window == Window("earliest", "2026-01-31T10:00:00Z", {0: 5})
    assert not bench.manifest().is_complete
    bench.topic.answers = []
    bench.topic.holds((0, 9))
    bench.run(until=TEN)
    assert bench.tasks.ran == [[OffsetRange(0, 0, 3)], [OffsetRange(0, 3, 5)]]
    assert bench.manifest().is_complete


def test_another_topic_is_refused_also_when_nothing_more_is_to_be_read(bench: Bench) -> None:
    bench.topic.holds((0, 10), (0, 3))
    between_half_past_nine_and_ten(bench)
    with pytest.raises(DataConflict, match="was written from topic client_tickets, but the broker now offers other"):
        between_half_past_nine_and_ten(bench, topic="other")


def test_another_part_of_the_topic_is_refused_and_nothing_is_changed(going_on: Bench) -> None:
    before = going_on.files()
    with pytest.raises(
        SettingError, match=r"--from asks for latest, but the output in .* begins at earliest: that was"
    ):
        going_on.run(start="latest")
    with pytest.raises(SettingError, match=r"--until asks for 2026-01-31T10:00:00Z, but .* has no end: that was"):
        going_on.run(until=TEN)
    assert going_on.files() == before
    assert (going_on.topic.checks, going_on.tasks.launched) == (0, 0)


def test_a_topic_that_is_replaced_while_times_are_looked_up_begins_no_output(bench: Bench) -> None:
    bench.topic.holds((0, 10))
    bench.topic.holds((0, 10), source=Source("client_tickets", "cluster-1", "topic-2"))
    bench.topic.times = {MS_TEN: {0: 4}}
    with pytest.raises(DataConflict, match="from topic id topic-1, but the broker now offers topic-2"):
        bench.run(start=TEN)
    assert read_manifest(Disk(), bench.root) is None


def test_a_batch_is_recorded_with_where_the_partitions_stand_before_and_after_it(bench: Bench) -> None:
    def work(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        bench.time.passed += 4
        return read_all(ranges, staging, progress)

    bench.topic.holds((0, 3), (7, 7))
    # What came while the batch was read is seen by the look before its commit.
    bench.topic.afterwards = [(SOURCE, {0: Bounds(0, 5), 1: Bounds(7, 7)})]
    bench.tasks.work = work
    bench.run()
    assert bench.recorder.calls == [
        ("lag", {0: (0, 3), 1: (7, 7)}),
        ("published", 3, 4.0, "11:00:04"),
        ("lag", {0: (3, 5), 1: (7, 7)}),
    ]


def test_a_cycle_that_finds_nothing_new_is_recorded_as_a_success_with_a_lag_of_0(going_on: Bench) -> None:
    going_on.topic.holds((0, 3))
    going_on.time.stop_at = 20
    going_on.run(interval_s=10)
    assert going_on.recorder.calls == [
        # When the output was changed last, as its ledger says.
        ("succeeded", "11:00:00"),
        ("lag", {0: (3, 3)}),
        ("succeeded", "11:00:00"),
        ("lag", {0: (3, 3)}),
        ("succeeded", "11:00:10"),
    ]


def test_each_batch_of_a_backlog_is_recorded(bench: Bench) -> None:
    bench.topic.holds((0, 3))
    bench.run(max_messages=2)
    assert bench.recorder.calls == [
        ("lag", {0: (0, 3)}),
        ("published", 2, 0.0, "11:00:00"),
        ("lag", {0: (2, 3)}),
        ("published", 1, 0.0, "11:00:00"),
        ("lag", {0: (3, 3)}),
    ]


def test_a_batch_that_fails_is_recorded_and_the_lag_grows_meanwhile(going_on: Bench) -> None:
    def lose(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        raise TasksLost("Spark's JVM ended")

    going_on.topic.holds((0, 5))
    going_on.topic.afterwards = [(SOURCE, {0: Bounds(0, end)}) for end in (9, 11)]
    going_on.tasks.work = lose
    with pytest.raises(PipelineError):
        going_on.run()
    assert going_on.recorder.calls == [
        ("succeeded", "11:00:00"),
        ("lag", {0: (3, 5)}),
        ("failed",),
        ("lag", {0: (3, 9)}),
        ("failed",),
        ("lag", {0: (3, 11)}),
        ("failed",),
    ]


def test_a_batch_that_is_abandoned_for_a_stop_is_no_failure(going_on: Bench) -> None:
    def ask_and_fail(ranges: Sequence[OffsetRange], staging: Staging, progress: Progress) -> list[Receipt]:
        going_on.time.ask()
        raise RuntimeError("Spark was told to stop")

    going_on.topic.holds((0, 5))
    going_on.tasks.work = ask_and_fail
    going_on.run()
    assert going_on.recorder.calls == [("succeeded", "11:00:00"), ("lag", {0: (3, 5)}), ("stopped",)]


def test_a_broker_that_is_gone_is_neither_a_batch_nor_a_success(bench: Bench) -> None:
    bench.topic.answers = [GONE]
    bench.time.stop_at = 9
    bench.run(interval_s=10)
    assert bench.recorder.calls == []
