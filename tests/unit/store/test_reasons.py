"""Reasons for which messages were rejected: counted by kind, each with its newest example, fit to be shown."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from store.datasets import REJECTED
from store.reasons import COLUMNS, Reason, count_reasons

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
PRIORITY = "priority: must be one of low, medium, high, critical"


def table(*rows: tuple[Any, ...]) -> pa.Table:
    schema = pa.schema([REJECTED.schema.field(name) for name in COLUMNS])
    return pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema)


def test_reasons_that_differ_in_what_was_found_are_one_kind_and_its_newest_message_is_the_example() -> None:
    tables = [
        table((0, 7, NOON, f'{PRIORITY}, found "urgent"', b"1"), (0, 8, NOON, "empty message", b"")),
        table((0, 9, None, f'{PRIORITY}, found "asap"', b"2"), (1, 2, NOON, f'{PRIORITY}, found "urgent"', b"3")),
        table(
            (0, 10, None, f'{PRIORITY}, found "asap"', b"4"),
            (0, 11, None, f'{PRIORITY}, found "urgent"', b"5"),
            (0, 12, None, f'{PRIORITY}, found "asap"', b"6"),
        ),
    ]
    assert count_reasons(tables) == [
        Reason(PRIORITY, 6, f'{PRIORITY}, found "asap"', "6", 0, 12, None),
        Reason("empty message", 1, "empty message", "", 0, 8, NOON),
    ]
    assert count_reasons([]) == count_reasons([table()]) == []


def test_what_others_wrote_moves_no_cursor_and_is_cut() -> None:
    (found,) = count_reasons(
        [table((0, 1, NOON, "request: \x1b[2J, found \u202e", b"\x1b]0;pwned\x07\xff\n" + b"x" * 999))]
    )
    assert found.reason == "request: \\u001b[2J"
    assert found.in_full == "request: \\u001b[2J, found \\u202e"
    assert found.example == "\\u001b]0;pwned\\u0007\\xff⏎" + "x" * 134 + "…"
    (tombstone,) = count_reasons([table((0, 1, NOON, "no value (a tombstone)", None))])
    assert tombstone.example == "(no value)"
