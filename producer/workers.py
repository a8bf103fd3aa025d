"""Several processes that share the work of one run: each with its own Kafka client, one supervisor that adds up."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from producer.config import ProducerConfig
from producer.producer import FLUSH_S, Report, produce, unacknowledged
from producer.progress import Progress
from runtime.errors import NotAcknowledged, PipelineError
from runtime.process import entry, logs
from runtime.process.shutdown import Shutdown

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.1
_PATIENCE_S = FLUSH_S + 10


@dataclass
class _Worker:
    """What the supervisor knows of one process; ``ended`` once it said its last word or died."""

    number: int
    process: SpawnProcess
    reports: Connection
    progress: Progress | None = None
    error: PipelineError | None = None
    ended: bool = False


def produce_with_workers(config: ProducerConfig, stop: Shutdown, report: Report) -> Progress:
    """Produce in ``config.workers`` processes and return the sum of their counts.

    The first worker that fails stops the others, and its error is raised; a stop is handed on to all of them.
    """
    workers = _start(config)
    first_error: PipelineError | None = None
    deadline: float | None = None
    while running := [worker for worker in workers if not worker.ended]:
        news = False
        for worker in running:
            news |= _hear(worker)
            if worker.error and not first_error:
                first_error = worker.error
        total = _total(workers)
        # Without news too while tickets are in flight, so that a silent broker is noticed. Not while the workers merely
        # end: the time that this takes would count as time of the run.
        if news or total.in_flight:
            report(total)
        if deadline is None and (stop.asked or first_error):
            deadline = time.monotonic() + _PATIENCE_S
            _tell(running, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _tell(running, signal.SIGKILL)
        wait([worker.reports for worker in running if not worker.ended], timeout=_POLL_S)
    total = _total(workers)
    if first_error and not isinstance(first_error, NotAcknowledged):
        raise first_error
    if total.unacknowledged:
        raise NotAcknowledged(unacknowledged(total, "see the log of the workers"))
    return total


def _total(workers: list[_Worker]) -> Progress:
    return sum((worker.progress or Progress() for worker in workers), Progress())


def _start(config: ProducerConfig) -> list[_Worker]:
    context = multiprocessing.get_context("spawn")
    workers = []
    with _signals_held():
        for number in range(config.workers):
            reports, mouth = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(config.share(number), number, mouth), daemon=True)
            process.start()
            # The process holds the only other end, so its death is seen as the end of the pipe.
            mouth.close()
            workers.append(_Worker(number, process, reports))
    return workers


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep a stop from killing a worker that cannot listen yet: it inherits the block and lifts it when it can."""
    # Started later, this helper of multiprocessing would lift the block.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _hear(worker: _Worker) -> bool:
    """Take what a worker reported since the last time; return whether counts were among it."""
    news = False
    try:
        while worker.reports.poll():
            message = worker.reports.recv()
            if isinstance(message, Progress):
                worker.progress = message
                news = True
            else:
                worker.error = message
    except EOFError:
        worker.process.join()
        worker.ended = True
        code = worker.process.exitcode
        if code and not worker.error:
            worker.error = PipelineError(f"worker {worker.number} ended with exit code {code}; see the log above")
    return news


def _tell(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.pid and worker.process.is_alive():
            os.kill(worker.process.pid, number)


def _work(config: ProducerConfig, number: int, mouth: Connection) -> None:
    """Be a worker: the body of a new process."""
    logs.configure_logging(config.log_level, config.log_format)
    stop = Shutdown().install()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def report(progress: Progress) -> None:
        try:
            mouth.send(progress)
        except OSError:
            # The supervisor is gone.
            stop.ask()

    def body() -> None:
        try:
            produce(config, number, stop, report)
        except PipelineError as error:
            mouth.send(error)

    sys.exit(entry.run(body))
