"""CSV whose cells a spreadsheet shows as text and never runs as formulas."""

import csv
import io
import re
from datetime import UTC, datetime

import pyarrow as pa

# If a cell begins with one of these, some spreadsheet takes it for a formula; the wide ones, in Japanese or Chinese.
_FORMULA = re.compile(r"^[=+\-@\t\r\n＝＋－＠]")
# A spreadsheet that separates columns by semicolon or tab would begin another cell inside one of ours.
_FORMULA_INSIDE = re.compile(r"([;\t\r\n][\"' ]*)(?=[=+\-@＝＋－＠])")
_ROWS_AT_A_TIME = 10_000


def harmless(text: str) -> str:
    """Return ``text`` with an apostrophe before what a spreadsheet would take for a formula."""
    text = _FORMULA_INSIDE.sub(r"\1'", text)
    return f"'{text}" if _FORMULA.match(text) else text


def to_csv(table: pa.Table) -> bytes:
    """Return a table as CSV in UTF-8 with its byte order mark, all cells quoted and harmless."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=_ROWS_AT_A_TIME):
        columns = [[_cell(value) for value in column.to_pylist()] for column in batch.columns]
        writer.writerows(zip(*columns, strict=True))
    # Without a byte order mark, Excel guesses another encoding. Text from Arrow has no lone surrogates.
    return out.getvalue().encode("utf-8-sig")


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return "" if value is None else harmless(str(value))
