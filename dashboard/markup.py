"""HTML for what Streamlit has no element for: tiles, bars, captions. All text is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pyarrow as pa

from runtime.process.words import number, share
from store.condition import Condition


@dataclass(frozen=True)
class Tile:
    """One figure with its name and a short note."""

    name: str
    value: str
    note: str = ""


def tiles(figures: Sequence[Tile]) -> str:
    """Return the figures side by side."""
    cells = (
        f'<div class="tickets-tile" role="listitem"><div class="tickets-name">{escape(one.name)}</div>'
        f'<div class="tickets-value">{escape(one.value)}</div><div class="tickets-note">{escape(one.note)}</div></div>'
        for one in figures
    )
    return f'<div class="tickets-tiles" role="list">{"".join(cells)}</div>'


def state(condition: Condition, facts: Sequence[str]) -> str:
    """Return the line that shows what the processor does, and how fresh the figures are."""
    parts = [f'<span><span class="dot"></span><strong>{escape(condition.words)}</strong></span>']
    parts += [f"<span>{escape(fact)}</span>" for fact in facts]
    if condition.detail:
        parts.append(f'<span class="tickets-quiet">{escape(condition.detail)}</span>')
    return f'<div class="tickets-state {condition.level}">{"".join(parts)}</div>'


def load(what: str, counts: pa.Table, colours: Mapping[str, str]) -> str:
    """Return a bar, a number and a share for each name; ``counts`` has ``name``, ``tickets`` and ``share``."""
    rows = counts.to_pylist()
    most, whole = max((row["share"] for row in rows), default=0.0) or 1.0, sum(row["tickets"] for row in rows)
    lines = (
        f'<tr><th scope="row">{escape(row["name"])}</th><td class="track">'
        f"{_bar(row['share'] / most, colours.get(row['name']))}</td>"
        f'<td class="numbers">{number(row["tickets"])}</td><td class="numbers">{share(row["tickets"], whole)}</td></tr>'
        for row in rows
    )
    return f'<table class="tickets-load"><caption>{escape(what)}</caption><tbody>{"".join(lines)}</tbody></table>'


def _bar(length: float, colour: str | None) -> str:
    if not length:
        return ""
    return f'<div class="bar" style="width:{length:.1%}{f";background:{colour}" if colour else ""}"></div>'


def caption(text: str) -> str:
    """Return a small line below a heading."""
    return f'<p class="tickets-caption">{escape(text)}</p>'


def plain(text: str) -> str:
    """Return a user's text unchanged and escaped: markup, links and formulas in it have no effect."""
    return f'<div class="tickets-text" dir="auto">{escape(text)}</div>'
