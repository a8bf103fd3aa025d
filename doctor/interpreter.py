"""Python: its version, the packages of each part against their lock, and what other programs left in the environment.

Standard library only.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from doctor.finding import Finding, ok, problem, warning
from runtime.process import interpreter
from runtime.process.interpreter import ROOT

# A line of a lock, and whether the package is for some machines only.
_LOCKED = re.compile(r"^([\w.-]+)==([^\s;]+)( ;)?", re.MULTILINE)

# Part, how it is called, what installs it, and whether one can do without.
PARTS = (
    ("producer", "the producer", "make setup", False),
    ("processor", "the processor", "make setup", False),
    ("dashboard", "the dashboard", "make dashboard", True),
    ("producer/sources", "tickets from a database or an API", "make setup-sources", True),
)


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the Python that runs this."""
    yield version(sys.version_info[:3], sys.executable)
    if sys.flags.optimize:
        what, _, remedy = interpreter.WITHOUT_ASSERTIONS.partition("; ")
        yield problem(what, remedy)
    for part, name, setup, optional in PARTS:
        lock = (ROOT / part / "requirements.lock").read_text(encoding="utf-8")
        yield packages(name, setup, optional, lock, installed_version)
    yield from foreign(environ)


def installed_version(package: str) -> str | None:
    """Return the version of a package that is installed, None when it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def version(found: tuple[int, int, int], executable: str) -> Finding:
    """Judge the version of Python."""
    if too_old := interpreter.problem(found[:2], []):
        return problem(f"{executable} {too_old}", "install it, then run make setup PYTHON=python3.13")
    return ok(f"Python {'.'.join(map(str, found))} at {executable}")


def packages(name: str, setup: str, optional: bool, lock: str, installed: Callable[[str], str | None]) -> Finding:
    """Judge the packages of a part: ``lock`` is the text of its lock, ``setup`` what installs them."""
    locked = {package: wanted for package, wanted, _ in _LOCKED.findall(lock)}
    elsewhere = {package for package, _, marker in _LOCKED.findall(lock) if marker}
    found = {package: installed(package) for package in locked}
    missing = sorted(package for package in locked if found[package] is None and package not in elsewhere)
    others = sorted(package for package in locked if found[package] not in (None, locked[package]))
    if missing and optional:
        return ok(f"{name}: {len(missing)} packages are not installed, such as {missing[0]}; {setup} installs them")
    if missing:
        return problem(
            f"{name}: {len(missing)} of {len(locked)} packages are missing: {_some(missing)}",
            f"run {setup} in {ROOT}, then use .venv/bin/python",
        )
    if others:
        told = _some([f"{package} {found[package]} instead of {locked[package]}" for package in others])
        return warning(
            f"{name}: {len(others)} packages have another version than the lock says: {told}", f"run {setup}"
        )
    return ok(f"{name}: all {len(locked)} packages are those of the lock")


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:6])} and {len(names) - 6} more"


def foreign(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell what other programs left in the environment for a Python."""
    folders = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if others := [entry for entry in folders if Path(entry).absolute() != ROOT]:
        yield ok(f"PYTHONPATH names {_some(others)}: only what is not installed with the services is taken from there")
