"""The contestants in the benchmark of the processor: how each is run, and the check of what it wrote."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.topics import Tickets
from benchmarks.whole_process import Cost, measure
from runtime.java import jars

# Counting more ids than these takes longer than writing them.
_COUNT_IDS_UP_TO = 2_000_000


class WrongOutput(Exception):
    """A contestant wrote something else than the topic holds, so its time does not count."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a contestant reads, and a folder that does not exist yet for what it writes."""

    broker: str
    topic: str
    tickets: Tickets
    folder: Path


Contestant = Callable[[Course], Cost]


def ours(course: Course, *flags: str) -> Cost:
    """Run this pipeline's processor."""
    cost, _ = measure([*processor(course), *flags])
    _check(course)
    return cost


def in_little_memory(course: Course) -> Cost:
    """Run this pipeline's processor with half of its usual heap."""
    return ours(course, "--memory", "1g")


def without_duplicates(course: Course) -> Cost:
    """Run this pipeline's processor so that it looks for duplicates; there are none."""
    return ours(course, "--dedupe", "all")


def one_process(course: Course, *flags: str) -> Cost:
    """Run confluent-kafka and pyarrow in one process."""
    cost, _ = measure(_peer("one_process", course.broker, course.topic, str(course.folder), *flags))
    _check(course)
    return cost


def one_process_that_validates(course: Course) -> Cost:
    """Run the same, but validate each message."""
    return one_process(course, "--validate")


def seed_style(course: Course) -> Cost:
    """Run plain PySpark; each of its outputs reads the topic again."""
    return _spark("seed", course)


def one_pass(course: Course) -> Cost:
    """Run plain PySpark that reads the topic once."""
    return _spark("one-pass", course)


def drain(course: Course) -> Cost:
    """Read the topic and drop it."""
    cost, printed = measure(_peer("drain", course.broker, course.topic))
    if int(printed.split()[0]) != course.tickets.count:
        raise WrongOutput(f"the drain read {printed.split()[0]} messages of {course.tickets.count}")
    return cost


def bare_session(_: Course) -> Cost:
    """Start a SparkSession, collect range(1), stop."""
    return measure(_peer("spark", "start"))[0]


def start_of_spark(course: Course) -> float:
    """Return the seconds that Spark needs to start in our process, as its log says."""
    _, log = measure(processor(course))
    _check(course)
    found = re.search(r"Spark \S+ started in ([0-9.]+) s", log)
    assert found, log
    return float(found[1])


def start_of_a_bare_context() -> float:
    """Return the seconds that pyspark needs for a SparkContext, started by spark-submit as usual."""
    return float(measure(_peer("spark", "context"))[1].split()[0])


def processor(course: Course) -> list[str]:
    """Return the command that processes the topic once."""
    flags = ["--broker", course.broker, "--topic", course.topic, "--output-path", str(course.folder)]
    return [sys.executable, "processor/spark_processor.py", *flags]


def _peer(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments]


def _spark(shape: str, course: Course) -> Cost:
    connector = [str(jars.cache_folder() / jar.name) for jar in jars.read_lock() if jar.group == "bench"]
    cost, _ = measure(_peer("spark", shape, course.broker, course.topic, str(course.folder), *connector))
    _check(course)
    return cost


def _check(course: Course) -> None:
    """Raise WrongOutput when the datasets do not hold every ticket once."""
    tickets = list((course.folder / "tickets_with_assignment").glob("*.parquet"))
    urgent = list((course.folder / "high_priority_tickets").glob("*.parquet"))
    found = Tickets(*(sum(pq.read_metadata(file).num_rows for file in files) for files in (tickets, urgent)))
    if found != course.tickets:
        raise WrongOutput(f"{course.folder} holds {found} instead of {course.tickets}")
    if found.count <= _COUNT_IDS_UP_TO:
        ids = pc.count_distinct(ds.dataset(tickets).to_table(columns=["ticket_id"])["ticket_id"]).as_py()
        if ids != found.count:
            raise WrongOutput(f"{course.folder} holds {ids} different tickets instead of {found.count}")
