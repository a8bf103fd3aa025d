"""What a person and what a program gets to read."""

import io
import json
from collections.abc import Iterator

import pytest

from doctor.finding import Finding, Section, from_error, not_looked_at, ok, problem, warning
from doctor.report import as_json, as_text, examine, wants_colour
from runtime.errors import DataConflict, SettingError

LONG = problem(
    "the disk is full " * 6 + "at last", "free space there, or choose a folder on another disk, " * 2 + "soon"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_finding_has_80_columns_and_its_remedy_below() -> None:
    lines = as_text(LONG, colour=False).splitlines()

    assert lines[0] == "  problem  the disk is full the disk is full the disk is full the disk is full"
    assert lines[2].startswith("           mend it: free space there, or choose a folder on another disk,")
    assert max(map(len, lines)) <= 80


def test_a_path_that_is_longer_stays_whole() -> None:
    path = "/" + "folder/" * 20
    assert path in as_text(ok(f"{path} is there"), colour=False).splitlines()[0]


def test_what_would_move_the_cursor_is_shown() -> None:
    assert as_text(ok("topic \x1b[2Jx\ny"), colour=False) == "  ok       topic \\u001b[2Jx⏎y"


def test_only_the_level_has_a_colour() -> None:
    assert as_text(warning("few", "more"), colour=True).splitlines() == [
        "  \x1b[33mwarning  \x1b[0mfew",
        "           mend it: more",
    ]


@pytest.mark.parametrize(
    ("stream", "environ", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_a_terminal(stream: io.StringIO, environ: dict[str, str], wanted: bool) -> None:
    assert wants_colour(stream, environ) is wanted


def test_a_line_of_json_holds_everything() -> None:
    assert json.loads(as_json("Disk", problem("fu\n\\ll", "frée it"))) == {
        "section": "Disk",
        "level": "problem",
        "found": "fu\n\\ll",
        "remedy": "frée it",
    }


def findings(*found: Finding) -> Section:
    return Section("Title", lambda: iter(found))


@pytest.mark.parametrize(
    ("found", "code", "summary"),
    [
        ([ok("a")], 0, "0 problems, 0 warnings, 1 ok"),
        ([ok("a"), warning("b", "c")], 0, "0 problems, 1 warning, 1 ok"),
        ([problem("a", "b"), ok("c")], 1, "1 problem, 0 warnings, 1 ok"),
    ],
)
def test_a_problem_decides_the_exit_code(found: list[Finding], code: int, summary: str) -> None:
    out = io.StringIO()

    assert examine([findings(*found)], out, "text", colour=False) == code
    assert out.getvalue().splitlines()[0] == "Title"
    assert out.getvalue().splitlines()[-1] == summary


def test_json_is_nothing_but_lines_of_json() -> None:
    out = io.StringIO()

    assert examine([findings(ok("a"), problem("b", "c"))], out, "json", colour=True) == 1
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == ["ok", "problem"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SettingError("it is wrong; correct it; all of it"), ["it is wrong", "correct it; all of it"]),
        (DataConflict("it is damaged; nothing was changed; put a backup"), ["it is damaged", "put a backup"]),
        (
            PermissionError(13, "Permission denied", "/x"),
            ["the system refuses a look at /x (Permission denied)", "let this user read that"],
        ),
    ],
)
def test_an_error_that_a_machine_can_cause_is_a_finding_and_the_next_section_follows(
    error: Exception, text: list[str]
) -> None:
    def failing() -> Iterator[Finding]:
        yield ok("before")
        raise error

    out = io.StringIO()

    assert examine([Section("One", failing), findings(ok("after"))], out, "text", colour=False) == 1
    what, remedy = text
    assert out.getvalue().splitlines()[1:5] == [
        "  ok       before",
        f"  problem  {what}",
        f"           mend it: {remedy}",
        "Title",
    ]


def test_an_error_of_ours_is_split_into_what_is_wrong_and_what_would_work() -> None:
    assert from_error(SettingError("a; b")) == Finding("problem", "a", "b")


def test_what_was_not_looked_at_is_a_warning() -> None:
    assert not_looked_at("the broker cannot be used").level == "warning"
