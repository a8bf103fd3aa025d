"""UUIDs as numbers, so that the same id in upper and lower case counts as the same ticket."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contract.arrays import bytes_of

Halves = npt.NDArray[np.uint64]

_WIDTH = 36
_DIGITS = [place for place in range(_WIDTH) if place not in (8, 13, 18, 23)]


class Ids(NamedTuple):
    """Ids in two columns of equal length: the high and the low 64 bits of each."""

    high: Halves
    low: Halves


NO_IDS = Ids(np.empty(0, np.uint64), np.empty(0, np.uint64))


def ids_of(column: pa.ChunkedArray) -> Ids:
    """Return each UUID in the column ``ticket_id`` of valid tickets as numbers."""
    parts = [_numbers(chunk) for chunk in column.chunks if len(chunk)]
    return Ids(*map(np.concatenate, zip(*parts, strict=True))) if parts else NO_IDS


def _numbers(column: pa.StringArray) -> Ids:
    characters = bytes_of(column)[1].reshape(-1, _WIDTH)[:, _DIGITS]
    # The digits 0 to 9 are 0x30 to 0x39 in ASCII, A to F 0x41 to 0x46, a to f 0x61 to 0x66.
    digits = (characters & 0x0F) + 9 * (characters >> 6)
    octets = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2])
    halves = octets.view(">u8").T.astype(np.uint64, order="C")
    return Ids(halves[0], halves[1])
