"""Proof of progress: a loop touches a file when it has made progress, and a health check looks at the file's age.

``python -m runtime.process.heartbeat --max-age SECONDS`` exits 0 if the last beat is young enough, otherwise 1.
The file is named by the environment variable HEARTBEAT_FILE; without it nothing is written.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "HEARTBEAT_FILE"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a service makes progress: ``age_s`` since its last beat (None: no beat yet), at most ``longest_s``."""

    age_s: float | None
    longest_s: float

    @property
    def is_good(self) -> bool:
        """Whether the last beat is young enough."""
        return self.age_s is not None and self.age_s <= self.longest_s


class Heartbeat:
    """Remembers each beat and touches ``path``, if there is one. ``clock`` returns seconds that only ever grow."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._due: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Heartbeat":
        """Return the heartbeat for the file in HEARTBEAT_FILE."""
        name = environ.get(VARIABLE)
        return cls(Path(name) if name else None)

    def beat(self, rest: float = 0.0) -> None:
        """Record progress. ``rest`` is how many seconds the loop will sleep before it goes on.

        A planned rest is not a lack of progress, so the age is counted from its end.
        """
        self._due = self._clock() + rest
        if self._path is None:
            return
        due = time.time() + rest
        self._path.touch()
        os.utime(self._path, (due, due))

    def age(self) -> float | None:
        """Return the seconds since the last beat (negative during a planned rest), None when there was none."""
        return None if self._due is None else self._clock() - self._due


def age(path: Path, now: float) -> float | None:
    """Return the seconds since the last beat (negative during a planned rest), None if there was none."""
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Check the heartbeat; print one line, which ``docker inspect`` shows, and return 0 or 1."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.process.heartbeat", description="check the age of the heartbeat"
    )
    parser.add_argument("--max-age", type=float, required=True, metavar="SECONDS")
    longest = parser.parse_args(argv).max_age
    name = os.environ.get(VARIABLE)
    health = Health(age(Path(name), time.time()) if name else None, longest)
    if health.age_s is None:
        sys.stdout.write(f"no heartbeat yet ({VARIABLE}={name or ''})\n")
    else:
        sys.stdout.write(f"last beat {max(health.age_s, 0):.0f} s ago, at most {longest:g} s allowed\n")
    return 0 if health.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
