"""Put the figures of the last ``make bench`` into docs/performance.md: ``python -m benchmarks.report``.

The part between the two markers is made from ``benchmarks/results``; the rest of the document stays as it is.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.settings.setting import ROOT

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

_CHARTED = "2,000,000"


def render(processor: Mapping[str, Any], producer: Mapping[str, Any], long_run: Mapping[str, Any]) -> str:
    """Return the part of the document that holds figures, as Markdown."""
    parts = [
        _surroundings(processor),
        "### Goals",
        _goals([*processor["goals"], *producer["goals"]]),
        "### Seconds for a topic, whole processes",
        _chart(processor["runs"][_CHARTED]),
        _processor_runs(processor["runs"]),
        "### Tickets a second of the producer",
        _producer_runs(producer["runs"]),
        "### Half an hour of service",
        *_long_run(long_run),
    ]
    return "\n\n".join(parts)


def _surroundings(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items() if name not in ("commit", "java"))
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, load "
        f"{machine['load_before']:.1f} before; {versions['java']}, {packages}; commit {versions['commit']}. Medians, "
        "and in brackets the least and the most."
    )


def _goals(goals: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            goal["what"],
            f"{'≥' if goal['at_least'] else '≤'} {goal['wanted']:g}",
            _spread(goal["found"], 2),
            str(goal["found"]["repeats"]),
            "yes" if goal["met"] else "**no**",
        )
        for goal in goals
    ]
    return _table(("goal", "wanted", "found", "repeats", "met"), rows)


def _chart(contestants: Mapping[str, Any]) -> str:
    names = ", ".join(f'"{name}"' for name in contestants)
    seconds = ", ".join(f"{found['seconds']['median']:.1f}" for found in contestants.values())
    return (
        "```mermaid\nxychart-beta horizontal\n"
        f'    title "{_CHARTED} tickets, seconds (shorter is better)"\n'
        f"    x-axis [{names}]\n    bar [{seconds}]\n```"
    )


def _processor_runs(runs: Mapping[str, Any]) -> str:
    rows = [
        (
            count,
            name,
            _spread(found["seconds"], 2),
            f"{found['CPU seconds']['median']:.1f}",
            f"{found['MiB']['median']:,.0f}",
            str(found["seconds"]["repeats"]),
        )
        for count, contestants in runs.items()
        for name, found in contestants.items()
    ]
    return _table(("tickets", "", "seconds", "CPU seconds", "MiB at most", "runs"), rows)


def _producer_runs(runs: Mapping[str, Any]) -> str:
    rows = [
        (count, name, _spread(found["tickets a second"], 0), str(found["tickets a second"]["repeats"]))
        for count, contestants in runs.items()
        for name, found in contestants.items()
    ]
    return _table(("tickets", "", "tickets a second", "runs"), rows)


def _long_run(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the results of a long run: a sentence, the goals, charts by the minute, a table."""
    yield (
        f"{found['tickets']:,} tickets in {found['minutes']:g} minutes, a batch every 5 s, `--dedupe all`, small files "
        f"merged: {found['batches']['repeats']} batches of {_spread(found['batches'], 1)} s and "
        f"{found['merges']['repeats']} merges of {_spread(found['merges'], 1)} s. {_surroundings(found)}"
    )
    yield _goals(found["goals"])
    # One a minute is enough for a chart.
    looks = found["looks"][::6]
    minutes = [f"{look['second'] / 60:.0f}" for look in looks]
    for title, key in (("MiB of the processor, all its processes", "mib"), ("files of all datasets", "files")):
        values = ", ".join(f"{look[key]:.0f}" for look in looks)
        yield (
            f'```mermaid\nxychart-beta\n    title "{title}, by the minute"\n    x-axis [{", ".join(minutes)}]\n'
            f"    line [{values}]\n```"
        )
    rows = [
        (
            f"{look['second'] / 60:.0f}",
            f"{look['tickets']:,}",
            f"{look['mib']:.0f}",
            str(look["files"]),
            f"{look['ledger_kib']:.0f}",
            f"{look['state_kib']:,.0f}",
        )
        for look in found["looks"][29::30]
    ]
    yield _table(("minute", "tickets", "MiB", "files", "KiB of the ledger", "KiB of clients and ids"), rows)


def _spread(figures: Mapping[str, float], digits: int) -> str:
    median, least, most = (f"{figures[name]:,.{digits}f}" for name in ("median", "least", "most"))
    return median if figures["repeats"] == 1 else f"{median} ({least}–{most})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_line(cells) for cells in (heads, ["---"] * len(heads), *rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def parts_of(document: str) -> Iterator[str]:
    """Yield the text before, between and after the markers. Raises ValueError if a marker is missing."""
    before, found, rest = document.partition(BEGIN)
    between, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{DOCUMENT} lacks {BEGIN} or {END}")
    yield from (before, between, after)


def read(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return the JSON that one of the benchmarks printed."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Write the document."""
    before, _, after = parts_of(DOCUMENT.read_text(encoding="utf-8"))
    figures = render(read("processor"), read("producer"), read("long_run"))
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT} holds the figures now")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
