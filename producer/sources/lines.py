"""The lines of a text with the offset of each, so that reading can resume after any record."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from runtime.errors import SettingError


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record cannot be read; an ``unfinished`` one may be complete once the file has grown."""

    text: str
    unfinished: bool = False


class Lines:
    """An iterator over lines that can be resumed after its end, when the file has grown.

    ``readline`` returns bytes in ``encoding``, or text. ``offset`` is where the last returned line ends. Bytes that
    are not valid in ``encoding`` raise SettingError; if ``lenient``, ``undecodable`` is set instead.
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
        # About the record since ``begin``: whether the text ended within it, and whether it holds undecodable bytes.
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
        """Begin a record: the next lines belong to it."""
        self._record.clear()
        self.cut = self.undecodable = False

    @property
    def unterminated(self) -> bool:
        """Whether the last line has no line break: somebody may still be writing it."""
        return bool(self._record) and not self._record[-1][2]

    def take_back_all_but_one(self) -> None:
        """Return all lines of the record again, except the first."""
        self._returned.extendleft(reversed(self._record[1:]))
        del self._record[1:]
        if self._record:
            self.offset = self._record[0][1]

    def peek(self) -> str:
        """Return the next line without consuming it; an empty text at the end."""
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
                    f"offset {self._read_to - len(raw) + error.start:,}, as other encodings write it; name the "
                    f"file's encoding, e.g. --encoding cp1252, or --encoding {self.encoding} to leave such rows out"
                ) from None
            self.undecodable = True
            text = raw.decode(self.encoding, "replace")
        return text, self._read_to, raw.endswith(b"\n")
