"""``--compact``: merge small files by hand, and log what was done. Needs no broker and no JVM."""

import logging

from processor.config import CompactConfig
from runtime.errors import OutputUnavailable, SettingError
from runtime.process.clock import Clock
from runtime.process.shutdown import Shutdown, StopAsked
from store.compact import BY_HAND, Refused, compact, describe, plan
from store.files import Disk
from store.manifest import Manifest, read_manifest
from store.output import Output
from store.status import StatusFile

_log = logging.getLogger(__name__)


def run(config: CompactConfig, stop: Shutdown, clock: Clock | None = None, disk: Disk | None = None) -> None:
    """Merge files until no merge is worth it, or until asked to stop.

    Raises SettingError when there is no output; OutputUnavailable when another processor works on it, when folders
    cannot be exchanged while readers may be there, or when a file cannot be read or written; DataConflict when ledger
    and files do not belong together.
    """
    clock = clock or Clock()
    output = Output(config.output, disk, clock)
    if read_manifest(output.disk, output.root) is None:
        raise SettingError(f"there is no output in {output.root} to compact; correct --output-path")
    status = StatusFile.between_runs(output.root, output.disk, clock.now)
    with output.locked():
        manifest = output.recover()
        assert manifest is not None
        status.set("compacting")
        try:
            _compact_all(output, manifest, config.readers_stopped, stop, clock)
        finally:
            if output.is_own():
                status.set("stopped")


def _compact_all(output: Output, manifest: Manifest, readers_stopped: bool, stop: Shutdown, clock: Clock) -> None:
    def between() -> None:
        # Nothing is committed yet, so the staged files can go.
        if stop.asked:
            output.discard_staging()
            raise StopAsked

    before, began = _count(manifest), clock.seconds()
    while merges := plan(manifest.contents, BY_HAND):
        _log.info("merging %s", describe(merges))
        try:
            done = compact(output, manifest, merges, clock.now(), between, readers_stopped)
        except StopAsked:
            _log.info("asked to stop, so this merge was abandoned; nothing of it was published")
            break
        if isinstance(done, Refused):
            raise OutputUnavailable(
                f"{output.root} cannot be compacted while readers are open: {done.reason}, and while files are moved "
                "one by one, a reader could count wrong; nothing was changed; stop all readers and add "
                "--readers-stopped"
            )
        manifest = done
    after = _count(manifest)
    if after == before:
        _log.info("nothing to merge: among the %s files, fewer than %d small ones are neighbours", before, BY_HAND + 1)
        return
    _log.info("compacted %s in %.1f s: %s files were %s", output.root, clock.seconds() - began, after, before)
    if output.replaced.next_s() is not None:
        _log.info("the old files stay for ten minutes for readers that have them open; a run after that removes them")


def _count(manifest: Manifest) -> int:
    return sum(map(len, manifest.contents.values()))
