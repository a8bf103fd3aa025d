"""The doctor as a user starts it: on real brokers and outputs, with what is missing or broken, and changing nothing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient

from contract.ticket import encode as encode_ticket
from processor.topic import Topic
from runtime.broker.security import KafkaSecurity
from runtime.process.shutdown import Shutdown
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.manifest import encode
from store.output import Output
from tests.support import topics
from tests.support.listeners import server
from tests.support.processes import Processes, Running
from tests.support.secured import ADVERTISED, PASSWORD, Secured, secured_broker
from tests.support.staging import messages, publish_batch, ticket

pytestmark = pytest.mark.integration

# Python writes these before it gets to read that it must not; make doctor starts it with -B.
COMPILED = {ROOT / f"doctor/__pycache__/{name}.{sys.implementation.cache_tag}.pyc" for name in ("__init__", "__main__")}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker on which any mention of a topic makes it, except by those who ask it not to."""
    with secured_broker(tmp_path_factory.mktemp("secured"), {"auto.create.topics.enable": "true"}) as broker:
        yield broker


def findings(run: Running) -> list[dict[str, str]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def bad(run: Running, *sections: str) -> list[dict[str, str]]:
    return [each for each in findings(run) if each["level"] != "ok" and each["section"] in sections]


def told(run: Running) -> set[str]:
    return {each["found"] for each in findings(run)}


def tree(*folders: Path) -> dict[Path, object]:
    """Return all that is there, with the times of the last change; not what other tools keep beside the code."""
    found: dict[Path, object] = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            if folder != ROOT or not (path in COMPILED or str(path.relative_to(folder)).startswith(".")):
                seen = path.lstat()
                # A folder of code takes compiled files; a file that came and went changes the time of any other.
                timed = folder != ROOT or path.is_file()
                found[path] = (seen.st_mode, seen.st_size, seen.st_mtime_ns if timed else 0)
    return found


def on_the_broker(address: str) -> tuple[set[str], Any]:
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        return set(admin.list_topics()), admin.list_groups()


def published(root: Path, address: str, topic: str) -> None:
    """Make an output that has read the first two messages of partition 0 of a real topic."""
    source, _ = Topic(address, KafkaSecurity(), topic, Shutdown()).look_up()
    output = Output(OutputLocation(root))
    values = [encode_ticket(ticket(number)) for number in range(2)]
    with output.locked():
        manifest = publish_batch(output, None, "parquet", [[messages(values)]])
    here = msgspec.structs.replace(manifest, source=source, updated_at=datetime.now(UTC))
    (root / "_manifest.json").write_bytes(encode(here))


def doctor(processes: Processes, tmp_path: Path, *arguments: str, expect: int, **environ: str) -> Running:
    folder = tmp_path / "tmp"
    folder.mkdir(exist_ok=True)
    given = {"LOG_FORMAT": "json", "TMPDIR": str(folder), **environ}
    run = processes.run("-m", "doctor", *arguments, env=given, expect=expect, deadline_s=60)
    assert run.stderr == ""
    return run


def test_a_pipeline_that_is_well_is_told_so_and_nothing_anywhere_is_changed(
    secured: Secured, processes: Processes, tmp_path: Path, topic: str
) -> None:
    root = tmp_path / "output"
    topics.create(secured.plain, topic, partitions=2)
    topics.send(secured.plain, topic, [b"message"] * 5)
    published(root, secured.plain, topic)
    (tmp_path / "tmp").mkdir()
    before, held = tree(ROOT, root, tmp_path / "tmp"), on_the_broker(secured.plain)

    where = ("--broker", secured.plain, "--output-path", str(root))
    run = doctor(processes, tmp_path, *where, "--topic", topic, expect=0)

    assert bad(run, "Broker", "Topic", "Output", "Java", "Settings") == []
    assert {
        f"broker {secured.plain}: its name resolves to 127.0.0.1",
        f"broker {secured.plain}: it takes a TCP connection at 127.0.0.1",
        f"broker {secured.plain}: it speaks Kafka",
        f"broker {secured.plain}: it advertises {secured.plain}, and this machine reaches {secured.plain}",
        "partition 0: oldest offset 0, end 5",
        "partition 0: 3 unread, from offset 2 to 5",
        "lag: 3 messages are unread, in all partitions together",
        "messages are kept for 7 d",
        "the lock is free: a processor can start",
        "the files are, by name and size, those of the ledger; --verify reads them, too",
        f"TOPIC_NAME = {topic} (--topic)",
    } <= told(run)

    # A topic that is not there stays so, on a broker that makes topics for whoever asks.
    missing = doctor(processes, tmp_path, *where, "--topic", f"{topic}-not", expect=1)
    (found,) = bad(missing, "Topic")
    assert found["found"] == f"the broker at {secured.plain} has no topic '{topic}-not'"
    assert found["remedy"] == "start the producer, which creates it, or set --topic"

    after = tree(ROOT, root, tmp_path / "tmp")
    assert after.keys() - before.keys() <= {ROOT / "doctor/__pycache__"}
    assert {path: seen for path, seen in after.items() if path in before} == before
    assert on_the_broker(secured.plain) == held


def test_a_broker_that_advertises_a_wrong_address_is_told_from_a_wrong_login(
    secured: Secured, processes: Processes, tmp_path: Path
) -> None:
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "alice"}
    where = ("--broker", secured.sasl_plain, "--output-path", str(tmp_path / "output"))

    run = doctor(processes, tmp_path, *where, expect=1, KAFKA_SASL_PASSWORD=PASSWORD, **login)
    refused = doctor(processes, tmp_path, *where, expect=1, KAFKA_SASL_PASSWORD="wrong-7", **login)

    assert f"broker {secured.sasl_plain}: it takes the login of 'alice' by SCRAM-SHA-256" in told(run)
    (found,) = bad(run, "Broker")
    assert found["found"].startswith(f"broker {secured.sasl_plain}: it answers, but advertises {ADVERTISED} (the name ")
    assert found["remedy"].startswith("use the listener that is meant for clients on this machine")
    (found,) = bad(refused, "Broker")
    assert "it refused the login of 'alice' by SCRAM-SHA-256" in found["found"]
    assert PASSWORD not in run.output
    assert "wrong-7" not in refused.output


