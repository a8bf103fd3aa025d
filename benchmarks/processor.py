"""How fast the processor is compared with what people would write themselves, on one embedded broker.

``python -m benchmarks.processor`` prints tables on standard error and JSON on standard output. All contestants take
turns, so that other work on the machine affects all of them; only ratios are comparable between machines. Each run is a
whole process, from its start to its end, and what it wrote is checked. ``--quick`` measures less, in three minutes, and
ends with exit code 1 if a ratio is far below what it was. ``--dedupe`` measures what it costs to look for duplicates
when there are none.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import (
    Contestant,
    Course,
    bare_session,
    drain,
    in_little_memory,
    one_pass,
    one_process,
    one_process_that_validates,
    ours,
    processor,
    seed_style,
    start_of_a_bare_context,
    start_of_spark,
    without_duplicates,
)
from benchmarks.figures import Figures, Goal, surroundings, table_of
from benchmarks.topics import Filler, Tickets
from benchmarks.whole_process import Cost, running
from embedded.broker import EmbeddedBroker
from runtime.java import jars

_RATE, _WATCHED_S, _WARM_UP_S = 200, 40, 10
_LOOK_EVERY_S = 0.005


class Benchmark:
    """One broker, the topics on it, and a folder whose content is removed after each run."""

    def __init__(self, broker: str, folder: Path, console: Console) -> None:
        self.filler = Filler(broker)
        self._folder = folder
        self._console = console
        self._number = itertools.count()

    @contextmanager
    def course(self, topic: str, tickets: Tickets) -> Iterator[Course]:
        """Return a course whose folder is removed at the end."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Course(self.filler.address, topic, tickets, Path(folder) / "output")

    def contest(self, count: int, repeats: Mapping[Contestant, int]) -> dict[Contestant, list[Cost]]:
        """Let all take turns on one topic of ``count`` tickets, each ``repeats`` times; return the cost of each run."""
        costs: dict[Contestant, list[Cost]] = {contestant: [] for contestant in repeats}
        with self.filler.topic(count) as (topic, tickets):
            for turn in range(max(repeats.values())):
                for contestant, turns in repeats.items():
                    if turn < turns:
                        with self.course(topic, tickets) as course:
                            costs[contestant].append(contestant(course))
                        self._say(contestant, count, costs[contestant][-1])
        return costs

    def history(
        self, before: int, new: int, repeats: int, contestants: Sequence[Contestant]
    ) -> tuple[dict[Contestant, list[Cost]], list[Cost]]:
        """Return the cost of ``new`` tickets on an output that holds ``before``, and on an empty one.

        Each contestant has its own full output; only ``ours`` is measured on an empty one.
        """
        grown: dict[Contestant, list[Cost]] = {contestant: [] for contestant in contestants}
        empty: list[Cost] = []
        with self.filler.topic(before) as (topic, held), ExitStack() as stack:
            courses = {contestant: stack.enter_context(self.course(topic, held)) for contestant in contestants}
            for contestant, course in courses.items():
                self._say(contestant, before, contestant(course))
            for _ in range(repeats):
                more = self.filler.send(topic, new)
                held = Tickets(held.count + more.count, held.urgent + more.urgent)
                for contestant, course in courses.items():
                    grown[contestant].append(contestant(replace(course, tickets=held)))
                    self._say(contestant, new, grown[contestant][-1])
                empty += self.contest(new, {ours: 1})[ours]
        return grown, empty

    def delays(self) -> list[float]:
        """Return for many tickets the seconds from created_at until a reader can see the ticket."""
        with self.filler.topic(0) as (topic, none), self.course(topic, none) as course:
            producer = [sys.executable, "producer/ticket_producer.py", "--broker", course.broker, "--topic", topic]
            with (
                running([*producer, "--rate", str(_RATE)]),
                running([*processor(course), "--interval", "1"]),
            ):
                seen = _watch(course.folder / "tickets_with_assignment", _WARM_UP_S + _WATCHED_S)
            first = min(seen.values()) + _WARM_UP_S
            return [
                moment - created.as_py().timestamp()
                for file, moment in seen.items()
                if moment > first
                for created in pq.read_table(file, columns=["created_at"])["created_at"]
            ]

    def starts(self, repeats: int) -> tuple[list[float], list[float]]:
        """Return the seconds that Spark needs to start in our process, and those of a bare SparkContext."""
        ours_, bare = [], []
        with self.filler.topic(2_000) as (topic, tickets):
            for _ in range(repeats):
                with self.course(topic, tickets) as course:
                    ours_.append(start_of_spark(course))
                bare.append(start_of_a_bare_context())
        return ours_, bare

    def _say(self, contestant: Contestant, count: int, cost: Cost) -> None:
        figures = f"{cost.wall_s:8.2f} s {cost.cpu_s:8.2f} s CPU {cost.peak_mib:8,.0f} MiB"
        self._console.print(f"{_name(contestant):<28} {count:>12,} {figures}")


