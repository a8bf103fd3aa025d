"""One set of security settings, for every Kafka client."""

import re
from pathlib import Path
from typing import Any

import pytest

from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError

# Two certificates that sign themselves, valid until 2126.
ONE = """\
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUOW6S+EtZKXRHabxTn+zuaToDeBQwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGQ0Egb25lMCAXDTI2MTEyNTE5MjE0MFoYDzIxMjYxMTAxMTky
MTQwWjARMQ8wDQYDVQQDDAZDQSBvbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARqS8wAqhyYjEVEm2dAUvNDZuZIDOpGiYnJ3fNxeHWoEkP9qiphH4YZTlcrWgfR
Hb1NUY/UN+iRIVV+HjBaGlxzo1MwUTAdBgNVHQ4EFgQUEPG8wQFMqss7pnYuzOiT
MG7Xg88wHwYDVR0jBBgwFoAUEPG8wQFMqss7pnYuzOiTMG7Xg88wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEA8JACir9YcCWWV2MDmhr/LylicJyS
GAHJQJUC5SBM3Y8CIC+8P2fkt77XZmG88PPqfhfmbA9LSo2srQ9dPaNMUG1P
-----END CERTIFICATE-----
"""
TWO = """\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR+gAwIBAgIULOyymQb3BLfqHFCaJvoLOFHXrXwwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGQ0EgdHdvMCAXDTI2MTEyNTE5MjE0MFoYDzIxMjYxMTAxMTky
MTQwWjARMQ8wDQYDVQQDDAZDQSB0d28wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATc8F0zkK+WgaKVdlsW6et8S73BjC99C/YA+OLaI8FSQloMe4Mk4PSu1Tw4ZBep
suFx9z83PlTZIU6dOmBKoELoo1MwUTAdBgNVHQ4EFgQU9USB7n7Up2N3jvmHE0yH
jKqFNh4wHwYDVR0jBBgwFoAU9USB7n7Up2N3jvmHE0yHjKqFNh4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBe5DKCEei4POcT6cEhp5NMnlURcGSG
OLlO/XHSBQVAPQIgFMXf0sxYmyF+XLgsX2wtJyavpnUmQi7MW4nnHvtHN0s=
-----END CERTIFICATE-----
"""
ONE_HASHED = "f40869d8.0"


def values(**given: Any) -> dict[str, Any]:
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "alice",
        "sasl_password": None,
        "sasl_password_file": None,
        "ssl_cafile": None,
        **given,
    }


def test_plaintext_asks_for_nothing() -> None:
    assert KafkaSecurity().for_kafka_python() == {"security_protocol": "PLAINTEXT"}


def test_a_login_over_tls_is_mapped_for_kafka_python() -> None:
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "alice", "hunter2", Path("/ca.pem"))

    assert security.for_kafka_python() == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": "hunter2",
        "ssl_cafile": "/ca.pem",
    }


@pytest.mark.parametrize(
    ("mechanism", "told"),
    [("PLAIN", "a,b=c=2C"), ("SCRAM-SHA-256", "a=2Cb=3Dc=3D2C"), ("SCRAM-SHA-512", "a=2Cb=3Dc=3D2C")],
)
def test_the_name_of_a_user_is_escaped_where_scram_wants_it(mechanism: str, told: str) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", mechanism, "a,b=c=2C", "hunter2")

    assert security.for_kafka_python()["sasl_plain_username"] == told
    assert security.for_librdkafka()["sasl.username"] == "a,b=c=2C"


def test_a_login_over_tls_is_mapped_for_librdkafka(tmp_path: Path) -> None:
    cafile = tmp_path / "ca.pem"
    cafile.write_text(f"Subject: CN=CA one\n{ONE}\n# und die Zweite, \u00fcber Umwege\n{TWO}", encoding="utf-8")

    assert KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "alice", "hunter2", cafile).for_librdkafka() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": "alice",
        "sasl.password": "hunter2",
        "ssl.ca.pem": ONE + TWO,
    }


