"""The script that gives the golden messages a new field."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support import add_golden_field, golden
from tests.support.add_golden_field import add


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('{"request":"Help","priority":"low"}', '{"request":"Help","priority":"low","channel":"email"}'),
        ('{"request": "Help", "priority": "low"}', '{"request": "Help", "priority": "low", "channel": "email"}'),
        ('{"priority":"low","request":"Help"}', '{"priority":"low","channel":"email","request":"Help"}'),
        ('{"priority":"a\\"b"}', '{"priority":"a\\"b","channel":"email"}'),
        ('{"priority":"high","x":1,"priority":"low"}', '{"priority":"high","x":1,"priority":"low","channel":"email"}'),
        ('{"request":"Help"}', '{"request":"Help"}'),
        ('{"priority":null}', '{"priority":null}'),
    ],
)
def test_the_field_stands_behind_the_last_one_and_is_spaced_as_it_is(message: str, expected: str) -> None:
    assert add(message, "priority", "channel", '"email"') == expected


def test_both_files_keep_what_they_say_and_how_they_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(golden.FOLDER, tmp_path / "golden")
    for module in (golden, add_golden_field):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "golden")
    tickets, rejected = golden.tickets(), golden.rejected()
    add_golden_field.rewrite("channel", '"email"')

    assert [json.loads(line)["channel"] for line in golden.tickets()] == ["email"] * 26
    after = golden.rejected()
    assert [(entry.name, entry.reason) for entry in after] == [(entry.name, entry.reason) for entry in rejected]
    assert sum(entry.message != before.message for entry, before in zip(after, rejected, strict=True)) > 40
    assert len(tickets) == 26
    lines = [
        file.read_bytes().count(b"\n") for file in (golden.FOLDER / "rejected.json", golden.FOLDER / "tickets.jsonl")
    ]
    assert lines == [len(rejected) + 2, 26]
