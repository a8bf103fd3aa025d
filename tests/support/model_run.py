"""Run what the processor does to an output on a model disk, and read what was published."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from contract.ticket import Ticket
from contract.ticket import encode as encode_ticket
from processor.consume import Piece
from processor.retry import retry
from runtime.process.clock import Clock
from runtime.settings.location import OutputLocation
from store.compact import compact, plan
from store.convert import convert
from store.forget import forget
from store.ids import IdSet, forget_ids, ids_folder
from store.manifest import Manifest
from store.output import Output
from tests.support.model_disk import Call, Fault, ModelDisk, Surface
from tests.support.older_contract import older_contract
from tests.support.staging import UPDATED_AT, messages, publish_batch

ERASED_AT = UPDATED_AT + timedelta(hours=1)
RETRIED_AT = UPDATED_AT + timedelta(hours=2)

_STRANGE = "A text that an older contract refused"

# Files that may be in .pipeline while no process runs, besides the ids: the lock, the set of clients, and an unfinished
# record of a crash, which the next record overwrites.
_LEFT_ALONE = {".pipeline/lock", ".pipeline/clients.sqlite", ".pipeline/.commit.json.new"}


def new_surface(root: Path) -> Surface:
    """Return a disk that holds the folder two above ``root`` and nothing else.

    SQLite writes the set of clients without the model, so its folder is a real one.
    """
    (root / ".pipeline").mkdir(parents=True, exist_ok=True)
    surface = Surface()
    disk = ModelDisk(surface)
    for folder in reversed(root.parents[1:-1]):
        disk.make_folder(folder)
    surface.force_everything()
    return surface


def put(surface: Surface, folder: Path, root: Path) -> None:
    """Put a real folder on the disk as ``root``."""
    disk = ModelDisk(surface)
    disk.make_folder(root.parent)
    for path in [folder, *sorted(folder.rglob("*"))]:
        place = root / path.relative_to(folder)
        if path.is_dir():
            disk.make_folder(place)
        else:
            with disk.create(place) as file:
                file.write(path.read_bytes())
    surface.force_everything()


class StoppedClock(Clock):
    """A clock on which no time passes; ``sleep`` returns at once."""

    def seconds(self) -> float:
        """Return the same each time."""
        return 0.0

    def sleep(self, seconds: float) -> None:
        """Return at once."""

    def now(self) -> datetime:
        """Return the same each time."""
        return UPDATED_AT


class Run:
    """One process. It cannot be used after a fault that kills it."""

    def __init__(
        self, root: Path, surface: Surface, fault: Fault | None = None, calls: list[Call] | None = None
    ) -> None:
        self.disk = ModelDisk(surface, fault, calls)
        self.output = Output(OutputLocation(root), self.disk, StoppedClock())
        self.manifest: Manifest | None = None
        self._held = ExitStack()
        self._ids = IdSet(ids_folder(self.output), self.disk)

    def start(self) -> None:
        """Take the lock and recover the output."""
        self._held.enter_context(self.output.locked())
        self.manifest = self.output.recover()

    def batch(
        self, tickets: Sequence[Ticket], rejected: int = 0, dedupe: bool = False, refused: Sequence[Ticket] = ()
    ) -> None:
        """Publish the next messages of the topic: tickets, then messages that are not tickets.

        Last come tickets that an older contract ``refused``: they are rejected, and can be retried.
        """
        first = self.manifest.next_offsets.get(0, 0) if self.manifest else 0
        refused = [msgspec.structs.replace(one, request=_STRANGE) for one in refused]
        values = [*map(encode_ticket, tickets), *[b"bad"] * rejected, *map(encode_ticket, refused)]
        tasks = [[messages(values, first_offset=first)]] if values else []
        with older_contract(lambda made: "request: is strange" if made.request == _STRANGE else None):
            self._publish(tasks, dedupe)

    def _publish(self, tasks: Sequence[Sequence[Piece]], dedupe: bool) -> None:
        if not dedupe:
            forget_ids(self.output)
            self.manifest = publish_batch(self.output, self.manifest, self.file_format, tasks)
            return
        self._ids.open(self.output, self.manifest)
        self.manifest = publish_batch(self.output, self.manifest, self.file_format, tasks, ids=self._ids)
        self._ids.open(self.output, self.manifest)

    @property
    def file_format(self) -> str:
        """The format of what is published."""
        return self.manifest.format if self.manifest else "parquet"

    def convert(self) -> None:
        """Publish everything again in the other format."""
        assert self.manifest is not None
        self.manifest = convert(
            self.output, self.manifest, {"parquet": "json", "json": "parquet"}[self.file_format], UPDATED_AT
        )

    def compact(self, readers_stopped: bool = False) -> None:
        """Merge all small neighbouring files."""
        assert self.manifest is not None
        if merges := plan(self.manifest.contents, 1):
            done = compact(self.output, self.manifest, merges, UPDATED_AT, readers_stopped=readers_stopped)
            assert isinstance(done, Manifest)
            self.manifest = done

    def forget(self, client_id: str, unread: int = 0, readers_stopped: bool = False) -> None:
        """Erase a client, also from the next ``unread`` messages of the topic."""
        assert self.manifest is not None
        ends = {number: offset + unread for number, offset in self.manifest.next_offsets.items()}
        self.manifest = forget(
            self.output, self.manifest, [client_id], ends, ERASED_AT, readers_stopped=readers_stopped
        ).manifest

    def retry(self, readers_stopped: bool = False) -> None:
        """Publish what was rejected and is a ticket today."""
        assert self.manifest is not None
        self.manifest = retry(self.output, self.manifest, None, RETRIED_AT, readers_stopped).manifest

    def stop(self) -> None:
        """End normally."""
        self._held.close()


def published(surface: Surface, root: Path) -> dict[str, bytes]:
    """Return the ledger and the files of an output, without an unfinished ledger of a crash.

    The random ids of an upgrade are left out, because they differ if the upgrade has to be repeated.
    """
    found = {
        path: content
        for path, content in surface.tree(root).items()
        if content is not None and not path.startswith(".pipeline/") and path != "._manifest.json.new"
    }
    ledger = json.loads(found.get("_manifest.json", b"{}"))
    if ledger.get("kind") == "upgrade":
        drawn = ("output_id", "commit_id", "follows")
        found["_manifest.json"] = json.dumps({k: v for k, v in ledger.items() if k not in drawn}).encode()
    return found


def left_over(surface: Surface, root: Path) -> list[str]:
    """Return what is left in .pipeline although no process runs and no old files are kept for readers."""
    return [
        path
        for path in surface.tree(root)
        if path.startswith(".pipeline/") and not path.startswith(".pipeline/ids") and path not in _LEFT_ALONE
    ]
