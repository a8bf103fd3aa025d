"""A wrong setting ends a service in under two seconds, with what would work."""

import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from runtime.settings.setting import ROOT
from tests.support.processes import Processes

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
PROCESSOR = "processor/spark_processor.py"
LIMIT_S = 2.0

FLAGS = [
    (PRODUCER, "--rate", "-1", "--rate must be a number from 0 up, e.g. 20, found '-1'"),
    (PRODUCER, "--rate", "nan", "--rate must be a number from 0 up, e.g. 20, found 'nan'"),
    (PRODUCER, "--count", "1.5", "--count must be a whole number from 0 up, e.g. 1000, found '1.5'"),
    (PRODUCER, "--workers", "0", "--workers must be a whole number from 1 to 64, e.g. 2, found '0'"),
    (PRODUCER, "--broker", "localhost:99999", "--broker must be host:port with a port from 1 to 65535"),
    (PRODUCER, "--topic", "a/b", "--topic must be 1 to 249 letters"),
    (PRODUCER, "--source", "/nowhere.csv", "--source must be random, - for standard input, a file that can be read"),
    (PRODUCER, "--map", "ticket_id=Id", "--map has no effect with --source random; leave it out"),
    (PROCESSOR, "--memory", "2x", "--memory must be a size in m or g of at least 512m, e.g. 4g, found '2x'"),
    (PROCESSOR, "--memory", "100m", "--memory must be a size in m or g of at least 512m, e.g. 4g, found '100m'"),
    (PROCESSOR, "--output-format", "csv", "--output-format must be one of parquet, json, found 'csv'"),
    (PROCESSOR, "--broker", "localhost:99999", "--broker must be host:port with a port from 1 to 65535"),
    (PROCESSOR, "--master", "yarn", "--master must be local[*], local[N] or spark://host:port"),
    (PROCESSOR, "--interval", "inf", "--interval must be a number from 0 up"),
    (PROCESSOR, "--max-messages", "0", "--max-messages must be a whole number from 1 up"),
]

KEYS = [
    (PRODUCER, "PRODUCER_RATE", "fast", "PRODUCER_RATE (from the environment) must be a number from 0 up"),
    (PRODUCER, "TOPIC_PARTITIONS", "0", "TOPIC_PARTITIONS (from the environment) must be a whole number from 1 to"),
    (PRODUCER, "METRICS_PORT", "http", "METRICS_PORT (from the environment) must be a whole number from 0 to 65535"),
    (PRODUCER, "LOG_LEVEL", "loud", "LOG_LEVEL (from the environment) must be one of DEBUG, INFO, WARNING, ERROR"),
    (PRODUCER, "KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs a login; set"),
    (PRODUCER, "KAFKA_SSL_CAFILE", "/nowhere.pem", "KAFKA_SSL_CAFILE (from the environment) must name a file"),
    (PROCESSOR, "SPARK_MEMORY", "2x", "SPARK_MEMORY (from the environment) must be a size in m or g"),
    (PROCESSOR, "METRICS_HOST", "http://0.0.0.0", "METRICS_HOST (from the environment) must be an address of this"),
    (PROCESSOR, "OUTPUT_FORMAT", "csv", "OUTPUT_FORMAT (from the environment) must be one of parquet, json"),
    (PROCESSOR, "OUTPUT_PATH", "cr\r", "OUTPUT_PATH (from the environment) must be text in UTF-8 without control"),
    (PROCESSOR, "BATCH_INTERVAL", "-5", "BATCH_INTERVAL (from the environment) must be a number from 0 up"),
]


def fails(processes: Processes, service: str, *flags: str, env: dict[str, str] | None = None, message: str) -> None:
    start = time.monotonic()
    running = processes.run(service, *flags, env=env, expect=2)
    took = time.monotonic() - start

    assert message in running.stderr
    assert "Traceback" not in running.stderr
    assert len(running.stderr.splitlines()) == 1
    assert took < LIMIT_S


@pytest.mark.parametrize(("service", "flag", "value", "message"), FLAGS, ids=lambda value: str(value)[:24])
def test_a_wrong_flag_is_named(processes: Processes, service: str, flag: str, value: str, message: str) -> None:
    fails(processes, service, f"{flag}={value}", message=message)


