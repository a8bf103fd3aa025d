"""CSV as spreadsheets and helpdesks write it."""

import csv
import re
from collections.abc import Iterator
from typing import Any

from producer.sources.lines import Lines, Problem

DELIMITERS = ",;\t|"

# No description is longer, and a quote that is never closed must not swallow more than this.
_LONGEST_FIELD = 1 << 20

_QUOTED = re.compile(r'"[^"]*"?')
_DECLARED = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def sniff_delimiter(header: str) -> str:
    """Return what separates the names in the first line: the candidate that stands outside of quotes most often."""
    bare = _QUOTED.sub("", header)
    return max(DELIMITERS, key=bare.count)


class CsvFormat:
    """What the beginning of a file says: its columns and what separates them. Raises ValueError with what is wrong."""

    def __init__(self, lines: Lines, delimiter: str | None = None) -> None:
        csv.field_size_limit(_LONGEST_FIELD)
        declared = _DECLARED.fullmatch(lines.peek())
        if declared:
            # Excel reads and writes such a line.
            next(lines)
        self._delimiter = delimiter or (declared[1] if declared else sniff_delimiter(lines.peek()))
        lines.begin()
        try:
            self.columns = [name.strip() for name in next(self._reader(lines), [])]
        except csv.Error as error:
            raise ValueError(f"its first line must name the columns, and it is not CSV ({error})") from None
        # Jira repeats a column for each label, comment and attachment: the first one has the name.
        self._places = {name: place for place, name in reversed(list(enumerate(self.columns)))}

    def _reader(self, lines: Lines) -> Any:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def records(self, lines: Lines) -> Iterator[dict[str, str] | Problem]:
        """Yield the records, without empty lines; ``lines`` is behind a record when it is yielded."""
        reader, width = self._reader(lines), len(self.columns)
        while True:
            lines.begin()
            try:
                fields = next(reader, None)
            except csv.Error as error:
                problem = Problem(f"is not CSV: {error}", unfinished=lines.cut)
                # A quote too many must cost its own line only.
                lines.take_back_all_but_one()
                reader = self._reader(lines)
                yield problem
                continue
            if fields is None:
                return
            if not fields:
                continue
            if lines.undecodable:
                yield Problem("holds bytes that are not in the encoding of the file")
            elif len(fields) != width:
                cut = len(fields) < width and lines.unterminated
                found = f"has {len(fields)} fields, and the first line names {width} columns"
                yield Problem("the file ends in the middle of it" if cut else found, unfinished=cut)
            elif len(self._places) == width:
                yield dict(zip(self.columns, fields, strict=True))
            else:
                yield {name: fields[place] for name, place in self._places.items()}
