"""How a process of ours logs, stops and ends."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import (
    BrokerError,
    DataConflict,
    NotAcknowledged,
    OutputUnavailable,
    PipelineError,
    SettingError,
)
from runtime.process import entry
from runtime.process.failpoint import warn_of_failpoint
from runtime.process.logs import configure_logging
from runtime.process.shutdown import Shutdown
from runtime.settings.setting import ROOT


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raising(error: Exception) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingError("x"), 2),
        (BrokerError("x"), 3),
        (DataConflict("x"), 4),
        (OutputUnavailable("x"), 5),
        (NotAcknowledged("x"), 6),
        (PipelineError("x"), 1),
    ],
)
def test_an_expected_error_is_one_line_without_traceback(
    error: PipelineError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", "text")

    assert entry.run(raising(error)) == code
    assert capsys.readouterr().err.splitlines()[0].endswith("ERROR   x")


def test_anything_else_is_a_bug_with_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "text")

    assert entry.run(raising(ZeroDivisionError("oops"))) == 1
    assert "Traceback" in (shown := capsys.readouterr().err)
    assert "ZeroDivisionError: oops" in shown


def test_a_body_that_ends_well_is_zero() -> None:
    assert entry.run(lambda: None) == 0


def test_a_json_log_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("producer.run").info("two\nlines and “quotes” %d", 7)

    event = json.loads(capsys.readouterr().err)

    assert event["level"] == "INFO"
    assert event["logger"] == "producer.run"
    assert event["message"] == "two\nlines and “quotes” 7"
    assert event["time"].endswith("Z")


def test_a_text_log_writes_out_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "text")
    logging.getLogger("store.check").warning("%s holds %s\n\tmore é", "a", "cr\r12:00:00 INFO all is well\x1b[2J\x85")

    shown = capsys.readouterr().err
    assert shown[8:] == " WARNING a holds cr\\x0d12:00:00 INFO all is well\\x1b[2J\\x85\n\tmore é\n"


def test_a_json_log_keeps_the_traceback_inside_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    entry.run(raising(ZeroDivisionError("oops")))

    line = json.loads(capsys.readouterr().err)
    assert "ZeroDivisionError: oops" in line["traceback"]
    assert (line["event"], line["exit_code"]) == ("failed", 1)


def test_a_json_log_says_with_which_exit_code_a_process_ends(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    entry.run(raising(DataConflict("the topic was replaced")))

    line = json.loads(capsys.readouterr().err)
    del line["time"]
    assert line == {
        "level": "ERROR",
        "logger": "runtime.process.entry",
        "message": "the topic was replaced",
        "event": "failed",
        "exit_code": 4,
        "problem": "the topic was replaced",
    }


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", ["info"]), ("INFO", [])])
def test_client_libraries_never_log_bytes_and_log_their_steps_only_at_debug(
    level: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(level, "text")
    library = logging.getLogger("kafka.protocol.parser")
    library.debug("debug")
    library.info("info")

    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == shown


def test_py4j_does_not_log_that_the_jvm_ended(capsys: pytest.CaptureFixture[str]) -> None:
    from py4j.java_gateway import GatewayClient
    from py4j.protocol import Py4JNetworkError

    configure_logging("INFO", "text")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        client = GatewayClient(port=nobody.getsockname()[1])
        connection = client._get_connection()
        client.deque.append(connection)
        nobody.accept()[0].close()
    with pytest.raises(Py4JNetworkError):
        client.send_command("c\n")

    assert capsys.readouterr().err == ""


def test_a_stop_that_was_asked_for_stays_asked() -> None:
    stop = Shutdown()

    assert not stop.asked
    stop.ask()
    stop.ask()
    assert stop.asked
    assert stop.wait(60)


@pytest.mark.usefixtures("_signals_as_before")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_wait_at_once(number: signal.Signals) -> None:
    stop = Shutdown().install()
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    start = time.monotonic()

    assert stop.wait(30)
    assert time.monotonic() - start < 5


def test_a_wait_without_a_stop_lasts_its_time() -> None:
    start = time.monotonic()

    assert not Shutdown().wait(0.05)
    assert time.monotonic() - start >= 0.05


def test_a_failpoint_that_was_left_in_the_environment_is_named(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_failpoint({})
    warn_of_failpoint({"CLIENT_TICKETS_FAILPOINT": ""})
    assert caplog.messages == []

    warn_of_failpoint({"CLIENT_TICKETS_FAILPOINT": "committed"})
    assert caplog.messages == [
        "CLIENT_TICKETS_FAILPOINT=committed is set, for tests: this process will kill itself there; unset it"
    ]


def test_installed_packages_win_over_those_of_another_program_on_pythonpath() -> None:
    given = f"/spark-3/python:/spark-3/python/lib/py4j.zip:{ROOT}:"
    search = [str(ROOT), "/spark-3/python", "/spark-3/python/lib/py4j.zip", "/lib/python3.11", "/venv/site-packages"]
    assert entry.installed_first(search, given) == [
        str(ROOT),
        "/lib/python3.11",
        "/venv/site-packages",
        "/spark-3/python",
        "/spark-3/python/lib/py4j.zip",
    ]
    assert entry.installed_first(search, "") == search


def test_an_old_package_on_pythonpath_is_passed_over_and_one_that_is_only_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "__init__.py").write_text("raise ImportError('written for Python 2')")
    (tmp_path / "of_the_user.py").write_text("print('found')")
    script = "from runtime.process import entry; entry.run(lambda: (__import__('kafka'), __import__('of_the_user')))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "found\n", "")


def test_ctrl_c_where_nothing_has_to_be_ended_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert entry.run(interrupted) == 130
    assert capsys.readouterr().err == ""
