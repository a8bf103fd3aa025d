"""The benchmarks count right: medians, ratios, goals, and what a whole process tree costs."""

import sys

import pytest

from benchmarks.figures import Figures, Goal
from benchmarks.report import BEGIN, DOCUMENT, END, parts_of, read, render
from benchmarks.whole_process import CommandFailed, measure


def test_figures_are_the_median_and_the_ends() -> None:
    assert Figures.of([3, 1, 2, 9]) == Figures(median=2.5, least=1, most=9, repeats=4)


def test_a_ratio_is_that_of_neighbours_in_time() -> None:
    # The third pair was measured while the machine was three times as slow.
    assert Figures.of_ratios([2, 2, 6], [4, 4, 12]) == Figures(0.5, 0.5, 0.5, 3)


@pytest.mark.parametrize(
    ("wanted", "at_least", "found", "met"),
    [(2, True, 2.0, True), (2, True, 1.9, False), (2, False, 2.0, True), (2, False, 2.1, False)],
)
def test_a_goal_is_a_limit_from_below_or_from_above(wanted: float, at_least: bool, found: float, met: bool) -> None:
    assert Goal("speed", wanted, Figures.of([found]), at_least).met is met


BURN = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.4: pass"


def test_a_process_that_outlives_its_parent_is_counted_and_waited_for() -> None:
    orphan = (
        f"import os, time\nif os.fork() == 0:\n    time.sleep(0.2)\n    exec({BURN!r})\n    os._exit(0)\nprint('gone')"
    )
    cost, printed = measure([sys.executable, "-c", orphan])
    assert printed.splitlines() == ["gone"]
    assert cost.wall_s < 0.2 < cost.cpu_s


def test_a_command_that_fails_is_shown() -> None:
    with pytest.raises(CommandFailed, match="no such luck"):
        measure([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_the_document_holds_the_figures_of_the_last_run() -> None:
    _, figures, _ = parts_of(DOCUMENT.read_text(encoding="utf-8"))
    assert figures == f"\n\n{render(read('processor'), read('producer'), read('long_run'))}\n\n"


def test_a_document_without_the_markers_is_not_written_over() -> None:
    for document in ("", BEGIN, f"{END} {BEGIN}"):
        with pytest.raises(ValueError, match="lacks"):
            list(parts_of(document))
