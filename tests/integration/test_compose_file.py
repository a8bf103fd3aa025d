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
