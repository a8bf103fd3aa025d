"""Cut messages that differ only in their six values into columns, without a Python object for each value.

A program that writes tickets puts the same bytes around the values every time: ``{"ticket_id":"``, ``","client_id":"``
and so on. These bytes are its layout. The layout is taken from a message that ``decode`` accepts, so the writer may
choose the order of the fields and the spaces between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.arrays import Mask, bytes_of
from contract.ticket import FIELDS, InvalidTicket, decode

# Each field has four quotes: two around its name, and two around its value.
_QUOTES = 4 * len(FIELDS)
_PIECES = 2 * len(FIELDS)

# How many messages are tried to find a layout.
_EXAMPLES = 16

_NOTHING = pa.scalar(b"", pa.binary())


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes around the values: gap, value, gap, …, value, gap; ``fields`` names the values in this order."""

    fields: tuple[str, ...]
    gaps: tuple[bytes, ...]

    def cut(self, messages: pa.BinaryArray) -> tuple[dict[str, pa.BinaryArray], Mask]:
        """Return for each field the bytes between the quotes of its value, and which messages have this layout.

        A message has it if the gaps and the cut values, put together, equal the message byte for byte. In the other
        rows the columns are null or hold anything.
        """
        values = _between_quotes(messages)
        gaps = [pa.scalar(gap, pa.binary()) for gap in self.gaps]
        alternating = [piece for pair in zip(gaps, values, strict=False) for piece in pair]
        put_together = pc.binary_join_element_wise(*alternating, gaps[-1], _NOTHING)
        same = pc.fill_null(pc.equal(put_together, messages), False)
        return dict(zip(self.fields, values, strict=True)), same.to_numpy(zero_copy_only=False)


def find_layout(messages: Sequence[bytes | None]) -> Layout | None:
    """Return the layout of the first message that has one; None if the first few have none."""
    layouts = (_layout_of(message) for message in messages[:_EXAMPLES] if message is not None)
    return next((layout for layout in layouts if layout is not None), None)


def _layout_of(message: bytes) -> Layout | None:
    """Return the layout of ``message``; None if it is not a ticket, or holds more than six names and strings.

    The names and strings of a ticket need 24 quotes. So a ticket with exactly 24 quotes has no other field, no field
    twice, and no quote inside a text.
    """
    parts = message.split(b'"')
    if len(parts) != _QUOTES + 1:
        return None
    names = tuple(part.decode(errors="replace") for part in parts[1::4])
    if sorted(names) != sorted(FIELDS):  # a name may be written with escapes
        return None
    try:
        decode(message)
    except InvalidTicket:
        return None
    # Every fourth part is a value.
    first, *others = (b'"'.join(parts[start : start + 3]) for start in range(0, _QUOTES, 4))
    return Layout(names, (first + b'"', *(b'"%b"' % gap for gap in others), b'"' + parts[-1]))


def _between_quotes(messages: pa.BinaryArray) -> list[pa.BinaryArray]:
    r"""Return the bytes between the quotes of each value; null if a message does not have 24 quotes.

    A quote after a backslash is taken to be inside a text. That is wrong if a text ends with a backslash (``\\"``), but
    harmless: the cut values are compared with the message and checked before they are used.
    """
    edges, data = bytes_of(messages)
    is_quote = data == ord('"')
    is_quote[1:] &= data[:-1] != ord("\\")
    quotes = np.flatnonzero(is_quote).astype(np.int32)
    quotes_in = np.diff(np.searchsorted(quotes, edges))
    usual = quotes_in == _QUOTES
    if not usual.all():
        quotes = quotes[np.repeat(usual, quotes_in)]

    # Build an array of value, gap, value, gap, … over the existing bytes; taking the values then copies only these.
    offsets = np.empty(len(quotes) // 2 + 1, np.int32)
    offsets[:-1:2] = quotes[2::4] + 1
    offsets[1::2] = quotes[3::4]
    offsets[-1] = edges[-1]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    pieces = pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    first_piece = (np.cumsum(usual) - 1) * _PIECES
    unusual = None if usual.all() else ~usual
    return [pieces.take(pa.array(first_piece + piece, mask=unusual)) for piece in range(0, _PIECES, 2)]
