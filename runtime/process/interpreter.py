"""What an entry point does before it imports the rest, which not every Python can.

Python 3.8 and later can read this module and the entry points that ask it; they must only get as far as the question.
"""

# Older versions of Python could not evaluate the types.
from __future__ import annotations

import io
import re
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[2]


def prepare(program: str, *parts: str, setup: str = "make setup") -> None:
    """End the process with exit code 2 when this Python is too old, lacks a package that ``parts`` need, or has -O.

    From here on Ctrl-C ends the process without a traceback, until it has a handler of its own.

    ``parts`` are folders with a ``requirements.txt``, and ``setup`` installs what they name; ``program`` is what one
    types behind ``.venv/bin/python``.
    """
    # One that is ignored, as in the background of a shell script, stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A path or a name may hold what the encoding of a terminal lacks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    found = problem(sys.version_info[:2], [ROOT / part / "requirements.txt" for part in parts])
    if found:
        sys.stderr.write(
            f"ERROR {sys.executable} {found}; run `{setup}` once in {ROOT}, then `.venv/bin/python {program}`\n"
        )
        sys.exit(2)
    if sys.flags.optimize:
        # One of its assertions reads a byte of each answer.
        sys.stderr.write(
            "ERROR Python leaves out assertions (option -O, or PYTHONOPTIMIZE in the environment), and without them "
            "kafka-python understands no broker; unset PYTHONOPTIMIZE\n"
        )
        sys.exit(2)


def problem(version: tuple[int, int], requirements: Sequence[Path]) -> str:
    """Return what an interpreter of ``version`` lacks to run what has these ``requirements``; nothing if it will do."""
    if version < _OLDEST:
        return f"is Python {version[0]}.{version[1]}, and {_OLDEST[0]}.{_OLDEST[1]} or later is needed"
    lines = [line for file in requirements for line in file.read_text(encoding="utf-8").splitlines()]
    names = {match[1] for match in map(re.compile(r"([\w.-]+)==").match, lines) if match}
    missing = sorted(name for name in names if not _is_installed(name))
    return f"lacks {', '.join(missing)}" if missing else ""


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
