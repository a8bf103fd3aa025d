"""The charts as Vega-Lite specifications without their data, in Okabe and Ito's colours (safe for the colour-blind)."""

from typing import Any, Literal

from contract.ticket import PRIORITIES, REQUEST_TYPES
from dashboard.figures import WEEKDAYS, Unit

Theme = Literal["light", "dark"]
Spec = dict[str, Any]

BLUE, SKY, ORANGE, VERMILION, GREEN, PURPLE, GREY = (
    *("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#8C96A3"),
)
# Warmer colours mean more urgent.
COLOURS: dict[str, dict[str, str]] = {
    "priority": dict(zip(PRIORITIES, (GREY, SKY, ORANGE, VERMILION), strict=True)),
    "request_type": dict(zip(REQUEST_TYPES, (BLUE, ORANGE, GREEN, PURPLE), strict=True)),
}
# What bars can be stacked by: the name on the page, and the column.
STACKS = {"priority": "priority", "type": "request_type"}

# From few tickets to many; in both themes, few is close to the background.
_HEAT: dict[Theme, list[str]] = {"light": ["#EAF3FA", "#56B4E9", "#00456E"], "dark": ["#14283A", "#1F77B0", "#A9DCFA"]}

_TIME = {
    "minute": ("%H:%M", "%a %d %b, %H:%M"),
    "hour": ("%d %b %H:%M", "%a %d %b, %H:%M"),
    "day": ("%d %b", "%a %d %b %Y"),
}


_PADDING = {"left": 4, "top": 4, "right": 12, "bottom": 4}


def movement(unit: Unit, by: str) -> Spec:
    """Return bars over time, stacked by ``by``; data: ``start``, ``end``, ``name``, ``tickets``."""
    colours = COLOURS[by]
    axis, tooltip = _TIME[unit]
    return {
        "height": 300,
        "padding": _PADDING,
        "mark": {"type": "bar", "orient": "vertical"},
        "encoding": {
            "x": {
                "field": "start",
                "type": "temporal",
                "scale": {"type": "utc"},
                "axis": {"title": None, "format": axis, "grid": False, "labelOverlap": True, "tickCount": 8},
            },
            "x2": {"field": "end"},
            "y": {
                "field": "tickets",
                "type": "quantitative",
                "stack": "zero",
                "axis": {"title": f"tickets per {unit}", "format": ",d", "tickCount": 5, "tickMinStep": 1},
            },
            "color": {
                "field": "name",
                "type": "nominal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {"title": None, "orient": "top"},
            },
            # The most urgent are at the bottom, where bars are easiest to compare.
            "order": {"field": "rank", "type": "quantitative"},
            "tooltip": [
                {
                    "field": "start",
                    "type": "temporal",
                    "title": f"{unit} (UTC)",
                    "format": tooltip,
                    "timeUnit": "utcyearmonthdatehoursminutes",
                },
                {"field": "name", "type": "nominal", "title": "priority" if by == "priority" else "type"},
                {"field": "tickets", "type": "quantitative", "title": "tickets", "format": ",d"},
            ],
        },
    }


def rank(by: str, name: str) -> int:
    """Return the position of a name in a stack, counted from the bottom, where the last name is (the most urgent)."""
    names = list(COLOURS[by])
    return len(names) - 1 - names.index(name) if name in names else len(names)


def heatmap(theme: Theme) -> Spec:
    """Return a week by weekday and hour; data: ``weekday``, ``hour``, ``average``, ``tickets``, ``times``."""
    return {
        "height": 350,
        "padding": _PADDING,
        "mark": {"type": "rect", "cornerRadius": 2},
        "encoding": {
            "x": {
                "field": "hour",
                "type": "ordinal",
                "scale": {"domain": list(range(24)), "paddingInner": 0.06},
                "axis": {
                    "title": "hour of the day (UTC)",
                    "labelAngle": 0,
                    "labelOverlap": True,
                    "ticks": False,
                    "domain": False,
                },
            },
            "y": {
                "field": "weekday",
                "type": "ordinal",
                "scale": {"domain": list(WEEKDAYS), "paddingInner": 0.08},
                "axis": {"title": None, "ticks": False, "domain": False},
            },
            "color": {
                "field": "average",
                "type": "quantitative",
                "scale": {"range": _HEAT[theme], "domainMin": 0},
                "legend": {
                    "title": "tickets per hour, average",
                    "orient": "top",
                    "format": ",.4~s",
                    "gradientLength": 160,
                },
            },
            "tooltip": [
                {"field": "weekday", "type": "nominal", "title": "weekday"},
                {"field": "hour", "type": "ordinal", "title": "hour (UTC)"},
                {"field": "average", "type": "quantitative", "title": "tickets per hour, average", "format": ",.1f"},
                {"field": "tickets", "type": "quantitative", "title": "tickets in all", "format": ",d"},
                {"field": "times", "type": "quantitative", "title": "hours that were counted", "format": ",d"},
            ],
        },
    }
