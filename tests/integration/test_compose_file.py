import re

import pytest

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


def test_a_password_with_dollars_reaches_the_containers_from_the_shell_to_the_letter() -> None:
    program = find("docker-compose")
    if program is None:
        pytest.skip("this machine lacks docker-compose")
    shown = run(program, "config", cwd=ROOT, extra={"KAFKA_SASL_PASSWORD": "pa${ss}w$$rd$x"}).stdout
    # What it shows is itself a compose file, in which a dollar is written twice.
    assert set(re.findall("KAFKA_SASL_PASSWORD: (.*)", shown)) == {"pa$${ss}w$$$$rd$$x"}


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
