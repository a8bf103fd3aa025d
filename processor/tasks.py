"""Run the tasks of a batch on Spark: start it, share out the ranges, watch the job, collect the receipts."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from processor.config import ProcessorConfig
from processor.duplicates import Duplicates
from processor.outcome import TasksLost
from processor.plan import OffsetRange, share_out
from processor.receipt import Receipt, decode_receipt
from processor.session import launch_jvm, start_context, stop_context
from processor.task import Gathered, StagingTask, Work
from runtime.errors import PipelineError
from runtime.process.shutdown import Shutdown
from store.manifest import Erasure
from store.staging import Staging

# pyspark is imported where it is used, so that the JVM starts while it loads.
if TYPE_CHECKING:
    from pyspark import SparkContext

    from processor.jvm import SparkJvm

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_DYING_S = 3.0


class SparkTasks:
    """Runs the tasks of all batches on one Spark context."""

    def __init__(self, config: ProcessorConfig, state: Path, shutdown: Shutdown) -> None:
        """Start nothing yet; Spark's log will be in the folder ``state``."""
        self._config = config
        self._state = state
        self._shutdown = shutdown
        self._jvm: SparkJvm | None = None
        self._context: SparkContext | None = None

    def launch(self) -> None:
        """Begin to start Spark, unless it runs already, and return at once."""
        if self._jvm is not None and not self._jvm.is_alive():
            _log.warning("Spark's JVM has ended (code %s); starting a new one", self._jvm.returncode)
            self.stop()
        if self._jvm is None:
            self._jvm = launch_jvm(self._config, self._state)

    def run(
        self,
        ranges: Sequence[OffsetRange],
        staging: Staging,
        progress: Callable[[int], None],
        duplicates: Duplicates | None = None,
        erasures: Sequence[Erasure] = (),
    ) -> list[Receipt]:
        """Let Spark read ``ranges`` and write files into ``staging``; return the receipts of its tasks.

        ``duplicates`` are those known so far, which are rejected; with None, duplicates are not looked for.
        ``progress`` is called with 0 when Spark has started, and after each task with how many offsets have been read.
        When a task reports a failure, the others are cancelled, and only the receipts of failed tasks are returned.
        Raises TasksLost, and Spark's error when a task failed too often or when somebody asked to stop.
        """
        from py4j.protocol import Py4JError

        context = self._running()
        progress(0)
        shares = [
            (share, None if duplicates is None else duplicates.within(share))
            for share in share_out(ranges, context.defaultParallelism)
        ]
        config = self._config
        security = config.security.for_librdkafka()
        task = StagingTask(staging, config.broker, security, config.topic, config.routing, erasures=erasures)
        job = _Job(context, task)
        try:
            with job.watched(self._shutdown, progress):
                return job.run(shares)
        except Exception as error:
            # Cancelling the other tasks makes the job raise; the receipts say why it was cancelled.
            if job.failures.value:
                return list(map(decode_receipt, job.failures.value))
            self._raise_if_lost("in the middle of a batch", error)
            if isinstance(error, Py4JError):
                # Its text comes from the JVM, which has ended by the time it is logged, so keep it now.
                raise RuntimeError(f"the job failed: {error}") from None
            raise

    def _raise_if_lost(self, when: str, error: Exception) -> None:
        """Raise TasksLost when ``error`` was caused by the end of the JVM."""
        if (code := self._code_of_a_dying_jvm()) is not None:
            raise TasksLost(f"Spark's JVM ended {when} (code {code})") from error

    def _code_of_a_dying_jvm(self) -> int | None:
        """Return the JVM's exit code, None if it runs. Waits a moment, because its connections break before it ends."""
        assert self._jvm is not None
        deadline = time.monotonic() + _DYING_S
        while self._jvm.is_alive() and time.monotonic() < deadline and not self._shutdown.asked:
            time.sleep(_LOOK_EVERY_S)
        return self._jvm.returncode

    def _running(self) -> "SparkContext":
        self.launch()
        if self._context is None:
            assert self._jvm is not None
            try:
                self._context = start_context(self._config, self._jvm)
            except PipelineError:
                raise
            except Exception as error:
                self._raise_if_lost("while it started", error)
                raise
        return self._context

    def stop(self) -> None:
        """End Spark, if it was started."""
        jvm, context, self._jvm, self._context = self._jvm, self._context, None, None
        if jvm is not None and context is not None:
            stop_context(context, jvm)
        elif jvm is not None:
            jvm.close()


class _Job:
    """One Spark job. Its tasks report their progress and failures to the driver while the job still runs."""

    def __init__(self, context: "SparkContext", task: StagingTask) -> None:
        self._context = context
        self._task = task
        self.read = context.accumulator(0)
        # Spark's types ask for its own class, but any object with these two methods works.
        self.failures: Any = context.accumulator([], cast("Any", Gathered()))

    def run(self, shares: list[tuple[list[OffsetRange], Duplicates | None]]) -> list[Receipt]:
        """Run the job to its end and return its receipts; each task is called with one of ``shares``."""
        work = Work(self._task, self.read, self.failures)
        rows = self._context.parallelize(shares, len(shares)).map(work).collect()
        return list(map(decode_receipt, rows))

    @contextmanager
    def watched(self, shutdown: Shutdown, progress: Callable[[int], None]) -> Iterator[None]:
        """While the job in the block runs, report its progress; cancel it when a task failed or somebody asks to stop.

        A thread does this, because ``run`` only waits for the job.
        """
        done = threading.Event()

        def watch() -> None:
            told = 0
            while not done.wait(_LOOK_EVERY_S):
                if self.read.value != told:
                    told = self.read.value
                    progress(told)
                if shutdown.asked or self.failures.value:
                    # If the JVM has ended, ``run`` gets the error, so this one may pass.
                    with suppress(Exception):
                        self._context.cancelAllJobs()

        watcher = threading.Thread(target=watch, name="watch-the-job", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
