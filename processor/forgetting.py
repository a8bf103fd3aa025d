"""``--forget``: erase clients from what is published, and leave out their unread messages. Needs no Spark."""

import logging

from processor.config import ForgetConfig
from processor.events import ClientsErased
from processor.plan import up_to, within
from processor.same_topic import TopicLookUp
from processor.topic import Topic
from runtime.errors import SettingError
from runtime.process.clock import Clock
from runtime.process.logs import tell
from runtime.process.shutdown import Shutdown, StopAsked
from store.files import Disk
from store.forget import Forgotten, forget
from store.manifest import Manifest, Source, read_manifest
from store.output import Output
from store.status import StatusFile

_log = logging.getLogger(__name__)

# Pause before trying again to remove a folder that could not be removed.
_PAUSE_S = 1.0


def run(config: ForgetConfig, stop: Shutdown) -> None:
    """Erase as the config says, with the clocks, the disk and the broker of this machine."""
    Forgetting(config, Topic(config.broker, config.security, config.topic, stop), stop, Clock()).run()


class Forgetting:
    """Erases clients, then waits until the old files are removed too: readers have ten minutes to close them."""

    def __init__(
        self, config: ForgetConfig, topic: TopicLookUp, stop: Shutdown, clock: Clock, disk: Disk | None = None
    ) -> None:
        self._config = config
        self._output = Output(config.output, disk, clock)
        self._topic = topic
        self._stop = stop
        self._clock = clock

    def run(self) -> None:
        """Erase, log what was done, and wait until the old files are removed or somebody asks to stop.

        Raises SettingError when there is no output, BrokerError when the broker cannot say where the topic ends,
        DataConflict when output and topic do not belong together, OutputUnavailable when the output is in use, cannot
        be written, or cannot be changed while readers are open.
        """
        output = self._output
        if read_manifest(output.disk, output.root) is None:
            raise SettingError(f"there is no output in {output.root}, so nothing to erase; correct --output-path")
        status = StatusFile.between_runs(output.root, output.disk, self._clock.now)
        with output.locked():
            status.set("erasing")
            try:
                done = self._erase()
            except StopAsked:
                output.discard_staging()
                _log.warning("stopped before anything was erased; run it again")
                return
            finally:
                if output.is_own():
                    status.set("stopped")
        _tell(done)
        # The lock is free by now, so the processor may be started during this wait.
        self._wait_for_readers()

    def _erase(self) -> Forgotten:
        manifest = self._output.recover()
        assert manifest is not None
        ends = self._ends(manifest)
        config, now = self._config, self._clock.now()
        return forget(self._output, manifest, config.client_ids, ends, now, config.readers_stopped, self._go_on)

    def _ends(self, manifest: Manifest) -> dict[int, int]:
        """Return up to which offset of each partition messages of the clients may still be unread."""
        if manifest.is_complete:
            # Nothing is read any more, so the broker is not asked: the topic may be deleted by now.
            Source(self._config.topic, None, None).require_same(manifest.source)
            return {}
        self._topic.check()
        self._go_on()
        source, bounds = self._topic.look_up()
        source.require_same(manifest.source)
        # Offsets after the window are never read, so a digest for them would stay in the ledger for ever.
        return up_to(manifest.window, self._topic.ends(within(manifest.window, bounds)))

    def _go_on(self) -> None:
        if self._stop.asked:
            raise StopAsked

    def _wait_for_readers(self) -> None:
        replaced = self._output.replaced
        replaced.remove_old(self._config.readers_stopped)
        rest = replaced.next_s()
        if rest:
            _log.info(
                "readers may still have the old files open; they are removed in %.0f s; Ctrl-C leaves that to the "
                "processor, which may be started meanwhile",
                rest,
            )
        while rest is not None:
            if self._stop.wait(max(rest, _PAUSE_S)):
                _log.warning("the old files are still in %s; the processor removes them", replaced.folder)
                return
            replaced.remove_old()
            rest = replaced.next_s()


def _tell(done: Forgotten) -> None:
    """Log what was done without a client id, because logs are kept."""
    tell(_log, ClientsErased(done.clients, done.tickets, done.rejected))
    if done.to_come:
        unread = ", ".join(f"{offset:,} of partition {partition}" for partition, offset in sorted(done.to_come.items()))
        _log.info("their unread messages before offset %s are left out when they are read", unread)
    _log.warning(
        "the topic holds their messages until its retention deletes them, and a new output is filled from it: run this "
        "again on each output"
    )
