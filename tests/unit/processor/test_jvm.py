"""How Spark's JVM is started, and what is done when that does not work; a shell script stands in for Java."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark import SparkConf

from processor import jvm
from processor.archive import _Small
from processor.jvm import SparkJvm, class_path, jvm_environment, pyspark_folder
from processor.session import start_context
from runtime.errors import SettingError
from tests.support.processes import is_alive, wait_for

# Port 4242 and the secret "secret", as Spark's gateway writes them: into a file that has its name once it is complete.
ANSWERS = r"""file=$_PYSPARK_DRIVER_CONN_INFO_PATH
printf '\0\0\020\222\0\0\0\006secret' >"$file.new" && mv "$file.new" "$file"; exec sleep 600"""


class Gateway:
    """What pyspark's launch_gateway returned, and the environment that it saw."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.proc: subprocess.Popen[bytes] | None = None
        self.environment = environment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let a test change the environment of this process; afterwards it is as it was."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def gateways(monkeypatch: pytest.MonkeyPatch) -> list[Gateway]:
    """Replace pyspark's launch_gateway, which would connect to a JVM."""
    connected: list[Gateway] = []

    def launch_gateway() -> Gateway:
        connected.append(Gateway(dict(os.environ)))
        return connected[-1]

    monkeypatch.setattr(jvm, "_launch_gateway", launch_gateway)
    return connected


