"""The producer as a real process against a real broker."""

import os
import signal
import sys
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from contract.ticket import Ticket, decode
from embedded.broker import EmbeddedBroker
from runtime.settings.setting import ROOT
from tests.support import scrape, topics
from tests.support.listeners import free_ports
from tests.support.processes import Processes, Running, wait_for

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"


def produced(broker: EmbeddedBroker, topic: str) -> list[Ticket]:
    """Return the tickets of a topic, oldest first."""
    tickets = [decode(message.value) for message in topics.read(broker.address, topic)]
    return sorted(tickets, key=lambda ticket: ticket.created_at)


def partitions(broker: EmbeddedBroker, topic: str) -> set[int]:
    with closing(KafkaConsumer(bootstrap_servers=broker.address, group_id=None)) as consumer:
        return set(consumer.partitions_for_topic(topic) or ())


def produce(processes: Processes, broker: EmbeddedBroker, topic: str, *flags: str) -> Running:
    return processes.run(PRODUCER, "--broker", broker.address, "--topic", topic, *flags)


def last_line(running: Running) -> str:
    return running.stderr.splitlines()[-1].split("INFO    ")[-1]


def seconds(tickets: list[Ticket]) -> list[float]:
    return [ticket.created_at.timestamp() for ticket in tickets]


