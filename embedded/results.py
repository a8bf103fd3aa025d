"""The lines that the demo prints at its end, as functions on values."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from runtime.process.foreign_text import on_one_line

_WIDEST = 100
_LABEL = 20
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_STYLES = {"critical": "red", "high": "yellow"}
_FASTER = 2_000
_FOR_SECONDS = 10


@dataclass(frozen=True)
class Page:
    """The terminal or file that the lines are printed to: its columns, and whether it accepts more than ASCII."""

    columns: int
    unicode: bool

    @property
    def width(self) -> int:
        """The width of lines, which is limited on a wide terminal."""
        return min(self.columns, _WIDEST)

    def foreign(self, text: str, columns: int) -> str:
        """Return the beginning of a user's text, as one line of at most ``columns`` columns."""
        # Combining marks have no width, so limit the number of characters too.
        text = on_one_line(text[: 4 * max(0, columns)])
        if not self.unicode:
            text = text.encode("ascii", "backslashreplace").decode()
        if cell_len(text) <= columns:
            return text
        more = "…" if self.unicode else "..."
        return set_cell_size(text, max(0, columns - len(more))) + more[: max(0, columns)]

    def bar(self, part: int, most: int, columns: int) -> str:
        """Return a bar for ``part``; ``most`` would fill ``columns``. Only zero has no bar."""
        if not part:
            return ""
        if not self.unicode:
            return "#" * max(1, round(part / most * columns))
        whole, eighths = divmod(max(1, round(8 * part / most * columns)), 8)
        return "█" * whole + _EIGHTHS[eighths]


def figures(values: Mapping[str, int], page: Page) -> list[Text]:
    """Return a line for each figure."""
    numbers = {name: f"{value:,}" for name, value in values.items()}
    widest = max(map(len, numbers.values()))
    return [_row(page, Text(f"  {name:<{_LABEL}}{number:>{widest}}")) for name, number in numbers.items()]


def load(what: str, counts: Mapping[str, int], page: Page) -> list[Text]:
    """Return a heading, and a line with number, share and bar for each name."""
    whole, most = sum(counts.values()), max(counts.values(), default=0)
    widest = len(f"{most:,}")
    room = page.width - _LABEL - widest - 12
    lines = [heading(what)]
    for name, count in counts.items():
        label = page.foreign(name, _LABEL - 1)
        label += " " * (_LABEL - cell_len(label))
        numbers = f"{count:>{widest},}  {_percent(count, whole):>5}  "
        drawn = page.bar(count, most, room) if room > 0 else ""
        lines.append(_row(page, Text.assemble("  ", label, numbers, (drawn, _STYLES.get(name, "cyan")))))
    return lines


def urgent(tickets: Sequence[Mapping[str, Any]], of: int, page: Page) -> list[Text]:
    """Return a heading and two lines for each of ``tickets``, which are some of ``of`` high-priority ones."""
    if not tickets:
        return [heading("High-priority tickets: none")]
    lines = [heading(f"High-priority tickets, {len(tickets)} of {of:,}")]
    for ticket in tickets:
        priority, created = ticket["priority"], ticket["created_at"].isoformat(" ", "minutes")[:16]
        about = f"  {ticket['request_type']:<9}  {created} UTC  "
        client = page.foreign(ticket["client_id"], page.width - len(about) - 10)
        lines.append(_row(page, Text.assemble("  ", (f"{priority:<8}", _STYLES[priority]), about, client)))
        lines.append(_row(page, Text("    " + page.foreign(ticket["request"], page.width - 4))))
    return lines


def files(folder: Path, sizes: Mapping[str, tuple[int, int]], page: Page) -> list[Text]:
    """Return where the datasets are, and how many files and bytes each has."""
    lines = [Text.assemble(heading("The files are in "), on_one_line(str(folder)))]
    for name, (count, size) in sizes.items():
        noun = "file " if count == 1 else "files"
        lines.append(_row(page, Text(f"  {name + '/':<25} {count:>4} {noun} {size / 1024:>9,.1f} KiB")))
    return lines


def reading(folder: Path, output_format: str) -> str:
    """Return the expression that reads the dataset in ``folder`` with pandas."""
    # Quote the path as JSON, which Python reads too: it may contain a quote or a backslash.
    name = json.dumps(str(folder), ensure_ascii=False)
    if output_format == "parquet":
        return f"pd.read_parquet({name})"
    return f'pd.concat(pd.read_json(file, lines=True) for file in pathlib.Path({name}).glob("*.json"))'


def query(python: str, tickets: Path, output_format: str) -> str:
    """Return a command that prints the busiest clients; only one of its lines is as long as the folder's name."""
    modules = "pandas as pd" if output_format == "parquet" else "pathlib, pandas as pd"
    code = f"import {modules}; print(\n      {reading(tickets, output_format)}\n      .client_id.value_counts().head())"
    return f"{shlex.quote(python)} -c {shlex.quote(code)}"


def with_make(target: str, *flags: str) -> str:
    """Return a shell command that passes ``flags`` through make to a program."""
    if not flags:
        return f"make {target}"
    # Double the dollar sign, which make would expand.
    flat = shlex.join(flags).replace("$", "$$")
    return (
        f'make {target} ARGS="{flat}"' if not set(flat) & set('"\\`$!') else f"make {target} ARGS={shlex.quote(flat)}"
    )


def faster(rate: float, usual: float, flags: Sequence[str]) -> tuple[str, str]:
    """Return, in words and as a command, a rate higher than ``rate``, or than ``usual`` if ``rate`` is 0 (no limit)."""
    new = 10 * rate if rate else _FASTER
    count = max(1, round(new * _FOR_SECONDS))
    than = f"{rate:,.10g}" if rate else f"the usual {usual:,.10g}"
    words = f"a higher rate than {than}: {new:,.10g} tickets a second, for {_FOR_SECONDS} seconds"
    return words, with_make("demo", "--count", str(count), "--rate", f"{new:.10g}", *flags)


def next_steps(steps: Sequence[tuple[str, str]]) -> list[Text]:
    """Return what to try next; the commands are never truncated, so that they can be copied."""
    lines = [heading("Try next")]
    for words, command in steps:
        lines += [Text(f"  {words}"), Text.assemble("    ", (command, "green"))]
    return lines


def heading(text: str) -> Text:
    """Return a line in bold, if the terminal can show that."""
    return Text(text, "bold")


def _row(page: Page, line: Text) -> Text:
    line.truncate(max(1, page.width), overflow="crop")
    line.rstrip()
    return line


def _percent(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "<1 %" if 0 < percent < 1 else f"{percent:.0f} %"
