"""Spark as a run starts it: what reaches the JVM and the workers, how fast, and that nothing is left of them."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from processor.jvm import SPARK_FLAGS, class_path, pyspark_folder
from runtime.java.jdk import java_executable
from runtime.settings.setting import ROOT
from tests.support.cluster import Cluster
from tests.support.processes import Processes, Running, is_alive, processes_of, wait_for

pytestmark = pytest.mark.integration

# A driver with a config and a folder, in which it starts Spark. The test fills in {before} and {body}.
DRIVER = """
import json, logging, os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
logging.getLogger("py4j").setLevel("CRITICAL")
import processor.jvm
from processor.session import launch_jvm, start_context, stop_context
config = SimpleNamespace(master=sys.argv[1], memory="600m")
folder = Path(sys.argv[2])

def where(number):
    import store.datasets, pyspark
    return store.datasets.__file__, pyspark.__file__, sys.getfilesystemencoding(), sys.path

{before}
jvm = launch_jvm(config, folder)
context = start_context(config, jvm)
{body}
"""
RUN = """
print(json.dumps(context.parallelize(range(2), 2).map(where).collect()))
stop_context(context, jvm)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which set-up has made the class-data archive; set-up ran as by cron, with another Java installed."""
    folder = tmp_path_factory.mktemp("caché", numbered=False)
    processes = Processes(tmp_path_factory.mktemp("archive"))
    try:
        environment = {"CLIENT_TICKETS_CACHE": str(folder), "LC_ALL": "C", "JAVA_TOOL_OPTIONS": "-Xmx1x"}
        made = processes.run("-m", "processor.archive", env=environment, deadline_s=180)
    finally:
        processes.end_all()
    assert re.search(r"^\S+/classes-\w+\.jsa \(\d+ MB\)$", made.stdout, re.MULTILINE), made.output
    assert [path.suffix for path in folder.iterdir()] == [".jsa"]
    return folder


class Drivers:
    """Starts drivers, each in a folder of its own, with temporary files where the test can see them."""

    def __init__(self, processes: Processes, tmp_path: Path, cache: Path) -> None:
        self._processes = processes
        self.state = tmp_path / "state"
        self.temporary = tmp_path / "tmp"
        self.environment = {"CLIENT_TICKETS_CACHE": str(cache), "TMPDIR": str(self.temporary)}
        self.master = "local[2]"
        self.state.mkdir()
        self.temporary.mkdir()

    def start(self, body: str = RUN, before: str = "", **environment: str) -> Running:
        script = DRIVER.replace("{before}", before).replace("{body}", body)
        arguments = ("-c", script, self.master, self.state)
        return self._processes.start(*arguments, env=self.environment | environment)

    def run(self, body: str = RUN, before: str = "", **environment: str) -> Running:
        driver = self.start(body, before, **environment)
        assert driver.wait() == 0, driver.output
        return driver

    @property
    def jvm_log(self) -> str:
        return (self.state / "spark.log").read_text(encoding="utf-8")


@pytest.fixture
def drivers(processes: Processes, tmp_path: Path, cache: Path) -> Drivers:
    return Drivers(processes, tmp_path, cache)


def test_a_job_runs_our_code_with_the_memory_that_was_asked_for_and_leaves_nothing(drivers: Drivers) -> None:
    driver = drivers.run(
        before="handler = lambda number, frame: None\nsignal.signal(signal.SIGINT, handler)",
        body="assert signal.getsignal(signal.SIGINT) is handler\nprint(jvm.pid)" + RUN,
    )
    pid, answer = driver.stdout.splitlines()
    for code, pyspark, _, _ in json.loads(answer):
        assert code == str(ROOT / "store" / "datasets.py")
        assert ".zip" not in pyspark
    started = re.search(
        r"^INFO Spark 4\.2\.0 started in \d+\.\d s: local\[2,4\], 2 cores, heap 600 MiB \(asked for 600m\)$",
        driver.stderr,
        re.MULTILINE,
    )
    assert started, driver.output
    assert driver.stderr.count("\n") == 1
    assert list(drivers.temporary.iterdir()) == []
    wait_for(lambda: not processes_of(int(pid)), 5)


def test_a_hostile_environment_and_a_path_beyond_ascii_change_nothing(drivers: Drivers, tmp_path: Path) -> None:
    drivers.state = tmp_path / "état du café"
    drivers.temporary = tmp_path / "tämpörär"
    drivers.state.mkdir()
    drivers.temporary.mkdir()
    driver = drivers.run(
        TMPDIR=str(drivers.temporary),
        LC_ALL="C",
        LANG="C",
        JAVA_TOOL_OPTIONS="-Xmx1x",
        JDK_JAVA_OPTIONS="-Xmx1x",
        _JAVA_OPTIONS="-Xmx1x",
        CLASSPATH="/nowhere",
        SPARK_HOME="/nowhere",
        SPARK_CONF_DIR="/nowhere",
        SPARK_REMOTE="sc://nowhere",
        SPARK_CONNECT_MODE_ENABLED="1",
        SPARK_LOCAL_IP="192.0.2.7",
        SPARK_PREFER_IPV6="true",
        PYSPARK_SUBMIT_ARGS="--master yarn pyspark-shell",
        PYSPARK_PYTHON="/nowhere",
        PYSPARK_GATEWAY_PORT="1",
        HADOOP_TOKEN_FILE_LOCATION="/nowhere",
        PYTHONPATH=str(tmp_path),
    )
    for _, _, encoding, path in json.loads(driver.stdout):
        assert encoding == "utf-8"
        assert str(tmp_path) not in path
    assert list(drivers.temporary.iterdir()) == []


# A task that holds a secret, as ours hold the password of the broker, and does not end.
SHIPPED = """
secret = "open-sesame-7"
def task(number):
    return time.sleep(600) or secret
