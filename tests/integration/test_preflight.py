"""Rows 6 and 22 of the faults: why a broker cannot be used, told apart, in time, without a secret."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from embedded.broker import EmbeddedBroker
from runtime.errors import BrokerError
from runtime.java import java_executable
from runtime.preflight import check_broker
from runtime.security import KafkaSecurity
from runtime.shutdown import Shutdown
from tests.support.processes import Processes

pytestmark = pytest.mark.integration

PRODUCER = "producer/ticket_producer.py"
ADVERTISED = "redpanda.invalid:29092"
PASSWORD = "open-sesame-7"
WRONG = "wrong-password-7"


@dataclass(frozen=True)
class Secured:
    """A broker that listens in every protocol; the SASL_PLAINTEXT listener advertises a name that nobody resolves."""

    plain: str
    ssl: str
    sasl_ssl: str
    sasl_plain: str
    cafile: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    keystore, cafile = make_certificate(folder)
    plain, ssl, sasl_ssl, sasl_plain = free_ports(4)
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{PASSWORD}";'
    properties = {
        "advertised.listeners": (
            f"PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl_ssl},"
            f"SASL_PLAINTEXT://{ADVERTISED}"
        ),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(keystore),
        "ssl.keystore.password": "changeit",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    }
    for listener in ("sasl_ssl", "sasl_plaintext"):
        properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = login
        properties[f"listener.name.{listener}.scram-sha-256.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
    listeners = {"SSL": ssl, "SASL_SSL": sasl_ssl, "SASL_PLAINTEXT": sasl_plain}
    with EmbeddedBroker(folder / "data", plain, properties, listeners) as broker:
        with closing(KafkaAdminClient(bootstrap_servers=broker.address)) as admin:
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion("alice", "SCRAM-SHA-256", PASSWORD)])
        yield Secured(
            plain=f"127.0.0.1:{plain}",
            ssl=f"127.0.0.1:{ssl}",
            sasl_ssl=f"127.0.0.1:{sasl_ssl}",
            sasl_plain=f"127.0.0.1:{sasl_plain}",
            cafile=cafile,
        )


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a key store for the broker, and its self-signed certificate in PEM."""
    keystore, cafile = folder / "broker.p12", folder / "ca.pem"
    keytool = java_executable().with_name("keytool")
    store = ["-alias", "broker", "-storetype", "PKCS12", "-keystore", str(keystore), "-storepass", "changeit"]
    made = ["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]
    for arguments in (made, ["-exportcert", "-rfc", "-file", str(cafile)]):
        subprocess.run([str(keytool), *arguments, *store], check=True, capture_output=True)
    return keystore, cafile


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Listen on a port; answer the first bytes with ``answer`` and hang up, or say nothing for None."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                if answer is None:
                    kept.append(connection)
                    continue
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            # Closing alone does not wake up an accept.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


def problem(brokers: str, security: KafkaSecurity | None = None, timeout_s: float = 1.2) -> str:
    """Return what the preflight says; it must not take longer than it may."""
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
        "start the broker, or check --broker or REDPANDA_BROKER_LOCAL"
    )


def test_a_port_that_takes_no_connection() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        # Once its queue is full, Linux drops what comes, as a firewall does.
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
        assert "it took the connection but did not answer a Kafka request" in problem(address)
        assert "no answer to the TLS handshake" in problem(address, KafkaSecurity("SSL"))


def test_a_port_that_hangs_up() -> None:
    with server(b"") as address:
        assert "it closed the connection at the first Kafka request" in problem(address)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\4\0\0\0\x09", b"\0\0\0\1x"])
def test_a_port_that_speaks_something_else(answer: bytes) -> None:
    with server(answer) as address:
        assert "something else than Kafka listens on this port" in problem(address)


def test_tls_with_an_unknown_authority(secured: Secured) -> None:
    said = problem(secured.ssl, KafkaSecurity("SSL"))

    assert "its TLS certificate is not trusted (self-signed certificate); name the PEM file" in said


def test_tls_to_a_port_without(secured: Secured) -> None:
    assert "the TLS handshake failed (" in problem(secured.plain, KafkaSecurity("SSL", cafile=secured.cafile))


def test_no_tls_to_a_port_with(secured: Secured) -> None:
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


def test_a_login_where_none_is_taken(secured: Secured) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", PASSWORD)

    assert "it takes no SASL login on this port; try KAFKA_SECURITY_PROTOCOL=PLAINTEXT" in problem(
        secured.plain, security
    )


def test_no_login_where_one_is_needed(secured: Secured) -> None:
    assert "it closed the connection at a request without login" in problem(secured.sasl_plain)


def test_an_advertised_address_that_cannot_be_reached(secured: Secured) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", PASSWORD)

    said = problem(secured.sasl_plain, security)

    assert f"it answers, but advertises {ADVERTISED} (the name redpanda.invalid does not resolve (" in said
    assert "use the listener that is meant for clients on this machine" in said


def test_a_broker_that_comes_up_late_is_waited_for(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    host, target = secured.plain.split(":")

    def forward() -> None:
        """Be the listener of a broker that starts late, for the first connection."""
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


def test_the_producer_exits_3_within_30_seconds_and_names_the_step(processes: Processes) -> None:
    with server(None) as silent:
        expected = {"127.0.0.1:1": "refused", "nowhere.invalid:9092": "does not resolve", silent: "did not answer"}
        start = time.monotonic()
        started = {address: processes.start(PRODUCER, "--broker", address) for address in expected}
        codes = {address: running.wait(30) for address, running in started.items()}
        took = time.monotonic() - start

    assert set(codes.values()) == {3}
    assert took < 30
    for address, running in started.items():
        last = running.stderr.splitlines()[-1]
        assert f"ERROR   broker {address}: " in last
        assert expected[address] in last
        assert "Traceback" not in running.stderr


def test_a_producer_that_waits_for_a_broker_stops_at_once(processes: Processes) -> None:
    running = processes.start(PRODUCER, "--broker", "127.0.0.1:1")
    running.wait_for_stderr("trying again")

    running.send(signal.SIGTERM)

    assert running.wait(5) == 0, running.output


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_producer_logs_in_and_no_log_holds_the_password(
    secured: Secured, processes: Processes, topic: str, tmp_path: Path, level: str
) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    env = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "alice",
        "KAFKA_SASL_PASSWORD_FILE": str(secret),
        "KAFKA_SSL_CAFILE": str(secured.cafile),
        "LOG_LEVEL": level,
    }
    flags = ["--broker", secured.sasl_ssl, "--topic", topic, "--rate=0", "--count=10"]

    right = processes.run(PRODUCER, *flags, env=env)
    secret.write_text(WRONG, encoding="utf-8")
    wrong = processes.run(PRODUCER, *flags, env=env, expect=3)

    assert "done: sent 10, acknowledged 10" in right.stderr
    assert "it refused the login of 'alice' by PLAIN" in wrong.stderr
    assert PASSWORD not in right.output
    assert WRONG not in wrong.output
