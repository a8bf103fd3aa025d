"""docs/explore.ipynb answers its ten questions, from a folder below the one that holds data/output, in both formats."""

import ast
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import encode
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.output import Output
from tests.support.staging import messages, publish_batch, ticket

NOTEBOOK = json.loads((ROOT / "docs" / "explore.ipynb").read_text(encoding="utf-8"))
MONDAY = datetime(2026, 1, 26, 9, 30, tzinfo=UTC)


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == kind]


def answers() -> list[Any]:
    """Run all cells one after the other, as Jupyter does, and return the values that are shown."""
    names: dict[str, Any] = {}
    shown = []
    for code in cells("code"):
        *statements, last = ast.parse(code).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(statements, []), "cell", "exec"), names)
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
        else:
            exec(compile(code, "cell", "exec"), names)
    return shown


def rows(frame: Any) -> list[list[Any]]:
    return [list(row) for row in frame.itertuples(index=False)]


def test_there_are_ten_questions_and_no_outputs_of_somebody() -> None:
    numbers = [re.match(r"## (\d+)\. .+\?\n", text) for text in cells("markdown")]
    assert [int(found[1]) for found in numbers if found] == list(range(1, 11))
    assert [cell for cell in NOTEBOOK["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_each_question_gets_its_answer(file_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [
        ticket(0, client_id="A", created_at=MONDAY, priority="high", request="Invoice 7 is wrong"),
        ticket(1, client_id="A", created_at=MONDAY + timedelta(hours=23), request="The INVOICE again"),
        ticket(2, client_id="A", created_at=MONDAY + timedelta(days=3), request_type="general"),
        ticket(3, client_id="B", created_at=MONDAY + timedelta(minutes=1), priority="critical", request="Help"),
    ]
    values: list[bytes | None] = [*map(encode, written), b"12", b"13", None]
    made = Output(OutputLocation(tmp_path / "data" / "output"))
    publish_batch(made, None, file_format, [[messages(values)]])
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs" / "deep")
    monkeypatch.delenv("OUTPUT_PATH", raising=False)

    totals, teams, hours, week, busiest, urgent, newest, found, rejected, again = answers()

    assert totals == {"tickets": 4, "unique_clients": 2, "rejected": 3}
    assert rows(teams)[:2] == [["Billing Team", 3, 0.75], ["General Support", 1, 0.25]]
    assert hours.to_numpy().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert rows(week) == [[1, 9, 2], [2, 8, 1], [4, 9, 1]]
    assert rows(busiest) == [["A", 3, 75.0], ["B", 1, 25.0]]
    assert urgent["sum"].to_dict() == {"billing": 2, "general": 0}
    assert newest["request"].tolist() == ["Help", "Invoice 7 is wrong"]
    assert rows(found) == [["Billing Team", 2], ["General Support", 1]]
    assert rows(rejected) == [["not a JSON object", 2, 0, 4], ["no value (a tombstone)", 1, 0, 6]]
    assert rows(again) == [["billing", 1, 1]]


def test_without_an_output_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUTPUT_PATH", raising=False)
    with pytest.raises(FileNotFoundError, match="run make demo, or set OUTPUT_PATH"):
        answers()