@pytest.fixture
def spark_submit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A pyspark whose spark-submit is a script; it notes its arguments and answers."""
    submit = tmp_path / "pyspark" / "bin" / "spark-submit"
    submit.parent.mkdir(parents=True)
    submit.write_text(f"#!/bin/sh\necho \"$@\" >'{tmp_path}/submitted'\n{ANSWERS}\n")
    submit.chmod(0o755)
    monkeypatch.setattr(jvm, "pyspark_folder", lambda: tmp_path / "pyspark")
    return submit


def fake_home(tmp_path: Path, script: str = "") -> Path:
    home = tmp_path / "java-home"
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    (home / "release").write_text('JAVA_VERSION="17.0.15"\n')
    os.environ["JAVA_HOME"] = str(home)
    return home


def launch(tmp_path: Path, script: str) -> SparkJvm:
    fake_home(tmp_path, script)
    return SparkJvm("1g", tmp_path / "spark.log")


def test_hands_pyspark_port_and_secret_and_leaves_no_trace_of_them(tmp_path: Path, gateways: list[Gateway]) -> None:
    running = launch(tmp_path, ANSWERS)
    gateway: Any = running.connect(SparkConf(loadDefaults=False))
    assert gateways == [gateway]
    assert gateway.environment["PYSPARK_GATEWAY_PORT"] == "4242"
    assert gateway.environment["PYSPARK_GATEWAY_SECRET"] == "secret"
    assert "PYSPARK_GATEWAY_PORT" not in os.environ
    assert gateway.proc.pid == running.pid
    assert running.is_alive()
    running.close()
    assert not running.is_alive()
    assert running.returncode == -9
    assert list(tmp_path.glob("client-tickets-spark-*")) == []


def test_the_start_ends_when_the_gateway_answers_not_when_somebody_connects(
    tmp_path: Path, gateways: list[Gateway]
) -> None:
    running = launch(tmp_path, ANSWERS)
    (connection,) = wait_for(lambda: list(tmp_path.glob("client-tickets-spark-*/connection")))
    os.utime(connection, (1_700_000_001.5, 1_700_000_001.5))
    running._launched_at = 1_700_000_000.0
    running.connect(SparkConf(loadDefaults=False))
    running.close()
    assert running.start_s == 1.5


def test_a_jvm_that_ends_at_once_is_started_by_spark_submit(
    tmp_path: Path, gateways: list[Gateway], spark_submit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = launch(tmp_path, "echo could not find or load main class; exit 1")
    gateway: Any = running.connect(SparkConf(loadDefaults=False).set("spark.master", "local[2]"))
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert warning.getMessage() == (
        "Spark's JVM did not start directly, trying spark-submit; it ended with code 1; "
        f"{tmp_path}/spark.log says:\ncould not find or load main class"
    )
    submitted = (tmp_path / "submitted").read_text()
    assert submitted.startswith("--conf spark.master=local[2] --conf spark.driver.extraJavaOptions=-Xms64m ")
    # Ivy, which spark-submit sets up, refuses the home "?" that Java gives a user without a name.
    assert re.search(rf" -Duser.home={tmp_path}/client-tickets-spark-\w+ pyspark-shell$", submitted)
    assert gateway.environment["PYSPARK_GATEWAY_PORT"] == "4242"
    assert running.pid == gateway.proc.pid
    running.close()
    assert gateway.proc.returncode == -9


def test_a_jvm_that_does_not_answer_is_killed_and_started_by_spark_submit(
    tmp_path: Path,
    gateways: list[Gateway],
    spark_submit: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(jvm, "_LIMIT_S", 2)
    running = launch(tmp_path, "exec sleep 600")
    first = running.pid
    running.connect(SparkConf(loadDefaults=False))
    assert "it does not answer after 2 s" in caplog.text
    wait_for(lambda: not is_alive(first))
    running.close()


@pytest.mark.parametrize(("script", "found"), [("echo no memory; exit 1", "no memory"), ("exec sleep 600", "2 s")])
def test_an_error_says_so_when_spark_submit_fails_or_hangs_as_well(
    script: str, found: str, tmp_path: Path, spark_submit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jvm, "_LIMIT_S", 2)
    spark_submit.write_text(f"#!/bin/sh\n{script}\n")
    running = launch(tmp_path, "exit 1")
    config = _Small()
    with pytest.raises(SettingError, match=found) as caught:
        start_context(config, running)
    assert str(caught.value).endswith("lower SPARK_MEMORY, or set JAVA_HOME to another Java")
    running.close()
    assert list(tmp_path.glob("client-tickets-spark-*")) == []


def test_a_java_that_does_not_run_is_a_setting_error(tmp_path: Path) -> None:
    home = fake_home(tmp_path)
    (home / "bin" / "java").write_bytes(b"\x7fELF of another machine")
    with pytest.raises(SettingError, match=rf"Java at {home}/bin/java does not run .*; set JAVA_HOME to another"):
        SparkJvm("1g", tmp_path / "spark.log")
    assert list(tmp_path.glob("client-tickets-spark-*")) == []


def test_what_another_spark_or_java_left_in_the_environment_does_not_reach_the_jvm(tmp_path: Path) -> None:
    foreign = {
        "JAVA_TOOL_OPTIONS": "-Xmx1x",
        "JDK_JAVA_OPTIONS": "-Xmx1x",
        "_JAVA_OPTIONS": "-Xmx1x",
        "CLASSPATH": "/other/jars/*",
        "SPARK_HOME": "/other/spark",
        "SPARK_CONF_DIR": "/other/conf",
        "SPARK_REMOTE": "sc://other",
        "SPARK_LOCAL_IP": "192.0.2.7",
        "PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell",
        "PYSPARK_PYTHON": "/other/python",
        "HADOOP_TOKEN_FILE_LOCATION": "/other/token",
        "PYTHONPATH": "/other/python",
        "LC_ALL": "C",
        "LANG": "C",
    }
    kept = {"PATH": "/bin", "HOME": "/home/me", "JAVA_HOME": "/java", "CLIENT_TICKETS_FAILPOINT": "task-staged"}
    assert jvm_environment(foreign | kept, tmp_path, local=True) == {
        **kept,
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(tmp_path),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_HOSTNAME": "localhost",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def test_on_a_cluster_the_user_sets_the_address_of_the_driver(tmp_path: Path) -> None:
    given = {"SPARK_LOCAL_IP": "192.0.2.7", "SPARK_PUBLIC_DNS": "driver.example", "SPARK_HOME": "/other/spark"}
    found = jvm_environment(given, tmp_path, local=False)
    assert {name for name in found if name.startswith("SPARK_")} == {"SPARK_LOCAL_IP", "SPARK_PUBLIC_DNS"}
    assert found["SPARK_LOCAL_IP"] == "192.0.2.7"


def test_this_process_forgets_the_other_spark_too(tmp_path: Path) -> None:
    os.environ.update({"SPARK_REMOTE": "sc://other", "PYSPARK_PIN_THREAD": "false", "PYSPARK_PYTHON": "/other/python"})
    launch(tmp_path, "exit 0").close()
    assert {name: value for name, value in os.environ.items() if name.startswith(("SPARK_", "PYSPARK_"))} == {
        "SPARK_HOME": str(pyspark_folder()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def test_the_class_path_names_each_jar_in_the_order_of_spark_submit(tmp_path: Path) -> None:
    (tmp_path / "jars" / "connect-repl").mkdir(parents=True)
    for name in ("zstd.jar", "slf4j-api-2.0.17.jar", "avro.jar", "notes.txt"):
        (tmp_path / "jars" / name).touch()
    assert class_path(tmp_path) == [
        tmp_path / "jars" / "slf4j-api-2.0.17.jar",
        tmp_path / "jars" / "avro.jar",
        tmp_path / "jars" / "zstd.jar",
    ]
