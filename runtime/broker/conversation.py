"""The steps of a connection to a broker, on a plain socket: name, TCP, TLS, Kafka, login, advertised addresses."""

import ipaddress
import socket
import ssl
import struct
import time
from typing import Any

from kafka.errors import IncompatibleBrokerVersion, KafkaError
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from runtime.broker.security import KafkaSecurity

_HOSTNAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_TLS_RECORD_TYPES = (0x15, 0x16)  # alert, handshake: an answer that begins with one of these is TLS, not Kafka
_UNSUPPORTED_SASL_MECHANISM = 33
_WHICH_BROKER = "check --broker or REDPANDA_BROKER_LOCAL"


class StepFailed(Exception):
    """A step that failed: the problem, what would work, and whether it may be transient (a broker that is starting)."""

    def __init__(self, problem: str, remedy: str = "", transient: bool = False) -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
        self.transient = transient


def connect(address: str, security: KafkaSecurity, deadline: float) -> socket.socket:
    """Return a connected socket, with TLS if ``security`` says so. Raises StepFailed."""
    connection = connect_tcp(resolve(address), deadline)
    return start_tls(connection, address, security, deadline) if security.uses_tls else connection


def resolve(address: str) -> list[Any]:
    """Return what ``socket.getaddrinfo`` tells of ``host:port``, however long that takes. Raises StepFailed."""
    host, port = _host(address), address.rpartition(":")[2]
    try:
        return socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise StepFailed(f"the name {host} does not resolve ({why})", _WHICH_BROKER, transient=True) from None


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def connect_tcp(places: list[Any], deadline: float) -> socket.socket:
    """Return a socket that is connected to the first of ``places`` that takes it. Raises StepFailed."""
    problem = StepFailed("")
    for position, (family, kind, protocol, _, place) in enumerate(places):
        limit = _remaining(deadline) / (len(places) - position)
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(limit)
        try:
            connection.connect(place)
        except TimeoutError:
            why = f"no TCP connection to {place[0]} within {limit:.0f} s: the host is down or a firewall drops packets"
            problem = StepFailed(why, _WHICH_BROKER)
        except ConnectionRefusedError:
            why = f"TCP connection to {place[0]} refused: nothing listens on this port"
            problem = StepFailed(why, f"start a broker (make broker, or make up), or {_WHICH_BROKER}", transient=True)
        except OSError as error:
            why = f"no TCP connection to {place[0]} ({error.strerror or error})"
            problem = StepFailed(why, _WHICH_BROKER, transient=True)
        else:
            return connection
        connection.close()
    raise problem


def start_tls(connection: socket.socket, address: str, security: KafkaSecurity, deadline: float) -> socket.socket:
    """Return ``connection``, made to ``address``, inside TLS. Raises StepFailed; the connection is closed then."""
    host = _host(address)
    try:
        context = ssl.create_default_context(cafile=security.cafile)
    except OSError:
        connection.close()
        raise StepFailed(
            f"its certificate cannot be checked: KAFKA_SSL_CAFILE {security.cafile} holds no certificates in PEM",
            "name the PEM file of the CA that signed it",
        ) from None
    connection.settimeout(_remaining(deadline))
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _HOSTNAME_MISMATCH:
            problem = f"its TLS certificate is for another name than {host} ({error.verify_message})"
            remedy = "use the name that the certificate states"
        else:
            problem = f"its TLS certificate is not trusted ({error.verify_message})"
            remedy = "name the PEM file of the CA that signed it in KAFKA_SSL_CAFILE"
    except TimeoutError:
        problem = "no answer to the TLS handshake"
        remedy = "the broker hangs, or this is not a TLS port: check KAFKA_SECURITY_PROTOCOL"
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        problem = f"the TLS handshake failed ({reason})"
        remedy = "a port without TLS needs KAFKA_SECURITY_PROTOCOL=PLAINTEXT or SASL_PLAINTEXT"
    connection.close()
    raise StepFailed(problem, remedy)


