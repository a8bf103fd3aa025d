"""SparkProcessor: plan a batch, run its tasks, check their receipts, publish it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NoReturn, Protocol

from contract.routing import tell_kinds
from processor import same_topic, window
from processor.batch import Batch, assemble, find_duplicates
from processor.config import ProcessorConfig
from processor.duplicates import NO_DUPLICATES, Duplicates, part, ranges_of, require_same_reading
from processor.events import (
    Done,
    DuplicatesFound,
    GapAccepted,
    Idle,
    Interrupted,
    Merged,
    Published,
    RulesChanged,
    SparkLost,
    Windowed,
)
from processor.forgotten import concerning
from processor.group import GroupOffsets
from processor.lag import Lag, lag_of, total
from processor.outcome import Failure, FailureKind, TasksLost
from processor.plan import Bounds, OffsetRange, plan_batch, starts, within
from processor.progress import ReadingProgress
from processor.receipt import Receipt, read_by_partition
from processor.recorder import Recorder, batch_of
from processor.rejections import told
from processor.same_topic import TopicLookUp
from runtime.errors import BrokerError, DataConflict, OutputUnavailable, PipelineError
from runtime.process.clock import Clock
from runtime.process.display import Display
from runtime.process.events import Retry
from runtime.process.failpoint import failpoint
from runtime.process.heartbeat import Heartbeat
from runtime.process.logs import tell
from runtime.process.shutdown import Shutdown, StopAsked
from store.clients import open_clients
from store.compact import Refused, compact, describe, plan
from store.convert import convert
from store.ids import IdSet, Run, forget_ids, ids_folder
from store.manifest import Erasure, Manifest, Source
from store.output import Output
from store.staging import Staging
from store.status import Progress, StatusFile

_log = logging.getLogger(__name__)

_RETRY_S = 5.0
# How often in a row a JVM may end before we give up: once may be chance, again and again is too little memory.
_LOST_AT_MOST = 3


class TaskRunner(Protocol):
    """Reads the messages and writes the files."""

    def launch(self) -> None:
        """Begin to start what tasks run on, and return at once."""

    def run(
        self,
        ranges: Sequence[OffsetRange],
        staging: Staging,
        progress: Callable[[int], None],
        duplicates: Duplicates | None = None,
        erasures: Sequence[Erasure] = (),
    ) -> list[Receipt]:
        """Read ``ranges``, write files into ``staging``, and return what the tasks report.

        ``duplicates`` are those known so far, which are rejected; with None, duplicates are not looked for. Messages
        that ``erasures`` concern are left out.

        Raises TasksLost when the process that runs the tasks has ended.
        """

    def stop(self) -> None:
        """End everything that was started."""


class SparkProcessor:
    """Brings the output up to the end of the topic, once or at an interval, each batch exactly once.

    ``run`` raises a PipelineError for whatever a user can mend; a batch that fails leaves the output as it was.
    """

    def __init__(
        self,
        config: ProcessorConfig,
        output: Output,
        topic: TopicLookUp,
        tasks: TaskRunner,
        shutdown: Shutdown,
        heartbeat: Heartbeat,
        clock: Clock,
        display: Display,
        group: GroupOffsets,
        recorder: Recorder,
    ) -> None:
        self._config = config
        self._output = output
        self._topic = topic
        self._tasks = tasks
        self._shutdown = shutdown
        self._heartbeat = heartbeat
        self._clock = clock
        self._display = display
        self._group = group
        self._recorder = recorder
        self._status = StatusFile(output.root, config.interval_s, output.disk, clock.now)
        self._ids = IdSet(ids_folder(output), output.disk) if config.dedupe == "all" else None
        self._manifest: Manifest | None = None
        # As of the last look at the topic, which is taken before each batch and before its commit.
        self._bounds: Mapping[int, Bounds] = {}
        self._told_of_refusal = False
        self._told_of_end = False

    def run(self) -> None:
        """Work until the topic is read to its end, or, with an interval, until asked to stop."""
        try:
            with self._output.locked():
                self._manifest = self._output.recover()
                if self._manifest is not None:
                    window.require_same(self._config, self._manifest.window)
                    self._recorder.succeeded(self._manifest.updated_at)
                try:
                    if not self._is_complete:
                        self._status.set("waiting for broker")
                        # Spark starts while the broker is asked, which saves a second.
                        self._tasks.launch()
                        self._topic.check()
                    self._repeat()
                finally:
                    self._group.close()
                    # If the output folder was replaced meanwhile, the new one is not ours to change.
                    if self._output.is_own():
                        self._output.remove_replaced()
                        self._status.set("stopped")
        finally:
            self._tasks.stop()

    def _repeat(self) -> None:
        lost = 0
        while not self._shutdown.asked:
            began = self._clock.seconds()
            self._output.remove_replaced()
            try:
                self._catch_up()
                lost = 0
            except StopAsked as stop:
                tell(_log, Interrupted(str(stop)))
            except TasksLost as error:
                lost += 1
                if lost == _LOST_AT_MOST:
                    raise PipelineError(f"{error}; that was {lost} times in a row: is there enough memory?") from None
                tell(_log, SparkLost(str(error), lost))
                continue
            except BrokerError as error:
                if self._shutdown.asked:
                    return
                # With an interval, wait until the broker is back; a single run reports the error and exits.
                if not self._config.interval_s:
                    raise
                pause = min(self._config.interval_s, _RETRY_S)
                tell(_log, Retry(str(error), pause))
                self._status.set("waiting for broker")
                # No heartbeat here: waiting for a broker or a topic is not progress.
                self._shutdown.wait(pause)
                continue
            self._tell_of_the_end()
            if not self._config.interval_s:
                return
            rest = max(0.0, began + self._config.interval_s - self._clock.seconds())
            self._heartbeat.beat(rest)
            self._status.set("done" if self._is_complete else "idle")
            self._rest(rest)

    @property
    def _is_complete(self) -> bool:
        return self._manifest is not None and self._manifest.is_complete

    def _tell_of_the_end(self) -> None:
        """Say once that everything was read. After the end of a window nothing more comes, so Spark is stopped."""
        if self._manifest is not None and self._manifest.is_complete:
            if not self._told_of_end:
                tell(_log, Done(f"done: topic {self._manifest.source.topic} {self._manifest.window} is published"))
            self._told_of_end = True
            self._tasks.stop()
        elif not self._config.interval_s and not self._shutdown.asked:
            tell(_log, Done("done; run it again for newer messages, or with --interval 30 to go on by itself"))

    def _rest(self, seconds: float) -> None:
        """Wait, and remove replaced folders as soon as readers have had their ten minutes."""
        until = self._clock.seconds() + seconds
        while True:
            left, due = max(0.0, until - self._clock.seconds()), self._output.replaced.next_s()
            # A folder that is due (0) and still there could not be removed: try again later, not at once.
            self._shutdown.wait(left if due is None else min(left, due or _RETRY_S))
            if self._shutdown.asked or self._clock.seconds() >= until:
                return
            self._output.remove_replaced()

    def _catch_up(self) -> None:
        """Publish everything that the topic holds now, in as many batches as the size limit asks for."""
        self._output.require_unchanged(self._manifest.commit_id if self._manifest else None)
        if self._manifest is not None and self._manifest.is_complete:
            # Everything was read, so the broker is not asked: the topic may be deleted by now.
            Source(self._config.topic, None, None).require_same(self._manifest.source)
            self._convert()
            self._compact()
            self._bounds = {partition: Bounds(end, end) for partition, end in self._manifest.next_offsets.items()}
            self._recorder.lag(self._lag)
            self._recorder.succeeded(self._clock.now())
            return
        # Starts Spark again if its JVM was lost; otherwise it runs already.
        self._tasks.launch()
        source, bounds = self._look_up()
        if self._manifest is None and window.is_asked_for(self._config):
            self._begin(source, bounds)
            bounds = self._wanted(bounds)
        if self._manifest is not None:
            source.require_same(self._manifest.source)
            known = {p: of.last_record for p, of in self._manifest.partitions.items() if of.last_record is not None}
            same_topic.require_records(self._topic, source, known, bounds)
        self._bounds = bounds
        self._recorder.lag(self._lag)
        ends = {partition: held.end for partition, held in bounds.items()}
        # Plan first: if the plan is refused, the conversion must not have changed the output.
        batch = self._plan(source, bounds, ends)
        self._convert()
        if batch is None:
            self._compact()
            self._status.set("idle", end_offsets=ends)
            self._recorder.succeeded(self._clock.now())
            tell(_log, Idle(self._config.topic, total(self._lag)))
            if self._manifest is not None:
                self._group.show(self._manifest)
        while batch is not None and not self._shutdown.asked:
            with batch_of(self._recorder):
                self._publish(batch, ends)
            self._compact()
            batch = self._plan(source, bounds, ends)

    @property
    def _lag(self) -> dict[int, Lag]:
        return lag_of(self._manifest.next_offsets if self._manifest else {}, self._bounds)

    def _look_up(self) -> tuple[Source, dict[int, Bounds]]:
        """Return the identity of the topic, and the offsets that it holds within the window of the output."""
        source, bounds = self._topic.look_up()
        return source, self._wanted(bounds)

    def _wanted(self, bounds: Mapping[int, Bounds]) -> dict[int, Bounds]:
        return within(self._manifest.window if self._manifest else None, bounds)

    def _begin(self, source: Source, bounds: Mapping[int, Bounds]) -> None:
        """Commit the window in an empty batch, before anything is read.

        After a kill the next start then reads the same part of the topic, although ``latest`` or a time would be
        resolved to other offsets by then.
        """
        ends = self._topic.ends(bounds)
        found = {time: self._topic.offsets_at(time, bounds) for time in window.times_in(self._config)}
        asked, positions = window.resolve(self._config, bounds, ends, found)
        with batch_of(self._recorder):
            self._publish(Batch(1, source, positions, [], [], asked), positions)
        there = sum(max(0, held.end - positions[partition]) for partition, held in within(asked, bounds).items())
        tell(_log, Windowed(str(asked), source.topic, asked.start, asked.until, there))

    def _convert(self) -> None:
        if self._manifest is not None and self._manifest.format != self._config.output_format:
            _warn_of_conversion(self._manifest.format, self._config)
            self._status.set("converting")
            now = self._clock.now()
            between = partial(self._go_on, "a conversion")
            self._manifest = convert(self._output, self._manifest, self._config.output_format, now, between)

    def _compact(self) -> None:
        """If there are too many small files, merge what one commit may, so that the next batch does not wait long."""
        limit, before = self._config.compact_files, self._manifest
        merges = plan(before.contents, limit) if before is not None and limit else []
        if before is None or not merges or self._told_of_refusal or self._shutdown.asked:
            return
        began = self._clock.seconds()
        self._status.set("compacting")
        between = partial(self._go_on, "a compaction")
        done = compact(self._output, before, merges, self._clock.now(), between)
        if isinstance(done, Refused):
            self._told_of_refusal = True
            _log.warning(
                "small files are not merged, because folders cannot be exchanged as a whole: %s; stop the processor "
                "and all readers now and then, and run it with --compact --readers-stopped",
                done.reason,
            )
            return
        self._manifest = done
        self._heartbeat.beat()
        files = sum(len(merge.names) for merge in merges)
        tell(_log, Merged(describe(merges), files, self._clock.seconds() - began))

    def _go_on(self, what: str) -> None:
        """Report progress; raise StopAsked if somebody asked to stop."""
        self._heartbeat.beat()
        if self._shutdown.asked:
            self._output.discard_staging()
            raise StopAsked(what)

    def _plan(self, source: Source, bounds: Mapping[int, Bounds], ends: Mapping[int, int]) -> Batch | None:
        """Return the next batch; None when nothing is left. The first one may be empty: it creates the datasets."""
        before = self._manifest
        batch_id = before.batch_id + 1 if before else 1
        positions, gaps = starts(before.next_offsets if before else {}, bounds, self._config.accept_gap, batch_id)
        ranges = plan_batch(positions, ends, self._config.max_messages)
        if before is not None and not ranges and not gaps:
            return None
        return Batch(batch_id, source, positions, ranges, gaps)

    def _publish(self, batch: Batch, ends: Mapping[int, int]) -> None:
        output, before = self._output, self._manifest
        for gap in batch.gaps:
            tell(_log, GapAccepted(gap.partition, gap.start, gap.end))
        if self._ids is not None:
            self._ids.open(output, before, self._while_indexing)
        else:
            forget_ids(output)
        change = output.begin(before, "batch", self._config.output_format)
        failpoint("before-staging")
        began = self._clock.seconds()
        self._status.set("reading", Progress(batch.batch_id, 0, batch.length), dict(ends))
        receipts, run = self._read_all(batch, change.staging)
        self._status.set("publishing", Progress(batch.batch_id, batch.length, batch.length))
        bounds = same_topic.confirm(self._topic, batch, receipts)
        with closing(open_clients(output, before)) as clients:
            now, deduped = self._clock.now(), self._ids is not None
            record = assemble(output, change, before, batch, receipts, clients, self._config.routing, now, deduped)
        if self._ids is not None:
            self._ids.prepare(change.commit_id, run)
        output.commit(record)
        self._manifest = record.manifest
        if bounds is not None:
            self._bounds = self._wanted(bounds)
        self._group.show(record.manifest)
        if self._ids is not None:
            self._ids.open(output, record.manifest)
        self._heartbeat.beat()
        _tell_of_rules(before, record.manifest)
        seconds = self._clock.seconds() - began
        self._recorder.published(receipts, seconds, self._clock.now())
        self._recorder.lag(self._lag)
        _report(output, batch, receipts, seconds, total(self._lag))

    def _while_indexing(self) -> None:
        self._status.set("indexing")
        self._go_on("making the set of known ticket ids")

    def _read_all(self, batch: Batch, staging: Staging) -> tuple[list[Receipt], Run | None]:
        """Return receipts for all of ``batch`` and, where duplicates are looked for, the ids of its tickets.

        Which tasks read duplicates is known only when all have ended. Those tasks run once more, without duplicates.
        """
        if not batch.ranges:
            return [], None
        if self._ids is None:
            return self._read(batch, batch.ranges, staging), None
        receipts = self._read(batch, batch.ranges, staging, NO_DUPLICATES)
        run, duplicates = find_duplicates(staging, receipts, self._ids)
        kept, dropped = part(receipts, duplicates)
        if not dropped:
            return receipts, run
        ranges = ranges_of(dropped)
        of_these = sum(r.length for r in ranges)
        tell(_log, DuplicatesFound(batch.batch_id, batch.length, len(duplicates.offset), of_these))
        again = self._read(batch, ranges, staging, duplicates)
        require_same_reading(dropped, again, duplicates)
        return kept + again, run

    def _read(
        self, batch: Batch, ranges: Sequence[OffsetRange], staging: Staging, duplicates: Duplicates | None = None
    ) -> list[Receipt]:
        """Return the receipts of the tasks that read ``ranges``: all of ``batch``, or a part of it once more."""
        done = batch.length - sum(r.length for r in ranges)
        shown = ReadingProgress(self._display, self._clock.seconds, batch.batch_id, done, batch.length)
        try:
            with closing(shown), self._topic.watched():
                progress = partial(self._show_progress, batch, done, shown)
                receipts = self._tasks.run(ranges, staging, progress, duplicates, self._erasures(batch))
        except Exception:
            self._output.discard_staging()
            if self._shutdown.asked:
                raise StopAsked("a batch") from None
            raise
        for receipt in receipts:
            if receipt.failure:
                self._output.discard_staging()
                self._explain(receipt.failure, batch)
        return receipts

    def _erasures(self, batch: Batch) -> Sequence[Erasure]:
        return concerning(self._manifest.erasures, batch.ranges) if self._manifest else ()

    def _show_progress(self, batch: Batch, done: int, shown: ReadingProgress, messages: int) -> None:
        self._heartbeat.beat()
        self._output.remove_replaced()
        self._status.set("reading", Progress(batch.batch_id, done + messages, batch.length))
        shown.update(messages)

    def _explain(self, failure: Failure, batch: Batch) -> NoReturn:
        """Raise the error that tells a user why a task failed and what to do."""
        if failure.kind == FailureKind.DISK:
            # A folder that was removed meanwhile is a better explanation than a file that cannot be written.
            self._output.require_unchanged(self._manifest.commit_id if self._manifest else None)
            raise OutputUnavailable(failure.detail)
        if failure.kind in (FailureKind.LOGIN_REFUSED, FailureKind.ACCESS_REFUSED):
            raise BrokerError(
                f"the broker refused a task that wanted to read the topic ({failure.kind}: {failure.detail}); check "
                "KAFKA_SASL_USERNAME, its password, and what that user may read"
            )
        # Ask the broker first: if it is away, or the topic is gone or replaced, that explains more than a task's error.
        self._topic.check()
        if self._shutdown.asked:
            raise StopAsked("a batch")
        bounds = self._wanted(same_topic.require_unchanged(self._topic, batch))
        if failure.kind == FailureKind.OFFSET_GONE:
            # An error even with --accept-gap: this batch cannot record the gap, the plan of the next start does.
            starts(batch.positions, bounds, accept_gap=False, batch_id=batch.batch_id)
            raise DataConflict(
                f"messages were deleted while they were read (retention; {failure.detail}); start again with "
                "--accept-gap to go on without them"
            )
        raise BrokerError(
            f"the topic could not be read ({failure.kind}: {failure.detail}); check the broker and its log"
        )


def _tell_of_rules(before: Manifest | None, after: Manifest) -> None:
    """Log which teams are assigned otherwise from this batch on, if any."""
    if before is None or len(after.rule_sets) == len(before.rule_sets):
        return
    old, new = (rules.routing for rules in after.rule_sets[-2:])
    changes = (
        f"{tell_kinds(kinds)} to {there}" + (f" instead of {here}" if here else "")
        for (here, there), kinds in old.changes(new).items()
    )
    tell(_log, RulesChanged("; ".join(changes), after.batch_id))


def _warn_of_conversion(found: str, config: ProcessorConfig) -> None:
    _log.warning(
        "the output is in %s, but %s asks for %s, so it is converted; to keep %s set OUTPUT_FORMAT=%s in .env or give "
        "--output-format %s",
        *(found, config.format_source, config.output_format, found, found, found),
    )


def _report(output: Output, batch: Batch, receipts: Sequence[Receipt], seconds: float, lag: int) -> None:
    reads = read_by_partition(receipts).values()
    published = Published(
        str(output.root),
        batch=batch.batch_id,
        read=sum(read.messages for read in reads),
        tickets=sum(read.tickets for read in reads),
        rejected=sum(read.rejected for read in reads),
        duplicates=sum(read.duplicates for read in reads),
        forgotten=sum(read.forgotten for read in reads),
        seconds=seconds,
        lag=lag,
    )
    tell(_log, published)
    if published.rejected:
        tell(_log, told(batch.batch_id, published.read, [receipt.reasons for receipt in receipts]))
