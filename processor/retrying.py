"""``--retry-rejected``: publish what is a ticket by now, and tell what became of the rest. No broker, no JVM."""

import logging

from processor.config import RetryConfig
from processor.events import RejectedRetried
from processor.retry import Done, retry
from runtime.errors import SettingError
from runtime.process.clock import Clock
from runtime.process.logs import tell
from runtime.process.shutdown import Shutdown, StopAsked
from store.datasets import REJECTED
from store.files import Disk
from store.manifest import read_manifest
from store.output import Output
from store.reasons import count_kinds
from store.status import StatusFile

_log = logging.getLogger(__name__)


def run(config: RetryConfig, stop: Shutdown, clock: Clock | None = None, disk: Disk | None = None) -> None:
    """Retry as the config says, or until asked to stop.

    Raises SettingError when there is no output, OutputUnavailable when another processor works on it, when it cannot be
    changed under its readers, or when something cannot be read or written; DataConflict when ledger and files do not
    belong together.
    """
    clock = clock or Clock()
    output = Output(config.output, disk, clock)
    if read_manifest(output.disk, output.root) is None:
        raise SettingError(f"there is no output in {output.root}, so no rejected message; correct --output-path")

    def between() -> None:
        if stop.asked:
            raise StopAsked

    status = StatusFile.between_runs(output.root, output.disk, clock.now)
    with output.locked():
        status.set("retrying")
        try:
            manifest = output.recover()
            assert manifest is not None
            done = retry(output, manifest, config.reason, clock.now(), config.readers_stopped, between)
            _tell(output, config.reason, done)
            output.replaced.remove_old(config.readers_stopped)
            if done.manifest is not manifest and output.replaced.next_s() is not None:
                _log.info("the old files stay for ten minutes, for readers; a run after that removes them")
        except StopAsked:
            output.discard_staging()
            _log.warning("stopped before anything was published; run it again")
        finally:
            if output.is_own():
                status.set("stopped")


def _tell(output: Output, wanted: str | None, done: Done) -> None:
    if not done.asked and wanted is not None:
        reader = output.reader(done.manifest)
        reasons = count_kinds(reader.tables(REJECTED, ["reason"]))
        there_are = f"the reasons are: {'; '.join(reasons)}" if reasons else "no message is rejected"
        _log.warning("no message that could be retried was rejected for the reason %r; %s", wanted, there_are)
        return
    tell(_log, RejectedRetried(done.asked, done.tickets, done.left, done.duplicates, done.forgotten))
