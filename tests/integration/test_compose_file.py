import re
import subprocess
from pathlib import Path

import pytest

import processor.config
import processor.metrics
import producer.config
import producer.metrics
from runtime.broker import security
from runtime.settings.setting import ROOT
from tests.compose.shell import find, run

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "profiles", [(), ("cluster",), ("three-brokers",), ("console",)], ids=lambda names: "+".join(names) or "none"
)
def test_docker_compose_accepts_the_file(profiles: tuple[str, ...]) -> None:
    program = find("docker-compose")
    if program is None:
        pytest.skip("this machine lacks docker-compose")
    flags = [part for profile in profiles for part in ("--profile", profile)]
    run(program, *flags, "config", "-q", cwd=ROOT)


def test_a_password_with_dollars_reaches_the_containers_from_the_shell_unchanged() -> None:
    program = find("docker-compose")
    if program is None:
        pytest.skip("this machine lacks docker-compose")
    shown = run(program, "config", cwd=ROOT, extra={"KAFKA_SASL_PASSWORD": "pa${ss}w$$rd$x"}).stdout
    # Its output is a compose file again, in which a dollar is written twice.
    assert set(re.findall("KAFKA_SASL_PASSWORD: (.*)", shown)) == {"pa$${ss}w$$$$rd$$x"}