def _watch(folder: Path, seconds: float) -> dict[Path, float]:
    """Return when each file appeared in ``folder``, until ``seconds`` after the first one."""
    seen: dict[Path, float] = {}
    while not seen or time.time() < min(seen.values()) + seconds:
        with suppress(FileNotFoundError):
            for file in folder.iterdir():
                seen.setdefault(file, time.time())
        time.sleep(_LOOK_EVERY_S)
    return seen


def _seconds(costs: Sequence[Cost]) -> list[float]:
    return [cost.wall_s for cost in costs]


def _times_faster(ours_: Sequence[Cost], theirs: Sequence[Cost]) -> Figures:
    """Return how many times as long the others take; if we have more runs, only the first ones count."""
    return Figures.of_ratios(_seconds(theirs), _seconds(ours_)[: len(theirs)])


Costs = Mapping[Contestant, Sequence[Cost]]


@dataclass(frozen=True, slots=True)
class Measured:
    """All results: the costs with 2,000,000, 2,000 and 10,000,000 tickets, and other figures in seconds."""

    two: Costs
    small: Costs
    ten: Costs
    grown: Costs
    empty: Sequence[Cost]
    delays: Sequence[float]
    starts: Sequence[float]
    bare_starts: Sequence[float]

    def runs(self) -> dict[str, Any]:
        """Return the costs of each contestant, by number of tickets."""
        contests: dict[str, Costs] = {
            "2,000,000": self.two,
            "2,000": self.small,
            "10,000,000": self.ten,
            "10,000 more on 10,000,000": self.grown,
            "10,000": {ours: self.empty},
        }
        return {count: _summary(costs) for count, costs in contests.items()}

    def goals(self) -> list[Goal]:
        """Return the goals with what was measured."""
        two, small, ten = self.two, self.small, self.ten
        validating = _times_faster(ten[ours], ten[one_process_that_validates])
        gigabytes = [cost.peak_mib * (1 << 20) / 1e9 for cost in ten[in_little_memory]]
        p95 = Figures.of([quantiles(self.delays, n=20)[-1]])
        return [
            Goal("2 M, times as fast as Spark in seed style", 6, _times_faster(two[ours], two[seed_style]), True),
            Goal("2 M, times as fast as one process", 1, _times_faster(two[ours], two[one_process]), True),
            Goal("2,000 tickets, times a bare SparkSession", 0.75, _times_faster(small[bare_session], small[ours])),
            Goal("10 M, times as fast as one process that validates", 1.5, validating, True),
            Goal("10 M, of the rate of only reading the topic", 1, _times_faster(ten[ours], ten[drain]), True),
            Goal("10 M, µs of CPU a ticket", 3.5, Figures.of([cost.cpu_s / 10 for cost in ten[ours]])),
            Goal("10,000 more on 10 M, times on nothing", 1.2, _times_faster(self.empty, self.grown[ours])),
            Goal("10 M with a heap of 1g, GB of memory", 2, Figures.of(gigabytes)),
            Goal(f"interval of 1 s at {_RATE} tickets/s, s until visible (p95)", 2, p95),
            Goal("start of Spark, times a bare SparkContext", 0.6, Figures.of_ratios(self.starts, self.bare_starts)),
            *_goals_of_dedupe(two, self.grown),
        ]


def measure_everything(benchmark: Benchmark, repeats: int) -> Measured:
    """Measure everything; what takes long is repeated two times less."""
    few = max(1, repeats - 2)
    two: dict[Contestant, int] = {
        ours: repeats,
        one_process: repeats,
        one_pass: few,
        seed_style: few,
        drain: repeats,
        without_duplicates: few,
    }
    ten: dict[Contestant, int] = {
        ours: few,
        drain: few,
        one_process: few,
        one_process_that_validates: few,
        in_little_memory: 1,
    }
    return Measured(
        benchmark.contest(2_000_000, two),
        benchmark.contest(2_000, {ours: repeats, bare_session: repeats}),
        benchmark.contest(10_000_000, ten),
        *benchmark.history(10_000_000, 10_000, few, (ours, without_duplicates)),
        benchmark.delays(),
        *benchmark.starts(repeats),
    )


