"""Entry point of the doctor: ``python -m doctor --help``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

if __name__ == "__main__":
    # It changes nothing, and that is true of compiled files as well.
    sys.dont_write_bytecode = True

from runtime.process import interpreter

if __name__ == "__main__" and (too_old := interpreter.problem(sys.version_info[:2], [])):
    # The rest cannot be read by it.
    sys.stdout.write(f"  problem  {sys.executable} {too_old}\n")
    sys.exit(1)

from doctor import disk, docker, java
from doctor import interpreter as python
from doctor.finding import Finding, Section, not_looked_at
from doctor.report import examine, wants_colour
from runtime.process import entry, logs
from runtime.process.interpreter import ROOT

_NEEDED = [ROOT / part / "requirements.txt" for part in ("producer", "processor")]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: the flag of each key of ``.env`` that has one."""
    from runtime.settings import catalogue
    from runtime.settings.setting import add_flags

    parser = _bare_parser()
    add_flags(parser, catalogue.ALL.values())
    return parser


def _bare_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="python -m doctor",
        description="Say what of this machine, its settings, the broker and the output would stop the pipeline, and "
        "how to mend it. Changes nothing. Ends with 0 if there is no problem, else with 1.",
        epilog="Order: command line > environment > .env > default. LOG_FORMAT=json writes one JSON line a finding.",
        allow_abbrev=False,
    )


def what_can_be_seen_without(missing: str, environ: Mapping[str, str]) -> list[Section]:
    """Return the sections that the standard library is enough for; ``missing`` is what this Python lacks."""

    def rest() -> list[Finding]:
        return [not_looked_at(f"this Python {missing}")]

    places = {"the output": ROOT / "data/output", "the embedded broker": ROOT / "data/broker"}
    return [
        Section("Python", partial(python.examine, environ)),
        Section("Java", partial(java.examine, environ, None)),
        Section("Disk", partial(disk.examine, environ, places)),
        Section("Docker", partial(docker.examine, environ)),
        Section("Ports, settings, broker, topic, output", lambda: iter(rest())),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Examine everything, write what was found to standard output, and return the exit code."""
    environ = dict(os.environ)
    codes: list[int] = []

    def body() -> None:
        # What is found stands in the report; libraries need not tell it again.
        logs.configure_logging("ERROR", "text")
        sections, log_format = _sections(argv, environ)
        codes.append(examine(sections, sys.stdout, log_format, wants_colour(sys.stdout, environ)))

    return entry.run(body) or codes[0]


def _sections(argv: Sequence[str] | None, environ: Mapping[str, str]) -> tuple[Sequence[Section], str]:
    """Return what can be looked at with this Python, and the format to tell it in."""
    missing = interpreter.problem(sys.version_info[:2], _NEEDED)
    if sys.flags.optimize:
        missing = missing or "runs without assertions"
    if not missing:
        try:
            from doctor.examination import Examination
            from runtime.settings import catalogue
            from runtime.settings.setting import parse_flags
        except ImportError as error:
            # A package that another one needs, or a library of the system.
            missing = f"cannot load what it needs ({error})"
        else:
            whole = Examination(parse_flags(build_parser(), argv), environ)
            return whole.sections, whole.settings.get(catalogue.LOG_FORMAT)
    _bare_parser().parse_known_args(argv)
    return what_can_be_seen_without(missing, environ), environ.get("LOG_FORMAT", "text").lower()


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold what the encoding of a terminal lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