print("port", context._jvm.org.apache.spark.SparkEnv.get().blockManager().blockManagerId().port(), flush=True)
context.parallelize(range(2), 2).map(task).collect()
"""


def test_no_other_user_of_this_machine_can_fetch_what_is_shipped_to_workers(drivers: Drivers) -> None:
    trusting = """
import processor.session
careful = processor.session.configure
processor.session.configure = lambda config: careful(config).set("spark.authenticate", "false")
"""
    answers = []
    for before in (trusting, ""):
        driver = drivers.start(SHIPPED, before)
        port = int(driver.wait_for_stdout("port").split()[1])
        answers.append(wait_for(partial(shipped, port), 60, "a task"))
        driver.send(signal.SIGTERM)
        driver.wait()
    # The first answer shows that the request itself is right.
    assert b"open-sesame-7" in answers[0]
    assert b"Expected SaslMessage" in answers[1]


def shipped(port: int) -> bytes:
    """Return a block manager's answer for the first broadcast; nothing if there is none yet."""
    answer = fetch_block(port, "broadcast_0")
    return b"" if b"BlockNotFoundException" in answer else answer


def fetch_block(port: int, block: str) -> bytes:
    """Ask a block manager of Spark for a block as its network protocol wants it; return its last answer."""

    def text(value: str) -> bytes:
        return struct.pack(">i", len(value)) + value.encode()

    def ask(kind: int, content: bytes) -> tuple[int, bytes]:
        connection.sendall(struct.pack(">qb", 9 + len(content), kind) + content)
        length, answered = struct.unpack(">qb", answers.read(9))
        return answered, answers.read(length - 9)

    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rb") as answers:
        # OpenBlocks, in a request for a remote call; then the first chunk of the stream that it answers with.
        opened = b"\0" + text("app") + text("0") + struct.pack(">i", 1) + text(block)
        kind, answer = ask(3, struct.pack(">qi", 1, len(opened)) + opened)
        if kind == 4:
            (stream,) = struct.unpack_from(">q", answer, len(answer) - 12)
            _, answer = ask(0, struct.pack(">qi", stream, 0))
        return answer


def test_when_it_does_not_start_directly_spark_submit_starts_it(drivers: Drivers) -> None:
    driver = drivers.run(before="processor.jvm.GATEWAY = 'of.no.Gateway'", SPARK_REMOTE="sc://nowhere", LC_ALL="C")
    assert "WARNING Spark's JVM did not start directly, trying spark-submit; it ended with code 1" in driver.stderr
    assert re.search(r"INFO Spark .* heap 600 MiB \(asked for 600m\)$", driver.stderr, re.MULTILINE)
    assert len(json.loads(driver.stdout)) == 2
    assert list(drivers.temporary.iterdir()) == []


def test_the_classes_come_from_the_archive(drivers: Drivers, tmp_path: Path) -> None:
    load_log = f"'-Xlog:class+load:file={tmp_path}/load.log'"
    drivers.run(
        before="flags = processor.jvm.SparkJvm._flags\n"
        f"processor.jvm.SparkJvm._flags = lambda jvm, shared: [*flags(jvm, shared), {load_log}]",
    )
    loaded = (tmp_path / "load.log").read_text()
    for name in ("SparkContext", "api.python.PythonGatewayServer", "api.python.PythonRunner", "scheduler.DAGScheduler"):
        assert f"org.apache.spark.{name} source: shared objects file (top)" in loaded
    assert loaded.count("shared objects file (top)") > 5_000


def test_a_file_that_is_not_an_archive_is_ignored(drivers: Drivers, cache: Path, tmp_path: Path) -> None:
    (archive,) = cache.glob("classes-*.jsa")
    other = tmp_path / "cache" / archive.name
    other.parent.mkdir()
    other.write_bytes(b"garbage" * 1_000)
    driver = drivers.run(CLIENT_TICKETS_CACHE=str(other.parent))
    assert len(json.loads(driver.stdout)) == 2
    assert "WARNING" not in driver.stderr
    assert not re.search(r"cds|archive|sharing", drivers.jvm_log, re.IGNORECASE)


