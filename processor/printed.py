"""Reports on standard output, for a person or a program."""

import os
import sys
import textwrap
from collections.abc import Iterable

from runtime.errors import OutputUnavailable
from runtime.process.foreign_text import on_one_line

WIDTH = 80


def wrapped(sentence: str, first: str, then: str, break_long_words: bool = False) -> list[str]:
    """Return a sentence in lines of WIDTH columns: the first is indented by ``first``, the others by ``then``."""
    return textwrap.wrap(
        sentence,
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=break_long_words,
        break_on_hyphens=False,
    )


def page(lines: Iterable[str]) -> str:
    """Return lines as one text, in which no character of a name or a message moves the cursor."""
    return "".join(f"{on_one_line(line)}\n" for line in lines)


def write(text: str) -> None:
    """Write to standard output in UTF-8, whatever the locale. Raises OutputUnavailable."""
    try:
        sys.stdout.flush()
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            out.write(text.encode())
    except OSError as error:
        raise OutputUnavailable(
            f"cannot write the report to standard output: {os.strerror(error.errno or 0)}; run it again with its "
            "output redirected to a file on a disk with room"
        ) from None
