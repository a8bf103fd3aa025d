"""Whether a message belongs to a client, or mentions it. Functions on values: no I/O.

The ids may be known only by their digests, so they cannot be searched for. Instead a message is cut into all pieces
that could be an id, and the caller decides for each piece.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any

import msgspec

from contract.ticket import MAX_NESTING

IsClient = Callable[[bytes], bool]

# ASCII letters and digits, the underscore, and the bytes of all other characters in UTF-8.
_WORD = frozenset(byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum() or byte == ord("_"))

_decode = msgspec.json.Decoder(float_hook=float).decode


def is_of_client(key: bytes | None, payload: bytes | None, lengths: Collection[int], is_client: IsClient) -> bool:
    """Return whether a message that is not a ticket belongs to one of the clients.

    It does if its key is the id of the client, if it is a JSON object with that ``client_id``, or if the id occurs in
    it as a whole word, as bytes or within a JSON string. ``lengths`` are the lengths of the ids in bytes.
    """
    if key is not None and is_client(key):
        return True
    if payload is None:
        return False
    return any(is_client(piece) for text in (payload, *_strings(payload)) for piece in words(text, lengths))


def words(text: bytes, lengths: Collection[int]) -> Iterator[bytes]:
    """Yield each part of ``text`` whose length in bytes is in ``lengths`` and that is not part of a longer word."""
    inside = [bool(before in _WORD and after in _WORD) for before, after in pairwise(text)]
    edges = [0, *(at for at, within in enumerate(inside, 1) if not within), len(text)]
    ends = set(edges)
    for start in edges:
        for length in lengths:
            if start + length in ends:
                yield text[start : start + length]


def _strings(payload: bytes) -> Iterator[bytes]:
    """Yield the strings in a JSON payload that are written with escapes, since their bytes look different."""
    if b"\\" not in payload or payload.count(b"{") + payload.count(b"[") > MAX_NESTING:
        return
    try:
        waiting: list[Any] = [_decode(payload)]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.encode()
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
