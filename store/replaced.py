"""Folders that an exchange has swapped out. They stay whole for ten minutes, as ``.pipeline/replaced/<time>-<commit>``.

A reader that opened such a folder before the exchange still lists it. If its files were removed at once, the reader
would count only those that are linked into the new folder, without an error.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from runtime.process.clock import Clock
from store.files import Disk

_log = logging.getLogger(__name__)

KEPT_S = 600.0
_TIME = "%Y%m%dT%H%M%SZ"


class ReplacedFolders:
    """The folders, and the time that each has left. The age of a folder of an earlier run follows from its name."""

    def __init__(self, folder: Path, disk: Disk, clock: Clock) -> None:
        self.folder = folder
        self._disk = disk
        self._clock = clock
        # When each was swapped out, by the monotonic clock.
        self._since: dict[str, float] = {}

    def keep(self, swapped_out: Path, name: str) -> None:
        """Move a folder here. Raises OSError.

        Nothing is forced to the disk: after a power loss no reader has the folder open, so it may be lost.
        """
        if self._disk.look(self.folder) is None:
            self._disk.make_folder(self.folder)
        dated = f"{self._clock.now():{_TIME}}-{name}"
        self._disk.replace(swapped_out, self.folder / dated)
        self._since[dated] = self._clock.seconds()

    def remove_old(self, readers_stopped: bool = False) -> None:
        """Remove the folders whose time is over, or all if readers are stopped; retry later what cannot be removed."""
        try:
            for name in self._look():
                if readers_stopped or self._left(name) <= 0:
                    self._disk.remove_folder(self.folder / name)
                    del self._since[name]
            if not self._since and self._disk.look(self.folder) is not None:
                self._disk.remove_folder(self.folder)
        except OSError as error:
            _log.warning("an old folder in %s cannot be removed yet: %s", self.folder, error)

    def next_s(self) -> float | None:
        """Return in how many seconds the next folder is due to be removed; None if there is none."""
        return max(0.0, min(map(self._left, self._since))) if self._since else None

    def _left(self, name: str) -> float:
        return self._since[name] + KEPT_S - self._clock.seconds()

    def _look(self) -> list[str]:
        """Return the folders that are there; those of earlier runs get their age from their name. Raises OSError."""
        names = self._disk.names(self.folder) if self._disk.look(self.folder) is not None else []
        self._since = {name: since for name, since in self._since.items() if name in names}
        now = self._clock.now()
        for name in names:
            if name in self._since:
                continue
            age = age_of(name, now)
            dated = name
            if age is None:
                # The name is not a time in the past, perhaps because the system clock was or is wrong: count from now.
                dated = f"{now:{_TIME}}-{name.partition('-')[2] or name}"
                self._disk.replace(self.folder / name, self.folder / dated)
            self._since[dated] = self._clock.seconds() - (age or 0.0)
        return sorted(self._since)


def age_of(name: str, now: datetime) -> float | None:
    """Return how many seconds ago a folder was swapped out, by its name; None if the name is not a time in the past."""
    try:
        moment = datetime.strptime(name.partition("-")[0], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    age = (now - moment).total_seconds()
    return age if age >= 0 else None
