"""The whole pipeline, as the demo runs it, where the environment is not the one that we know."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.broker import EmbeddedBroker
from runtime.java.jars import cache_folder
from runtime.java.jdk import java_executable
from tests.support.datasets import Published
from tests.support.listeners import free_ports
from tests.support.processes import Processes, Running

pytestmark = pytest.mark.integration

NAMES = "50%25 [x] {a} * ? : état"

# Variables that cron, Kubernetes, a proxy, another Java, another Spark or Python and spark-submit set.
FOREIGN = {
    "LC_ALL": "C",
    "LANG": "C",
    "TZ": "Asia/Kolkata",
    "JAVA_TOOL_OPTIONS": "-XX:+UseG1GC -Xmx1x",
    "JDK_JAVA_OPTIONS": "-XX:+UseZGC",
    "_JAVA_OPTIONS": "-Djava.io.tmpdir=/nowhere",
    "CLASSPATH": "/nowhere",
    "KAFKA_HEAP_OPTS": "-Xmx1x",
    "SPARK_HOME": "/nowhere",
    "SPARK_CONF_DIR": "/nowhere",
    "SPARK_REMOTE": "sc://nowhere",
    "SPARK_LOCAL_IP": "192.0.2.7",
    "SPARK_LOCAL_DIRS": "/nowhere",
    "SPARK_MASTER_HOST": "nowhere.invalid",
    "SPARK_WORKER_MEMORY": "1x",
    "SPARK_DAEMON_MEMORY": "1x",
    "SPARK_SUBMIT_OPTS": "-Xmx1x",
    "HADOOP_CONF_DIR": "/nowhere",
    "HADOOP_HOME": "/nowhere",
    "HADOOP_USER_NAME": "somebody",
    "PYSPARK_SUBMIT_ARGS": "--packages of:no:1 pyspark-shell",
    "PYSPARK_GATEWAY_PORT": "1",
    "PYSPARK_GATEWAY_SECRET": "of another JVM",
    "PYSPARK_PYTHON": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONIOENCODING": "ascii",
    "KAFKA_SERVICE_HOST": "10.0.0.1",
    "KAFKA_PORT": "tcp://10.0.0.1:9092",
    "METRICS_PORT": "tcp://10.0.0.1:9100",
    "KAFKA_OPTS": "-Xmx1x",
    "BATCH_TASK_INDEX": "0",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
}


def demo(folder: Path, python: str = sys.executable) -> list[str]:
    where = ["--data-dir", str(folder / "broker"), "--output-path", str(folder / "output")]
    return [python, "-m", "embedded.demo", "--count", "1000", *where]


def require_published(run: Running, folder: Path) -> Published:
    assert run.wait() == 0, run.output
    for trouble in ("Traceback", "WARNING", "ERROR"):
        assert trouble not in run.stderr, run.output
    published = Published(folder / "output")
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 1000
    return published


def test_what_others_left_in_the_environment_changes_nothing(processes: Processes, tmp_path: Path) -> None:
    folder, other = tmp_path / NAMES, tmp_path / "other"
    for package in ("kafka", "pyspark", "py4j"):
        (other / package).mkdir(parents=True)
        (other / package / "__init__.py").write_text("raise ImportError('of another program')")
    folder.mkdir()
    temporary = folder / "tmp"
    temporary.mkdir()
    # With an umask of 077 no other user may read new files.
    run = processes.start_command(
        ["sh", "-c", 'umask 077; exec "$@"', "sh", *demo(folder)],
        env=FOREIGN | {"PYTHONPATH": str(other), "TMPDIR": str(temporary)},
    )
    published = require_published(run, folder)
    # In Kolkata hours begin at half past the hours of UTC.
    assert published.rows("SELECT DISTINCT date_part('minute', hour) FROM tickets_by_hour") == [(0,)]
    assert list(temporary.iterdir()) == []


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def test_a_user_without_name_and_home_where_temporary_files_are_noexec(processes: Processes, open_to_all: Path) -> None:
    if os.getuid() != 0 or not all(map(shutil.which, ("setpriv", "unshare", "mount"))):
        pytest.skip("this machine lacks setpriv or unshare, or this user the right to use them")
    mounted = open_to_all / "noexec"
    mounted.mkdir()
    # Root's rights to read files are kept, because interpreter and jars may be in a folder of root.
    rights = "+dac_override,+dac_read_search"
    become = f"setpriv --reuid=45678 --regid=45678 --clear-groups --inh-caps={rights} --ambient-caps={rights}"
    run = processes.start_command(
        [
            *("unshare", "--mount", "sh", "-c"),
            f'mount -t tmpfs -o noexec,mode=1777 tmpfs "$TMPDIR" && unset HOME && exec {become} "$@" || exit 125',
            *("sh", *demo(open_to_all)),
        ],
        env={"TMPDIR": str(mounted), "CLIENT_TICKETS_CACHE": str(cache_folder().parent)},
    )
    if run.wait() == 125:
        pytest.skip("this machine lacks the right to mount a file system")
    require_published(run, open_to_all)
    assert list(Path("/var/tmp").glob("client-tickets-broker-*")) == []


def test_java_25_runs_broker_and_spark(processes: Processes, tmp_path: Path) -> None:
    homes = sorted(Path("/usr/lib/jvm").glob("*25*/bin/java"))
    if not homes:
        pytest.skip("this machine lacks Java 25")
    home = homes[0].parent.parent
    assert java_executable({"JAVA_HOME": str(home)}) == homes[0]
    require_published(processes.start_command(demo(tmp_path), env={"JAVA_HOME": str(home)}), tmp_path)
    said = (tmp_path / "output" / ".pipeline" / "spark.log").read_text()
    assert "VM warning" not in said, said
    assert "VM warning" not in (tmp_path / "broker" / "broker.log").read_text()


def test_a_broker_on_ipv6_is_reached_by_both_services(processes: Processes, tmp_path: Path, topic: str) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine lacks IPv6")
    plain, six, controller = free_ports(3)
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SIX://[::1]:{six},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SIX://[::1]:{six}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SIX:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }
    with EmbeddedBroker(tmp_path / "broker", plain, properties):
        where = ("--broker", f"[::1]:{six}", "--topic", topic)
        processes.run("producer/ticket_producer.py", *where, "--count", "1000", "--rate", "0")
        output = ("--output-path", tmp_path / "output", "--memory", "1g")
        require_published(processes.start("processor/spark_processor.py", *where, *output), tmp_path)
