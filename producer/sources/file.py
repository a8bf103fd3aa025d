"""A file of tickets: resumed where the last run stopped, followed while it grows, is rotated or truncated."""

import gzip
import hashlib
import io
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producer.sources.csv import CsvFormat
from producer.sources.jsonl import JsonFormat, is_json
from producer.sources.lines import Lines, Problem
from producer.sources.standard_input import ArrivingLines, standard_input
from producer.ticket import Place, Row
from runtime.errors import SettingError

_log = logging.getLogger(__name__)

_ROWS = 500
_CHUNK = 1 << 20
# This many bytes before the place are compared at each poll, to notice a file that was truncated and then grew again.
_TAIL = 256

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_WIDE = ("utf-16", "utf-32")
# What files are that are neither text nor gzip, by their first bytes. Without this, they had a wrong encoding.
_NOT_TEXT = {
    b"PK\x03\x04": "a zip file or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xfd7zX": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh9": "compressed with bzip2",
    b"%PDF": "a PDF",
}


@dataclass
class _Open:
    """A file that is being read. ``whole`` is the checksum of the file if places in it cannot be found by offset."""

    number: int
    handle: Any
    lines: Lines
    inode: int
    whole: str = ""
    row: int = 0
    format: CsvFormat | JsonFormat | None = None
    retired: bool = False
    prefix: "_Prefix | None" = None
    tail: bytes = b""
    arriving: ArrivingLines | None = None


@dataclass
class _Prefix:
    """The checksum of the first ``length`` bytes of a file; ``length`` only increases."""

    descriptor: int
    length: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def up_to(self, offset: int) -> str:
        """Return the checksum of the first ``offset`` bytes."""
        while self.length < offset:
            chunk = os.pread(self.descriptor, min(_CHUNK, offset - self.length), self.length)
            if not chunk:
                break
            self.digest.update(chunk)
            self.length += len(chunk)
        return self.digest.hexdigest()


