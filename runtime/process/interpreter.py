"""Check the Python that runs an entry point before it imports anything that needs a newer one.

Python 3.8 and later can read this module, and the entry points up to their call of ``prepare``.
"""

# Without this, older versions of Python fail on the types.
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

# kafka-python reads a byte of each answer inside an assertion.
WITHOUT_ASSERTIONS = (
    "Python runs without assertions (option -O, or PYTHONOPTIMIZE in the environment), and kafka-python does not work "
    "without them; leave out -O and unset PYTHONOPTIMIZE"
)


def prepare(program: str, *parts: str, setup: str = "make setup") -> None:
    """Exit with code 2 if this Python is too old, lacks a package that ``parts`` need, or runs with -O.

    From here on Ctrl-C ends the process without a traceback, until it sets a handler of its own.

    ``parts`` are folders with a ``requirements.txt``, which the command ``setup`` installs; ``program`` is what to type
    after ``.venv/bin/python``.
    """
    # If SIGINT is ignored, as in the background of a shell script, it stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A path may hold characters that the terminal's encoding lacks: escape them instead of failing.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    found = problem(sys.version_info[:2], [ROOT / part / "requirements.txt" for part in parts])
    if found:
        sys.stderr.write(
            f"ERROR {sys.executable} {found}; run `{setup}` once in {ROOT}, then `.venv/bin/python {program}`\n"
        )
        sys.exit(2)
    if sys.flags.optimize:
        sys.stderr.write(f"ERROR {WITHOUT_ASSERTIONS}\n")
        sys.exit(2)


def problem(version: tuple[int, int], requirements: Sequence[Path]) -> str:
    """Return what a Python of ``version`` lacks for these ``requirements``, an empty text for nothing."""
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
