"""Users' text on the page stays text."""

import pyarrow as pa

from dashboard import charts, markup
from dashboard.markup import Tile
from store.condition import Condition

HOSTILE = '<script>alert(1)</script> & "quotes" [a](javascript:alert(1)) $x$'
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot; [a](javascript:alert(1)) $x$"


def test_no_text_becomes_markup() -> None:
    counts = pa.table({"name": [HOSTILE], "tickets": [3], "share": [1.0]})
    for made in (
        markup.plain(HOSTILE),
        markup.caption(HOSTILE),
        markup.tiles([Tile(HOSTILE, "1"), Tile("a", HOSTILE), Tile("a", "1", HOSTILE)]),
        markup.state(Condition("bad", HOSTILE, HOSTILE), [HOSTILE]),
        markup.load(HOSTILE, counts, {}),
    ):
        assert ESCAPED in made
        assert "<script" not in made


def test_bars_are_as_long_as_their_share_of_the_longest_and_nothing_has_none() -> None:
    counts = pa.table({"name": ["low", "high", "none"], "tickets": [1_000, 3_000, 0], "share": [0.25, 0.75, 0.0]})
    made = markup.load("by priority", counts, {"high": "#E69F00"})
    assert '<div class="bar" style="width:33.3%"></div>' in made
    assert '<div class="bar" style="width:100.0%;background:#E69F00"></div>' in made
    assert made.count('class="bar"') == 2
    assert ">1,000</td>" in made
    assert ">25 %</td>" in made


def test_without_tickets_there_are_no_bars() -> None:
    counts = pa.table({"name": ["low"], "tickets": [0], "share": [0.0]})
    assert 'class="bar"' not in markup.load("by priority", counts, {})


def test_the_most_urgent_lie_at_the_bottom_of_a_stack_and_a_name_of_the_past_on_top() -> None:
    assert [charts.rank("priority", name) for name in ("critical", "high", "medium", "low", "gone")] == [0, 1, 2, 3, 4]


def test_the_colours_of_a_stack_are_colour_blind_safe() -> None:
    # The colours of Okabe and Ito, and a grey.
    known = {"#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#8C96A3"}
    for by, column in charts.STACKS.items():
        spec = charts.movement("hour", column)
        colours = spec["encoding"]["color"]["scale"]["range"]
        assert set(colours) <= known, by
        assert len(set(colours)) == 4, by
