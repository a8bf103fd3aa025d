"""What an examination finds, as a value: how bad it is, what was found, and how to mend it. Standard library only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.errors import PipelineError

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` was found, in a sentence without its full stop, and ``remedy``, what to do about it."""

    level: Level
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the examination. ``examine`` looks, and yields what it finds as it finds it."""

    title: str
    examine: Callable[[], Iterator[Finding]]


def ok(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("ok", what)


def warning(what: str, remedy: str) -> Finding:
    """Return what does not stop the pipeline, or may be intended."""
    return Finding("warning", what, remedy)


def problem(what: str, remedy: str) -> Finding:
    """Return what stops a part of the pipeline, or has stopped it."""
    return Finding("problem", what, remedy)


def from_error(error: PipelineError) -> Finding:
    """Return the problem that an error of ours tells: "what is wrong; what would work"."""
    what, _, remedy = str(error).partition("; ")
    # The doctor never changes anything.
    return problem(what, remedy.removeprefix("nothing was changed; "))


def not_looked_at(why: str) -> Finding:
    """Return that something could not be examined, because of what was found before."""
    return warning(f"not looked at, because {why}", "correct that first, then run this again")
