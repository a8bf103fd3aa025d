"""SparkProcessor: plan a batch, let Spark run it, check it, publish it."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from processor.batch import Assembly, Batch, published_clients
from processor.config import ProcessorConfig
from processor.plan import Bounds, OffsetRange, plan_batch, starts
from processor.receipt import Receipt, decode_receipt
from processor.session import start_session
from processor.source import read_ranges
from processor.task import StagingTask
from processor.topic import look_up
from runtime.broker.preflight import check_broker
from runtime.errors import BrokerError, OutputUnavailable
from runtime.process.failpoint import failpoint
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown
from store.clients import ClientSet
from store.convert import convert
from store.manifest import Manifest, Source
from store.output import Output, writing

_log = logging.getLogger(__name__)

_CANCEL_EVERY_S = 0.2
_SMALL_BATCH = 500_000
_RETRY_S = 5.0


class _StopAsked(Exception):
    """A batch was abandoned because somebody asked to stop."""


class SparkProcessor:
    """Brings the output up to the end of the topic, once or at an interval, each batch exactly once.

    ``run`` raises a PipelineError for whatever a user can mend; a batch that fails leaves the output as it was.
    """

    def __init__(self, config: ProcessorConfig, shutdown: Shutdown) -> None:
        self._config = config
        self._shutdown = shutdown
        self._output = Output(config.output_path)
        self._manifest: Manifest | None = None
        self._spark: SparkSession | None = None
        self._heartbeat = Heartbeat.from_environment(os.environ)

    def run(self) -> None:
        """Work until the topic is read to its end, or, with an interval, until asked to stop."""
        try:
            with self._output.locked():
                self._manifest = self._output.recover()
                check_broker(self._config.broker, self._config.security, stop=self._shutdown)
                self._repeat()
        finally:
            if self._spark is not None:
                self._spark.stop()

    def _repeat(self) -> None:
        while not self._shutdown.asked:
            began = time.monotonic()
            try:
                self._catch_up()
            except _StopAsked:
                _log.info("stopped in the middle of a batch: nothing of it was published, the next start reads it")
            except BrokerError as error:
                # A service outlives its broker; a single run has nothing to wait for.
                if not self._config.interval_s:
                    raise
                pause = min(self._config.interval_s, _RETRY_S)
                _log.warning("%s; trying again in %g s", error, pause)
                # Without a heartbeat: to wait for a broker or a topic is no progress.
                self._shutdown.wait(pause)
                continue
            if not self._config.interval_s:
                return
            rest = max(0.0, began + self._config.interval_s - time.monotonic())
            self._heartbeat.beat(rest)
            self._shutdown.wait(rest)

    def _catch_up(self) -> None:
        """Publish everything that the topic holds now, in as many batches as the size limit asks for."""
        source, bounds = look_up(self._config.broker, self._config.security, self._config.topic)
        if self._manifest is not None:
            source.require_same(self._manifest.source)
            if self._manifest.format != self._config.output_format:
                self._manifest = convert(self._output, self._manifest, self._config.output_format)
        ends = {partition: held.end for partition, held in bounds.items()}
        batch = self._plan(source, bounds, ends)
        if batch is None:
            _log.info("nothing new in topic %s", self._config.topic)
        while batch is not None and not self._shutdown.asked:
            self._publish(batch)
            batch = self._plan(source, bounds, ends)

    def _plan(self, source: Source, bounds: dict[int, Bounds], ends: dict[int, int]) -> Batch | None:
        """Return the next batch; None when nothing is left. The first one may be empty: it creates the datasets."""
        before = self._manifest
        batch_id = before.batch_id + 1 if before else 1
        positions, gaps = starts(before.next_offsets if before else {}, bounds, self._config.accept_gap, batch_id)
        ranges = plan_batch(positions, ends, self._config.max_messages)
        if before is not None and not ranges and not gaps:
            return None
        return Batch(batch_id, source, ranges, positions | {r.partition: r.end for r in ranges}, gaps)

    def _publish(self, batch: Batch) -> None:
        output, before = self._output, self._manifest
        for gap in batch.gaps:
            _log.warning("partition %d: offsets %d to %d were deleted unread", gap.partition, gap.start, gap.end - 1)
        staging = output.new_staging(batch.batch_id)
        failpoint("before-staging")
        spark = self._session(batch.length) if batch.ranges else None
        began = time.monotonic()
        receipts = self._stage(spark, batch.ranges, staging) if spark else []
        with writing(output.state):
            clients = ClientSet(
                output.state / "clients.sqlite",
                before.batch_id if before else 0,
                lambda: published_clients(output, before),
            )
        try:
            record = Assembly(output, staging, self._config.output_format, before, clients).assemble(batch, receipts)
        finally:
            clients.close()
        output.commit(record)
        self._manifest = record.manifest
        self._heartbeat.beat()
        self._report(batch, receipts, time.monotonic() - began)

    def _stage(self, spark: SparkSession, ranges: Sequence[OffsetRange], staging: Path) -> list[Receipt]:
        """Let Spark read ``ranges`` and write files into ``staging``; return the receipts of its tasks."""
        frame = read_ranges(spark, self._config.broker, self._config.security, self._config.topic, ranges)
        task = StagingTask(staging, self._config.output_format)
        try:
            with self._cancelled_when_asked(spark):
                rows = frame.mapInArrow(task, "receipt binary").collect()
        except Exception:
            if self._shutdown.asked:
                self._output.discard_staging()
                raise _StopAsked from None
            self._explain_failure()
            raise
        receipts = [decode_receipt(row.receipt) for row in rows]
        for receipt in receipts:
            if receipt.failure:
                raise OutputUnavailable(f"cannot write {staging}: {receipt.failure}; free space there and start again")
        return receipts

    def _explain_failure(self) -> None:
        """Raise what a user can mend behind a failed Spark job: the broker is gone, or messages were deleted."""
        check_broker(self._config.broker, self._config.security, stop=self._shutdown)
        source, bounds = look_up(self._config.broker, self._config.security, self._config.topic)
        if self._manifest is not None:
            source.require_same(self._manifest.source)
            starts(self._manifest.next_offsets, bounds, self._config.accept_gap, self._manifest.batch_id + 1)

    @contextmanager
    def _cancelled_when_asked(self, spark: SparkSession) -> Iterator[None]:
        """Cancel the job that runs inside once somebody asks to stop: the call that waits for it cannot look itself."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_CANCEL_EVERY_S):
                if self._shutdown.asked:
                    spark.sparkContext.cancelAllJobs()

        watcher = threading.Thread(target=watch, name="cancel-when-asked", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _session(self, messages: int) -> SparkSession:
        if self._spark is None:
            brief = not self._config.interval_s and messages < _SMALL_BATCH
            self._spark = start_session(self._config, self._output.state, brief)
        return self._spark

    def _report(self, batch: Batch, receipts: Sequence[Receipt], seconds: float) -> None:
        reads = [read for receipt in receipts for read in receipt.partitions]
        tickets, rejected = sum(read.tickets for read in reads), sum(read.rejected for read in reads)
        _log.info(
            "batch %d: %s messages read, %s tickets, %s rejected, published in %.1f s (%s messages/s) in %s",
            batch.batch_id,
            f"{tickets + rejected:,}",
            f"{tickets:,}",
            f"{rejected:,}",
            seconds,
            f"{(tickets + rejected) / seconds:,.0f}",
            self._output.root,
        )
        if rejected:
            _log.warning("%s messages were no tickets; rejected_messages holds them with the reason", f"{rejected:,}")
