"""The CSV that visitors download, as spreadsheets would read it."""

import csv
import io
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from dashboard.spreadsheet import harmless, to_csv


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x", "=cmd|' /C calc'!A0"],
)
def test_what_begins_like_a_formula_gets_an_apostrophe(formula: str) -> None:
    assert harmless(formula).startswith("'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;=1+1", "a;'=1+1"),
        ('a; "=1+1', "a; \"'=1+1"),
        ("a\t@x", "a\t'@x"),
        ("a\r\n-1", "a\r\n'-1"),
        ("a;\t ;+1", "a;\t ;'+1"),
    ],
)
def test_neither_does_a_cell_of_another_separator_begin_like_one(text: str, expected: str) -> None:
    assert harmless(text) == expected


@pytest.mark.parametrize("text", ["", "CLIENT_1", "1-2", "a=b", "Is 5 > 3; or not?", "<script>", "'=1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_every_cell_is_quoted_and_comes_back_to_the_letter() -> None:
    table = pa.table(
        {
            "request": ['say "hi", or\nnot', "=1+1"],
            "created_at": [datetime(2026, 1, 31, 9, 30, tzinfo=UTC), None],
            "count": [-5, 7],
        }
    )
    made = to_csv(table)
    assert made.startswith(b'\xef\xbb\xbf"request","created_at","count"\r\n')
    assert list(csv.reader(io.StringIO(made.decode("utf-8-sig"), newline=""))) == [
        ["request", "created_at", "count"],
        ['say "hi", or\nnot', "2026-01-31T09:30:00Z", "'-5"],
        ["'=1+1", "", "7"],
    ]
