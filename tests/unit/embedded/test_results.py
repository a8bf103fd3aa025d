"""The last lines of the demo: on 80 columns, in ASCII, with hostile tickets and paths."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.text import Text

from embedded import results
from embedded.results import Page

PAGE = Page(80, unicode=True)
ASCII = Page(80, unicode=False)


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def ticket(request: str, client_id: str = "CLIENT_1", priority: str = "high") -> dict[str, object]:
    return {
        "priority": priority,
        "request_type": "billing",
        "client_id": client_id,
        "created_at": datetime(2026, 1, 31, 9, 30, 59, tzinfo=UTC),
        "request": request,
    }


def test_counts_are_aligned_and_have_separators() -> None:
    assert plain(results.figures({"tickets": 1_234_567, "clients": 691}, PAGE)) == [
        "  tickets             1,234,567",
        "  clients                   691",
    ]


def test_a_load_has_number_share_and_a_bar_that_ends_at_column_80() -> None:
    lines = plain(results.load("By team", {"Technical Support": 600, "Billing Team": 300, "A": 1, "B": 0}, PAGE))
    assert lines == [
        "By team",
        "  Technical Support   600   67 %  " + 45 * "█",
        "  Billing Team        300   33 %  " + 22 * "█" + "▌",
        "  A                     1   <1 %  ▏",
        "  B                     0    0 %",
    ]
    assert max(map(len, lines)) == 79


def test_an_ascii_terminal_gets_only_ascii() -> None:
    lines = plain(results.load("By type", {"technical": 4, "billing": 1}, ASCII))
    lines += plain(results.urgent([ticket("Überweisung\n" + 80 * "x")], 1, ASCII))
    assert lines[1:3] == ["  technical           4   80 %  " + 47 * "#", "  billing             1   20 %  " + 12 * "#"]
    assert "".join(lines).isascii()
    assert lines[-1].startswith("    \\xdcberweisung\\u23cexxx")
    assert lines[-1].endswith("xxx...")


@pytest.mark.parametrize("columns", [1, 20, 30, 40, 80, 300])
def test_no_line_is_wider_than_the_terminal_nor_than_100_columns(columns: int) -> None:
    page = Page(columns, unicode=True)
    lines = [
        *results.figures({"tickets": 10**9}, page),
        *results.load("", {"日本" * 20: 10**9, "b": 1}, page),
        *results.urgent([ticket("漢字" * 200, "客" * 64)], 1, page)[1:],
        *results.files(Path(), {"tickets_with_assignment": (9_999, 10**10)}, page)[1:],
    ]
    assert max(line.cell_len for line in lines) <= min(columns, 100)


def test_a_ticket_takes_two_lines_and_its_request_is_cut_to_the_width() -> None:
    lines = plain(results.urgent([ticket("word " * 50, priority="critical"), ticket("short")], 1_400, PAGE))
    assert lines == [
        "High-priority tickets, 2 of 1,400",
        "  critical  billing    2026-01-31 09:30 UTC  CLIENT_1",
        "    " + "word " * 15 + "…",
        "  high      billing    2026-01-31 09:30 UTC  CLIENT_1",
        "    short",
    ]


def test_no_high_priority_tickets_is_said_in_words() -> None:
    assert plain(results.urgent([], 0, PAGE)) == ["High-priority tickets: none"]


@pytest.mark.parametrize(
    ("request_text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\u001b[31mred\\u001b]0;title\\u0007"),
        ("a\r\nb\tc", "a\\u000d⏎b→c"),
        ("[bold]x[/] :smile: [link=http://x]y[/link]", "[bold]x[/] :smile: [link=http://x]y[/link]"),
        ("abc\u202etxt.exe\u200b", "abc\\u202etxt.exe\\u200b"),
        ("a" + 10_000 * "\u0301", "a" + 303 * "\u0301"),
    ],
)
def test_a_hostile_ticket_is_shown_as_text(request_text: str, shown: str) -> None:
    lines = results.urgent([ticket(request_text, client_id=request_text[:64])], 1, PAGE)
    assert lines[2].plain == "    " + shown
    assert not [c for line in plain(lines) for c in line if ord(c) < 32 or c == "\u202e"]
    assert lines[2].spans == []


def test_files_are_counted_and_the_folder_is_not_cut() -> None:
    folder = Path("/" + 100 * "d" + "\x1b[2J")
    lines = plain(results.files(folder, {"metrics": (1, 3_900), "rejected_messages": (12, 2_048_000)}, PAGE))
    assert lines == [
        "The files are in /" + 100 * "d" + "\\u001b[2J",
        "  metrics/                     1 file        3.8 KiB",
        "  rejected_messages/          12 files   2,000.0 KiB",
    ]


@pytest.mark.parametrize("name", ["plain", "a b", "it's", 'a"b', "$HOME `id`", "[x]*", "\\"])
def test_the_query_reads_any_folder_from_a_shell(name: str) -> None:
    command = results.query(".venv/bin/python", Path("/o") / name, "parquet")
    python, flag, code = shlex.split(command)
    assert (python, flag) == (".venv/bin/python", "-c")
    compile(code, "query", "exec")
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert code == (
        f'import pandas as pd; print(\n      pd.read_parquet("/o/{quoted}")\n      .client_id.value_counts().head())'
    )


def test_the_query_of_an_output_in_json_reads_its_files() -> None:
    assert results.query("python", Path("data/output/t"), "json") == (
        "python -c 'import pathlib, pandas as pd; print(\n"
        "      pd.concat(pd.read_json(file, lines=True) for file in "
        'pathlib.Path("data/output/t").glob("*.json"))\n'
        "      .client_id.value_counts().head())'"
    )


def test_flags_pass_through_make_and_a_shell() -> None:
    assert results.with_make("dashboard") == "make dashboard"
    assert results.with_make("demo", "--count", "5", "--output-path", "a b") == (
        "make demo ARGS=\"--count 5 --output-path 'a b'\""
    )
    assert results.with_make("demo", "--output-path", "$HOME") == "make demo ARGS='--output-path '\"'\"'$$HOME'\"'\"''"


def test_a_higher_rate_is_ten_times_as_high_and_lasts_ten_seconds() -> None:
    assert results.faster(0, 10, []) == (
        "a higher rate than the usual 10: 2,000 tickets a second, for 10 seconds",
        'make demo ARGS="--count 20000 --rate 2000"',
    )
    assert results.faster(20, 10, ["--output-path", "o"]) == (
        "a higher rate than 20: 200 tickets a second, for 10 seconds",
        'make demo ARGS="--count 2000 --rate 200 --output-path o"',
    )
    assert results.faster(0.001, 10, [])[1] == 'make demo ARGS="--count 1 --rate 0.01"'


def test_commands_to_try_next_are_never_truncated() -> None:
    assert plain(results.next_steps([("a query", "x" * 200)])) == ["Try next", "  a query", "    " + "x" * 200]
