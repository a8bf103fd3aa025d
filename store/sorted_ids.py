"""Ids in rising order: put them there, look some up, and go through several lists at once. No I/O.

Nearly all ids differ in their high 64 bits, so these are sorted and searched first, as single numbers. Whoever makes
ids up can let them share the high half. That costs time, and changes nothing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from contract.arrays import Integers, Mask
from contract.uuids import Ids


def order_of(ids: Ids, *ties: npt.NDArray[np.integer]) -> Integers:
    """Return the order in which ``ids`` rise, and of equal ones the columns ``ties``, the first before the second."""
    order = np.argsort(ids.high, kind="stable")
    high = ids.high[order]
    equal = high[1:] == high[:-1]
    if equal.any():
        # Whatever shares its high half lies together, so it can be sorted among itself.
        shared = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
        rows = order[shared]
        order[shared] = rows[np.lexsort([*(tie[rows] for tie in reversed(ties)), ids.low[rows], ids.high[rows]])]
    return order


def places_in(known: Ids, wanted: Ids) -> Integers:
    """Return for each of ``wanted`` how many of ``known``, which rise, are lower."""
    places = np.searchsorted(known.high, wanted.high)
    rows = np.flatnonzero(_at(known.high, places) == wanted.high) if len(known.high) else places[:0]
    ends = np.searchsorted(known.high, wanted.high[rows], side="right")
    low = wanted.low[rows]
    starts = places[rows]
    # Halve what is left of each run of equal high halves; nearly all are of one id.
    while (open_ := starts < ends).any():
        middles = (starts + ends) // 2
        lower = open_ & (_at(known.low, middles) < low)
        starts = np.where(lower, middles + 1, starts)
        ends = np.where(open_ & ~lower, middles, ends)
    places[rows] = starts
    return places


def contains(known: Ids, wanted: Ids) -> Mask:
    """Say which of ``wanted`` are among ``known``, which rise."""
    if not len(known.high):
        return np.zeros(len(wanted.high), bool)
    places = places_in(known, wanted)
    found: Mask = places < len(known.high)
    found &= (_at(known.high, places) == wanted.high) & (_at(known.low, places) == wanted.low)
    return found


def _at(column: npt.NDArray[np.uint64], places: Integers) -> npt.NDArray[np.uint64]:
    """Return the values at ``places``; the last one for the place behind it."""
    return column[np.minimum(places, len(column) - 1)]


def pieces(lists: Sequence[Ids], most: int) -> Iterator[list[slice]]:
    """Yield a slice of each of ``lists``, which rise, so that all slices hold some ids, and all of each of these.

    Their ids rise from one piece to the next. A piece has up to twice ``most`` ids, more only of equal ones.
    """
    if not lists:
        return
    step = max(1, most // len(lists))
    marks = Ids(*(np.concatenate([column[step::step] for column in columns]) for columns in zip(*lists, strict=True)))
    chosen = order_of(marks)[len(lists) - 1 :: len(lists)]
    edges = [[0, *places_in(of, Ids(*(column[chosen] for column in marks))).tolist(), len(of.high)] for of in lists]
    for number in range(len(chosen) + 1):
        yield [slice(of[number], of[number + 1]) for of in edges]