class FileSource:
    """The rows of a CSV or JSON-lines file, or of standard input (no ``path``).

    A place is an offset and the checksum of everything before it, which distinguishes a file that was replaced from
    one that has grown. In a compressed file, or one in UTF-16, it is a number of rows and the checksum of the file.
    """

    def __init__(
        self, path: Path | None, encoding: str | None = None, delimiter: str | None = None, follow: bool = False
    ) -> None:
        self._path = path
        self._encoding = encoding
        self._delimiter = delimiter
        self._follow = follow
        self._current: _Open | None = None
        self._opened: dict[int, _Open] = {}
        self._count = 0

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        """Yield the rows after the place ``after``. Raises SettingError for a file that cannot be read."""
        try:
            yield from self._read(after)
        except OSError as error:
            raise SettingError(f"{self._name} cannot be read ({error.strerror or error})") from error
        except (EOFError, zlib.error) as error:
            raise SettingError(
                f"{self._name} is compressed, and damaged or cut off ({error}); the rows before that were sent. "
                "Get a complete copy and start again"
            ) from error
        except UnicodeError as error:
            raise SettingError(f"{self._name} is not in the encoding that it begins with ({error})") from error

    def keep(self, place: Place) -> Place:
        """Return ``place`` with the checksum of everything before it."""
        number = place["file"]
        for old in [other for other in self._opened if other < number]:
            self._opened.pop(old).handle.close()
        opened = self._opened.get(number)
        kept = {key: value for key, value in place.items() if key != "file"}
        if opened is not None and opened.prefix is not None:
            kept |= {"sha256": opened.prefix.up_to(place["offset"]), "inode": opened.inode}
        return kept

    def close(self) -> None:
        for opened in self._opened.values():
            opened.handle.close()

    @property
    def _name(self) -> str:
        return str(self._path) if self._path else "standard input"

    def _read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        if self._current is None:
            self._current = self._resume(after)
        elif self._was_truncated(self._current):
            _log.warning("%s was truncated or rewritten; reading it from its first row", self._name)
            self._current = self._first()
        while True:
            current = self._current
            yield from self._rows(current, final=not self._follow or current.retired)
            if not current.retired:
                if not self._follow or not self._was_rotated(current):
                    return
                # Read what was written to the old file between the last poll and the rotation.
                yield from self._rows(current, final=True)
            _log.info("%s is a new file now (rotated); going on with its first row", self._name)
            self._current = self._first()

    def _rows(self, current: _Open, final: bool) -> Iterator[Sequence[Row]]:
        """Yield the rows up to the end of the file; its last line is a row only if it is whole or ``final``."""
        lines = current.lines
        if current.format is None and not self._recognize(current, final):
            return
        assert current.format is not None
        rows: list[Row] = []
        start = lines.offset
        stuck: Place | None = None
        for record in current.format.records(lines):
            problem = record.text if isinstance(record, Problem) else ""
            if not final and (lines.unterminated or (isinstance(record, Problem) and record.unfinished)):
                break
            if isinstance(record, Problem) and record.unfinished and stuck is None:
                # The rest of the record may be written later, so the next run must begin here.
                stuck = self._place(current, start, None)
            current.row += 1
            end = lines.offset
            place = stuck or self._place(current, end, start if lines.unterminated else None)
            rows.append(Row(current.row, place, {} if isinstance(record, Problem) else record, problem))
            start = end
            if len(rows) == _ROWS or (current.arriving and current.arriving.waiting()):
                yield rows
                rows = []
        if rows:
            yield rows
        if not current.whole:
            self._go_to(current, start)

    def _go_to(self, current: _Open, offset: int) -> None:
        current.handle.seek(offset)
        current.lines = self._lines(current.handle, offset, current.lines.encoding)
        current.tail = os.pread(current.handle.fileno(), min(_TAIL, offset), max(0, offset - _TAIL))

    def _recognize(self, current: _Open, final: bool) -> bool:
        """Detect the format from the first line; return False while there is no first line."""
        first = current.lines.peek()
        if not first or not (final or first.endswith("\n")):
            if not current.whole:
                self._go_to(current, current.lines.offset)
            return False
        try:
            current.format = JsonFormat(current.lines) if is_json(first) else CsvFormat(current.lines, self._delimiter)
        except ValueError as error:
            raise SettingError(f"{self._name} cannot be read as CSV or JSON lines: {error}") from None
        return True

    def _place(self, current: _Open, end: int, open_from: int | None) -> Place:
        if current.whole:
            return {"file": current.number, "row": current.row, "whole": current.whole}
        place: Place = {"file": current.number, "row": current.row, "offset": end}
        if open_from is not None:
            place["open_from"] = open_from
        return place

    def _resume(self, after: Place | None) -> _Open:
        current = self._first()
        if after is None or self._path is None:
            return current
        if current.whole or "whole" in after:
            if after.get("whole") == current.whole:
                self._skip(current, after["row"])
                return current
        elif self._continues(current, after):
            return current
        elif rotated := self._rotated(after):
            return rotated
        _log.info(
            "%s is not the file that was sent (replaced, truncated or rotated); sending it from its start", self._name
        )
        return self._first()

    def _skip(self, current: _Open, rows: int) -> None:
        if rows and self._recognize(current, final=True):
            assert current.format is not None
            for _ in current.format.records(current.lines):
                current.row += 1
                if current.row == rows:
                    break

    def _continues(self, current: _Open, after: Place) -> bool:
        """Go to the place ``after`` if the file begins with everything that was read before it, and return whether."""
        offset, row = after["offset"], after["row"]
        size = os.fstat(current.handle.fileno()).st_size
        assert current.prefix is not None
        if size < offset or current.prefix.up_to(offset) != after.get("sha256"):
            return False
        if offset > current.lines.offset:
            if not self._recognize(current, final=True):
                return False
            if "open_from" in after and os.pread(current.handle.fileno(), 1, offset) not in (b"", b"\r", b"\n"):
                # The last row had no line break, and its line has grown since: read that row again.
                offset, row = after["open_from"], row - 1
            self._go_to(current, offset)
        current.row = row
        return True

    def _rotated(self, after: Place) -> _Open | None:
        """Return the file that was read before, under the name that rotation gave it; None if it is gone."""
        assert self._path is not None
        with os.scandir(self._path.parent) as entries:
            found = list(entries)
        for entry in found:
            if entry.inode() == after.get("inode") and entry.is_file() and entry.name != self._path.name:
                opened = self._open(Path(entry.path))
                if not opened.whole and self._continues(opened, after):
                    _log.info("going on with %s, which was %s before (rotated)", entry.path, self._name)
                    opened.retired = True
                    return opened
        return None

    def _was_truncated(self, current: _Open) -> bool:
        if current.whole:
            return False
        descriptor, offset = current.handle.fileno(), current.lines.offset
        tail = os.pread(descriptor, min(_TAIL, offset), max(0, offset - _TAIL))
        return os.fstat(descriptor).st_size < offset or tail != current.tail

    def _was_rotated(self, current: _Open) -> bool:
        assert self._path is not None
        try:
            return self._path.stat().st_ino != current.inode
        except FileNotFoundError:
            # The name is missing between the two steps of a rotation.
            return False

    def _first(self) -> _Open:
        return self._open(self._path)

    def _open(self, path: Path | None) -> _Open:
        handle = _unpacked(path)
        try:
            return self._opened_as(path, handle)
        except BaseException:
            handle.close()
            raise

    def _opened_as(self, path: Path | None, raw: Any) -> _Open:
        packed = isinstance(raw, gzip.GzipFile)
        head = raw.peek(4)[:4]
        if what := _NOT_TEXT.get(head):
            raise SettingError(f"{self._name} is {what}; unpack it, or save it as CSV")
        encoding, skipped = self._encoding or "utf-8", 0
        wide = encoding.startswith(_WIDE)
        if head.startswith(_UTF8_BOM):
            skipped = len(_UTF8_BOM)
            raw.read(skipped)
        elif head.startswith(_UTF16_BOMS):
            encoding, wide = "utf-16", True
        elif b"\0" in head and not wide:
            raise SettingError(
                f"{self._name} is not text, or is in UTF-16; name its encoding, e.g. --encoding utf-16-le"
            )
        if self._follow and (packed or wide):
            raise SettingError(
                f"{self._name} is {'compressed' if packed else 'in ' + encoding}; --follow cannot follow that"
            )
        self._count += 1
        arriving = ArrivingLines(raw) if path is None and not packed and not wide else None
        lines = self._lines(arriving or raw, skipped, encoding, wide)
        opened = _Open(self._count, raw, lines, inode=0, arriving=arriving)
        if path is None:
            opened.whole = "standard input"
        else:
            opened.inode = os.fstat(raw.fileno()).st_ino
            if packed or wide:
                with path.open("rb") as content:
                    opened.whole = hashlib.file_digest(content, "sha256").hexdigest()
            else:
                opened.prefix = _Prefix(raw.fileno())
        self._opened[opened.number] = opened
        return opened

    def _lines(self, handle: Any, offset: int, encoding: str, wide: bool = False) -> Lines:
        readline = io.TextIOWrapper(handle, encoding=encoding, newline="\n").readline if wide else handle.readline
        return Lines(readline, encoding, self._name, offset, lenient=self._encoding is not None)


def _unpacked(path: Path | None) -> Any:
    """Open a file, or standard input, to read bytes, decompressing it if it is compressed."""
    raw: Any = path.open("rb") if path else standard_input()
    if not raw.peek(2).startswith(_GZIP):
        return raw
    if path is None:
        return gzip.GzipFile(fileobj=raw)
    raw.close()
    return gzip.GzipFile(path)
