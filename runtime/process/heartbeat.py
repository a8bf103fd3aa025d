"""Proof of progress: a loop touches a file when it gets something done, a health check looks at the file's age.

``python -m runtime.process.heartbeat --max-age SECONDS`` exits 0 while the last beat is young enough, 1 when it is not.
The file is named by the environment variable HEARTBEAT_FILE; without it nothing is written.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

VARIABLE = "HEARTBEAT_FILE"


class Heartbeat:
    """Touches ``path`` at each beat; without a path it does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Heartbeat":
        """Return the heartbeat that HEARTBEAT_FILE asks for."""
        name = environ.get(VARIABLE)
        return cls(Path(name) if name else None)

    def beat(self, rest: float = 0.0) -> None:
        """Say that something got done. ``rest`` is how many seconds the loop means to sleep before it goes on.

        A planned rest is no lack of progress, so the age is counted from its end.
        """
        if self._path is None:
            return
        due = time.time() + rest
        self._path.touch()
        os.utime(self._path, (due, due))


def age(path: Path, now: float) -> float | None:
    """Return the seconds since the last beat (negative during a planned rest), None when there was none."""
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
    seconds = age(Path(name), time.time()) if name else None
    if seconds is None:
        sys.stdout.write(f"no heartbeat yet ({VARIABLE}={name or ''})\n")
        return 1
    sys.stdout.write(f"last beat {max(seconds, 0):.0f} s ago, at most {longest:g} s allowed\n")
    return 0 if seconds <= longest else 1


if __name__ == "__main__":
    sys.exit(main())