def test_plaintext_asks_librdkafka_for_nothing() -> None:
    assert KafkaSecurity(cafile=Path("/ca.pem")).for_librdkafka() == {"security.protocol": "PLAINTEXT"}


@pytest.mark.parametrize(
    "password", ['a"b', "it's", "a\\b", " a b ", "a=b", "#a", "a,b;c", "%{x}$x", "p\u00e4ss \u2713"]
)
def test_a_password_reaches_librdkafka_as_it_is(password: str) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", password)

    assert security.for_librdkafka()["sasl.password"] == password
    assert password not in repr(security)


def test_without_a_ca_file_what_this_machine_trusts_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = tmp_path / "cert.pem", tmp_path / "certs"
    folder.mkdir()
    (folder / ONE_HASHED).write_text(ONE, encoding="ascii")
    # OpenSSL ignores files with other names.
    (folder / "two.pem").write_text(TWO, encoding="ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))

    assert KafkaSecurity("SSL").for_librdkafka()["ssl.ca.pem"] == ONE

    file.write_text(TWO + ONE, encoding="ascii")
    assert KafkaSecurity("SSL").for_librdkafka()["ssl.ca.pem"] == TWO + ONE


def test_a_machine_without_trusted_cas_needs_a_ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    plain = {"security_protocol": "SASL_PLAINTEXT", "sasl_password": "hunter2"}

    with pytest.raises(
        SettingError, match=r"the trust store of this machine .* holds no certificate .* KAFKA_SSL_CAFILE"
    ):
        KafkaSecurity.from_settings(values(sasl_password="hunter2"))
    KafkaSecurity.from_settings(values(**plain))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no certificate"),
        (b"\x30\x82\x01\x79", "holds no certificate"),
        (ONE.replace("CERTIFICATE", "PRIVATE KEY").encode(), "holds no certificate"),
        (ONE.replace("MIIB", "MIIC").encode(), "holds a damaged certificate"),
        (ONE.replace("MIIB", "\u00e9IIB").encode(), "holds a damaged certificate"),
        ((ONE + TWO.replace("MIIB", "")).encode(), "holds a damaged certificate"),
    ],
)
def test_a_ca_file_without_good_certificates_is_refused_with_the_settings(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    cafile = tmp_path / "ca.pem"
    cafile.write_bytes(content)

    with pytest.raises(SettingError, match=rf"KAFKA_SSL_CAFILE {re.escape(str(cafile))} {problem}"):
        KafkaSecurity.from_settings(values(sasl_password="hunter2", ssl_cafile=cafile))


def test_a_ca_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    cafile = tmp_path / "ca.pem"

    with pytest.raises(SettingError, match=r"KAFKA_SSL_CAFILE .*ca\.pem cannot be read: No such file or directory"):
        KafkaSecurity("SSL", cafile=cafile).for_librdkafka()


def test_a_ca_file_is_ignored_without_tls() -> None:
    security = KafkaSecurity("PLAINTEXT", cafile=Path("/ca.pem"))

    assert "ssl_cafile" not in security.for_kafka_python()


@pytest.mark.parametrize(("username", "password"), [(None, "x"), ("alice", None), ("", "x"), ("alice", "")])
def test_sasl_without_a_login_is_refused(username: str | None, password: str | None) -> None:
    with pytest.raises(SettingError, match="KAFKA_SECURITY_PROTOCOL=SASL_SSL needs a login; set KAFKA_SASL_USERNAME"):
        KafkaSecurity("SASL_SSL", "PLAIN", username, password)


def test_the_password_can_come_from_a_file_whose_last_line_break_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2 \r\n", encoding="utf-8")

    assert KafkaSecurity.from_settings(values(sasl_password_file=file)).password == "hunter2 "


def test_a_password_and_a_password_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set"):
        KafkaSecurity.from_settings(values(sasl_password="hunter2", sasl_password_file=tmp_path))


def test_the_password_is_not_in_the_representation() -> None:
    assert "hunter2" not in repr(KafkaSecurity("SASL_SSL", "PLAIN", "alice", "hunter2"))