def test_rates_are_kept_within_one_percent_over_ten_seconds_and_without_bursts(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    rates = (1, 10, 200)
    # All at the same time, because each takes ten seconds; the fast one runs alone below.
    with ThreadPoolExecutor(len(rates)) as together:
        list(
            together.map(
                lambda rate: produce(processes, broker, f"{topic}-{rate}", f"--rate={rate}", "--duration=10"), rates
            )
        )

    for rate in rates:
        moments = seconds(produced(broker, f"{topic}-{rate}"))
        assert len(moments) == pytest.approx(rate * 10, rel=0.01)
        assert moments[-1] - moments[0] == pytest.approx(10 - 1 / rate, rel=0.01)
    fine = seconds(produced(broker, f"{topic}-200"))
    busiest = max(bisect_left(fine, moment + 0.1) - first for first, moment in enumerate(fine))
    assert busiest <= 30, "more than 1.5 times the share of 100 ms"


def test_five_thousand_a_second_are_kept_within_one_percent_over_ten_seconds(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    produce(processes, broker, topic, "--rate=5000", "--duration=10")

    moments = seconds(produced(broker, topic))
    assert len(moments) == pytest.approx(50_000, rel=0.01)
    assert moments[-1] - moments[0] == pytest.approx(10, rel=0.01)


def test_a_count_creates_the_topic_and_sends_exactly_that_many_tickets_keyed_by_client(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    running = processes.run(
        PRODUCER,
        "--broker",
        broker.address,
        "--topic",
        topic,
        "--rate=0",
        "--count=3000",
        env={"TOPIC_PARTITIONS": "3"},
    )

    messages = topics.read(broker.address, topic)
    tickets = [decode(message.value) for message in messages]
    homes: dict[str, set[int]] = {}
    for message, ticket in zip(messages, tickets, strict=True):
        assert message.key == ticket.client_id.encode()
        homes.setdefault(ticket.client_id, set()).add(message.partition)
    assert len({ticket.ticket_id for ticket in tickets}) == 3_000
    assert {len(home) for home in homes.values()} == {1}
    assert partitions(broker, topic) == {0, 1, 2} == {message.partition for message in messages}
    assert last_line(running).startswith("done: sent 3,000, acknowledged 3,000, failed 0")


def test_a_key_goes_to_the_partition_that_every_kafka_client_gives_it(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    produce(processes, broker, topic, "--rate=0", "--count=200")
    ours = {message.key: message.partition for message in topics.read(broker.address, topic)}
    other = f"{topic}-other"
    topics.create(broker.address, other, partitions=4)

    with closing(KafkaProducer(bootstrap_servers=broker.address)) as client:
        sent = {key: client.send(other, b"x", key=key) for key in ours}
        theirs = {key: future.get(timeout=30).partition for key, future in sent.items()}

    assert theirs == ours


def test_an_existing_topic_is_left_alone_and_the_difference_is_told(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    topics.create(broker.address, topic, partitions=2)

    running = produce(processes, broker, topic, "--rate=0", "--count=10")

    assert partitions(broker, topic) == {0, 1}
    assert "has 2 partitions, not TOPIC_PARTITIONS=4; it is left as it is" in running.stderr


def test_two_workers_share_a_count_and_a_rate(broker: EmbeddedBroker, topic: str, processes: Processes) -> None:
    running = produce(processes, broker, topic, "--rate=400", "--count=1001", "--workers=2")

    tickets = produced(broker, topic)
    assert len({ticket.ticket_id for ticket in tickets}) == len(tickets) == 1_001
    moments = seconds(tickets)
    assert moments[-1] - moments[0] > 2
    assert last_line(running).startswith("done: sent 1,001, acknowledged 1,001, failed 0")


def test_a_seed_makes_a_run_reproducible(broker: EmbeddedBroker, topic: str, processes: Processes) -> None:
    runs = []
    for run in ("a", "b"):
        produce(processes, broker, f"{topic}-{run}", "--rate=0", "--count=700", "--seed=42")
        tickets = [decode(message.value) for message in topics.read(broker.address, f"{topic}-{run}")]
        runs.append([(t.ticket_id, t.client_id, t.request, t.request_type, t.priority) for t in tickets])

    assert runs[0] == runs[1]


def test_tickets_carry_the_time_of_their_sending(broker: EmbeddedBroker, topic: str, processes: Processes) -> None:
    before = time.time()
    produce(processes, broker, topic, "--rate=20", "--duration=1")

    assert all(before <= moment <= time.time() for moment in seconds(produced(broker, topic)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_flushes_reports_and_exits_zero(
    broker: EmbeddedBroker, topic: str, processes: Processes, number: signal.Signals, workers: int
) -> None:
    (port,) = free_ports(1)
    flags = ("--rate=500", f"--workers={workers}", f"--metrics-port={port}")
    running = processes.start(PRODUCER, "--broker", broker.address, "--topic", topic, *flags)
    wait_for(lambda: topic in topics.names(broker.address) and topics.read(broker.address, topic), 30, "tickets")
    counted = wait_for(lambda: scrape.metrics(port) if scrape.health(port)[0] == 200 else {}, 30, "health")
    sent, acknowledged = counted.pop("client_tickets_sent_total"), counted["client_tickets_acknowledged_total"]
    assert sent == sum(counted.values()) >= acknowledged > 0
    assert set(counted) == {f"client_tickets_{name}" for name in ("acknowledged_total", "failed_total", "in_flight")}

    running.send(number)

    assert running.wait(20) == 0, running.output
    count = len(topics.read(broker.address, topic))
    assert last_line(running).startswith(f"done: sent {count:,}, acknowledged {count:,}, failed 0")


def test_a_stop_of_the_whole_group_while_the_workers_start_is_a_stop_too(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    running = processes.start(PRODUCER, "--broker", broker.address, "--topic", topic, "--rate=10", "--workers=2")
    workers = wait_for(lambda: found if len(found := workers_of(running)) == 2 else [], 30, "two workers")

    # Like Ctrl-C in a terminal, while the workers have no handlers yet.
    for pid in (*workers, running.pid):
        os.kill(pid, signal.SIGINT)

    assert running.wait(20) == 0, running.output
    assert "Traceback" not in running.stderr


def test_a_worker_that_dies_ends_the_run_and_leaves_nothing_running(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    running = processes.start(PRODUCER, "--broker", broker.address, "--topic", topic, "--rate=50", "--workers=2")
    wait_for(lambda: topic in topics.names(broker.address) and topics.read(broker.address, topic), 30, "tickets")
    workers = workers_of(running)

    os.kill(workers[0], signal.SIGKILL)

    assert running.wait(30) == 1, running.output
    assert "ended with exit code -9" in running.stderr
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 10, "the other worker's end")


def test_a_deleted_topic_ends_the_run_instead_of_hanging(
    broker: EmbeddedBroker, topic: str, processes: Processes
) -> None:
    running = processes.start(PRODUCER, "--broker", broker.address, "--topic", topic, "--rate=50")
    wait_for(lambda: topic in topics.names(broker.address) and topics.read(broker.address, topic), 30, "tickets")

    topics.delete(broker.address, topic)

    assert running.wait(40) == 3, running.output
    assert f"topic {topic} is gone" in running.stderr


@pytest.mark.parametrize(
    ("arguments", "cwd"),
    [
        (["producer/ticket_producer.py"], ROOT),
        (["ticket_producer.py"], ROOT / "producer"),
        (["-m", "producer.ticket_producer"], ROOT),
    ],
    ids=["from the root", "from its folder", "as a module"],
)
def test_it_starts_however_it_is_called_also_with_workers(
    broker: EmbeddedBroker, topic: str, processes: Processes, arguments: list[str], cwd: Path
) -> None:
    flags = ["--broker", broker.address, "--topic", topic, "--rate=0", "--count=20", "--workers=2"]

    processes.run(*arguments, *flags, cwd=cwd)

    assert len(topics.read(broker.address, topic)) == 20


def test_a_terminal_gets_one_line_of_progress(broker: EmbeddedBroker, topic: str, processes: Processes) -> None:
    in_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    flags = ["--broker", broker.address, "--topic", topic, "--rate=50", "--duration=2"]

    running = processes.run("-c", in_terminal, sys.executable, PRODUCER, *flags, env={"TERM": "xterm"}, deadline_s=30)

    assert "/s overall" in running.stdout.split("done: ")[0]
    assert "done: sent 100, acknowledged 100, failed 0" in running.stdout


def workers_of(running: Running) -> list[int]:
    """Return the process ids of the workers of a producer, without multiprocessing's own helper."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text(encoding="ascii").split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"spawn_main" in command]
