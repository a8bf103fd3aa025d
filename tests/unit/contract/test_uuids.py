"""UUIDs as numbers."""

import uuid

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from contract.uuids import ids_of


def numbers(column: pa.ChunkedArray) -> list[int]:
    ids = ids_of(column)
    return [high << 64 | low for high, low in zip(ids.high.tolist(), ids.low.tolist(), strict=True)]


def test_a_uuid_is_the_same_number_in_capital_and_small_letters() -> None:
    column = pa.chunked_array(
        [
            ["01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-CDEF-0123-456789ABCDEF"],
            ["ffffffff-FFFF-ffff-FFFF-ffffffffffff", "00000000-0000-0000-0000-000000000001"],
        ]
    )
    one = 0x0123456789ABCDEF0123456789ABCDEF
    assert numbers(column) == [one, one, 2**128 - 1, 1]


def test_chunks_without_rows_and_parts_of_a_column_are_read() -> None:
    texts = [f"00000000-0000-0000-0000-{n:012x}" for n in range(5)]
    column = pa.chunked_array([texts], pa.string())
    assert numbers(column.slice(2, 2)) == [2, 3]
    assert numbers(pa.chunked_array([[], texts, []], pa.string())) == [0, 1, 2, 3, 4]
    assert numbers(pa.chunked_array([], pa.string())) == []


@given(st.lists(st.tuples(st.uuids(), st.booleans()), max_size=20))
def test_each_uuid_is_its_number(some: list[tuple[uuid.UUID, bool]]) -> None:
    texts = [str(each).upper() if capital else str(each) for each, capital in some]
    assert numbers(pa.chunked_array([texts], pa.string())) == [each.int for each, _ in some]
