"""The command line of the dashboard, before it becomes Streamlit's server."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.config import DashboardConfig
from dashboard.serve import build_parser, command, environment, main
from runtime.errors import SettingError
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT


def config(*flags: str, **environ: str) -> DashboardConfig:
    return DashboardConfig.from_sources(build_parser().parse_args(flags), environ, Path("/nowhere"))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_it_listens_on_this_machine_only_unless_told_otherwise() -> None:
    assert config() == DashboardConfig(OutputLocation(ROOT / "data/output"), 8501, "127.0.0.1")
    asked = config("--port", "8600", "--output-path", "/tmp/o", "--address", "0.0.0.0", DASHBOARD_PORT="1")
    assert asked == DashboardConfig(OutputLocation(Path("/tmp/o")), 8600, "0.0.0.0")
    assert config(DASHBOARD_PORT="8602").port == 8602


@pytest.mark.parametrize("flags", [("--port", "0"), ("--port", "70000"), ("--port", "http"), ("--address", "a b")])
def test_a_flag_that_cannot_be_used_is_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(SettingError, match=f"^{flags[0]} must be .*, found '{flags[1]}'"):
        config(*flags)


def test_a_port_that_is_taken_ends_with_2_and_a_sentence(taken: int, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--port", str(taken)]) == 2
    assert caplog.messages == [
        f"port {taken} on 127.0.0.1 cannot be used (Address already in use); stop what listens there or choose "
        "another --port"
    ]


def test_an_address_that_this_machine_does_not_have_ends_with_2(caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--address", "203.0.113.7"]) == 2
    assert "port 8501 on 203.0.113.7 cannot be used" in caplog.text


def test_an_unknown_flag_ends_with_2_and_names_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--ports", "1"])
    assert ended.value.code == 2
    assert "did you mean --port?" in capsys.readouterr().err


def test_the_server_sends_no_telemetry_and_offers_no_export_of_its_own() -> None:
    words = command(config("--port", "8600"))
    given = dict(zip(words[5::2], words[6::2], strict=True))
    assert words[1:5] == ["-m", "streamlit", "run", str(ROOT / "dashboard/page.py")]
    assert given["--browser.gatherUsageStats"] == "false"
    assert given["--client.disableDataExport"] == "true"
    assert given["--client.showErrorDetails"] == "none"
    assert given["--client.showErrorLinks"] == "false"
    assert given["--server.address"] == "127.0.0.1"
    assert given["--server.port"] == "8600"


def test_settings_of_another_page_do_not_reach_the_server() -> None:
    given = environment(
        config("--output-path", "/tmp/o"), {"STREAMLIT_SERVER_PORT": "1", "PYTHONPATH": "/x", "HOME": "/h"}
    )
    assert given == {"HOME": "/h", "PYTHONPATH": str(ROOT), "OUTPUT_PATH": "/tmp/o"}
