"""One set of security settings, for both Kafka clients."""

from pathlib import Path
from typing import Any

import pytest

from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError


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
    assert KafkaSecurity().for_spark() == {"kafka.security.protocol": "PLAINTEXT"}


def test_a_login_over_tls_is_mapped_for_kafka_python() -> None:
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", "alice", "hunter2", Path("/ca.pem"))

    assert security.for_kafka_python() == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "alice",
        "sasl_plain_password": "hunter2",
        "ssl_cafile": "/ca.pem",
    }


def test_a_login_over_tls_is_mapped_for_spark() -> None:
    security = KafkaSecurity("SASL_SSL", "SCRAM-SHA-256", "alice", "hunter2", Path("/ca.pem"))

    assert security.for_spark() == {
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-256",
        "kafka.sasl.jaas.config": (
            'org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="hunter2";'
        ),
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.location": "/ca.pem",
    }


def test_a_password_cannot_break_out_of_the_jaas_line() -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "alice", 'a"b\\c; x')

    assert security.for_spark()["kafka.sasl.jaas.config"].endswith('password="a\\"b\\\\c; x";')


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


def test_two_passwords_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set"):
        KafkaSecurity.from_settings(values(sasl_password="hunter2", sasl_password_file=tmp_path))


def test_the_password_is_not_in_the_representation() -> None:
    assert "hunter2" not in repr(KafkaSecurity("SASL_SSL", "PLAIN", "alice", "hunter2"))
