"""CSV as spreadsheets and helpdesks write it."""

import csv
import re
from collections.abc import Iterator
from typing import Any

from producer.sources.lines import Lines, Problem

DELIMITERS = ",;\t|"

# No real description is longer. If a quote is never closed, no more than this is read as one field.
_LONGEST_FIELD = 1 << 20

_QUOTED = re.compile(r'"[^"]*"?')
_DECLARED = re.compile(r"sep=(.)\s*", re.IGNORECASE)


def sniff_delimiter(header: str) -> str:
    """Return the delimiter of the first line: the candidate that occurs most often outside of quotes."""
    bare = _QUOTED.sub("", header)
    return max(DELIMITERS, key=bare.count)


class CsvFormat:
    """The columns and the delimiter, taken from the first line. Raises ValueError with what is wrong."""

    def __init__(self, lines: Lines, delimiter: str | None = None) -> None:
        csv.field_size_limit(_LONGEST_FIELD)
        declared = _DECLARED.fullmatch(lines.peek())
        if declared:
            # A line such as "sep=;", which Excel reads and writes.
            next(lines)
        self._delimiter = delimiter or (declared[1] if declared else sniff_delimiter(lines.peek()))
        lines.begin()
        try:
            self.columns = [name.strip() for name in next(self._reader(lines), [])]
        except csv.Error as error:
            raise ValueError(f"its first line must name the columns, and it is not CSV ({error})") from None
        # Jira repeats a column name for each label, comment and attachment: the first column counts.
        self._places = {name: place for place, name in reversed(list(enumerate(self.columns)))}

    def _reader(self, lines: Lines) -> Any:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def records(self, lines: Lines) -> Iterator[dict[str, str] | Problem]:
        """Yield the records, skipping empty lines; when a record is yielded, ``lines`` stands right after it."""
        reader, width = self._reader(lines), len(self.columns)
        while True:
            lines.begin()
            try:
                fields = next(reader, None)
            except csv.Error as error:
                problem = Problem(f"is not CSV: {error}", unfinished=lines.cut)
                # A surplus quote must cost only the line that it is in, so read the lines after it again.
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
