"""``--forget``: what it asks for, what it tells, and how long it stays, without a broker."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from contract.ticket import encode
from processor.config import ForgetConfig
from processor.forgetting import Forgetting
from processor.plan import Bounds
from runtime.errors import BrokerError, DataConflict, OutputUnavailable, SettingError
from runtime.settings.location import OutputLocation
from store import manifest as ledger
from store.files import Disk
from store.manifest import MANIFEST_NAME, Manifest, Record, Source, Window, read_manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import SOURCE, messages, publish_batch, ticket
from tests.support.time import Time


@dataclass
class Topic:
    """A topic of one partition that ends at ``end``, or whose broker cannot be reached."""

    end: int
    source: Source = SOURCE
    away: BrokerError | None = None
    asked: list[str] = field(default_factory=list)

    def check(self) -> None:
        self.asked.append("check")
        if self.away:
            raise self.away

    def look_up(self) -> tuple[Source, dict[int, Bounds]]:
        self.asked.append("look up")
        return self.source, {0: Bounds(0, self.end)}

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, self.end + 1)

    def offsets_at(self, timestamp: int, partitions: Iterable[int]) -> dict[int, int]:
        raise NotImplementedError

    def records(self, offsets: Mapping[int, int]) -> dict[int, Record]:
        raise NotImplementedError

    @contextmanager
    def watched(self) -> Iterator[None]:
        yield


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def output(tmp_path: Path, time: Time) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk(), time)


@pytest.fixture
def manifest(output: Output) -> Manifest:
    tickets = [encode(ticket(0, client_id="ANN")), encode(ticket(1, client_id="BOB"))]
    return publish_batch(output, None, "parquet", [[messages(tickets)]])


def forget(output: Output, topic: Topic, time: Time, readers_stopped: bool = False) -> None:
    config = ForgetConfig("b:1", "client_tickets", OutputLocation(output.root), ("ANN",), readers_stopped)
    Forgetting(config, topic, time, time, QuickDisk()).run()


def test_it_erases_logs_the_counts_and_waits_until_the_old_files_are_removed(
    output: Output, manifest: Manifest, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        forget(output, Topic(2), time)
    assert "erased 1 tickets and 0 rejected messages of 1 clients" in caplog.text
    assert "their unread messages before offset 3 of partition 0 are left out when they are read" in caplog.text
    assert "the topic holds their messages until its retention deletes them" in caplog.text
    assert "they are removed in 600 s; Ctrl-C leaves that to the processor" in caplog.text
    assert "ANN" not in caplog.text
    assert time.passed == 600
    assert not (output.state / "replaced").exists()
    after = read_manifest(Disk(), output.root)
    assert after is not None
    assert (after.kind, after.totals.tickets, after.erasures[0].below) == ("erasure", 1, {0: 3})
    assert '"state": "stopped"' in (output.root / "_status.json").read_text()
    Published(output.root).require_agreement()


def test_of_a_part_of_the_topic_only_what_is_still_to_be_read_is_left_out(
    output: Output, manifest: Manifest, time: Time
) -> None:
    """Otherwise the digest would stay for ever: nobody reads up to the end of the topic."""
    window = Window("earliest", "2026-01-31T10:00:00Z", {0: 4})
    (output.root / MANIFEST_NAME).write_bytes(ledger.encode(msgspec.structs.replace(manifest, window=window)))
    forget(output, Topic(9), time, readers_stopped=True)
    after = read_manifest(Disk(), output.root)
    assert after is not None
    assert [erasure.below for erasure in after.erasures] == [{0: 4}]
    assert after.window == window


def test_of_a_part_of_the_topic_that_is_published_the_broker_is_not_asked(
    output: Output, manifest: Manifest, time: Time
) -> None:
    """The topic may be deleted by then, and a client can still ask to be forgotten."""
    window = Window("earliest", "2026-01-31T10:00:00Z", {0: 2})
    (output.root / MANIFEST_NAME).write_bytes(ledger.encode(msgspec.structs.replace(manifest, window=window)))
    topic = Topic(9, away=BrokerError("nothing listens"))
    forget(output, topic, time, readers_stopped=True)
    assert topic.asked == []
    after = read_manifest(Disk(), output.root)
    assert after is not None
    assert (after.totals.tickets, after.erasures, after.window) == (1, [], window)


def test_with_readers_stopped_the_old_files_are_removed_at_once(output: Output, manifest: Manifest, time: Time) -> None:
    forget(output, Topic(2), time, readers_stopped=True)
    assert time.passed == 0
    assert not (output.state / "replaced").exists()


def test_the_lock_is_free_while_it_waits(output: Output, manifest: Manifest, time: Time) -> None:
    class Waiting(Time):
        def wait(self, seconds: float | None = None) -> bool:
            with Output(OutputLocation(output.root), QuickDisk(), self).locked() as other:
                assert other.recover() is not None
            return super().wait(seconds)

    waiting = Waiting()
    forget(output, Topic(2), waiting)
    assert waiting.passed == 600


def test_a_stop_while_it_waits_leaves_the_old_files_to_the_processor(
    output: Output, manifest: Manifest, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    time.stop_at = 1
    forget(output, Topic(2), time)
    assert f"the old files are still in {output.state / 'replaced'}; the processor removes them" in caplog.text
    assert len(list((output.state / "replaced").iterdir())) == 1
    later = Time()
    later.passed = 1_201
    Output(OutputLocation(output.root), QuickDisk(), later).recover()
    assert not (output.state / "replaced").exists()


def test_a_stop_before_the_commit_changes_nothing(
    output: Output, manifest: Manifest, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    time.ask()
    forget(output, Topic(2), time)
    assert "stopped before anything was erased; run it again" in caplog.text
    assert read_manifest(Disk(), output.root) == manifest


def test_nothing_is_changed_when_the_topic_cannot_be_asked_or_is_another_one(
    output: Output, manifest: Manifest, time: Time
) -> None:
    with pytest.raises(BrokerError, match="refused"):
        forget(output, Topic(2, away=BrokerError("refused")), time)
    with pytest.raises(DataConflict, match="the output was written from topic id topic-1"):
        forget(output, Topic(2, source=Source("client_tickets", "cluster-1", "another")), time)
    assert read_manifest(Disk(), output.root) == manifest


def test_while_a_processor_runs_it_is_refused(output: Output, manifest: Manifest, time: Time) -> None:
    topic = Topic(2)
    with output.locked(), pytest.raises(OutputUnavailable, match="another processor is writing"):
        forget(output, topic, time)
    assert topic.asked == []


def test_without_an_output_none_is_made(output: Output, time: Time) -> None:
    with pytest.raises(SettingError, match="there is no output in"):
        forget(output, Topic(2), time)
    assert not output.root.exists()
