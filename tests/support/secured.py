"""A broker that listens in every security protocol."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from embedded.broker import EmbeddedBroker
from runtime.java.jdk import java_executable
from tests.support.listeners import free_ports

ADVERTISED = "redpanda.invalid:29092"
PASSWORD = "open-sesame-7"


@dataclass(frozen=True)
class Secured:
    """Its addresses. The user alice has PASSWORD; SASL_PLAINTEXT advertises a name that nobody resolves."""

    plain: str
    ssl: str
    sasl_ssl: str
    sasl_plain: str
    cafile: Path


@contextmanager
def secured_broker(folder: Path, more_properties: Mapping[str, str] | None = None) -> Iterator[Secured]:
    """Run such a broker, with its data, key and certificate in ``folder``."""
    keystore, cafile = _make_certificate(folder)
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
        **(more_properties or {}),
    }
    for listener in ("sasl_ssl", "sasl_plaintext"):
        properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = login
        properties[f"listener.name.{listener}.scram-sha-256.sasl.jaas.config"] = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
    listeners = {"SSL": ssl, "SASL_SSL": sasl_ssl, "SASL_PLAINTEXT": sasl_plain}
    with EmbeddedBroker(folder / "data", plain, properties, listeners) as broker:
        add_user(broker.address, "alice", PASSWORD)
        yield Secured(
            plain=f"127.0.0.1:{plain}",
            ssl=f"127.0.0.1:{ssl}",
            sasl_ssl=f"127.0.0.1:{sasl_ssl}",
            sasl_plain=f"127.0.0.1:{sasl_plain}",
            cafile=cafile,
        )


def add_user(plain: str, name: str, password: str) -> None:
    """Let a user log in by SCRAM-SHA-256; ``plain`` is the address without security."""
    with closing(KafkaAdminClient(bootstrap_servers=plain)) as admin:
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, "SCRAM-SHA-256", password)])


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a key store for the broker, and its self-signed certificate in PEM."""
    keystore, cafile = folder / "broker.p12", folder / "ca.pem"
    keytool = java_executable().with_name("keytool")
    store = ["-alias", "broker", "-storetype", "PKCS12", "-keystore", str(keystore), "-storepass", "changeit"]
    made = ["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]
    for arguments in (made, ["-exportcert", "-rfc", "-file", str(cafile)]):
        subprocess.run([str(keytool), *arguments, *store], check=True, capture_output=True)
    return keystore, cafile
