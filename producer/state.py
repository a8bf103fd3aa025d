"""The state of a source: how far it was sent, and a lock against two producers that send it at once."""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from producer.ticket import Place
from runtime.errors import DataConflict, OutputUnavailable

VERSION = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """The content of the file: every row up to ``place`` is in the topic or was reported as bad.

    ``source`` and ``topic`` name what was read and where it went; ``tickets`` and ``bad_rows`` count since the start.
    ``topic_id`` is None if the broker does not report it.
    """

    source: str
    topic: str
    topic_id: str | None = None
    place: Place | None = None
    tickets: int = 0
    bad_rows: int = 0


class State:
    """``<folder>/<name>.json``, locked from the creation of this object until it is closed.

    Raises OutputUnavailable when another producer holds the lock or nothing can be written, DataConflict when the file
    belongs to another source or topic.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        source: str,
        topic: str,
        topic_id: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.file = folder / f"{name}.json"
        self._now = now
        self._lock = _lock(folder / f"{name}.lock", name)
        try:
            self.sent = read(self.file, Sent(source, topic, topic_id))
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> "State":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def save(self, sent: Sent) -> None:
        """Replace the file; after a crash it is either the old or the new one."""
        content = {"version": VERSION, **asdict(sent), "updated_at": self._now().strftime("%Y-%m-%dT%H:%M:%SZ")}
        new = self.file.with_suffix(".new")
        try:
            # A place in an API may hold a URL with secrets, so other users must not read the file.
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                json.dump(content, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            new.replace(self.file)
            folder = os.open(self.file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise OutputUnavailable(
                f"cannot write {self.file} ({error.strerror}); make it writable and start again: what was sent since "
                "the last save is in the topic, and is sent again with the same ids"
            ) from error
        self.sent = sent


def read(file: Path, expected: Sent) -> Sent:
    """Return the content of ``file``, ``expected`` if there is no file. Raises DataConflict and OutputUnavailable."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return expected
    except (OSError, UnicodeDecodeError) as error:
        raise OutputUnavailable(f"cannot read {file} ({error}); correct its permissions or remove it") from None
    try:
        content = json.loads(text)
        found = _sent(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataConflict(
            f"{file} is damaged or was written by a newer release, so it is not known what was sent; "
            "remove it to send the source from its start: the ids stay the same"
        ) from None
    for what, wanted, was in (("source", expected.source, found.source), ("topic", expected.topic, found.topic)):
        if wanted != was:
            raise DataConflict(
                f"{file} is the state of the {what} {was}, not of {wanted}; take another --source-name, or remove the "
                "file to send everything from the start"
            )
    if None not in (found.topic_id, expected.topic_id) and found.topic_id != expected.topic_id:
        raise DataConflict(
            f"{file} is the state of another topic {found.topic}, which was deleted or is in another cluster; remove "
            "the file to send everything to this one, or take another --source-name"
        )
    return found


def _sent(content: Any) -> Sent:
    if content["version"] != VERSION:
        raise ValueError(content["version"])
    place = content["place"]
    if place is not None and not isinstance(place, dict):
        raise TypeError(place)
    return Sent(
        str(content["source"]),
        str(content["topic"]),
        content["topic_id"],
        place,
        int(content["tickets"]),
        int(content["bad_rows"]),
    )


def _lock(file: Path, name: str) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutputUnavailable(
            f"cannot write {file} ({error.strerror}); correct the permissions, or name another folder with "
            "--source-state"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OutputUnavailable(
            f"another producer is sending the source {name}; stop it, or give this source another --source-name"
        ) from None
    except OSError as error:
        os.close(lock)
        raise OutputUnavailable(
            f"cannot lock {file} ({error.strerror}); name a folder on a file system that supports flock with "
            "--source-state"
        ) from error
    return lock
