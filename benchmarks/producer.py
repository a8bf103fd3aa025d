"""How fast the producer is beside a bare kafka-python loop, on one embedded broker.

``python -m benchmarks.producer`` prints a table on standard error and JSON on standard output: medians, the spread, and
ratios. Peer, one worker and two workers take turns, so that whatever else the machine does meets all of them; only the
ratios mean something elsewhere. ``--idle`` adds the CPU at 10 tickets a second, ``--rates`` the error of some rates.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.partitioner.default import DefaultPartitioner, murmur2
from rich.console import Console
from rich.table import Table

from contract.ticket import decode, encode
from embedded.broker import EmbeddedBroker
from producer.delivery import client_settings
from producer.ticket import TicketSource
from runtime.settings.setting import ROOT

PARTITIONS = 4
# Made before the clock starts, and sent round and round: the peer pays nothing for its messages.
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
    """Send ``count`` messages as a user would write it, with the settings of the product; return messages a second."""
    source = TicketSource(seed=1)
    tickets = [source.take(datetime.now(UTC)) for _ in range(PEER_MESSAGES)]
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
    """Run ``peer`` with nothing in memory but what it needs."""
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


def compare_speed(address: str, count: int, repeats: int) -> dict[str, Any]:
    """Let all take turns ``repeats`` times; return what each reached and the ratios that the product promises."""
    contestants: dict[str, Measure] = {
        "peer": peer_in_its_own_process,
        "one worker": product(1),
        "two workers": product(2),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, measure in contestants.items():
            with _fresh_topic(address) as topic:
                speeds[name].append(measure(address, topic, count))
    return {
        "tickets a second": {name: _summary(values) for name, values in speeds.items()},
        "ratios": {
            "one worker / peer": _ratio(speeds["one worker"], speeds["peer"]),
            "two workers / one worker": _ratio(speeds["two workers"], speeds["one worker"]),
        },
    }


def idle_cpu(address: str) -> float:
    """Return the CPU, in percent of one core, that the product takes at 10 tickets a second."""
    with _fresh_topic(address) as topic, _running(_command(address, topic, f"--rate={IDLE_RATE}")) as pid:
        time.sleep(WARM_UP_S)
        before = _cpu_seconds(pid)
        time.sleep(IDLE_S)
        return 100 * (_cpu_seconds(pid) - before) / IDLE_S


def rate_error(address: str, rate: int, duration: int) -> float:
    """Return by how many percent the rate at which tickets were made differs from ``rate``."""
    with _fresh_topic(address) as topic:
        flags = [f"--rate={rate}", f"--duration={duration}"]
        subprocess.run(_command(address, topic, *flags), cwd=ROOT, capture_output=True, check=True)
        moments = sorted(_created(address, topic))
    reached = (len(moments) - 1) / (moments[-1] - moments[0])
    return 100 * abs(reached / rate - 1)


def _command(address: str, topic: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "producer.ticket_producer", "--broker", address, "--topic", topic, *flags]


@contextlib.contextmanager
def _fresh_topic(address: str) -> Iterator[str]:
    topic = f"benchmark-{time.time_ns()}"
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1}}, wait_for_metadata=True)
        yield topic
        admin.delete_topics([topic])


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[int]:
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


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


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values)), "least": round(min(values)), "most": round(max(values))}


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median of the ratios of neighbours in time, which the drift of a busy machine disturbs least."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {"median": round(median(ratios), 3), "least": round(min(ratios), 3), "most": round(max(ratios), 3)}


def _table(result: dict[str, Any]) -> Table:
    table = Table("", "median", "least", "most")
    for name, values in result.get("tickets a second", {}).items():
        table.add_row(f"{name}, tickets/s", *(f"{values[column]:,.0f}" for column in ("median", "least", "most")))
    for name, values in result.get("ratios", {}).items():
        table.add_row(name, *(f"{values[column]:.2f}" for column in ("median", "least", "most")))
    if "CPU at 10/s, percent of a core" in result:
        table.add_row("CPU at 10/s, % of a core", f"{result['CPU at 10/s, percent of a core']:.1f}")
    for rate, error in result.get("rate error, percent", {}).items():
        table.add_row(f"error at {rate}/s, %", f"{error:.3f}")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producer", description="Measure the producer.")
    parser.add_argument("--count", type=int, default=300_000, help="messages in a run (300000)")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each, 0 to leave the speed out (7)")
    parser.add_argument("--idle", action="store_true", help="measure the CPU at 10 tickets a second too")
    parser.add_argument("--rates", type=int, nargs="*", default=[], help="rates to check, such as 1 10 5000")
    parser.add_argument("--duration", type=int, default=20, help="seconds for each of the rates (20)")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder)) as broker:
        result = compare_speed(broker.address, flags.count, flags.repeats) if flags.repeats else {}
        if flags.idle:
            result["CPU at 10/s, percent of a core"] = round(idle_cpu(broker.address), 2)
        if flags.rates:
            errors = {rate: rate_error(broker.address, rate, flags.duration) for rate in flags.rates}
            result["rate error, percent"] = {rate: round(error, 3) for rate, error in errors.items()}
    Console(stderr=True).print(_table(result))
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
