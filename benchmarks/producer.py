"""How fast the producer is compared with a bare kafka-python loop, on one embedded broker.

``python -m benchmarks.producer`` prints a table on standard error and JSON on standard output: medians, the spread, and
ratios. Peer, one worker and two workers take turns, so that other work on the machine affects all of them; only ratios
are comparable between machines. ``--idle`` adds the CPU at 10 tickets a second, ``--rates`` the error of some rates.
"""

import argparse
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.partitioner.default import DefaultPartitioner, murmur2
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figures, Goal, surroundings, table_of
from benchmarks.topics import PARTITIONS, fresh_topic
from benchmarks.whole_process import running
from contract.ticket import decode, encode
from embedded.broker import EmbeddedBroker
from producer.delivery import client_settings
from producer.sources.random import RandomTickets
from runtime.settings.setting import ROOT

# Made before the time is taken and sent again and again, so that making messages costs the peer nothing.
PEER_MESSAGES = 50_000
IDLE_RATE = 10
IDLE_S = 20
WARM_UP_S = 5

Measure = Callable[[str, str, int], float]


class _Partitioner(DefaultPartitioner):  # type: ignore[misc]
    """Hashes each key once, as the product does: hashing it for each message would take a fifth of the peer's time."""

    _hash = staticmethod(functools.lru_cache(maxsize=100_000)(murmur2))

    def partition(
        self, topic: str, key: bytes, serialized_key: bytes, value: bytes, serialized_value: bytes, cluster: Any
    ) -> int:
        """Return the partition of a record that has a key."""
        return int((self._hash(serialized_key) & 0x7FFFFFFF) % len(cluster.partitions_for_topic(topic)))


def peer(address: str, topic: str, count: int) -> float:
    """Send ``count`` messages in a loop as a user would write it, with our settings; return messages a second."""
    source = RandomTickets(seed=1)
    tickets = [source.draw(datetime.now(UTC)) for _ in range(PEER_MESSAGES)]
    messages = [(ticket.client_id.encode(), encode(ticket)) for ticket in tickets]
    settings = {**client_settings(), "partitioner": _Partitioner()}
    with closing(KafkaProducer(bootstrap_servers=address, **settings)) as client:
        client.partitions_for(topic)
        start = time.monotonic()
        for key, value in itertools.islice(itertools.cycle(messages), count):
            client.send(topic, value=value, key=key)
        client.flush()
        return count / (time.monotonic() - start)


def peer_in_its_own_process(address: str, topic: str, count: int) -> float:
    """Run ``peer`` in a new process, so that nothing else is in its memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peer, address, topic, count).result()


def product(workers: int) -> Measure:
    """Return the measurement of the product with ``workers``: acknowledged tickets a second, as it reports them."""

    def measure(address: str, topic: str, count: int) -> float:
        flags = ["--rate=0", f"--count={count}", f"--workers={workers}"]
        done = subprocess.run(_command(address, topic, *flags), cwd=ROOT, capture_output=True, text=True, check=True)
        found = re.search(r"done: .* failed 0, ([0-9,.]+)/s since the start", done.stderr)
        assert found, done.stderr
        return float(found[1].replace(",", ""))

    return measure


def compare_speed(address: str, count: int, repeats: int) -> dict[str, list[float]]:
    """Let all take turns ``repeats`` times; return the tickets a second that each reached."""
    contestants: dict[str, Measure] = {
        "bare kafka-python loop": peer_in_its_own_process,
        "one worker": product(1),
        "two workers": product(2),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, measure in contestants.items():
            with fresh_topic(address) as topic:
                speeds[name].append(measure(address, topic, count))
    return speeds


def idle_cpu(address: str) -> float:
    """Return the CPU, in percent of one core, that the product takes at 10 tickets a second."""
    with fresh_topic(address) as topic, running(_command(address, topic, f"--rate={IDLE_RATE}")) as pid:
        time.sleep(WARM_UP_S)
        before = _cpu_seconds(pid)
        time.sleep(IDLE_S)
        return 100 * (_cpu_seconds(pid) - before) / IDLE_S


def rate_error(address: str, rate: int, duration: int) -> float:
    """Return by how many percent the rate of the tickets' created_at differs from ``rate``."""
    with fresh_topic(address) as topic:
        flags = [f"--rate={rate}", f"--duration={duration}"]
        subprocess.run(_command(address, topic, *flags), cwd=ROOT, capture_output=True, check=True)
        moments = sorted(_created(address, topic))
    reached = (len(moments) - 1) / (moments[-1] - moments[0])
    return 100 * abs(reached / rate - 1)


def _command(address: str, topic: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "producer.ticket_producer", "--broker", address, "--topic", topic, *flags]


def _cpu_seconds(pid: int) -> float:
    """Read user and system time, fields 14 and 15 of proc(5), which count from 1 and include the bracketed name."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _created(address: str, topic: str) -> list[float]:
    with closing(KafkaConsumer(bootstrap_servers=address, group_id=None, auto_offset_reset="earliest")) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        moments: list[float] = []
        while len(moments) < sum(ends.values()):
            for records in consumer.poll(timeout_ms=500).values():
                moments += [decode(record.value).created_at.timestamp() for record in records]
    return moments


def _table(speeds: dict[str, list[float]]) -> Table:
    table = Table("", "median, tickets/s", "least", "most")
    for name, values in speeds.items():
        found = Figures.of(values)
        table.add_row(name, *(f"{value:,.0f}" for value in (found.median, found.least, found.most)))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producer", description="Measure the producer.")
    parser.add_argument("--count", type=int, default=300_000, help="messages in a run (300000)")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each (7)")
    parser.add_argument("--idle", action="store_true", help="also measure the CPU at 10 tickets a second")
    parser.add_argument("--rates", type=int, nargs="*", default=[], help="rates to check, such as 1 10 5000")
    parser.add_argument("--duration", type=int, default=20, help="seconds for each of the rates (20)")
    flags = parser.parse_args(argv)
    before = surroundings()
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder)) as broker:
        speeds = compare_speed(broker.address, flags.count, flags.repeats)
        bare, one, two = speeds.values()
        goals = [
            Goal("one worker, times a bare kafka-python loop", 0.95, Figures.of_ratios(one, bare), True),
            Goal("two workers, times one", 1.6, Figures.of_ratios(two, one), True),
        ]
        if flags.idle:
            goals.append(Goal("CPU at 10 tickets/s, % of a core", 5, Figures.of([idle_cpu(broker.address)])))
        for rate in flags.rates:
            error = rate_error(broker.address, rate, flags.duration)
            goals.append(Goal(f"rate at {rate:,}/s, % of error", 1, Figures.of([error])))
    console = Console(stderr=True)
    console.print(_table(speeds))
    console.print(table_of(goals))
    runs = {name: {"tickets a second": asdict(Figures.of(values))} for name, values in speeds.items()}
    print(json.dumps({**before, "runs": {f"{flags.count:,}": runs}, "goals": [g.told() for g in goals]}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