def test_settings_that_cannot_be_used_leave_the_rest_to_be_looked_at(processes: Processes, tmp_path: Path) -> None:
    wrong = {"SPARK_MEMORY": "2x", "OUTPUT_PATH": "s3://bucket/output", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    run = doctor(processes, tmp_path, expect=1, **wrong)

    assert {
        "not looked at, because SPARK_MEMORY cannot be used: see Settings",
        "not looked at, because a setting of the broker cannot be used: see Settings",
        "not looked at, because the broker cannot be used",
        "not looked at, because OUTPUT_PATH cannot be used: see Settings",
    } <= told(run)
    assert [each["found"].partition(" ")[0] for each in bad(run, "Settings")] == [
        *("SPARK_MEMORY", "OUTPUT_PATH", "KAFKA_SECURITY_PROTOCOL=SASL_SSL")
    ]


def test_a_broker_that_never_answers_costs_ten_seconds_at_most(processes: Processes, tmp_path: Path) -> None:
    with server(None) as silent:
        start = time.monotonic()
        run = doctor(processes, tmp_path, "--broker", silent, expect=1)
        assert time.monotonic() - start < 12

    (found,) = bad(run, "Broker")
    assert found["found"] == f"broker {silent}: it accepted the connection but did not answer a Kafka request"
    (topic,) = bad(run, "Topic")
    assert topic["found"] == "not looked at, because the broker cannot be used"


def test_everything_that_is_broken_on_a_machine_is_told_at_once(processes: Processes, tmp_path: Path) -> None:
    environ = {
        "JAVA_HOME": "/nowhere",
        "SPARK_MEMORY": "900g",
        "SPARK_HOME": "/opt/spark",
        "OUTPUT_FORMAT": "csv",
        "BATCH_INTERVALL": "30",
        "DASHBOARD_PORT": "1",
        "KAFKA_SASL_PASSWORD": "open-sesame",
        "PYTHONPATH": "/opt/other",
        "LOG_FORMAT": "text",
        "NO_COLOR": "",
    }
    run = doctor(processes, tmp_path, "--broker", "127.0.0.1:1", expect=1, **environ)

    words = " ".join(run.stdout.split())
    for text in (
        "JAVA_HOME=/nowhere holds no bin/java",
        "SPARK_MEMORY (--memory) 900g does not fit: the heap",
        "SPARK_HOME in the environment has no effect",
        "OUTPUT_FORMAT (from the environment) must be one of parquet, json, found 'csv'",
        "BATCH_INTERVALL (from the environment) is not a setting and is ignored",
        "KAFKA_SASL_PASSWORD = (hidden)",
        "PYTHONPATH names /opt/other",
        "mend it:",
    ):
        assert text in words
    # What is wrong elsewhere does not keep the broker from being looked at.
    assert "broker 127.0.0.1:1: TCP connection to 127.0.0.1 refused" in words
    assert "open-sesame" not in run.output
    assert "\x1b" not in run.stdout
    assert max(len(line) for line in run.stdout.splitlines() if len(line.split()) > 2 and "/" not in line) <= 80


def test_a_python_without_packages_is_told_what_is_missing_and_gets_no_traceback(
    processes: Processes, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    bare = [str(tmp_path / "venv/bin/python"), "-m", "doctor", "--broker", "127.0.0.1:1"]

    for environ in ({}, {"LOG_FORMAT": "json"}):
        run = processes.start_command(bare, env=environ)
        assert run.wait(60) == 1
        assert run.stderr == ""
        words = " ".join(run.stdout.split())
        assert "packages are missing: confluent-kafka, " in words
        assert "run make setup in " in words
        assert "not looked at, because this Python lacks " in words
        assert "starts" in words


def test_python_without_assertions_is_a_problem(processes: Processes, tmp_path: Path) -> None:
    run = doctor(processes, tmp_path, expect=1, PYTHONOPTIMIZE="1")
    assert any(each.startswith("Python runs without assertions") for each in told(run))


def test_an_unknown_flag_is_wrong_usage(processes: Processes, tmp_path: Path) -> None:
    run = processes.run("-m", "doctor", "--brocker", "x", expect=2)
    assert "did you mean --broker?" in run.stderr


@pytest.fixture
def folder_for_everybody() -> Iterator[Path]:
    """A folder that other users can look into; pytest keeps its own from them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_output_that_belongs_to_root_is_a_problem_for_another_user(
    processes: Processes, folder_for_everybody: Path
) -> None:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("this machine lacks setpriv, or this user the right to become another")
    root = folder_for_everybody / "output"
    output = Output(OutputLocation(root))
    with output.locked():
        publish_batch(output, None, "parquet", [[messages([encode_ticket(ticket())])]])
    # It may read, so that this clone need not be open to everybody.
    rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    become = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", *rights)
    where = ("--output-path", str(root), "--broker", "127.0.0.1:1")

    run = processes.start_command([*become, sys.executable, "-B", "-m", "doctor", *where], {"LOG_FORMAT": "json"})

    assert run.wait(60) == 1, run.output
    assert run.stderr == ""
    (wrong,) = bad(run, "Output")
    assert wrong["found"] == f"the output: {root} belongs to root and is not writable for user 12345"
    assert wrong["remedy"] == f"give it to this user (sudo chown -R 12345 {root}), or choose another folder"
