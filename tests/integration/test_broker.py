"""The embedded broker, as a command line and as the fixture that other tests stand on."""

import errno
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from embedded.broker import EmbeddedBroker
from embedded.data_folder import DataFolder
from runtime.errors import OutputUnavailable
from tests.support import topics
from tests.support.processes import Processes, Running, is_alive, wait_for

pytestmark = pytest.mark.integration


def start(processes: Processes, data_dir: Path, port: int = 0, env: Mapping[str, str] | None = None) -> Running:
    return processes.start("-m", "embedded.broker", "--port", str(port), "--data-dir", data_dir, env=env)


def address_of(broker: Running) -> str:
    broker.wait_for_stdout("\n")
    word, address = broker.stdout.split()
    assert word == "ready"
    return address


def jvm_of(broker: Running) -> int:
    (child,) = Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_ready_when_it_answers_and_ends_with_its_jvm_on_a_signal(
    processes: Processes, tmp_path: Path, topic: str, number: signal.Signals
) -> None:
    broker = start(processes, tmp_path / "data")
    topics.create(address_of(broker), topic)
    jvm = jvm_of(broker)

    broker.send(number)

    assert broker.wait(deadline_s=20) == 0
    assert not is_alive(jvm)
    assert broker.stderr == ""


def test_keeps_cluster_topics_and_messages_over_a_restart_and_a_kill(tmp_path: Path, topic: str) -> None:
    broker = EmbeddedBroker(tmp_path / "data")
    with broker:
        cluster_id = broker.cluster_id
        topics.create(broker.address, topic, partitions=2)
        topics.send(broker.address, topic, [b"one", b"two"], partition=1)
    with broker:
        topics.send(broker.address, topic, [b"three"], partition=1)
        os.kill(broker.pid, signal.SIGKILL)
    with broker:
        assert broker.cluster_id == cluster_id
        assert topics.values(topics.read(broker.address, topic)) == [b"one", b"two", b"three"]


def test_creates_no_topic_by_itself(broker: EmbeddedBroker, topic: str) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, max_block_ms=1_000)
    with closing(producer), pytest.raises(KafkaTimeoutError):
        producer.send(topic, b"one")
    assert topic not in topics.names(broker.address)


def test_two_brokers_are_two_clusters(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "other") as other:
        assert other.cluster_id != broker.cluster_id
        assert other.address != broker.address


def test_takes_more_properties(tmp_path: Path, topic: str) -> None:
    with EmbeddedBroker(tmp_path / "data", properties={"auto.create.topics.enable": "true"}) as broker:
        topics.send(broker.address, topic, [b"one"])
        assert topic in topics.names(broker.address)


def test_says_which_port_is_taken(processes: Processes, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = start(processes, tmp_path / "data", port)
        assert broker.wait() == 2
    assert broker.stdout == ""
    assert broker.stderr.startswith(f"ERROR port {port} cannot be used (Address already in use)")
    assert broker.stderr.count("\n") == 1


def test_refuses_the_data_of_a_running_broker(processes: Processes, broker: EmbeddedBroker) -> None:
    second = start(processes, broker.data_dir)
    assert second.wait() == 5
    assert second.stderr == f"ERROR another broker runs on {broker.data_dir}; stop it or choose another --data-dir\n"


def test_refuses_a_folder_that_it_cannot_write(processes: Processes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    broker = start(processes, file / "data")
    assert broker.wait() == 5
    assert broker.stderr.startswith(f"ERROR cannot write to {file}/data (Not a directory)")


def test_names_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("embedded.data_folder.fcntl.flock", flock)
    with pytest.raises(OutputUnavailable) as caught:
        DataFolder(tmp_path)
    assert str(caught.value) == (
        f"cannot lock {tmp_path}/broker.lock (No locks available); choose a --data-dir on a file system that supports "
        "locks"
    )


def test_shows_what_the_broker_said_when_it_does_not_start(processes: Processes, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "data"):
        pass
    (tmp_path / "data" / "log" / "meta.properties").write_text("cluster.id=x\nversion=7\n")

    broker = start(processes, tmp_path / "data")

    assert broker.wait() == 3
    assert f"the embedded broker ended with code 1; {tmp_path}/data/broker.log says" in broker.stderr
    assert "\tat " not in broker.stderr
    assert broker.stderr.endswith("RuntimeException: No readable meta.properties files found.\n")


def test_says_what_to_install_when_java_is_missing(processes: Processes, tmp_path: Path) -> None:
    broker = processes.start(
        "-m", "embedded.broker", "--data-dir", tmp_path / "data", env={"PATH": "", "JAVA_HOME": ""}
    )
    assert broker.wait() == 2
    assert broker.stderr.startswith("ERROR Java is missing; install Java 17 or 21")


def test_after_kill_9_the_jvm_ends_and_the_next_start_clears_its_files(processes: Processes, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    broker = start(processes, tmp_path / "data", env={"TMPDIR": str(temporary)})
    address_of(broker)
    jvm = jvm_of(broker)

    broker.send(signal.SIGKILL)

    wait_for(lambda: not is_alive(jvm), deadline_s=10, what="end of the JVM")
    (left,) = temporary.iterdir()
    assert left.name.startswith("client-tickets-broker-")
    again = start(processes, tmp_path / "data", env={"TMPDIR": str(temporary)})
    address_of(again)
    (used,) = temporary.iterdir()
    assert used != left
    again.send(signal.SIGTERM)
    assert again.wait(deadline_s=20) == 0
    assert list(temporary.iterdir()) == []


def test_a_broker_that_dies_takes_its_command_with_it(processes: Processes, tmp_path: Path) -> None:
    broker = start(processes, tmp_path / "data")
    address_of(broker)

    os.kill(jvm_of(broker), signal.SIGKILL)

    assert broker.wait(deadline_s=10) == 3
    assert "the embedded broker ended with code -9" in broker.stderr
