"""A broker that listens in every security protocol."""

import base64
import html
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from embedded.broker import EmbeddedBroker
from runtime.java.jdk import java_executable
from tests.support.listeners import free_ports

ADVERTISED = "redpanda.invalid:29092"
PASSWORD = "open-sesame-7"

# Passwords with characters that are special in shells, .env files, JAAS, SASL, JSON, format strings or command lines.
HOSTILE_PASSWORDS = (
    " spaces at both ends ",
    "\"double\" 'single' `back`",
    "$HOME ${HOME} $(id) $$",
    "%s %d %(name)s {0} {name}",
    "back\\slash \\n \\u0041 \\",
    "a=b,c=3D,d==",
    "#hash; // /* */ semicolon;",
    "-leading-dash",
    "--password=x",
    "pässwörd ✓ 密码 \U0001f511 e\u0301",
    "<tag>&amp;\u00a0|*?~!^",
    "long " * 1_000,
)


@dataclass(frozen=True)
class Secured:
    """The addresses. The user alice has PASSWORD; SASL_PLAINTEXT advertises a host name that cannot be resolved."""

    plain: str
    ssl: str
    sasl_ssl: str
    sasl_plain: str
    cafile: Path


@contextmanager
def secured_broker(
    folder: Path, more_properties: Mapping[str, str] | None = None, plain_users: Mapping[str, str] | None = None
) -> Iterator[Secured]:
    """Run a broker that listens in every security protocol, with its data, key and certificate in ``folder``.

    ``plain_users``, name → password, can log in by PLAIN as well; see ``add_user`` for SCRAM.
    """
    keystore, cafile = _make_certificate(folder)
    plain, ssl, sasl_ssl, sasl_plain = free_ports(4)
    users = {"alice": PASSWORD, **(plain_users or {})}
    options = " ".join(f"user_{name}={_jaas_text(password)}" for name, password in users.items())
    login = f"org.apache.kafka.common.security.plain.PlainLoginModule required {options};"
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
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            properties[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = (
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


def add_user(plain: str, name: str, password: str, mechanism: str = "SCRAM-SHA-256") -> None:
    """Let a user log in by SCRAM; ``plain`` is the address without security."""
    with closing(KafkaAdminClient(bootstrap_servers=plain)) as admin:
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, mechanism, password)])


def _jaas_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def forms_of(secret: str) -> set[bytes]:
    """Return all forms in which ``secret`` may appear: plain, escaped for JSON, Python, Java, HTML or a URL, base64."""
    texts = {
        *(secret, html.escape(secret), quote(secret), repr(secret)[1:-1]),
        *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
    }
    forms = {text.encode(encoding) for text in texts for encoding in ("utf-8", "utf-16-le", "utf-16-be")}
    for shift in range(3):
        # Base64 of a longer text depends on the position of the secret in it; its first and last groups mix neighbours.
        encoded = base64.b64encode(b"\0" * shift + secret.encode())
        forms |= {encoded[4:-4], encoded[4:-4].translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a key store for the broker, and its self-signed certificate in PEM."""
    keystore, cafile = folder / "broker.p12", folder / "ca.pem"
    keytool = java_executable().with_name("keytool")
    store = ["-alias", "broker", "-storetype", "PKCS12", "-keystore", str(keystore), "-storepass", "changeit"]
    made = ["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1"]
    for arguments in (made, ["-exportcert", "-rfc", "-file", str(cafile)]):
        subprocess.run([str(keytool), *arguments, *store], check=True, capture_output=True)
    return keystore, cafile
