"""The lines of a text, with the place of each, so that reading can go on behind any record."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import SettingError


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record cannot be read; an ``unfinished`` one may be whole when more of the file is there."""

    text: str
    unfinished: bool = False


class Lines:
    """An iterator of lines that ends for now: it can be asked again, when the file has grown.

    ``readline`` returns bytes in ``encoding``, or text. ``offset`` is where the last line that was handed out ends.
    Bytes that are not in ``encoding`` raise SettingError unless ``lenient``; then ``undecodable`` is set.
    """

    def __init__(
        self, readline: Callable[[], bytes | str], encoding: str, where: str, offset: int = 0, lenient: bool = False
    ) -> None:
        self._readline = readline
        self.encoding = encoding
        self._where = where
        self._lenient = lenient
        self._read_to = offset
        self._returned = deque[tuple[str, int, bool]]()
        self._record: list[tuple[str, int, bool]] = []
        self.offset = offset
        # Of the record since ``begin``: whether its text ended before it did, and whether it holds foreign bytes.
        self.cut = False
        self.undecodable = False

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._next()
        if line is None:
            self.cut = True
            raise StopIteration
        self._record.append(line)
        self.offset = line[1]
        return line[0]

    def begin(self) -> None:
        """Begin a record: the lines from here on belong to it."""
        self._record.clear()
        self.cut = self.undecodable = False

    @property
    def unterminated(self) -> bool:
        """Whether the last line has no line break, as at the end of a file that may still be written."""
        return bool(self._record) and not self._record[-1][2]

    def take_back_all_but_one(self) -> None:
        """Hand out the lines of the record again, but for the first."""
        self._returned.extendleft(reversed(self._record[1:]))
        del self._record[1:]
        if self._record:
            self.offset = self._record[0][1]

    def peek(self) -> str:
        """Return the next line without handing it out; nothing at the end."""
        if not self._returned:
            line = self._next()
            if line is None:
                return ""
            self._returned.append(line)
        return self._returned[0][0]

    def _next(self) -> tuple[str, int, bool] | None:
        raw = self._readline()
        if not raw:
            return None
        self._read_to += len(raw)
        if isinstance(raw, str):
            return raw, self._read_to, raw.endswith("\n")
        try:
            text = raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            if not self._lenient:
                raise SettingError(
                    f"{self._where} must be in {self.encoding.upper()}, found the byte 0x{raw[error.start]:02x} at "
                    f"{self._read_to - len(raw) + error.start:,}, as other encodings write it; name the encoding of "
                    f"the file, e.g. --encoding cp1252, or --encoding {self.encoding} to leave such rows out"
                ) from None
            self.undecodable = True
            text = raw.decode(self.encoding, "replace")
        return text, self._read_to, raw.endswith(b"\n")
