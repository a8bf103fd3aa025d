"""Counting rows a second time, on tables small enough to count by hand."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store import recount
from store.datasets import TICKETS
from store.recount import Tally, count_tickets, kind_from, kind_of, repeats, row_hashes, unmatched, uuid_text, uuids

ONE = "3e476c38-2a7f-4d89-a08f-9e5f60456fa3"
NIL = "00000000-0000-0000-0000-000000000000"
MAX = "ffffffff-ffff-ffff-ffff-ffffffffffff"


def texts(*values: str) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def tickets(*changes: dict[str, Any]) -> pa.Table:
    plain = {
        "ticket_id": ONE,
        "client_id": "CLIENT_1",
        "created_at": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        "request": "The invoice is wrong",
        "request_type": "billing",
        "priority": "low",
        "assigned_team": "Billing Team",
    }
    return pa.Table.from_pylist([plain | change for change in changes], schema=TICKETS.schema)


def hashes(*numbers: int) -> recount.Hashes:
    return np.array(numbers, np.uint64)


def test_uuids_are_two_numbers_each_in_either_case() -> None:
    pairs, wrong = uuids(texts(ONE, ONE.upper(), NIL, MAX))
    assert pairs.tolist() == [
        [0x3E476C382A7F4D89, 0xA08F9E5F60456FA3],
        [0x3E476C382A7F4D89, 0xA08F9E5F60456FA3],
        [0, 0],
        [2**64 - 1, 2**64 - 1],
    ]
    assert wrong == 0
    assert uuid_text((0x3E476C382A7F4D89, 0xA08F9E5F60456FA3)) == ONE


def test_what_is_not_a_uuid_is_counted_and_left_out() -> None:
    pairs, wrong = uuids(texts("", ONE, ONE[:-1], ONE + "0", ONE.replace("-", "0"), "g" + ONE[1:], "é" + ONE[2:]))
    assert pairs.tolist() == [[0x3E476C382A7F4D89, 0xA08F9E5F60456FA3]]
    assert wrong == 6


def test_uuids_of_a_slice_are_those_of_its_rows() -> None:
    assert uuids(texts("x", NIL, MAX, "y").slice(1, 2))[0].tolist() == [[0, 0], [2**64 - 1, 2**64 - 1]]
    assert uuids(texts())[0].shape == (0, 2)


def test_repeated_ids_are_found_over_all_files_and_few_of_them_named() -> None:
    first, _ = uuids(texts(ONE, NIL, MAX))
    second, _ = uuids(texts(MAX, ONE, MAX))
    assert repeats([first, second], most=10) == (3, [(ONE, 2), (MAX, 3)])
    assert repeats([first, second], most=1) == (3, [(ONE, 2)])
    assert repeats([first], most=10) == (0, [])
    assert repeats([], most=10) == (0, [])


def test_ids_that_are_mixed_to_the_same_number_are_not_taken_for_repeats() -> None:
    # 16 times the factor ends with four bits of zero, so both are in one part.
    pairs = np.array([[0, 7], [16, 7 ^ (16 * 0x9E3779B97F4A7C15 % 2**64)]], np.uint64)
    assert repeats([pairs], 10) == (0, [])
    assert repeats([pairs, pairs[1:]], 10) == (1, [(uuid_text(pairs[1].tolist()), 2)])


def test_kinds_are_counted_by_hour_type_and_priority() -> None:
    later = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
    earlier = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    counted = count_tickets(
        [
            tickets({}, {}, {"created_at": later}),
            tickets({"created_at": earlier, "request_type": "account", "priority": "critical"}, {"priority": "high"}),
        ]
    )
    numbers, counts = counted.kinds.numbers.tolist(), counted.kinds.counts.tolist()
    kinds = {kind_from(number): count for number, count in zip(numbers, counts, strict=True)}
    nine = 491_625
    assert kinds == {
        (-1, "account", "critical"): 1,
        (nine, "billing", "low"): 2,
        (nine, "billing", "high"): 1,
        (nine + 1, "billing", "low"): 1,
    }
    assert recount.by_type(counted.kinds) == {"account": 1, "billing": 4}
    assert recount.by_priority(counted.kinds) == {"low": 3, "high": 1, "critical": 1}
    assert (counted.rows, len(counted.ids), len(counted.clients), len(counted.urgent)) == (5, 5, 1, 2)
    assert counted.wrong == {}


def test_invalid_values_of_rows_are_counted_by_column() -> None:
    counted = count_tickets(
        [tickets({"ticket_id": "7", "request_type": "sales"}, {"priority": "urgent", "assigned_team": "Sales"}, {})]
    )
    assert counted.wrong == {"ticket_id": 1, "request_type": 1, "priority": 1}
    assert counted.teams == {
        ("(another)", "low", "Billing Team"): 1,
        ("billing", "(another)", "Sales"): 1,
        ("billing", "low", "Billing Team"): 1,
    }
    assert recount.by_type(counted.kinds) == {"(another)": 1, "billing": 2}


def test_an_empty_file_counts_nothing() -> None:
    for tables in ([], [TICKETS.schema.empty_table()]):
        counted = count_tickets(tables)
        assert (counted.rows, len(counted.ids), len(counted.clients), len(counted.urgent)) == (0, 0, 0, 0)
        assert len(counted.kinds.numbers) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"ticket_id": NIL},
        {"client_id": "CLIENT_2"},
        {"created_at": datetime(2026, 1, 31, 9, 30, 0, 1, tzinfo=UTC)},
        {"request": "The invoice is wrong "},
        {"request_type": "account"},
        {"priority": "high"},
        {"assigned_team": "General Support"},
    ],
)
def test_a_row_that_differs_in_any_column_has_another_hash(change: dict[str, Any]) -> None:
    plain, again, other = row_hashes(tickets({}, {}, change)).tolist()
    assert plain == again
    assert plain != other


@pytest.mark.parametrize("column", ["request", "request_type", "priority", "assigned_team"])
def test_a_row_whose_values_changed_their_columns_has_another_hash(column: str) -> None:
    one, other = row_hashes(tickets({"client_id": "a", column: "b"}, {"client_id": "b", column: "a"})).tolist()
    assert one != other


def test_a_kind_is_a_number_and_back() -> None:
    for kind in ((0, "account", "low"), (-7, "general", "critical"), (491_577, "(another)", "(another)")):
        assert kind_from(kind_of(*kind)) == kind
    assert kind_from(kind_of(1, "sales", "urgent")) == (1, "(another)", "(another)")


def test_tallies_are_added_and_need_not_be_distinct() -> None:
    together = Tally.sum([Tally.of(np.array([3, 1, 3])), Tally.of(np.array([1, 9, 9]), np.array([10, 1, 4]))])
    assert together.numbers.tolist() == [1, 3, 9]
    assert together.counts.tolist() == [11, 2, 5]
    assert Tally.sum([]).numbers.tolist() == []


def test_unmatched_values_are_found_in_any_order_and_as_often_as_they_are_surplus() -> None:
    assert unmatched(hashes(5, 6, 7), hashes(7, 5, 6)).tolist() == []
    assert unmatched(hashes(5, 6, 5, 5), hashes(5, 9)).tolist() == [1, 2, 3]
    assert unmatched(hashes(), hashes(5)).tolist() == []
    assert unmatched(hashes(2**64 - 1, 0), hashes()).tolist() == [0, 1]


def test_a_fingerprint_does_not_depend_on_order_or_division_of_the_pairs() -> None:
    high, low = np.random.default_rng(1).integers(0, 2**64 - 1, (2, 200_000), np.uint64)
    order = np.random.default_rng(2).permutation(200_000)
    whole = recount.fingerprint(high, low)
    parts = [slice(0, 7), slice(7, 70_000), slice(70_000, 70_000), slice(70_000, 200_000)]
    total = 0
    for part in parts:
        total = recount.fingerprint(high[order][part], low[order][part], total)
    assert total == whole
    low[150_000] += np.uint64(1)
    assert recount.fingerprint(high, low) != whole
    assert recount.fingerprint(low, high) != recount.fingerprint(high, low)