class Conversation:
    """Kafka requests and responses, one after the other, on one socket. Each method raises StepFailed."""

    def __init__(self, connection: socket.socket, security: KafkaSecurity, deadline: float) -> None:
        self._connection = connection
        self._security = security
        self._deadline = deadline
        self._protocol = KafkaProtocol(client_id="client-tickets-preflight")
        self._versions: BrokerVersionData | None = None

    def identify(self) -> None:
        """Learn which versions of the protocol the broker speaks."""
        response = self._ask(
            ApiVersionsRequest(version=0),
            # Transient, because a port forwarded to a broker that is still starting closes like this, too.
            closed=StepFailed(
                "it closed the connection at the first Kafka request",
                "this may not be a Kafka port, or it needs KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL",
                transient=True,
            ),
        )
        if response.error_code:
            raise StepFailed(f"it refused to state its protocol versions (error {response.error_code})")
        self._versions = BrokerVersionData(
            api_versions={api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        )

    def log_in(self) -> None:
        """Log in by SASL."""
        mechanism = self._security.mechanism
        without_login = "SSL" if self._security.uses_tls else "PLAINTEXT"
        not_sasl = StepFailed(
            "it does not accept a SASL login on this port", f"try KAFKA_SECURITY_PROTOCOL={without_login}"
        )
        handshake = self._ask(SaslHandshakeRequest(mechanism=mechanism, version=1), closed=not_sasl)
        if handshake.error_code == _UNSUPPORTED_SASL_MECHANISM:
            offered = ", ".join(handshake.mechanisms)
            raise StepFailed(f"it does not offer KAFKA_SASL_MECHANISM={mechanism}", f"it offers {offered}")
        if handshake.error_code:
            raise not_sasl
        refused = StepFailed(
            f"it refused the login of {self._security.username!r} by {mechanism}",
            "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE, and KAFKA_SASL_MECHANISM",
        )
        client = get_sasl_mechanism(mechanism)(**self._security.for_kafka_python())
        while not client.is_done():
            answer = self._ask(SaslAuthenticateRequest(client.auth_bytes()), closed=refused)
            if answer.error_code:
                raise refused
            try:
                client.receive(answer.auth_bytes)
            except (ValueError, KeyError):
                # SCRAM checks the broker as well: its answer shows whether it knows the password.
                raise StepFailed(
                    f"its answer to the {mechanism} login is wrong, so it does not know the password",
                    f"check that this address is the right broker; {_WHICH_BROKER}",
                ) from None
        if not client.is_authenticated():
            raise refused

    def advertised(self) -> list[str]:
        """Return the addresses that the cluster's brokers advertise to clients."""
        response = self._ask(
            MetadataRequest(topics=MetadataRequest.NO_TOPICS),
            closed=StepFailed(
                "it closed the connection at a request without a login",
                "it may need KAFKA_SECURITY_PROTOCOL=SASL_SSL or SASL_PLAINTEXT",
            ),
        )
        if not response.brokers:
            raise StepFailed("it knows no broker of its cluster yet", transient=True)
        return [f"{_bracketed(broker.host)}:{broker.port}" for broker in response.brokers]

    def _ask(self, request: Any, closed: StepFailed) -> Any:
        """Return the response; raise ``closed`` if the broker closes the connection instead."""
        try:
            if self._versions:
                request.API_VERSION = self._versions.api_version(request)
            self._protocol.send_request(request)
            self._connection.settimeout(_remaining(self._deadline))
            self._connection.sendall(self._protocol.send_bytes())
            return self._receive(closed)
        except TimeoutError:
            raise StepFailed(
                "it accepted the connection but did not answer a Kafka request", "it may hang: check its log"
            ) from None
        except OSError:
            raise closed from None
        except IncompatibleBrokerVersion:
            raise StepFailed(
                "it speaks Kafka but accepts no clients on this port (a controller's port?)", _WHICH_BROKER
            ) from None
        except (KafkaError, ValueError, IndexError, struct.error):
            raise StepFailed("something other than Kafka listens on this port", _WHICH_BROKER) from None

    def _receive(self, closed: StepFailed) -> Any:
        while True:
            self._connection.settimeout(_remaining(self._deadline))
            received = self._connection.recv(65_536)
            if not received:
                raise closed
            if received[0] in _TLS_RECORD_TYPES and not self._versions and not self._security.uses_tls:
                raise StepFailed("it speaks TLS", "set KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL")
            if responses := self._protocol.receive_bytes(received):
                return responses[0][1]


def _remaining(deadline: float) -> float:
    return max(0.05, deadline - time.monotonic())


def _bracketed(host: str) -> str:
    """Return the host as it is written before a port: an IPv6 address in brackets."""
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
