"""Messages that were in the topic when their client was forgotten (``--forget``): they are read, but not published."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.arrays import Integers, Mask
from contract.columns import DecodedMessages
from processor.consume import Piece
from processor.plan import OffsetRange
from store.erasure import is_erased
from store.manifest import Erasure
from store.mentions import IsClient, is_of_client


def concerning(erasures: Sequence[Erasure], ranges: Sequence[OffsetRange]) -> tuple[Erasure, ...]:
    """Return the erasures that may concern a message of ``ranges``."""
    return tuple(e for e in erasures if any(r.start < e.below.get(r.partition, 0) for r in ranges))


def erased_rows(erasures: Sequence[Erasure], piece: Piece, decoded: DecodedMessages) -> set[int]:
    """Return the rows of a piece whose messages are of forgotten clients; ``decoded`` is the decoded piece."""
    rows = set()
    for erasure in erasures:
        for row in _rows_of_clients(erasure, piece, decoded):
            partition, offset = piece.place(row)
            if offset < erasure.below.get(partition, 0):
                rows.add(row)
    return rows


def of_erased_clients(
    erasures: Sequence[Erasure], clients: pa.ChunkedArray, partition: Integers, offset: Integers
) -> Mask:
    """Say which tickets, whose clients and places in the topic are given, are of clients who were forgotten."""
    erased = np.zeros(len(clients), bool)
    for erasure in erasures:
        below = np.zeros(len(clients), np.int64)
        for number, end in erasure.below.items():
            below[partition == number] = end
        erased |= _are_of(is_erased(erasure), clients) & (offset < below)
    return erased


def _are_of(is_client: IsClient, clients: pa.ChunkedArray) -> Mask:
    found = [client for client in pc.unique(clients).to_pylist() if is_client(client.encode())]
    mask: Mask = pc.is_in(clients, pa.array(found, pa.string())).to_numpy()
    return mask


def _rows_of_clients(erasure: Erasure, piece: Piece, decoded: DecodedMessages) -> Iterator[int]:
    is_client = is_erased(erasure)
    of_tickets = np.delete(np.arange(len(piece.values)), decoded.rejected)
    yield from of_tickets[_are_of(is_client, decoded.tickets["client_id"])].tolist()
    for row in decoded.rejected:
        if is_of_client(piece.messages[row].key(), piece.values[row], erasure.lengths, is_client):
            yield row


def leave_out(piece: Piece, rows: Collection[int]) -> Piece:
    """Return a piece without the messages at ``rows``."""
    kept = [row for row in range(len(piece.values)) if row not in rows]
    return Piece([piece.messages[row] for row in kept], [piece.values[row] for row in kept], piece.read)
