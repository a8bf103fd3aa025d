"""A broker that cannot be used: each cause has its own message, which comes in time and shows no password."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.broker.preflight import check_broker
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError
from runtime.process.shutdown import Shutdown
from tests.support.listeners import free_ports, server
from tests.support.processes import Processes
from tests.support.secured import ADVERTISED, PASSWORD, Secured, secured_broker

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
PROCESSOR = "processor/spark_processor.py"
WRONG = "wrong-password-7"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


def problem(brokers: str, security: KafkaSecurity | None = None, timeout_s: float = 1.2) -> str:
    """Return the message of the preflight, and check that it comes within the time limit."""
    start = time.monotonic()
    with pytest.raises(BrokerError) as error:
        check_broker(brokers, security or KafkaSecurity(), timeout_s)
    assert time.monotonic() - start < timeout_s + 1
    assert PASSWORD not in str(error.value)
    assert WRONG not in str(error.value)
    return str(error.value)


def test_every_way_to_talk_to_a_good_broker_passes(secured: Secured) -> None:
    check_broker(secured.plain, KafkaSecurity())
    check_broker(secured.plain.replace("127.0.0.1", "localhost"), KafkaSecurity())
    check_broker(secured.ssl, KafkaSecurity("SSL", cafile=secured.cafile))
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        check_broker(secured.sasl_ssl, KafkaSecurity("SASL_SSL", mechanism, "alice", PASSWORD, secured.cafile))


def test_one_good_broker_among_several_is_enough(secured: Secured) -> None:
    start = time.monotonic()
    with server(None) as silent:
        check_broker(f"nowhere.invalid:9092,{silent},127.0.0.1:1,{secured.plain}", KafkaSecurity())

    assert time.monotonic() - start < 5


def test_a_name_that_does_not_resolve() -> None:
    assert problem("nowhere.invalid:9092").startswith(
        "broker nowhere.invalid:9092: the name nowhere.invalid does not resolve ("
    )


def test_a_closed_port() -> None:
    (port,) = free_ports(1)

    assert problem(f"127.0.0.1:{port}") == (
        f"broker 127.0.0.1:{port}: TCP connection to 127.0.0.1 refused: nothing listens on this port; "
        "start a broker (make broker, or make up), or check --broker or REDPANDA_BROKER_LOCAL"
    )


def test_a_port_that_accepts_no_connection() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        # When the queue of the listener is full, Linux drops new connections, like a firewall.
        queued = [socket.socket() for _ in range(3)]
        for waiting in queued:
            waiting.setblocking(False)
            waiting.connect_ex(address)

        assert "no TCP connection to 127.0.0.1 within 1 s: the host is down or a firewall" in problem(
            f"127.0.0.1:{address[1]}"
        )
        for waiting in queued:
            waiting.close()


def test_a_port_that_never_answers() -> None:
    with server(None) as address:
        assert "it accepted the connection but did not answer a Kafka request" in problem(address)
        assert "no answer to the TLS handshake" in problem(address, KafkaSecurity("SSL"))


def test_a_port_that_hangs_up() -> None:
    with server(b"") as address:
        assert "it closed the connection at the first Kafka request" in problem(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\4\0\0\0\x09", b"\0\0\0\1x"])
def test_a_port_that_speaks_something_else(answer: bytes) -> None:
    with server(answer) as address:
        assert "something other than Kafka listens on this port" in problem(address)


def test_tls_with_an_unknown_authority(secured: Secured) -> None:
    said = problem(secured.ssl, KafkaSecurity("SSL"))

    assert "its TLS certificate is not trusted (self-signed certificate); name the PEM file" in said


def test_tls_to_a_port_without_tls(secured: Secured) -> None:
    assert "the TLS handshake failed (" in problem(secured.plain, KafkaSecurity("SSL", cafile=secured.cafile))


def test_plaintext_to_a_port_with_tls(secured: Secured) -> None:
    assert "it speaks TLS; set KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL" in problem(secured.ssl)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize("user", ["alice", "nobody"])
def test_a_wrong_login(secured: Secured, mechanism: str, user: str) -> None:
    security = KafkaSecurity("SASL_SSL", mechanism, user, WRONG, secured.cafile)

    assert f"it refused the login of '{user}' by {mechanism}; check KAFKA_SASL_USERNAME" in problem(
        secured.sasl_ssl, security
    )


def test_a_mechanism_that_the_broker_does_not_offer(secured: Secured) -> None:
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "alice", PASSWORD, secured.cafile)

    assert "it does not offer KAFKA_SASL_MECHANISM=SCRAM-SHA-512; it offers PLAIN, SCRAM-SHA-256" in problem(
        secured.sasl_ssl, security
    )


def test_a_login_to_a_port_without_login(secured: Secured) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", PASSWORD)

    assert "it does not accept a SASL login on this port; try KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in problem(
        secured.plain, security
    )


def test_no_login_to_a_port_that_needs_one(secured: Secured) -> None:
    assert "it closed the connection at a request without a login" in problem(secured.sasl_plain)


def test_an_advertised_address_that_cannot_be_reached(secured: Secured) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", PASSWORD)

    said = problem(secured.sasl_plain, security)

    assert f"it answers, but advertises {ADVERTISED} (the name redpanda.invalid does not resolve (" in said
    assert "use the listener that is meant for clients on this machine" in said


def test_a_broker_that_comes_up_late_is_waited_for(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    host, target = secured.plain.split(":")

    def forward() -> None:
        """Listen after a second and forward the first connection, like a broker that starts late."""
        time.sleep(1)
        with socket.create_server(("127.0.0.1", port)) as listening:
            client, _ = listening.accept()
            with client, socket.create_connection((host, int(target))) as broker:
                for _ in range(2):
                    broker.sendall(client.recv(65_536))
                    client.sendall(broker.recv(65_536))

    thread = threading.Thread(target=forward)
    thread.start()
    check_broker(f"127.0.0.1:{port}", KafkaSecurity(), 20)
    thread.join()

    (warning,) = caplog.messages
    assert warning.endswith("; trying again for up to 20 s")


def test_a_stop_ends_the_wait_for_a_broker() -> None:
    stop = Shutdown()
    threading.Timer(0.3, stop.ask).start()
    start = time.monotonic()
    with server(None) as silent:
        check_broker(silent, KafkaSecurity(), 20, stop)

    assert time.monotonic() - start < 3


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
def test_a_service_exits_3_within_30_seconds_and_names_the_step(
    processes: Processes, tmp_path: Path, service: str
) -> None:
    with server(None) as silent:
        expected = {"127.0.0.1:1": "refused", "nowhere.invalid:9092": "does not resolve", silent: "did not answer"}
        start = time.monotonic()
        # Each gets its own output, because only one processor may work on an output.
        started = {
            address: processes.start(service, "--broker", address, env={"OUTPUT_PATH": str(tmp_path / str(number))})
            for number, address in enumerate(expected)
        }
        codes = {address: running.wait(30) for address, running in started.items()}
        took = time.monotonic() - start

    assert set(codes.values()) == {3}
    assert took < 30
    for address, running in started.items():
        last = running.stderr.splitlines()[-1]
        assert f"ERROR   broker {address}: " in last
        assert expected[address] in last
        assert "Traceback" not in running.stderr


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
def test_a_service_that_waits_for_a_broker_stops_at_once(processes: Processes, tmp_path: Path, service: str) -> None:
    running = processes.start(service, "--broker", "127.0.0.1:1", env={"OUTPUT_PATH": str(tmp_path / "output")})
    running.wait_for_stderr("trying again")

    running.send(signal.SIGTERM)

    assert running.wait(5) == 0, running.output


@pytest.mark.parametrize("service", [PRODUCER, PROCESSOR])
def test_a_service_that_a_secured_broker_refuses_exits_3_and_says_why(
    secured: Secured, processes: Processes, tmp_path: Path, service: str
) -> None:
    file = tmp_path / "password"
    file.write_text(WRONG, encoding="utf-8")
    trusting = {"KAFKA_SSL_CAFILE": str(secured.cafile)}
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "alice", **trusting}
    plain = {"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_PASSWORD": WRONG}
    tls = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
    tried: list[tuple[str, dict[str, str], str]] = [
        (secured.sasl_ssl, {**login, **plain}, "it refused the login of 'alice' by PLAIN"),
        (
            secured.sasl_ssl,
            {**login, "KAFKA_SASL_PASSWORD_FILE": str(file)},
            "it refused the login of 'alice' by SCRAM-SHA-256",
        ),
        (secured.plain, {**tls, **trusting}, "the TLS handshake failed"),
        (secured.ssl, tls, "its TLS certificate is not trusted"),
        (secured.ssl, {}, "it speaks TLS"),
    ]
    started = [
        (processes.start(service, "--broker", address, env={"OUTPUT_PATH": str(tmp_path / str(number)), **given}), said)
        for number, (address, given, said) in enumerate(tried)
    ]

    for running, said in started:
        assert running.wait(30) == 3, running.output
        assert said in running.stderr.splitlines()[-1]
        assert "Traceback" not in running.stderr
        assert WRONG not in running.output
