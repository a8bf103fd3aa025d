"""Python, Java, disk and ports."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from doctor import disk, interpreter, java, ports
from doctor.disk import Space
from doctor.finding import Finding, ok
from doctor.holders import Holder, holder_of_lock, holder_of_port, locked_by, sockets_on
from runtime.java.jars import Jar
from runtime.settings.setting import ROOT
from tests.support.listeners import free_ports

GIB = 1 << 30

LOCK = """
confluent-kafka==2.16.1 \\
    --hash=sha256:03c8
msgspec==0.20.0
tzdata==2026.1 ; sys_platform == 'win32' \\
    --hash=sha256:03c8
"""


def test_the_version_of_python_is_judged() -> None:
    assert interpreter.version((3, 11, 7), "/bin/python") == ok("Python 3.11.7 at /bin/python")
    assert interpreter.version((3, 10, 2), "/bin/python") == Finding(
        "problem",
        "/bin/python is Python 3.10, and 3.11 or later is needed",
        "install it, then run make setup PYTHON=python3.13",
    )


@pytest.mark.parametrize(
    ("installed", "optional", "level", "told"),
    [
        (
            {"confluent-kafka": "2.16.1", "msgspec": "0.20.0"},
            False,
            "ok",
            "the x: all 3 packages are those of the lock",
        ),
        (
            {"confluent-kafka": "2.16.1"},
            False,
            "problem",
            "the x: 1 of 3 packages are missing: msgspec",
        ),
        ({}, True, "ok", "the x: 2 packages are not installed, such as confluent-kafka; make x installs them"),
        (
            {"confluent-kafka": "2.16.1", "msgspec": "0.19.0"},
            False,
            "warning",
            "the x: 1 packages have another version than the lock says: msgspec 0.19.0 instead of 0.20.0",
        ),
    ],
)
def test_packages_are_those_of_the_lock(installed: dict[str, str], optional: bool, level: str, told: str) -> None:
    found = interpreter.packages("the x", "make x", optional, LOCK, installed.get)
    assert (found.level, found.what) == (level, told)


def test_the_packages_of_this_environment_are_those_of_the_lock() -> None:
    for part in ("producer", "processor"):
        lock = (ROOT / part / "requirements.lock").read_text(encoding="utf-8")
        assert interpreter.packages(part, "make setup", False, lock, interpreter.installed_version).level == "ok"


def test_a_foreign_python_path_is_told() -> None:
    assert list(interpreter.foreign({"PYTHONPATH": f"{ROOT}:/opt/spark/python"})) == [
        ok("PYTHONPATH names /opt/spark/python: only what is not installed with the services is taken from there")
    ]
    assert list(interpreter.foreign({"PYTHONPATH": str(ROOT)})) == []


def script(folder: Path, body: str) -> Path:
    java_file = folder / "java"
    java_file.write_text(f"#!/bin/sh\n{body}\n")
    java_file.chmod(0o755)
    return java_file


def test_a_java_that_starts_is_told_with_its_version_and_its_heap(tmp_path: Path) -> None:
    found = java.starts(script(tmp_path, 'echo "openjdk 21 $1" >&2'), "2g", {"JAVA_HOME": "/jdk"}, 10)
    assert found == ok(f"openjdk 21 -Xmx2g at {tmp_path}/java (from JAVA_HOME=/jdk) starts with a heap of 2g")


def test_a_java_that_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    said = 'echo "Could not reserve enough space" >&2; exit 1'
    found = java.starts(script(tmp_path, said), "99g", {}, 10)
    assert found.level == "problem"
    assert "with a heap of 99g ends with code 1 and says: Could not reserve enough space" in found.what
    late = java.starts(script(tmp_path, "exec sleep 60"), None, {}, 0.2)
    assert late.what == f"{tmp_path}/java did not start within 0 s"
    assert java.starts(tmp_path / "nowhere", None, {}, 1).what.endswith("does not run (No such file or directory)")


def test_no_option_of_other_programs_reaches_the_java_that_is_tried(tmp_path: Path) -> None:
    told = script(tmp_path, 'echo "<$JAVA_TOOL_OPTIONS$_JAVA_OPTIONS>" >&2')
    environ = {"JAVA_TOOL_OPTIONS": "-Xmx1m", "_JAVA_OPTIONS": "-Xmx1m"}
    assert java.starts(told, None, environ, 10).what.startswith("<> at ")


def test_a_jar_that_is_not_the_locked_one_is_named(tmp_path: Path) -> None:
    jar = Jar("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "org:one:1", "broker")
    (tmp_path / "one-1.jar").write_bytes(b"hello")
    assert java.intact([tmp_path / "one-1.jar"], [jar]) == ok("the 1 jars of the broker are those of the lock")
    (tmp_path / "one-1.jar").write_bytes(b"hell")
    found = java.intact([tmp_path / "one-1.jar"], [jar])
    assert found.level == "problem"
    assert found.what == f"1 of 1 jars of the broker are not those of the lock, the first is {tmp_path}/one-1.jar"


@pytest.mark.parametrize(
    ("limit", "tasks", "level", "told"),
    [
        (16_000, 4, "ok", "SPARK_MEMORY=2g (the default) fits in 16,000 MiB of memory"),
        (None, None, "ok", "SPARK_MEMORY=2g (the default) fits in unknown memory"),
        (
            3_000,
            1,
            "warning",
            "SPARK_MEMORY=2g (the default) fits in 3,000 MiB of memory, but leaves room for 1 tasks at once, and there "
            "are 4 cores",
        ),
    ],
)
def test_a_heap_is_judged_beside_the_memory(limit: int | None, tasks: int | None, level: str, told: str) -> None:
    found = java.heap("2g", "the default", limit, tasks, 4)
    assert (found.level, found.what) == (level, told)


def test_variables_of_another_spark_or_java_are_told() -> None:
    environ = {
        "SPARK_HOME": "/opt/spark",
        "JAVA_TOOL_OPTIONS": "-Xmx1m",
        "PATH": "/bin",
        "SPARK_MEMORY": "2g",
        "LANG": "C",
    }
    assert list(java.left_out(environ, {"PATH": "/bin"}, ["SPARK_MEMORY"])) == [
        ok(
            "JAVA_TOOL_OPTIONS, SPARK_HOME in the environment has no effect: it is kept from Spark and the embedded "
            "broker"
        )
    ]
    assert list(java.left_out({"PATH": "/bin"}, {"PATH": "/bin"}, [])) == []


@pytest.mark.parametrize(
    ("space", "level", "told"),
    [
        (Space(50 * GIB, 1_000_000, 900_000, False), "ok", "it (/o): 50.0 GiB free, 900,000 inodes free"),
        (Space(50 * GIB, 0, 0, False), "ok", "it (/o): 50.0 GiB free"),
        (Space(2 * GIB - 1, 0, 0, False), "warning", "it (/o): 2.0 GiB free, which is little"),
        (Space(50 * GIB, 1_000_000, 19_999, False), "warning", "it (/o): 50.0 GiB free, 19,999 inodes free, which is"),
        (Space((200 << 20) - 1, 0, 0, False), "problem", "it (/o): 0.2 GiB free: the disk is full, or nearly"),
        (
            Space(50 * GIB, 1_000_000, 999, False),
            "problem",
            "it (/o): 50.0 GiB free, 999 inodes free: the disk is full",
        ),
        (Space(50 * GIB, 0, 0, True), "problem", "it (/o): the file system is mounted read-only"),
    ],
)
def test_a_file_system_is_judged(space: Space, level: str, told: str) -> None:
    found = disk.space("it", Path("/o"), space)
    assert found.level == level
    assert found.what.startswith(told)


def test_a_folder_of_somebody_else_is_a_problem_with_the_command_that_mends_it() -> None:
    assert disk.not_writable("the output", Path("/data/output"), 0, 1000) == Finding(
        "problem",
        "the output: /data/output belongs to root and is not writable for user 1000",
        "give it to this user (sudo chown -R 1000 /data/output), or choose another folder",
    )


def test_temporary_files_in_a_folder_for_everybody_are_a_problem_and_in_the_machines_own_a_warning() -> None:
    assert disk.exchangeable(Path("/srv/tmp"), "everybody may write to /srv/tmp").level == "problem"
    assert disk.exchangeable(Path("/tmp"), "everybody may write to /tmp").level == "warning"


def test_real_places_are_looked_at_and_a_folder_of_a_killed_run_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "client-tickets-spark-1").mkdir()
    (tmp_path / "client-tickets-spark-1" / "lock").touch()
    found = list(disk.examine({"TMPDIR": str(tmp_path)}, {"the output": tmp_path / "not" / "there"}))
    assert f"the output ({tmp_path}/not/there): " in found[0].what
    assert found[-1].what.startswith("1 folders of killed runs are left in ")
    assert not (tmp_path / "not").exists()


LOCKS = """1: POSIX  ADVISORY  READ 27012 fe:00:11 128 128
2: FLOCK  ADVISORY  WRITE 4711 fe:01:11 0 EOF
2: -> FLOCK  ADVISORY  WRITE 99 fe:00:11 0 EOF
3: FLOCK  ADVISORY  READ 12 fe:00:11 0 EOF
4: FLOCK  ADVISORY  WRITE 42 fe:00:11 0 EOF
"""


def test_who_holds_a_lock_is_found_by_device_and_inode() -> None:
    assert locked_by(LOCKS, os.makedev(0xFE, 0), 11) == 42
    assert locked_by(LOCKS, os.makedev(0xFE, 1), 11) == 4711
    assert locked_by(LOCKS, os.makedev(0xFE, 2), 11) is None


def test_who_listens_is_found_by_the_port() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0\n"
        "   1: 0100007F:2384 0100007F:8888 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0\n"
        "   2: 00000000:2385 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0\n"
    )
    assert sockets_on(table, 9092) == [111]


HOLD_LOCK = """
import fcntl, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_real_lock_is_told_with_its_process_and_not_asked_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    assert holder_of_lock(lock) is None
    holder = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        found = holder_of_lock(lock)
    finally:
        holder.communicate()
    assert found is not None
    assert found.pid == holder.pid
    assert sys.executable in found.command


