"""Ids in ascending order: sort them, look some up, merge several lists. No I/O.

Nearly all ids differ in their high 64 bits, so these are sorted and searched first, as single numbers. If a sender
makes up ids that share their high half, that costs time but changes no result.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from contract.arrays import Integers, Mask
from contract.uuids import Ids


def order_of(ids: Ids, *ties: npt.NDArray[np.integer]) -> Integers:
    """Return the indexes that sort ``ids``; equal ids are sorted by the columns ``ties``, the first one first."""
    order = np.argsort(ids.high, kind="stable")
    high = ids.high[order]
    equal = high[1:] == high[:-1]
    if equal.any():
        # Ids with the same high half are neighbours now, so only these have to be sorted again.
        shared = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
        rows = order[shared]
        order[shared] = rows[np.lexsort([*(tie[rows] for tie in reversed(ties)), ids.low[rows], ids.high[rows]])]
    return order


def places_in(known: Ids, wanted: Ids) -> Integers:
    """Return for each of ``wanted`` how many of ``known``, which are ascending, are lower."""
    places = np.searchsorted(known.high, wanted.high)
    rows = np.flatnonzero(_at(known.high, places) == wanted.high) if len(known.high) else places[:0]
    ends = np.searchsorted(known.high, wanted.high[rows], side="right")
    low = wanted.low[rows]
    starts = places[rows]
    # Binary search among ids with the same high half, for all at once; nearly always there is only one such id.
    while (open_ := starts < ends).any():
        middles = (starts + ends) // 2
        lower = open_ & (_at(known.low, middles) < low)
        starts = np.where(lower, middles + 1, starts)
        ends = np.where(open_ & ~lower, middles, ends)
    places[rows] = starts
    return places


def contains(known: Ids, wanted: Ids) -> Mask:
    """Return which of ``wanted`` are among ``known``, which are ascending."""
    if not len(known.high):
        return np.zeros(len(wanted.high), bool)
    places = places_in(known, wanted)
    found: Mask = places < len(known.high)
    found &= (_at(known.high, places) == wanted.high) & (_at(known.low, places) == wanted.low)
    return found


def _at(column: npt.NDArray[np.uint64], places: Integers) -> npt.NDArray[np.uint64]:
    """Return the values at ``places``; if a place is one past the end, the last value."""
    return column[np.minimum(places, len(column) - 1)]


def pieces(lists: Sequence[Ids], most: int) -> Iterator[list[slice]]:
    """Yield slices, one of each of ``lists``, which are ascending: together they cover a range of ids completely.

    The ranges ascend from one piece to the next. A piece has up to twice ``most`` ids, more only if they are equal.
    """
    if not lists:
        return
    step = max(1, most // len(lists))
    marks = Ids(*(np.concatenate([column[step::step] for column in columns]) for columns in zip(*lists, strict=True)))
    chosen = order_of(marks)[len(lists) - 1 :: len(lists)]
    edges = [[0, *places_in(of, Ids(*(column[chosen] for column in marks))).tolist(), len(of.high)] for of in lists]
    for number in range(len(chosen) + 1):
        yield [slice(of[number], of[number + 1]) for of in edges]
