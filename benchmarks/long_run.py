"""Run a service for half an hour, to see whether anything grows: ``python -m benchmarks.long_run --minutes 30``.

500 tickets a second, a batch every 5 seconds, merges and dedupe on, with broker and producer on the same machine. Every
10 seconds it measures memory, files and ledger; at the end ``--verify`` checks the output, and its number of tickets
must be that of the topic. Progress goes to standard error, JSON to standard output.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.figures import Figures, Goal, surroundings, table_of
from benchmarks.topics import fresh_topic
from benchmarks.whole_process import running, tree_mib
from embedded.broker import EmbeddedBroker
from processor.topic import Topic
from runtime.broker.security import KafkaSecurity
from runtime.process.shutdown import Shutdown
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.reader import open_output

RATE = 500
INTERVAL_S = 5
_LOOK_EVERY_S = 10.0
_WARM_UP_S = 120
_BATCH = re.compile(r"batch (\d+): .* published in ([0-9.]+) s")
_MERGE = re.compile(r"merged .* in ([0-9.]+) s")


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured at one time. ``mib`` is the PSS of the processor's process tree, ``state_kib`` its caches."""

    second: float
    mib: float
    tickets: int
    files: int
    ledger_kib: float
    state_kib: float


def look(pid: int, output: Path, second: float) -> Look | None:
    """Measure now; return None before there is an output."""
    reader = open_output(OutputLocation(output))
    if reader is None:
        return None
    manifest = reader.manifest
    state = (path for path in (output / ".pipeline").rglob("*") if "replaced" not in path.parts)
    return Look(
        second=round(second, 1),
        mib=round(tree_mib(pid), 1),
        tickets=manifest.totals.tickets,
        files=sum(map(len, manifest.contents.values())),
        ledger_kib=round((output / "_manifest.json").stat().st_size / 1024, 1),
        state_kib=round(sum(_bytes(path) for path in state) / 1024, 1),
    )


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def looks(pid: int, output: Path, seconds: float) -> Iterator[Look]:
    """Measure every ten seconds."""
    began = time.monotonic()
    for number in range(1, int(seconds / _LOOK_EVERY_S) + 1):
        time.sleep(max(0.0, began + number * _LOOK_EVERY_S - time.monotonic()))
        found = look(pid, output, time.monotonic() - began)
        if found is not None:
            yield found
            if number % 6 == 0:
                print(f"{found}", file=sys.stderr)


def times(log: str, pattern: re.Pattern[str]) -> list[float]:
    """Return the seconds in the lines of a log that ``pattern`` matches, in their order."""
    return [float(line[pattern.groups]) for line in pattern.finditer(log)]


def goals(found: Sequence[Look], batches: Sequence[float], warm_up_s: float) -> list[Goal]:
    """Compare the last third with the one before it, after the warm-up; nothing may grow."""
    warm = [each for each in found if each.second > warm_up_s]
    kept = batches[len(batches) - len(batches) * len(warm) // len(found) :]
    return [
        Goal("memory, last third / the one before", 1.05, _growth([each.mib for each in warm], median)),
        Goal("seconds of a batch, last third / the one before", 1.15, _growth(kept, median)),
        # It grows with each batch and shrinks with each merge.
        Goal("most KiB of the ledger, the same", 1.1, _growth([each.ledger_kib for each in warm], max)),
        Goal("number of files, at most", 200, Figures.of([float(max(each.files for each in found))])),
    ]


def _growth(values: Sequence[float], summed_up: Callable[[Sequence[float]], float]) -> Figures:
    third = len(values) // 3
    return Figures.of([summed_up(values[-third:]) / summed_up(values[-2 * third : -third])])


def measure(minutes: float, folder: Path) -> tuple[dict[str, Any], list[Goal]]:
    """Run it in an empty ``folder`` and return the results. Raises AssertionError when the output is not exact."""
    output, log = folder / "output", folder / "processor.log"
    service = [sys.executable, "processor/spark_processor.py", "--interval", str(INTERVAL_S), "--dedupe", "all"]
    sender = [sys.executable, "producer/ticket_producer.py", "--rate", str(RATE)]
    with EmbeddedBroker(folder / "broker") as broker, fresh_topic(broker.address) as topic:
        where = ["--broker", broker.address, "--topic", topic]
        before = surroundings()
        with running([*service, *where, "--output-path", str(output)], log) as pid:
            with running([*sender, *where]):
                found = list(looks(pid, output, minutes * 60))
            sent = sum(Topic(broker.address, KafkaSecurity(), topic, Shutdown()).ends(range(4)).values())
            _wait_until(lambda: _tickets(output) == sent, 120)
    told = log.read_text(encoding="utf-8")
    verified = subprocess.run(
        [sys.executable, "processor/spark_processor.py", "--verify", "--output-path", str(output)],
        cwd=ROOT,
        stdout=sys.stderr,
        check=False,
    )
    assert verified.returncode == 0, "the output is not what its ledger says"
    assert _tickets(output) == sent, f"{sent:,} tickets were sent, {_tickets(output):,} published"
    batches, merges = times(told, _BATCH), times(told, _MERGE)
    kept = goals(found, batches, min(_WARM_UP_S, minutes * 60 / 5))
    return {
        **before,
        "minutes": minutes,
        "tickets": sent,
        "batches": asdict(Figures.of(batches)),
        "merges": asdict(Figures.of(merges)) if merges else None,
        "warnings": [line for line in told.splitlines() if " WARNING " in line],
        "goals": [goal.told() for goal in kept],
        "looks": [asdict(each) for each in found],
        "batch_seconds": batches,
    }, kept


def _tickets(output: Path) -> int:
    reader = open_output(OutputLocation(output))
    return reader.manifest.totals.tickets if reader else 0


def _wait_until(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.5)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 if nothing grew."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_run",
        description="Run a service to see whether anything grows.",
        allow_abbrev=False,
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (30)")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found, kept = measure(flags.minutes, Path(folder))
    Console(stderr=True).print(table_of(kept))
    print(json.dumps(found, indent=1))
    return 0 if all(goal.met for goal in kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