def test_after_kill_9_of_the_driver_all_its_processes_end_and_the_next_start_clears_its_files(drivers: Drivers) -> None:
    driver = drivers.start(
        "def block(number):\n    (folder / f'worker-{number}').touch()\n    time.sleep(600)\n"
        "print(jvm.pid, flush=True)\n"
        "context.parallelize(range(2), 2).map(block).collect()"
    )
    wait_for(lambda: len(list(drivers.state.glob("worker-*"))) == 2, 60, "two busy workers")
    session = int(driver.stdout)
    # The JVM, the daemon and two workers are in other sessions, so Ctrl-C in the driver's terminal does not reach them.
    family = processes_of(session)
    assert len(family) == 4
    assert os.getsid(driver.pid) != session

    driver.send(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not any(map(is_alive, family)), 5, f"end of {family}")

    (left,) = drivers.temporary.iterdir()
    assert left.name.startswith("client-tickets-spark-")
    drivers.run()
    assert list(drivers.temporary.iterdir()) == []


def test_the_driver_sees_that_its_jvm_died_and_can_start_another(drivers: Drivers) -> None:
    driver = drivers.run(
        "assert jvm.is_alive()\n"
        "os.kill(jvm.pid, signal.SIGKILL)\n"
        "while jvm.is_alive(): time.sleep(0.01)\n"
        "print(jvm.returncode)\n"
        "stop_context(context, jvm)\n"
        "jvm = launch_jvm(config, folder)\n"
        "context = start_context(config, jvm)" + RUN
    )
    code, answer = driver.stdout.splitlines()
    assert code == "-9"
    assert len(json.loads(answer)) == 2
    assert driver.stderr.count("\n") == 2, driver.output


def test_spark_submit_starts_it_also_for_a_user_without_a_name_and_a_home(
    drivers: Drivers, processes: Processes, tmp_path: Path
) -> None:
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("this machine lacks setpriv, or this user the right to become another")
    for folder in (tmp_path, drivers.state, drivers.temporary):
        folder.chmod(0o1777)
    # Root's rights to read files are kept, because the interpreter may be in a folder of root.
    rights = "+dac_override,+dac_read_search"
    before = "assert os.getuid() == 45678\nprocessor.jvm.GATEWAY = 'of.no.Gateway'"
    script = DRIVER.replace("{before}", before).replace("{body}", RUN)
    driver = processes.start_command(
        [
            *("setpriv", "--reuid=45678", "--regid=45678", "--clear-groups"),
            *(f"--inh-caps={rights}", f"--ambient-caps={rights}"),
            *(sys.executable, "-c", script, "local[2]", str(drivers.state)),
        ],
        env=drivers.environment | {"HOME": ""},
    )
    assert driver.wait() == 0, driver.output
    assert len(json.loads(driver.stdout)) == 2


def test_the_flags_are_those_of_spark_submit() -> None:
    pyspark = pyspark_folder()
    environment = {"PATH": os.environ["PATH"], "SPARK_HOME": str(pyspark), "SPARK_SCALA_VERSION": "2.13"}
    told = subprocess.run(
        [
            *(str(java_executable()), "-cp", f"{pyspark}/jars/*"),
            *("org.apache.spark.launcher.Main", "org.apache.spark.deploy.SparkSubmit", "pyspark-shell"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    _, line = told.stdout.split("\0\n", 1)
    _, cp, jars, *flags = line.split("\0")
    assert flags[: flags.index("org.apache.spark.deploy.SparkSubmit")] == ["-Xmx1g", *SPARK_FLAGS]
    # Its first entry is a folder for settings, which we do not have; the next is the jar that we also put first.
    assert cp == "-cp"
    assert jars.split(os.pathsep)[1:] == [str(class_path(pyspark)[0]), f"{pyspark}/jars/*"]


def test_a_cluster_runs_the_code_that_the_driver_ships(drivers: Drivers, processes: Processes, tmp_path: Path) -> None:
    cluster = Cluster(processes, tmp_path)
    cluster.start_master()
    cluster.start_worker()
    drivers.master = cluster.address
    driver = drivers.run(SPARK_LOCAL_IP="127.0.0.1")
    for code, _, _, _ in json.loads(driver.stdout):
        assert "/code.zip/store/datasets.py" in code
    assert "spark://" in driver.stderr
    # The code was in a folder where nobody else can replace it while workers fetch it.
    assert [file.name for file in drivers.state.iterdir()] == ["spark.log"]
    # The cluster was told that the driver has finished.
    wait_for(lambda: cluster.says()["activeapps"] == [], 10)


def test_nothing_is_made_where_it_cannot_be_written_and_setup_goes_on(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = processes.run("-m", "processor.archive", env={"CLIENT_TICKETS_CACHE": str(tmp_path / "file" / "cache")})
    assert "Spark's class-data archive was not made, so Spark will start more slowly" in made.stderr