def config(*files: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Return the configuration that docker-compose makes of these files, with ``settings`` from the shell."""
    program = find("docker-compose")
    if program is None:
        pytest.skip("this machine lacks docker-compose")
    named = [part for file in files for part in ("-f", file)]
    return run(program, *named, "--profile", "cluster", "config", cwd=ROOT, extra=settings, check=False)


def test_a_password_from_a_file_is_in_no_environment(tmp_path: Path) -> None:
    password = tmp_path / "kafka-password"
    password.write_text("hunter2-in-the-file\n", encoding="utf-8")
    given = {
        "REDPANDA_BROKER_LOCAL": "kafka.example.com:9093",
        "KAFKA_SASL_USERNAME": "alice",
        "KAFKA_SASL_PASSWORD": "hunter2-in-the-shell",
        "KAFKA_SASL_PASSWORD_FILE": str(password),
        "KAFKA_SSL_CAFILE": "/etc/kafka/ca.pem",
    }

    shown = config("docker-compose.yml", "docker-compose.secured.yml", **given).stdout

    assert "hunter2" not in shown
    assert re.findall("^  kafka-password:\n +file: (.*)", shown, re.MULTILINE) == [str(password)]
    services = dict(re.findall(r"^  ([\w-]+):\n((?:    .*\n)+)", shown, re.MULTILINE))
    for name in ("producer", "processor"):
        told = services[name]
        assert "REDPANDA_BROKER_LOCAL: kafka.example.com:9093\n" in told
        assert "KAFKA_SECURITY_PROTOCOL: SASL_SSL\n" in told
        assert "KAFKA_SASL_USERNAME: alice\n" in told
        assert re.findall("KAFKA_SASL_PASSWORD: (.*)", told) in (["''"], ['""'])
        assert "KAFKA_SASL_PASSWORD_FILE: /run/secrets/kafka-password\n" in told
        assert "KAFKA_SSL_CAFILE: /etc/kafka/ca.pem\n" in told
        assert re.search("secrets:\n +- (source: )?kafka-password\n", told)
    # Spark's master and workers get the login with the tasks.
    assert [name for name in services if "KAFKA_S" in services[name]] == ["processor", "producer"]


def test_without_a_password_file_setting_nothing_starts() -> None:
    refused = config("docker-compose.yml", "docker-compose.secured.yml")

    assert refused.returncode != 0
    assert "must name the file that holds the password" in refused.stderr


def test_without_a_password_file_only_the_services_that_log_in_get_a_login() -> None:
    shown = config("docker-compose.yml", KAFKA_SASL_PASSWORD="hunter2").stdout
    services = dict(re.findall(r"^  ([\w-]+):\n((?:    .*\n)+)", shown, re.MULTILINE))

    assert [name for name in services if "hunter2" in services[name]] == ["processor", "producer"]


def test_the_dashboard_only_reads_and_is_open_on_this_machine_only() -> None:
    program = find("docker-compose")
    if program is None:
        pytest.skip("this machine lacks docker-compose")
    shown = run(program, "config", cwd=ROOT, extra={"DASHBOARD_PORT": "8600"}).stdout
    service = re.search(r"^  dashboard:\n((?: {4}.*\n)+)", shown, re.MULTILINE)
    assert service is not None
    # Versions 1 and 2 of docker-compose print ports and volumes in two ways.
    assert "127.0.0.1:8600:8501/tcp" in service[1] or ('published: "8600"' in service[1] and "127.0.0.1" in service[1])
    assert "/data:/app/data:ro" in service[1] or re.search(r"target: /app/data\n +read_only: true", service[1])
    assert "KAFKA" not in service[1]
    assert "BROKER" not in service[1]
    assert "depends_on" not in service[1]


def services_of(shown: str) -> dict[str, str]:
    return dict(re.findall(r"^  ([\w-]+):\n((?:    .*\n)+)", shown, re.MULTILINE))


def test_each_setting_reaches_the_service_that_reads_it_and_no_worker() -> None:
    keys = {
        name: {setting.key for setting in (*settings.values(), *security.SETTINGS.values()) if setting.key}
        for name, settings in (("producer", producer.config.SETTINGS), ("processor", processor.config.SETTINGS))
    }
    shown = config("docker-compose.yml", **dict.fromkeys(keys["producer"] | keys["processor"], "given")).stdout
    services = services_of(shown)
    # The command of the processor has the interval.
    assert "--interval given" in services["processor"]
    for name, read in keys.items():
        assert [key for key in sorted(read - {"BATCH_INTERVAL"}) if f" {key}: " not in services[name]] == []
    for key in ("TOPIC_FROM", "TOPIC_UNTIL", "CONSUMER_GROUP", "ROUTING_FILE"):
        assert [name for name in services if f" {key}: " in services[name]] == ["processor"]


def test_metrics_have_a_port_for_each_service_which_is_open_on_this_machine_only() -> None:
    shown = config("docker-compose.yml", METRICS_PORT="9999", METRICS_HOST="127.0.0.1").stdout
    services = services_of(shown)

    for name, port in (("producer", "9101"), ("processor", "9102")):
        assert re.search(rf"METRICS_PORT: ['\"]?{port}['\"]?\n", services[name])
        assert "METRICS_HOST: 0.0.0.0\n" in services[name]
        assert published(services[name]) == [("127.0.0.1", port, port)]
    assert sorted(name for name in services if "METRICS_" in services[name]) == ["processor", "producer"]


def test_the_ports_of_metrics_on_this_machine_can_be_chosen_also_several() -> None:
    shown = config("docker-compose.yml", PRODUCER_METRICS_PORT="9201-9203", PROCESSOR_METRICS_PORT="9300").stdout
    services = services_of(shown)

    assert published(services["producer"]) == [("127.0.0.1", "9201-9203", "9101")]
    assert published(services["processor"]) == [("127.0.0.1", "9300", "9102")]


def published(service: str) -> list[tuple[str, str, str]]:
    """Return address, port of this machine and port of the container, which versions 1 and 2 print in two ways."""
    short = re.findall(r"- ([\d.]+):([\d-]+):(\d+)(?:/tcp)?\n", service)
    long = re.findall(r"host_ip: ([\d.]+)\n +target: (\d+)\n +published: \"([\d-]+)\"", service)
    return short or [(host, outside, inside) for host, inside, outside in long]


def test_the_health_checks_allow_as_long_without_progress_as_healthz_does() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    allowed = {
        name: re.findall(r"heartbeat --max-age (\d+)$", service, re.MULTILINE)
        for name, service in services_of(text).items()
    }
    assert allowed["producer"] == [f"{producer.metrics.HEALTHY_FOR_S:g}"]
    assert allowed["processor"] == [f"{processor.metrics.HEALTHY_FOR_S:g}"]


def test_only_the_processor_is_told_of_a_routing_file_and_sees_one_in_data() -> None:
    shown = config("docker-compose.yml", ROUTING_FILE="data/routing.toml").stdout
    services = dict(re.findall(r"^  ([\w-]+):\n((?:    .*\n)+)", shown, re.MULTILINE))

    assert [name for name in services if "ROUTING_FILE: data/routing.toml\n" in services[name]] == ["processor"]
    # Versions 1 and 2 of docker-compose print volumes in two ways; /app is where the image starts its program.
    assert re.search(r"/data:/app/data:rw|source: .*/data\n +target: /app/data\n", services["processor"])
    assert "WORKDIR /app\n" in (ROOT / "processor/Dockerfile").read_text(encoding="utf-8")

    assert "ROUTING_FILE" not in re.sub(r"ROUTING_FILE: (null|''|\"\")?\n", "", config("docker-compose.yml").stdout)
