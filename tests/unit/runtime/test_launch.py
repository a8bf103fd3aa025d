"""What every JVM of ours is started with, and what a message shows of what it printed."""

import tempfile
from pathlib import Path

import pytest

from runtime.errors import OutputUnavailable
from runtime.java import launch
from runtime.settings import catalogue

FRAMES = [f"\tat org.apache.kafka.Thing.method{number}(Thing.java:{number})" for number in range(30)]


def test_neither_options_for_other_javas_nor_the_locale_reach_a_jvm() -> None:
    foreign = {
        "JAVA_TOOL_OPTIONS": "-XX:+UseG1GC",
        "JDK_JAVA_OPTIONS": "-Xmx1x",
        "_JAVA_OPTIONS": "-Djava.io.tmpdir=/nowhere",
        "CLASSPATH": "/other/jars/*",
        "LANG": "de_DE",
        "LANGUAGE": "de",
        "LC_ALL": "C",
        "LC_CTYPE": "POSIX",
    }
    kept = {"PATH": "/bin", "HOME": "/home/me", "HTTP_PROXY": "http://proxy:3128", "TZ": "Asia/Kolkata"}
    assert launch.environment(foreign | kept) == {**kept, "LC_ALL": "C.UTF-8"}


def test_no_password_reaches_a_jvm() -> None:
    assert {setting.key for setting in catalogue.ALL.values() if setting.secret} == {"KAFKA_SASL_PASSWORD"}
    given = {"KAFKA_SASL_PASSWORD": "hunter2", "KAFKA_SASL_PASSWORD_FILE": "/password"}
    assert launch.environment(given) == {"KAFKA_SASL_PASSWORD_FILE": "/password", "LC_ALL": "C.UTF-8"}


def test_temporary_files_and_the_home_lie_in_one_folder() -> None:
    assert launch.properties(Path("/tmp/run")) == ["-Djava.io.tmpdir=/tmp/run", "-Duser.home=/tmp/run"]


def test_libraries_are_unpacked_where_they_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CLIENT_TICKETS_CACHE", str(tmp_path / "cache"))
    mounted_noexec: set[Path] = set()
    monkeypatch.setattr(launch, "_is_noexec", mounted_noexec.__contains__)
    assert launch.library_folder() == tmp_path
    mounted_noexec.add(tmp_path)
    assert launch.library_folder() == Path("/var/tmp")
    mounted_noexec.add(Path("/var/tmp"))
    with pytest.raises(OutputUnavailable) as caught:
        launch.library_folder()
    assert str(caught.value) == (
        f"Java can load its compression libraries from none of {tmp_path}, /var/tmp: each is mounted noexec or not "
        "writable; set TMPDIR to a folder on another file system"
    )
    (tmp_path / "cache").mkdir()
    assert launch.library_folder() == tmp_path / "cache"


def test_a_short_log_is_shown_whole_without_stack_frames(tmp_path: Path) -> None:
    log = tmp_path / "spark.log"
    log.write_text("Error occurred during initialization of VM\nCould not reserve enough space for object heap\n\n")
    assert launch.what_it_said(log) == (
        f"{log} says:\nError occurred during initialization of VM\nCould not reserve enough space for object heap"
    )
    log.write_text("\n".join(['Exception in thread "main" java.io.IOException: no', *FRAMES, "\t... 7 more"]))
    assert launch.what_it_said(log) == f'{log} says:\nException in thread "main" java.io.IOException: no'


def test_from_a_long_log_only_the_lines_that_say_why_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "broker.log"
    story = [
        *(f"12:00:00 INFO  KafkaConfig \tvalue.{number} = null" for number in range(200)),
        "12:00:01 ERROR KafkaRaftServer Exiting Kafka due to fatal exception",
        "java.lang.RuntimeException: No readable meta.properties files found.",
        *FRAMES,
        "Caused by: java.lang.UnsatisfiedLinkError: failed to map segment from shared object",
        *FRAMES,
        "\t... 7 more",
        "12:00:01 INFO  App info kafka.server for 1 unregistered",
    ]
    log.write_text("\n".join(story))
    assert launch.what_it_said(log).splitlines() == [
        f"{log} says, among 204 lines:",
        "12:00:01 ERROR KafkaRaftServer Exiting Kafka due to fatal exception",
        "java.lang.RuntimeException: No readable meta.properties files found.",
        "Caused by: java.lang.UnsatisfiedLinkError: failed to map segment from shared object",
    ]


def test_a_log_that_says_nothing_is_called_empty(tmp_path: Path) -> None:
    assert launch.what_it_said(tmp_path / "missing.log") == f"{tmp_path}/missing.log is empty"
