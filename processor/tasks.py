"""The tasks of a batch on Spark: start a session when there is something to read, run them, stop them when asked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from processor.config import ProcessorConfig
from processor.plan import OffsetRange
from processor.receipt import Receipt, decode_receipt
from processor.session import start_session
from processor.source import read_ranges
from processor.task import StagingTask
from runtime.process.shutdown import Shutdown
from store.staging import Staging

_LOOK_EVERY_S = 0.2
_SMALL_BATCH = 500_000


class SparkTasks:
    """Runs the tasks of batches, one batch after the other, on one session."""

    def __init__(self, config: ProcessorConfig, state: Path, shutdown: Shutdown) -> None:
        """Remember where the session will keep its log and its code: the folder ``state``."""
        self._config = config
        self._state = state
        self._shutdown = shutdown
        self._spark: SparkSession | None = None

    def prepare(self, messages: int) -> None:
        """Start Spark, unless it runs already, for a batch of so many messages."""
        if self._spark is None:
            brief = not self._config.interval_s and messages < _SMALL_BATCH
            self._spark = start_session(self._config, self._state, brief)

    def run(self, ranges: Sequence[OffsetRange], staging: Staging, progress: Callable[[int], None]) -> list[Receipt]:
        """Let Spark read ``ranges`` and write files into ``staging``; return the receipts of its tasks.

        ``progress`` is told, now and then, about how many offsets have been read. Raises what Spark raises when a task
        failed too often, or when it was cancelled because somebody asked to stop.
        """
        self.prepare(sum(r.length for r in ranges))
        assert self._spark is not None
        frame = read_ranges(self._spark, self._config.broker, self._config.security, self._config.topic, ranges)
        with self._watched(self._spark, sum(r.length for r in ranges), progress):
            rows = frame.mapInArrow(StagingTask(staging), "receipt binary").collect()
        return [decode_receipt(row.receipt) for row in rows]

    @contextmanager
    def _watched(self, spark: SparkSession, offsets: int, progress: Callable[[int], None]) -> Iterator[None]:
        """While the job inside runs, report how far it is, and cancel it once somebody asks to stop.

        The call that waits for the job can do neither.
        """
        done = threading.Event()
        tracker = spark.sparkContext.statusTracker()

        def watch() -> None:
            while not done.wait(_LOOK_EVERY_S):
                if self._shutdown.asked:
                    spark.sparkContext.cancelAllJobs()
                stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
                tasks = sum(stage.numTasks for stage in stages if stage)
                finished = sum(stage.numCompletedTasks for stage in stages if stage)
                if tasks:
                    progress(offsets * finished // tasks)

        watcher = threading.Thread(target=watch, name="watch-the-job", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def stop(self) -> None:
        """End Spark."""
        if self._spark is not None:
            self._spark.stop()
            self._spark = None
