"""Read and check the values of one field in all rows at once.

``raw`` holds the bytes between the quotes of the values. Each function returns a column, and a mask: True where the
column certainly holds what ``decode`` reads. Where it is False, the column may hold anything, and ``decode`` decides.
So the rules here may be stricter than those of the ticket, but never looser.
"""

import itertools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.arrays import Bytes, Edges, Integers, Mask, bytes_of, of_width

_UUID_WIDTH = 36
_UUID_DASHES = [8, 13, 18, 23]
_UUID_DIGITS = [position for position in range(_UUID_WIDTH) if position not in _UUID_DASHES]

# The formats of times that are read here; # stands for any digit. ``decode`` reads all others, such as with an offset.
_TIMES = [
    np.frombuffer(f"####-##-##T##:##:##{fraction}{zone}".encode(), np.uint8)
    for zone in ("Z", "+00:00")
    for fraction in (".######", ".#####", ".####", ".###", ".##", ".#", "")
]
# The positions of all two-digit numbers in a time with a full fraction: YYYY-MM-DDThh:mm:ss.ffffff.
_PAIRS = np.array([0, 2, 5, 8, 11, 14, 17, 20, 22, 24])
_FULL_WIDTH = 26

# Days from 1970-01-01 to the first of each month, from January of the year 1 to January of the year 10000.
_MONTHS = np.arange("0001-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)

_STRING = msgspec.json.Decoder(str)
_QUOTE, _QUOTE_AND_NEWLINE, _NOTHING = (pa.scalar(text, pa.binary()) for text in (b'"', b'"\n', b""))


def read_texts(raw: pa.BinaryArray, most: int) -> tuple[pa.BinaryArray, Mask]:
    """Return the UTF-8 of the JSON strings with ``raw`` between their quotes, and which have 1 to ``most`` characters.

    In a JSON string all bytes stand for themselves except control characters, quotes, backslashes and invalid UTF-8.
    Values that contain one of these are read by msgspec; they become null if they are not exactly one string.
    """
    edges, data = bytes_of(raw)
    places = np.flatnonzero((data < ord(" ")) | (data == ord('"')) | (data == ord("\\")))
    is_special = np.zeros(len(raw), bool)
    is_special[np.searchsorted(edges, places, side="right") - 1] = True
    if not _is_utf8(raw):
        is_special |= [not _is_text(value) for value in _values(edges, data)]
    texts = raw
    if is_special.any():
        mask = pa.array(is_special)
        strings = pa.array(_read_strings(raw.filter(mask)), pa.string())
        texts = pc.replace_with_mask(raw, mask, strings.view(pa.binary()))
    # A text never has more characters than bytes, so only long ones are counted.
    sizes = np.diff(bytes_of(texts)[0])
    return texts, (sizes >= 1) & (sizes <= most)


def _is_utf8(column: pa.BinaryArray) -> bool:
    try:
        column.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _values(edges: Edges, data: Bytes) -> Iterator[bytes]:
    text = data.tobytes()
    return (text[start:end] for start, end in itertools.pairwise(edges.tolist()))


def _read_strings(raw: pa.BinaryArray) -> Sequence[str | None]:
    """Return the JSON strings with ``raw`` between their quotes; None if that is not exactly one string."""
    edges, lines = bytes_of(pc.binary_join_element_wise(_QUOTE, raw, _QUOTE_AND_NEWLINE, _NOTHING))
    # If each is one line, one call reads them all: decode_lines reads one value a line.
    if np.count_nonzero(lines == ord("\n")) == len(raw):
        try:
            return _STRING.decode_lines(lines.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return [_read_string(line) for line in _values(edges, lines)]


def _read_string(message: bytes) -> str | None:
    try:
        return _STRING.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_uuids(raw: pa.BinaryArray) -> tuple[pa.BinaryArray, Mask]:
    """Return ``raw`` unchanged, and which values are UUIDs with dashes, in upper or lower case."""
    rows, characters = of_width(raw, _UUID_WIDTH)
    digits = characters[_UUID_DIGITS]
    # Unsigned bytes wrap around below 0, so one comparison tests both ends of a range. Or with 0x20 makes lower case.
    hexadecimal = (digits - ord("0") <= 9) | ((digits | 0x20) - ord("a") <= 5)
    dashes = characters[_UUID_DASHES] == ord("-")
    found = np.zeros(len(raw), bool)
    found[rows] = hexadecimal.all(axis=0) & dashes.all(axis=0)
    return raw, found


def read_words(raw: pa.BinaryArray, words: Sequence[str]) -> tuple[pa.BinaryArray, Mask]:
    """Return ``raw`` unchanged, and which values are one of ``words``."""
    found = pc.is_in(raw, pa.array([word.encode() for word in words], pa.binary()))
    return raw, found.to_numpy(zero_copy_only=False)


def read_instants(raw: pa.BinaryArray) -> tuple[pa.Int64Array, Mask]:
    """Return the microseconds from 1970 to each RFC 3339 time in UTC, and which values are such times."""
    microseconds = np.zeros(len(raw), np.int64)
    found = np.zeros(len(raw), bool)
    widths = set(np.unique(np.diff(bytes_of(raw)[0])).tolist())
    for pattern in _TIMES:
        if len(pattern) in widths and not found.all():
            rows, characters = of_width(raw, len(pattern))
            instants, valid = _read_times(characters, pattern)
            # Two patterns may have the same width, but no value fits both.
            microseconds[rows[valid]] = instants[valid]
            found[rows[valid]] = True
    return pa.array(microseconds), found


def _read_times(characters: Bytes, pattern: Bytes) -> tuple[Integers, Mask]:
    """Return the microseconds from 1970 to each time, and which ones are times in the format ``pattern``.

    ``characters`` has a row for each position in the text.
    """
    is_digit = pattern == ord("#")
    looks_right = (characters[is_digit] - ord("0") <= 9).all(axis=0)
    looks_right &= (characters[~is_digit] == pattern[~is_digit, None]).all(axis=0)

    digits = np.zeros((_FULL_WIDTH, characters.shape[1]), np.uint8)
    places = np.flatnonzero(is_digit)
    digits[places] = characters[places] - ord("0")
    pairs = (digits[_PAIRS] * 10 + digits[_PAIRS + 1]).astype(np.int64)
    century, year, month, day, hour, minute, second, *fraction = pairs
    year += 100 * century

    in_calendar = looks_right & (year >= 1) & (month >= 1) & (month <= 12)
    months = np.where(in_calendar, 12 * (year - 1) + month - 1, 0)
    first = _MONTHS[months]
    days_in_month = _MONTHS[months + 1] - first
    valid = in_calendar & (day >= 1) & (day <= days_in_month) & (hour < 24) & (minute < 60) & (second < 60)
    instants = first + day - 1
    for number, base in ((hour, 24), (minute, 60), (second, 60), *((pair, 100) for pair in fraction)):
        instants = instants * base + number
    return instants, valid
