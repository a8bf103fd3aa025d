"""Findings as people and programs read them. Standard library only."""

import json
import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import IO

from doctor.finding import Finding, Section, from_error, problem
from runtime.errors import PipelineError
from runtime.process.foreign_text import on_one_line

COLUMNS = 80
_INDENT = " " * 11
_COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


def wants_colour(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether what is written to ``stream`` is seen by a person who did not ask for plain text."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def as_text(finding: Finding, colour: bool) -> str:
    """Return a finding in lines of 80 columns; only a word that is longer by itself goes beyond."""
    level = f"{finding.level:<9}"
    if colour:
        level = f"\x1b[{_COLOURS[finding.level]}m{level}\x1b[0m"
    lines = _wrapped(finding.what, "")
    if finding.remedy:
        lines += _wrapped(finding.remedy, "mend it: ")
    return "\n".join([f"  {level}{lines[0][len(_INDENT) :]}", *lines[1:]])


def _wrapped(text: str, label: str) -> list[str]:
    return textwrap.wrap(
        on_one_line(text),
        COLUMNS,
        initial_indent=_INDENT + label,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [_INDENT]


def as_json(title: str, finding: Finding) -> str:
    """Return a finding as a line of JSON."""
    told = {"section": title, "level": finding.level, "found": finding.what, "remedy": finding.remedy}
    return json.dumps(told, ensure_ascii=False)


def examine(sections: Iterable[Section], out: IO[str], log_format: str, colour: bool) -> int:
    """Look at one section after the other, write each finding as soon as it is there, and return the exit code.

    It is 1 when there is a problem, else 0. An error that a user's machine can cause is a finding like any other.
    """
    counts = {"ok": 0, "warning": 0, "problem": 0}
    for section in sections:
        if log_format != "json":
            out.write(f"{section.title}\n")
        for finding in _outliving_errors(section):
            counts[finding.level] += 1
            line = as_json(section.title, finding) if log_format == "json" else as_text(finding, colour)
            out.write(f"{line}\n")
            out.flush()
    if log_format != "json":
        out.write(f"\n{_summary(counts)}\n")
    return 1 if counts["problem"] else 0


def _summary(counts: Mapping[str, int]) -> str:
    told = [f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in ("problem", "warning")]
    return f"{', '.join(told)}, {counts['ok']} ok"


def _outliving_errors(section: Section) -> Iterable[Finding]:
    try:
        yield from section.examine()
    except PipelineError as error:
        yield from_error(error)
    except OSError as error:
        where = f" {os.fsdecode(error.filename)}" if error.filename else ""
        yield problem(f"the system refuses a look at{where} ({error.strerror or error})", "let this user read that")