# What --quick compares: the peer, the number of tickets, and how many times as fast ours was (docs/performance.md).
QUICK = ((one_process, 2_000_000, 1.0), (seed_style, 100_000, 11.5))
# A ratio that is 40 percent lower is more than noise.
_TOLERANCE = 0.6


def measure_quickly(benchmark: Benchmark, repeats: int) -> tuple[dict[str, Any], list[Goal]]:
    """Return the cost of each run, and the ratios that must not fall far below what was measured before."""
    runs, goals = {}, []
    for peer, count, measured in QUICK:
        costs = benchmark.contest(count, {ours: repeats, peer: repeats})
        ratio = _times_faster(costs[ours], costs[peer])
        runs[f"{count:,}"] = _summary(costs)
        goals.append(Goal(f"{count:,}, times as fast as {_name(peer)}", measured * _TOLERANCE, ratio, True))
    return runs, goals


def measure_dedupe(benchmark: Benchmark, repeats: int) -> tuple[dict[str, Any], list[Goal]]:
    """Return the cost of looking for duplicates in 2,000,000 tickets, and in 10,000 after 10,000,000."""
    two = benchmark.contest(2_000_000, {ours: repeats, without_duplicates: repeats})
    grown, _ = benchmark.history(10_000_000, 10_000, repeats, (ours, without_duplicates))
    return {"2,000,000": _summary(two), "10,000 more on 10,000,000": _summary(grown)}, _goals_of_dedupe(two, grown)


def _goals_of_dedupe(two: Costs, grown: Costs) -> list[Goal]:
    return [
        Goal(
            f"{what} with `--dedupe all`, times without", wanted, _times_faster(costs[ours], costs[without_duplicates])
        )
        for what, wanted, costs in (("2 M", 1.3, two), ("10,000 more on 10 M", 1.5, grown))
    ]


def _name(contestant: Contestant) -> str:
    return contestant.__name__.replace("_", " ")


def _summary(costs: Costs) -> dict[str, Any]:
    return {
        _name(contestant): {
            "seconds": asdict(Figures.of(_seconds(runs))),
            "CPU seconds": asdict(Figures.of([cost.cpu_s for cost in runs])),
            "MiB": asdict(Figures.of([cost.peak_mib for cost in runs])),
        }
        for contestant, runs in costs.items()
    }


def _table(contests: Mapping[str, Any]) -> Table:
    table = Table("tickets", "", "median, s", "least", "most", "CPU, s", "memory, MiB", "runs")
    for count, contestants in contests.items():
        for name, found in contestants.items():
            s = found["seconds"]
            figures = (f"{s[key]:.2f}" for key in ("median", "least", "most"))
            cpu, memory = (f"{found[key]['median']:,.1f}" for key in ("CPU seconds", "MiB"))
            table.add_row(count, name, *figures, cpu, memory, str(s["repeats"]))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processor", description="Measure the processor.")
    parser.add_argument("--quick", action="store_true", help="only the ratios that CI guards, in 3 minutes")
    parser.add_argument("--dedupe", action="store_true", help="only what --dedupe costs, in 6 minutes")
    parser.add_argument("--repeats", type=int, help="turns of each (5; with --quick or --dedupe 3)")
    flags = parser.parse_args(argv)
    console = Console(stderr=True)
    jars.main(["bench"])
    surroundings_before = surroundings()
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder) / "broker") as broker:
        benchmark = Benchmark(broker.address, Path(folder), console)
        if flags.quick:
            contests, goals = measure_quickly(benchmark, flags.repeats or 3)
        elif flags.dedupe:
            contests, goals = measure_dedupe(benchmark, flags.repeats or 3)
        else:
            measured = measure_everything(benchmark, flags.repeats or 5)
            contests, goals = measured.runs(), measured.goals()
    console.print(_table(contests))
    console.print(table_of(goals))
    print(json.dumps({**surroundings_before, "runs": contests, "goals": [goal.told() for goal in goals]}, indent=2))
    return 1 if flags.quick and not all(goal.met for goal in goals) else 0


if __name__ == "__main__":
    raise SystemExit(main())
