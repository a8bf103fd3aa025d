"""Ids in order, also ids that were made up so that they share their high halves."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.uuids import Ids
from store.sorted_ids import contains, order_of, pieces, places_in

TOP = 2**64 - 1


def ids(*pairs: tuple[int, int]) -> Ids:
    return Ids(np.array([high for high, _ in pairs], np.uint64), np.array([low for _, low in pairs], np.uint64))


def pairs(of: Ids) -> list[tuple[int, int]]:
    return list(zip(of.high.tolist(), of.low.tolist(), strict=True))


def test_ids_are_sorted_by_both_halves_and_then_by_the_ties() -> None:
    some = ids((TOP, 0), (5, 9), (5, TOP), (0, TOP), (5, 9), (5, 9), (0, 1))
    partitions, offsets = np.array([0, 2, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 8, 7, 0])
    assert order_of(some, partitions, offsets).tolist() == [6, 3, 5, 4, 1, 2, 0]


def test_no_ids_have_an_order_and_a_place() -> None:
    assert order_of(ids()).tolist() == []
    assert places_in(ids(), ids((1, 1))).tolist() == [0]
    assert contains(ids(), ids((1, 1))).tolist() == [False]
    assert contains(ids((1, 1)), ids()).tolist() == []


def test_ids_that_share_the_high_half_are_told_apart_by_the_low_one() -> None:
    known = ids((1, 5), (7, 2), (7, 4), (7, 4), (7, TOP), (TOP, TOP))
    wanted = ids((0, 5), (1, 5), (1, 6), (7, 1), (7, 2), (7, 3), (7, 4), (7, TOP), (8, 4), (TOP, 0), (TOP, TOP))
    assert places_in(known, wanted).tolist() == [0, 0, 1, 1, 1, 2, 2, 4, 5, 5, 5]
    assert contains(known, wanted).tolist() == [False, True, False, False, True, False, True, True, False, False, True]


def test_pieces_are_small_and_hold_all_of_an_id() -> None:
    one, two = ids(*((n // 4, n % 4) for n in range(40))), ids((0, 2), (3, 3), (3, 3), (9, 3), (9, 9))
    found = list(pieces([one, two], 8))
    assert [(a.start, a.stop, b.start, b.stop) for a, b in found] == [
        (0, 8, 0, 1),
        (8, 16, 1, 3),
        (16, 24, 3, 3),
        (24, 32, 3, 3),
        (32, 40, 3, 4),
        (40, 40, 4, 5),
    ]


LISTS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30), max_size=5)


@given(LISTS, st.integers(1, 20))
def test_pieces_together_are_all_ids_of_the_lists_in_order(lists: Sequence[list[tuple[int, int]]], most: int) -> None:
    runs = [ids(*sorted(of)) for of in lists]
    merged = []
    for slices in pieces(runs, most):
        some = [pair for of, part in zip(runs, slices, strict=True) for pair in pairs(of)[part]]
        merged += sorted(some)
        # More than twice as many only if they are equal.
        assert len(some) <= 2 * max(most, len(runs)) + max(map(some.count, some), default=0)
    assert merged == sorted(pair for of in lists for pair in of)


@given(LISTS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30))
def test_contains_agrees_with_a_set(lists: Sequence[list[tuple[int, int]]], wanted: list[tuple[int, int]]) -> None:
    for known in lists:
        assert contains(ids(*sorted(known)), ids(*wanted)).tolist() == [pair in known for pair in wanted]


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_a_high_half_that_all_share_is_searched_to_its_ends(count: int) -> None:
    known = ids(*((9, 2 * n) for n in range(count)))
    assert contains(known, known).all()
    assert not contains(known, ids(*((9, 2 * n + 1) for n in range(count)))).any()