@pytest.mark.parametrize(("service", "key", "value", "message"), KEYS, ids=lambda value: str(value)[:24])
def test_a_wrong_key_of_the_environment_is_named(
    processes: Processes, service: str, key: str, value: str, message: str
) -> None:
    fails(processes, service, env={key: value}, message=message)


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
def test_a_port_for_metrics_that_is_taken_is_named_before_anything_is_begun(
    processes: Processes, service: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # Nothing listens there, which would be exit code 3.
        flags = ["--broker=127.0.0.1:1", f"--metrics-port={port}"]
        output = tmp_path / "output"
        running = processes.run(service, *flags, env={"OUTPUT_PATH": str(output)}, expect=2)

    assert f"ERROR   port {port} on 127.0.0.1 cannot be used for metrics (Address already in use); " in running.stderr
    assert "Traceback" not in running.stderr
    assert not output.exists()


def test_what_the_environment_holds_by_mistake_is_named_at_the_start_without_its_value(
    processes: Processes, tmp_path: Path
) -> None:
    environ = {"KAFKA_SASL_PASWORD": "hunter2", "KAFKA_SERVICE_HOST": "hunter3"}
    almost = "WARNING KAFKA_SASL_PASWORD (from the environment) is not a setting and is ignored"
    producer = processes.start(PRODUCER, "--broker=127.0.0.1:1", env=environ)
    producer.wait_for_stderr(almost)
    producer.send(signal.SIGTERM)
    (tmp_path / "file").touch()
    leftover = {**environ, "CLIENT_TICKETS_FAILPOINT": "committed"}
    processor = processes.run(PROCESSOR, "--output-path", tmp_path / "file", env=leftover, expect=5)

    assert producer.wait() == 0, producer.output
    assert almost in processor.stderr
    assert "CLIENT_TICKETS_FAILPOINT=committed is set, for tests: this process will kill itself" in processor.stderr
    assert "hunter" not in producer.output + processor.output


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
def test_an_unknown_or_shortened_flag_is_refused_with_the_usage(processes: Processes, service: str) -> None:
    running = processes.run(service, "--brok", "localhost:9092", expect=2)

    assert "unrecognized arguments: --brok localhost:9092; did you mean --broker?" in running.stderr
    assert "usage:" in running.stderr


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
@pytest.mark.parametrize("where", ["root", "folder"])
def test_help_is_there_at_once_from_the_root_and_from_the_folder(
    processes: Processes, service: str, where: str
) -> None:
    path = Path(service)
    start = time.monotonic()
    running = processes.run(
        path if where == "root" else path.name, "--help", cwd=ROOT if where == "root" else ROOT / path.parent
    )

    assert time.monotonic() - start < LIMIT_S
    assert "REDPANDA_BROKER_LOCAL, default: localhost:9092" in " ".join(running.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "lacks"),
    [
        (
            [PRODUCER],
            "lacks Faker, crc32c, kafka-python, msgspec, prometheus-client, python-dateutil, python-dotenv, zstandard",
        ),
        (
            [PROCESSOR],
            "lacks confluent-kafka, crc32c, kafka-python, msgspec, numpy, prometheus-client, pyarrow, pyspark, "
            "python-dotenv, zstandard",
        ),
        (["-m", "producer.ticket_producer"], "lacks Faker, crc32c, kafka-python,"),
        (["-m", "embedded.broker"], "lacks confluent-kafka, crc32c, kafka-python,"),
        (["-m", "embedded.demo"], "lacks Faker, confluent-kafka, crc32c, kafka-python,"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_python_without_the_packages_says_what_to_run(processes: Processes, arguments: list[str], lacks: str) -> None:
    # With -S Python does not see installed packages.
    running = processes.run("-S", *arguments, expect=2)

    program = " ".join(arguments).replace("-m producer.ticket_producer", PRODUCER)
    assert f"ERROR {sys.executable} {lacks}" in running.stderr
    assert running.stderr.endswith(f"; run `make setup` once in {ROOT}, then `.venv/bin/python {program}`\n")
    assert running.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[PRODUCER], [PROCESSOR], ["-m", "embedded.broker"], ["-m", "embedded.demo"]])
def test_a_python_without_assertions_is_refused_and_the_variable_named(
    processes: Processes, arguments: list[str]
) -> None:
    running = processes.run(*arguments, env={"PYTHONOPTIMIZE": "1"}, expect=2)
    assert running.stderr.startswith("ERROR Python runs without assertions (option -O, or PYTHONOPTIMIZE")
    assert running.stderr.endswith("unset PYTHONOPTIMIZE\n")
    assert running.stderr.count("\n") == 1
