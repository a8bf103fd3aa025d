"""A login with any password works for both services, and the password stands nowhere but where it was given."""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from kafka import KafkaProducer

from processor.consume import consume
from processor.plan import OffsetRange
from runtime.broker.preflight import check_broker
from runtime.broker.security import KafkaSecurity
from tests.support import golden, topics
from tests.support.datasets import Published
from tests.support.processes import Processes, descendants, wait_for
from tests.support.secured import HOSTILE_PASSWORDS, Secured, add_user, forms_of, secured_broker

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
PROCESSOR = "processor/spark_processor.py"

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# SCRAM escapes = and , in the name of a user.
SCRAM_USER = "car,ol=3D"
# All difficult characters at once, and a text that occurs nowhere else.
SECRET = " -p\"7x'$HOME%s\\=#;,{0}<Zürich✓> "

# The services with a bug: one that sends no ticket, and one whose tasks fail in a worker.
BROKEN_PRODUCER = """
import sys
from kafka import KafkaProducer
from producer.ticket_producer import main
def broken(*arguments, **options):
    raise RuntimeError("provoked")
KafkaProducer.send = broken
sys.exit(main())
"""
BROKEN_PROCESSOR = """
import sys
from processor import tasks
from processor.spark_processor import main
def broken(*arguments):
    raise RuntimeError("provoked")
sound = tasks.StagingTask
tasks.StagingTask = lambda *arguments, **named: sound(*arguments, consume=broken, **named)
sys.exit(main())
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    users = {f"plain{number}": password for number, password in enumerate(HOSTILE_PASSWORDS)} | {"carol": SECRET}
    properties = {"sasl.enabled.mechanisms": ",".join(MECHANISMS)}
    with secured_broker(tmp_path_factory.mktemp("secured"), properties, users) as broker:
        for mechanism in MECHANISMS[1:]:
            add_user(broker.plain, SCRAM_USER, SECRET, mechanism)
        yield broker


def login(secured: Secured, mechanism: str = "SCRAM-SHA-512", user: str = SCRAM_USER) -> dict[str, str]:
    """Return the settings of a login without the password."""
    return {
        "REDPANDA_BROKER_LOCAL": secured.sasl_ssl,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": mechanism,
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SSL_CAFILE": str(secured.cafile),
    }


def holders(secret: str, files: Iterable[Path]) -> list[Path]:
    """Return those of ``files`` that hold the secret in any form; a folder is searched with all below it."""
    forms = forms_of(secret)
    found = []
    for place in files:
        for file in (place, *place.rglob("*")):
            # A socket cannot be read, and a temporary file may be removed meanwhile.
            with suppress(OSError):
                content = file.read_bytes()
                found += [file] if any(form in content for form in forms) else []
    return found


def command_lines() -> list[Path]:
    """Return the files from which ``ps`` reads the command line of every process."""
    return [entry / "cmdline" for entry in Path("/proc").iterdir() if entry.name.isdigit()]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_client_logs_in_with_every_password(secured: Secured, topic: str, tmp_path: Path, mechanism: str) -> None:
    topics.create(secured.plain, topic)
    for number, password in enumerate(HOSTILE_PASSWORDS):
        user = f"plain{number}" if mechanism == "PLAIN" else f"us=er,{number}"
        if mechanism != "PLAIN":
            add_user(secured.plain, user, password, mechanism)
        file = tmp_path / "password"
        file.write_text(password + "\n", encoding="utf-8")
        settings = {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": user,
            "sasl_password": None,
            "sasl_password_file": file,
            "ssl_cafile": secured.cafile,
        }
        security = KafkaSecurity.from_settings(settings)

        check_broker(secured.sasl_ssl, security)
        with closing(KafkaProducer(bootstrap_servers=secured.sasl_ssl, **security.for_kafka_python())) as producer:
            assert producer.send(topic, b"x").get(20).offset == number
        last = OffsetRange(0, number, number + 1)
        with closing(consume(secured.sasl_ssl, security.for_librdkafka(), topic, [last], 10)) as pieces:
            assert [value for piece in pieces for value in piece.values] == [b"x"], password


def test_the_producer_shows_its_password_to_nobody(
    secured: Secured, processes: Processes, topic: str, tmp_path: Path
) -> None:
    secret_file = tmp_path / "password"
    secret_file.write_text(SECRET + "\n", encoding="utf-8")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    topics.create(secured.plain, topic)
    given = {
        **login(secured, "PLAIN", "carol"),
        "KAFKA_SASL_PASSWORD_FILE": str(secret_file),
        "TOPIC_NAME": topic,
        "LOG_LEVEL": "DEBUG",
        "TMPDIR": str(temporary),
    }

    running = processes.start(PRODUCER, "--rate=50", "--workers=2", env={**given, "PYTHONFAULTHANDLER": "1"})
    wait_for(lambda: len(topics.read(secured.plain, topic)) > 50, 60, "tickets")
    assert len(descendants(running.pid)) >= 2
    shown = [*command_lines(), temporary]
    shown += [Path(f"/proc/{pid}/environ") for pid in (running.pid, *descendants(running.pid))]
    assert holders(SECRET, shown) == []
    running.send(signal.SIGABRT)
    assert running.wait() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in running.stderr

    crashed = processes.run("-c", BROKEN_PRODUCER, "--count=1", env=given, expect=1)
    assert "RuntimeError: provoked" in crashed.stderr
    assert holders(SECRET, [tmp_path]) == [secret_file]


def test_the_processor_shows_its_password_to_nobody(
    secured: Secured, processes: Processes, topic: str, tmp_path: Path
) -> None:
    topics.create(secured.plain, topic)
    topics.send(secured.plain, topic, golden.tickets()[:3])
    output, temporary = tmp_path / "output", tmp_path / "tmp"
    temporary.mkdir()
    given = {
        **login(secured),
        "KAFKA_SASL_PASSWORD": SECRET,
        "TOPIC_NAME": topic,
        "OUTPUT_PATH": str(output),
        "SPARK_MEMORY": "600m",
        "LOG_LEVEL": "DEBUG",
        "TMPDIR": str(temporary),
    }

    crashed = processes.run("-c", BROKEN_PROCESSOR, env=given, expect=1)
    # One traceback of a worker, and one of the driver.
    assert crashed.stderr.count("Traceback (most recent call last)") == 2
    assert "RuntimeError: provoked" in crashed.stderr
    assert holders(SECRET, [tmp_path]) == []

    running = processes.start(PROCESSOR, "--interval=600", env=given)
    running.wait_for_stderr("batch 1: 3 messages read")
    assert Published(output).count("tickets_with_assignment") == 3
    started = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(running.pid)}
    assert "java" in started.values()
    assert any(name.startswith("python") for name in started.values())
    assert holders(SECRET, [*command_lines(), *(Path(f"/proc/{pid}/environ") for pid in started)]) == []
    assert holders(SECRET, [tmp_path]) == []

    log = output / ".pipeline" / "spark.log"
    (jvm,) = (pid for pid, name in started.items() if name == "java")
    os.kill(jvm, signal.SIGSEGV)
    # A JVM that crashes writes a report of its registers, its command line and its environment.
    wait_for(lambda: "END." in log.read_text(errors="replace"), 30, "the report of a crash")
    running.send(signal.SIGTERM)
    assert running.wait() == 0, running.output
    assert holders(SECRET, [tmp_path]) == []