def test_a_real_port_is_told_with_who_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert holder_of_port(port).pid == os.getpid()
        found = list(ports.examine(f"127.0.0.1:{port}", port, {"DASHBOARD_PORT": port, "METRICS_PORT": None}))
    assert [(each.level, f"process {os.getpid()} (" in each.what) for each in found] == [
        ("ok", True),
        ("problem", True),
    ]


def test_a_real_port_that_is_free_is_told() -> None:
    clients, page = free_ports(2)
    assert list(ports.examine("somewhere:9092", clients, {"METRICS_PORT": page, "DASHBOARD_PORT": 0})) == [
        ok(f"port {clients} is free: make broker can take it"),
        ok(f"port {page} (METRICS_PORT) is free"),
    ]


@pytest.mark.parametrize(
    ("holder", "looked_for", "level", "told"),
    [
        (None, True, "ok", "port 9092 is free: make broker can take it"),
        (
            Holder(7, "java kafka.Kafka"),
            True,
            "ok",
            "port 9092, where --broker looks for a broker, is taken by process 7 (java kafka.Kafka)",
        ),
        (
            Holder(None),
            False,
            "warning",
            "port 9092, which make broker takes, is taken by a process of another user or container",
        ),
    ],
)
def test_the_port_of_a_broker_is_judged(holder: Holder | None, looked_for: bool, level: str, told: str) -> None:
    found = ports.for_broker(9092, holder, looked_for)
    assert (found.level, found.what) == (level, told)


@pytest.mark.parametrize(
    ("holder", "level"),
    [
        (None, "ok"),
        (Holder(7, f"python -m streamlit run {ROOT}/dashboard/page.py"), "ok"),
        (Holder(7, "/usr/bin/docker-proxy -host-port 8501"), "warning"),
        (Holder(None), "warning"),
        (Holder(7, "nginx"), "problem"),
        ("only root may listen there", "problem"),
    ],
)
def test_the_port_of_a_service_is_judged_by_who_has_it(holder: Holder | str | None, level: str) -> None:
    assert ports.for_service("DASHBOARD_PORT", 8501, holder).level == level


def test_the_brokers_on_this_machine_are_told_from_others() -> None:
    assert ports.addresses_here("localhost:9092,127.0.0.1:9093,kafka.example.com:9094,[::1]:9095") == {9092, 9093, 9095}
