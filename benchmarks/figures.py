"""Summaries of many runs: medians, spread, ratios, and the machine and versions that they ran on."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from runtime.java.jdk import java_executable
from runtime.settings.setting import ROOT

_PACKAGES = ("confluent-kafka", "kafka-python", "msgspec", "numpy", "pyarrow", "pyspark")


@dataclass(frozen=True, slots=True)
class Figures:
    """The median, the least and the most of several values."""

    median: float
    least: float
    most: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figures":
        """Summarize ``values``; there must be at least one."""
        return cls(round(median(values), 3), round(min(values), 3), round(max(values), 3), len(values))

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Figures":
        """Summarize the ratios of neighbouring runs, because a busy machine changes these least."""
        return cls.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and what was measured; ``wanted`` is the lower limit if ``at_least``, otherwise the upper one."""

    what: str
    wanted: float
    found: Figures
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.found.median >= self.wanted if self.at_least else self.found.median <= self.wanted

    def told(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return {**asdict(self), "met": self.met}


def table_of(goals: Sequence[Goal]) -> Table:
    """Return the goals for a terminal."""
    table = Table("goal", "wanted", "median", "least", "most", "met")
    for goal in goals:
        wanted = f"{'≥' if goal.at_least else '≤'} {goal.wanted:g}"
        figures = (f"{value:.2f}" for value in (goal.found.median, goal.found.least, goal.found.most))
        table.add_row(goal.what, wanted, *figures, "yes" if goal.met else "no")
    return table


def surroundings() -> dict[str, Any]:
    """Return the machine and the versions that figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")), 0)
    java = subprocess.run([java_executable(), "-version"], capture_output=True, text=True, check=True).stderr
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": {
            "cpu": cpu,
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory_kib / (1 << 20)),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": os.getloadavg()[0],
        },
        "versions": {
            "commit": commit.stdout.strip(),
            "python": platform.python_version(),
            "java": java.splitlines()[0],
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
