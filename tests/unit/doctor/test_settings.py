"""Where each setting comes from, and what is none."""

from pathlib import Path

import pytest

from doctor import settings
from doctor.__main__ import build_parser
from doctor.finding import Finding, ok
from runtime.settings import catalogue


def examined(tmp_path: Path, env_file: str = "", arguments: str = "", **environ: str) -> list[Finding]:
    file = tmp_path / ".env"
    file.write_text(env_file, encoding="utf-8")
    looked = settings.look_up(build_parser().parse_args(arguments.split()), environ, file)
    return list(settings.examine(looked, environ, file))


def test_each_setting_of_the_catalogue_is_told_with_its_source(tmp_path: Path) -> None:
    found = examined(tmp_path, "TOPIC_NAME=a\nOUTPUT_FORMAT=json\n", "--topic b", SPARK_MEMORY="4g")

    told = [finding.what for finding in found]
    assert [line.partition(" = ")[0] for line in told] == list(catalogue.ALL)
    assert {finding.level for finding in found} == {"ok"}
    assert {
        "TOPIC_NAME = b (--topic)",
        f"OUTPUT_FORMAT = json (from {tmp_path}/.env)",
        "SPARK_MEMORY = 4g (from the environment)",
        "PRODUCER_RATE = 10 (the default)",
        "KAFKA_SSL_CAFILE = not set (the default)",
    } <= set(told)


def test_a_setting_is_named_as_in_the_errors_of_a_service(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("TOPIC_FROM=latest\n")
    for arguments, name in (([], f"TOPIC_FROM (from {file})"), (["--from", "latest"], "--from")):
        looked = settings.look_up(build_parser().parse_args(arguments), {}, file)
        assert looked.named(catalogue.TOPIC_FROM) == name


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "alice"}
    found = examined(tmp_path, KAFKA_SASL_PASSWORD="open-sesame", **login)
    assert ok("KAFKA_SASL_PASSWORD = (hidden) (from the environment)") in found
    wrong = examined(tmp_path, KAFKA_SASL_PASSWORD="open-sesame\x01", **login)
    assert [finding.level for finding in wrong].count("problem") == 1
    assert "open-sesame" not in str(found) + str(wrong)


def test_a_wrong_value_is_a_problem_and_hides_no_other(tmp_path: Path) -> None:
    found = examined(tmp_path, "SPARK_MEMORY=2x\n", OUTPUT_FORMAT="csv", TOPIC_PARTITIONS="8")

    assert [finding.what for finding in found if finding.level == "problem"] == [
        f"SPARK_MEMORY (from {tmp_path}/.env) must be a size in m or g of at least 512m, e.g. 4g, found '2x'",
        "OUTPUT_FORMAT (from the environment) must be one of parquet, json, found 'csv'",
    ]
    assert ok("TOPIC_PARTITIONS = 8 (from the environment)") in found


def test_settings_that_do_not_fit_together_are_a_problem(tmp_path: Path) -> None:
    found = examined(tmp_path, KAFKA_SECURITY_PROTOCOL="SASL_SSL")
    assert [finding.what for finding in found if finding.level == "problem"] == [
        "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs a login"
    ]


def test_rules_that_cannot_be_used_are_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nteam = "All"\n')
    assert ok(f"{file} assigns tickets to 1 team") in examined(tmp_path, ROUTING_FILE=str(file))
    file.write_text('[[rule]]\nteam = "All"\npriority = "urgent"\n')
    assert [finding.what for finding in examined(tmp_path, ROUTING_FILE=str(file)) if finding.level == "problem"] == [
        f"{file}, line 3: priority must be one of low, medium, high, critical, found 'urgent'"
    ]


def test_a_setting_of_the_broker_that_is_wrong_by_itself_is_told_once(tmp_path: Path) -> None:
    found = examined(tmp_path, KAFKA_SECURITY_PROTOCOL="TLS")
    assert [finding.what for finding in found if finding.level == "problem"] == [
        "KAFKA_SECURITY_PROTOCOL (from the environment) must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, "
        "found 'TLS'"
    ]


@pytest.mark.parametrize(
    ("line", "level", "what", "remedy"),
    [
        (
            "TOPIC_NMAE=x",
            "problem",
            "TOPIC_NMAE (from {file}) is not a setting of this pipeline, so it refuses to start",
            "did you mean TOPIC_NAME?",
        ),
        ("SPARK_MEMROY=x", "warning", "SPARK_MEMROY (from {file}) is not a setting and is ignored", "SPARK_MEMORY?"),
    ],
)
def test_a_typo_in_env_is_told_with_the_nearest_name(
    tmp_path: Path, line: str, level: str, what: str, remedy: str
) -> None:
    (found,) = (finding for finding in examined(tmp_path, f"{line}\n") if finding.level != "ok")
    assert (found.level, found.what) == (level, what.format(file=tmp_path / ".env"))
    assert found.remedy.endswith(remedy)
    assert "x" not in found.what.replace(str(tmp_path), "")


def test_a_typo_in_the_environment_is_told_and_the_names_of_kubernetes_are_left_alone(tmp_path: Path) -> None:
    found = examined(tmp_path, KAFKA_SERVICE_HOST="10.0.0.1", BATCH_INTERVALL="30")
    assert found[-2].what == "BATCH_INTERVALL (from the environment) is not a setting and is ignored"
    assert found[-1] == ok("KAFKA_SERVICE_HOST in the environment: not ours (Kubernetes sets such names), left alone")


def test_what_only_compose_reads_is_no_typo(tmp_path: Path) -> None:
    found = examined(tmp_path, "PRODUCER_METRICS_PORT=9101\n", PRODUCER_METRICS_PORT="9101")
    assert len(found) == len(catalogue.ALL)


def test_an_env_file_that_cannot_be_read_is_a_problem_and_the_rest_is_told_without_it(tmp_path: Path) -> None:
    found = examined(tmp_path, "TOPIC_NAME=a\n=no key\n")
    assert found[0].level == "problem"
    assert found[0].what == f"{tmp_path}/.env must hold KEY=value on each line, found something else on line 2"
    assert ok("TOPIC_NAME = client_tickets (the default)") in found
