"""Protocol, login and certificates for the broker: one set of settings, mapped for each Kafka client that we use."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.broker.trust import trusted_certificates
from runtime.errors import SettingError
from runtime.settings import catalogue
from runtime.settings.parsers import require_printable
from runtime.settings.setting import Setting
from runtime.settings.text_files import read_text

SETTINGS: dict[str, Setting] = {
    "security_protocol": catalogue.KAFKA_SECURITY_PROTOCOL,
    "sasl_mechanism": catalogue.KAFKA_SASL_MECHANISM,
    "sasl_username": catalogue.KAFKA_SASL_USERNAME,
    "sasl_password": catalogue.KAFKA_SASL_PASSWORD,
    "sasl_password_file": catalogue.KAFKA_SASL_PASSWORD_FILE,
    "ssl_cafile": catalogue.KAFKA_SSL_CAFILE,
}


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Protocol, login and the CA to trust. Raises SettingError when they do not fit together."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-256"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: Path | None = None

    def __post_init__(self) -> None:
        if self.uses_sasl and not (self.username and self.password):
            raise SettingError(
                f"KAFKA_SECURITY_PROTOCOL={self.protocol} needs a login; "
                "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE"
            )

    @classmethod
    def from_settings(cls, values: dict[str, Any]) -> "KafkaSecurity":
        """Build from the values of SETTINGS, reading the password file if one is set.

        Raises SettingError also if TLS is set and there is no CA to trust, so that this is reported before any work.
        """
        password, password_file = values["sasl_password"], values["sasl_password_file"]
        if password and password_file:
            raise SettingError("KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set; keep one of them")
        if password_file:
            password = _password_in(password_file)
        security = cls(
            protocol=values["security_protocol"],
            mechanism=values["sasl_mechanism"],
            username=values["sasl_username"],
            password=password,
            cafile=values["ssl_cafile"],
        )
        if security.uses_tls:
            trusted_certificates(security.cafile)
        return security

    @property
    def uses_sasl(self) -> bool:
        """Whether the client logs in."""
        return self.protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol.endswith("SSL")

    def for_kafka_python(self) -> dict[str, Any]:
        """Return keyword arguments for any kafka-python client."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.uses_sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self._name_for_kafka_python(),
                "sasl_plain_password": self.password,
            }
        if self.uses_tls and self.cafile:
            options["ssl_cafile"] = str(self.cafile)
        return options

    def _name_for_kafka_python(self) -> str:
        """Return the user name, with = and , escaped for SCRAM (RFC 5802): kafka-python does not do that."""
        name = self.username or ""
        return name.replace("=", "=3D").replace(",", "=2C") if self.mechanism.startswith("SCRAM") else name

    def for_librdkafka(self) -> dict[str, str]:
        """Return options for any librdkafka client on any machine; they hold the trusted CAs as text.

        They hold the password in clear text, so never show them. Raises SettingError when the CAs cannot be read.
        """
        options = {"security.protocol": self.protocol}
        if self.uses_sasl:
            options |= {
                "sasl.mechanisms": self.mechanism,
                "sasl.username": self.username or "",
                "sasl.password": self.password or "",
            }
        if self.uses_tls:
            # Workers may not have the file, and librdkafka searches other places for the system's CAs than Python.
            options["ssl.ca.pem"] = trusted_certificates(self.cafile)
        return options


def _password_in(file: Path) -> str:
    """Return the text of ``file`` without the line end after it. Raises SettingError, which does not show the text."""
    password = read_text(file).rstrip("\r\n")
    if not password:
        raise SettingError(f"KAFKA_SASL_PASSWORD_FILE {file} is empty; it must hold the password")
    try:
        require_printable(password)
    except ValueError as error:
        raise SettingError(f"KAFKA_SASL_PASSWORD_FILE {file} {error}, on one line") from None
    return password
