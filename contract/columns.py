"""Decode many messages to columns at once, in about half the time that ``decode`` takes for each message.

Only ``contract.ticket.decode`` defines what a ticket is. Here a message is accepted without ``decode`` only if three
conditions hold:

1. The message is a layout around six values: exactly the bytes that a message which ``decode`` accepts has around its
   values (``contract.layout``).
2. Each value is by itself the inside of one JSON string (``contract.fields``). Where a JSON string ends does not depend
   on the text around it, so ``decode`` would find the same six names in the message, with these six strings.
3. Each string meets rules that are at least as strict as those of its field (``contract.fields``).

Every other message goes through ``decode``, which gives the ticket or the reason. So an unexpected message only costs
time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.arrays import Mask
from contract.fields import read_instants, read_texts, read_uuids, read_words
from contract.layout import find_layout
from contract.ticket import (
    FIELDS,
    MAX_CLIENT_ID_CHARACTERS,
    MAX_REQUEST_CHARACTERS,
    PRIORITIES,
    REQUEST_TYPES,
    InvalidTicket,
    Ticket,
    decode,
)

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
TICKET_SCHEMA = pa.schema(
    [pa.field(name, UTC_MICROSECONDS if name == "created_at" else pa.string(), nullable=False) for name in FIELDS]
)

# Enough messages at once that the overhead of NumPy calls is small, few enough that their arrays stay in the CPU cache.
_PIECE_MESSAGES = 4096
# From 2 KB a message on, decoding one by one is as fast.
_PIECE_BYTES = _PIECE_MESSAGES << 11

_READERS: dict[str, Callable[[pa.BinaryArray], tuple[pa.Array, Mask]]] = {
    "ticket_id": read_uuids,
    "client_id": partial(read_texts, most=MAX_CLIENT_ID_CHARACTERS),
    "created_at": read_instants,
    "request": partial(read_texts, most=MAX_REQUEST_CHARACTERS),
    "request_type": partial(read_words, words=REQUEST_TYPES),
    "priority": partial(read_words, words=PRIORITIES),
}

Columns = dict[str, pa.Array]


@dataclass(frozen=True, slots=True)
class DecodedMessages:
    """What became of a list of messages.

    ``tickets`` is a table of TICKET_SCHEMA with the valid tickets in the order of their messages; it has a chunk for
    every few thousand messages. ``rejected`` holds the positions of the other messages in the list, ascending, and
    ``reasons`` the reason for each of these.
    """

    tickets: pa.Table
    rejected: list[int]
    reasons: list[str]


def decode_columns(messages: Sequence[bytes | None]) -> DecodedMessages:
    """Return the result of ``decode`` for each of ``messages``, the values of records (None for a tombstone).

    Besides the result this needs some megabytes of memory, or a copy of 4,096 messages if that is more.
    """
    tables: list[pa.Table] = [TICKET_SCHEMA.empty_table()]
    rejected: list[int] = []
    reasons: list[str] = []
    for start in range(0, len(messages), _PIECE_MESSAGES):
        piece = _decode_piece(messages[start : start + _PIECE_MESSAGES])
        tables.append(piece.tickets)
        rejected += [start + row for row in piece.rejected]
        reasons += piece.reasons
    return DecodedMessages(pa.concat_tables(tables), rejected, reasons)


def _decode_piece(messages: Sequence[bytes | None]) -> DecodedMessages:
    columns, sure = _read(messages)
    tickets: list[Ticket] = []
    rejected: list[int] = []
    reasons: list[str] = []
    for row in np.flatnonzero(~sure).tolist():
        try:
            tickets.append(decode(messages[row]))
        except InvalidTicket as error:
            rejected.append(row)
            reasons.append(str(error))
    decoded = _columns_of(tickets)
    columns = _merge(columns, decoded, sure, rejected) if sure.any() else decoded
    table = pa.Table.from_arrays([columns[name] for name in FIELDS], schema=TICKET_SCHEMA)
    return DecodedMessages(table, rejected, reasons)


def _read(messages: Sequence[bytes | None]) -> tuple[Columns, Mask]:
    """Return a column for each field, and a mask: True where the row is certainly right. Other rows hold anything."""
    layout = find_layout(messages)
    if layout is None:
        return {}, np.zeros(len(messages), bool)
    joined = pa.array(messages, pa.binary())
    if joined.nbytes > _PIECE_BYTES:
        return {}, np.zeros(len(messages), bool)
    raw, sure = layout.cut(joined)
    columns: Columns = {}
    for name, kind in zip(FIELDS, TICKET_SCHEMA.types, strict=True):
        column, right = _READERS[name](raw[name])
        columns[name] = column.view(kind)
        sure &= right
    return columns, sure


def _columns_of(tickets: list[Ticket]) -> Columns:
    types = zip(FIELDS, TICKET_SCHEMA.types, strict=True)
    return {name: pa.array([getattr(ticket, name) for ticket in tickets], kind) for name, kind in types}


def _merge(columns: Columns, decoded: Columns, sure: Mask, rejected: list[int]) -> Columns:
    """Return ``columns`` without the rejected rows, and with the rows of ``decoded`` in the place of unsure rows."""
    kept = np.ones(len(sure), bool)
    kept[rejected] = False
    unsure = kept & ~sure
    if unsure.any():
        mask = pa.array(unsure)
        columns = {name: pc.replace_with_mask(column, mask, decoded[name]) for name, column in columns.items()}
    if rejected:
        mask = pa.array(kept)
        columns = {name: column.filter(mask) for name, column in columns.items()}
    return columns
