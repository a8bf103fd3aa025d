"""What is answered over HTTP, on a real port."""

import json
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from runtime.errors import SettingError
from runtime.process.heartbeat import Health
from runtime.process.metrics import new_registry, served
from runtime.settings.setting import ROOT
from tests.support.listeners import free_ports


class Service:
    """A service that counts to 3, and whose health the test gives."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.registry = new_registry()
        self.health = Health(None, 30.0)
        Counter("client_tickets_things_total", "Things.", registry=self.registry).inc(3)

    def ask(self, path: str) -> tuple[int, str, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service(*free_ports(1))
    with served("127.0.0.1", running.port, running.registry, lambda: running.health):
        yield running


def test_metrics_are_in_the_text_format_without_a_series_for_when_a_counter_began(service: Service) -> None:
    status, kind, body = service.ask("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert [
        (sample.name, sample.value)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    ] == [("client_tickets_things_total", 3.0)]


@pytest.mark.parametrize(
    ("age_s", "status", "said"),
    [
        (None, 503, {"status": "no progress", "seconds_since_progress": None, "seconds_allowed": 30.0}),
        (12.34, 200, {"status": "ok", "seconds_since_progress": 12.3, "seconds_allowed": 30.0}),
        # A planned rest.
        (-25.0, 200, {"status": "ok", "seconds_since_progress": 0.0, "seconds_allowed": 30.0}),
        (31.0, 503, {"status": "no progress", "seconds_since_progress": 31.0, "seconds_allowed": 30.0}),
    ],
)
def test_healthz_says_whether_the_service_gets_on(
    service: Service, age_s: float | None, status: int, said: dict[str, object]
) -> None:
    service.health = Health(age_s, 30.0)
    found, kind, body = service.ask("/healthz?verbose")
    assert (found, kind, json.loads(body)) == (status, "application/json", said)


def test_whoever_asks_for_the_head_gets_no_body(service: Service) -> None:
    # Python's own client would not see one.
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 503 ")
    assert body == b""


def test_other_paths_say_what_there_is(service: Service) -> None:
    assert service.ask("/") == (404, "text/plain; charset=utf-8", b"/metrics and /healthz are here\n")


def test_a_client_that_goes_away_or_says_nothing_leaves_no_traceback_and_holds_nobody_up(
    service: Service, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", service.port)):
        gone = socket.create_connection(("127.0.0.1", service.port))
        gone.sendall(b"GET /metrics HTTP/1.0\r\n")
        # Reset, not closed.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        with caplog.at_level(logging.INFO):
            assert service.ask("/metrics")[0] == 200
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_a_port_that_is_taken_is_a_setting_that_cannot_be_used(service: Service) -> None:
    with (
        pytest.raises(SettingError) as error,
        served("127.0.0.1", service.port, service.registry, lambda: Health(0, 1)),
    ):
        pass
    assert str(error.value) == (
        f"port {service.port} on 127.0.0.1 cannot be used for metrics (Address already in use); stop what listens "
        "there, or choose another METRICS_PORT (--metrics-port, 0 for no metrics) or METRICS_HOST"
    )


def test_an_address_that_this_machine_does_not_have_is_refused_too() -> None:
    with (
        pytest.raises(SettingError, match=r"on 203\.0\.113\.7 cannot be used for metrics \(Cannot assign"),
        served("203.0.113.7", free_ports(1)[0], new_registry(), lambda: Health(0, 1)),
    ):
        pass


def test_afterwards_the_port_is_free() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with served("127.0.0.1", port, new_registry(), lambda: Health(0, 1)):
            pass


def test_a_service_without_a_port_for_metrics_loads_nothing_for_them() -> None:
    look = (
        "import sys, producer.run, processor.run\n"
        "print([name for name in sys.modules if 'prometheus' in name or name == 'http.server' or "
        "name.endswith('.metrics') and name.partition('.')[0] in ('producer', 'processor', 'runtime')])"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
