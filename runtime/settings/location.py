"""The place of an output, as OUTPUT_PATH names it: a folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import parsers

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class OutputLocation:
    """The place of one output. Only the store opens it; other code passes it on and shows it."""

    folder: Path

    def __str__(self) -> str:
        """Return what a user would type."""
        return str(self.folder)

    @classmethod
    def parse(cls, text: str, base: Path) -> "OutputLocation":
        """Return the location that ``text`` names; a relative one starts at ``base``. Raises ValueError."""
        if _URL.match(text):
            raise ValueError("must be a folder, e.g. data/output")
        return cls(parsers.path(text, base))
