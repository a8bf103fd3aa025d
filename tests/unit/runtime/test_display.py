"""One line of progress: in place on a terminal, below each other in a log."""

import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtime.process.display import LogDisplay, TerminalDisplay, choose_display, draws_in_place
from runtime.process.logs import Event


@dataclass(frozen=True, slots=True)
class Line(Event):
    name = "line"
    _text: str

    def __str__(self) -> str:
        return self._text


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    """A stream that gets the log, as an entry point sets it up."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def test_a_line_replaces_the_one_before_and_is_gone_at_the_end(screen: io.StringIO) -> None:
    display = TerminalDisplay(screen, lambda: 80)
    display.show(Line("10 of 30"))
    display.show(Line("20 of 30"))
    display.close()
    assert screen.getvalue() == "\r\x1b[K10 of 30\r\x1b[K20 of 30\r\x1b[K"


def test_what_is_logged_meanwhile_stands_above_the_line_and_afterwards_alone(screen: io.StringIO) -> None:
    display = TerminalDisplay(screen, lambda: 80)
    display.show(Line("10 of 30"))
    logging.getLogger("test").warning("the broker is away")
    display.close()
    logging.getLogger("test").warning("done")
    assert screen.getvalue() == "\r\x1b[K10 of 30\r\x1b[Kthe broker is away\n10 of 30\r\x1b[Kdone\n"


def test_a_display_that_was_closed_can_show_again_and_without_a_line_has_nothing_to_erase(screen: io.StringIO) -> None:
    display = TerminalDisplay(screen, lambda: 80)
    display.close()
    assert screen.getvalue() == ""
    display.show(Line("batch 1"))
    display.close()
    display.show(Line("batch 2"))
    logging.getLogger("test").warning("hello")
    display.close()
    assert screen.getvalue() == "\r\x1b[Kbatch 1\r\x1b[K\r\x1b[Kbatch 2\r\x1b[Khello\nbatch 2\r\x1b[K"


@pytest.mark.parametrize(("columns", "shown"), [(80, "0123456789"), (11, "0123456789"), (10, "012345678"), (1, "")])
def test_a_line_never_reaches_the_edge_of_the_terminal_where_it_would_wrap(columns: int, shown: str) -> None:
    stream = io.StringIO()
    TerminalDisplay(stream, lambda: columns).show(Line("0123456789"))
    assert stream.getvalue() == f"\r\x1b[K{shown}"


def test_without_a_terminal_lines_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    display = LogDisplay()
    display.show(Line("10 of 30 (33 %)"))
    display.close()
    assert caplog.messages == ["10 of 30 (33 %)"]


@pytest.mark.parametrize(
    ("is_a_terminal", "terminal", "in_place"),
    [(True, "xterm", True), (True, "", True), (True, "dumb", False), (False, "xterm", False)],
)
def test_a_line_is_drawn_in_place_only_where_it_can_be_erased(
    is_a_terminal: bool, terminal: str, in_place: bool
) -> None:
    assert draws_in_place(is_a_terminal, terminal) is in_place


def test_a_json_log_stays_one_object_a_line_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(choose_display("json"), LogDisplay)
    assert isinstance(choose_display("text"), TerminalDisplay)
