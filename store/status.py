"""What a processor is doing now, for people: ``_status.json`` beside the ledger. Nothing depends on it."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from store.files import Disk, read_if_there

_log = logging.getLogger(__name__)

STATUS_NAME = "_status.json"

State = Literal[
    "waiting for broker",
    "reading",
    "publishing",
    "converting",
    "compacting",
    "erasing",
    "retrying",
    "indexing",
    "idle",
    "done",
    "stopped",
]


class Progress(msgspec.Struct, frozen=True):
    """How far a batch is: ``messages`` offsets of ``of`` are read."""

    batch_id: int
    messages: int
    of: int


class Status(msgspec.Struct, frozen=True):
    """``since`` is when the state began, ``updated_at`` when this was written; both in UTC.

    ``interval_s`` is 0 for a single run. ``end_offsets`` are those at the last query of the topic.
    """

    state: State
    since: datetime
    updated_at: datetime
    interval_s: float
    host: str
    pid: int
    end_offsets: dict[int, int] = {}
    progress: Progress | None = None


class StatusFile:
    """Keeps the file up to date. If it cannot be written, that is ignored: the output does not depend on it."""

    def __init__(self, output: Path, interval_s: float, disk: Disk, now: Callable[[], datetime]) -> None:
        self._path = output / STATUS_NAME
        self._disk = disk
        self._now = now
        moment = now()
        self._status = Status("idle", moment, moment, interval_s, socket.gethostname(), os.getpid())

    @classmethod
    def between_runs(cls, output: Path, disk: Disk, now: Callable[[], datetime]) -> "StatusFile":
        """Return the file for a task that changes the output while its processor is stopped.

        The interval and the end offsets of the processor stay: a service is still one that is stopped afterwards.
        """
        before = read_status(disk, output)
        file = cls(output, before.interval_s if before else 0, disk, now)
        if before is not None:
            file._status = msgspec.structs.replace(file._status, end_offsets=before.end_offsets)
        return file

    def set(self, state: State, progress: Progress | None = None, end_offsets: dict[int, int] | None = None) -> None:
        """Write what the processor does from now on; without new end offsets the last ones stay."""
        now, before = self._now(), self._status
        self._status = msgspec.structs.replace(
            before,
            state=state,
            since=before.since if state == before.state else now,
            updated_at=now,
            progress=progress,
            end_offsets=before.end_offsets if end_offsets is None else end_offsets,
        )
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            with self._disk.create(new) as file:
                file.write(msgspec.json.format(msgspec.json.encode(self._status), indent=2) + b"\n")
            self._disk.replace(new, self._path)
        except OSError as error:
            _log.debug("the status was not written: %s", error)


def read_status(disk: Disk, output: Path) -> Status | None:
    """Return the last status that a processor wrote; None if there is none, or it cannot be decoded."""
    try:
        content = read_if_there(disk, output / STATUS_NAME)
        return None if content is None else msgspec.json.decode(content, type=Status)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        _log.debug("the status was not read: %s", error)
        return None
