"""Share the work of one run among worker processes, each with its own Kafka client. A supervisor adds up the counts."""

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
    """What the supervisor knows of one process. ``ended``: it sent its last message, or died."""

    number: int
    process: SpawnProcess
    reports: Connection
    progress: Progress | None = None
    error: PipelineError | None = None
    ended: bool = False


def produce_with_workers(config: ProducerConfig, stop: Shutdown, report: Report) -> Progress:
    """Produce in ``config.workers`` processes and return the sum of their counts.

    If a worker fails, the others are stopped, and its error is raised. A stop is passed on to all workers.
    """
    workers = _start(config)
    first_error: PipelineError | None = None
    deadline: float | None = None
    while running := [worker for worker in workers if not worker.ended]:
        news = False
        for worker in running:
            news |= _receive(worker)
            if worker.error and not first_error:
                first_error = worker.error
        total = _total(workers)
        # Report without new counts too while tickets are in flight, to notice a broker that does not answer. But do not
        # report while the workers are only ending: that time would count as time of the run.
        if news or total.in_flight:
            report(total)
        if deadline is None and (stop.asked or first_error):
            deadline = time.monotonic() + _PATIENCE_S
            _signal(running, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _signal(running, signal.SIGKILL)
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
            reports, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(config.share(number), number, sender), daemon=True)
            process.start()
            # Close our copy of the worker's end: only then does the pipe end when the worker dies.
            sender.close()
            workers.append(_Worker(number, process, reports))
    return workers


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals while workers start: a worker inherits the block and lifts it once it can handle a stop."""
    # Start multiprocessing's resource tracker first: if it were started later, it would unblock the signals.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _receive(worker: _Worker) -> bool:
    """Receive the messages of a worker, and return whether counts were among them."""
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


def _signal(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.pid and worker.process.is_alive():
            os.kill(worker.process.pid, number)


def _work(config: ProducerConfig, number: int, sender: Connection) -> None:
    """Run a worker: the main function of its process."""
    logs.configure_logging(config.log_level, config.log_format)
    stop = Shutdown().install()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def report(progress: Progress) -> None:
        try:
            sender.send(progress)
        except OSError:
            # The supervisor is gone, so stop as well.
            stop.ask()

    def body() -> None:
        try:
            produce(config, number, stop, report)
        except PipelineError as error:
            sender.send(error)

    sys.exit(entry.run(body))
