"""The walk through docs/compose.md on one running pipeline: each test leaves it running for the next."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.compose.project import Project
from tests.compose.published import assert_exact, read_metrics, rows, wait_until_caught_up
from tests.compose.shell import run
from tests.support import scrape

# The first test of a session waits for the images.
pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

OURS = ("producer", "processor")
SERVICES = (*OURS, "dashboard")
ALL = ("redpanda", *SERVICES)

# A batch every two seconds, so that the tests need not wait for one.
QUICK = {"BATCH_INTERVAL": "2"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, daemon: dict[str, str]) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("pipeline"), daemon)
    give_to(project.data, 1000)
    try:
        project.compose("up", "--build", "-d", settings=QUICK)
        yield project
    finally:
        give_to(project.data, 0)
        project.down()


def give_to(folder: Path, owner: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner)


def start(project: Project, *services: str, **settings: str) -> None:
    project.compose("up", "-d", *services, settings={**QUICK, **settings})


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


def users(project: Project, service: str) -> set[str]:
    """Return the users of all processes that a service started, the first one included.

    A health check that happens to run is not among them: Docker starts it beside the service, as root until it drops.
    """
    container = project.container(service)
    table = project.docker("top", container["Id"], "-eo", "pid,ppid,uid").stdout.splitlines()
    processes = {pid: (parent, user) for pid, parent, user in map(str.split, table[1:])}
    started = {str(container["State"]["Pid"])}
    while more := {pid for pid, (parent, _) in processes.items() if parent in started} - started:
        started |= more
    return {processes[pid][1] for pid in started}


def test_up_brings_every_service_to_health_and_tickets_to_the_output(pipeline: Project) -> None:
    pipeline.wait_until_healthy(*ALL)
    pipeline.wait(lambda: rows(pipeline.output) > 50, "tickets in the output")


def test_files_belong_to_the_owner_of_the_data_folder_and_no_process_is_root(pipeline: Project) -> None:
    assert owners(pipeline.output) == {1000}
    assert users(pipeline, "processor") == {"1000"}
    assert users(pipeline, "producer") == {"10001"}
    assert users(pipeline, "dashboard") == {"1000"}


@pytest.mark.parametrize("service", SERVICES)
def test_our_services_are_hardened_and_bounded(pipeline: Project, service: str) -> None:
    host = pipeline.container(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not host["Privileged"]
    assert 0 < host["PidsLimit"] <= 1024
    assert 0 < host["Memory"] <= 6 * 1024**3
    assert host["RestartPolicy"]["Name"] == "on-failure"


def test_the_first_process_of_the_processor_has_no_capabilities(pipeline: Project) -> None:
    status = pipeline.compose("exec", "-T", "--user", "1000", "processor", "cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapInh"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


def test_ports_are_open_on_this_machine_only(pipeline: Project) -> None:
    open_ports = {
        (port["HostIp"], port["HostPort"])
        for service in ALL
        for bindings in pipeline.container(service)["NetworkSettings"]["Ports"].values()
        for port in bindings or ()
    }
    assert open_ports == {("127.0.0.1", port) for port in ("9092", "8501", "9101", "9102")}


def test_metrics_and_health_are_there_for_this_machine(pipeline: Project) -> None:
    for port, counter in ((9101, "client_tickets_acknowledged_total"), (9102, "client_tickets_messages_read_total")):
        assert scrape.metrics(port)[counter] > 0
        assert scrape.health(port)[0] == 200


def test_the_dashboard_answers_on_the_host_and_reads_the_owners_files_but_cannot_write(
    pipeline: Project,
) -> None:
    with urlopen("http://localhost:8501/", timeout=10) as page:
        assert b"Streamlit" in page.read()
    pipeline.output.chmod(0o700)
    look = "from dashboard.page import *; print(snapshots('data/output').look().snapshot.manifest.totals.tickets)"
    as_owner = ("exec", "-T", "--user", "1000", "dashboard")
    assert int(pipeline.compose(*as_owner, "python", "-c", look).stdout.split()[-1]) > 50
    written = pipeline.compose(*as_owner, "touch", "data/output/new", check=False)
    assert "Read-only file system" in written.stderr


def test_the_command_line_on_the_host_reaches_the_broker_at_localhost(pipeline: Project) -> None:
    command = [sys.executable, "producer/ticket_producer.py", "--broker", "localhost:9092", "--count", "20"]
    done = run(*command, "--rate", "0", cwd=pipeline.folder)
    assert "acknowledged 20" in done.stderr


def test_a_second_processor_beside_the_running_one_is_refused(pipeline: Project) -> None:
    done = pipeline.compose("run", "--rm", "-T", "processor", "--memory", "1g", settings=QUICK, check=False)
    assert done.returncode == 5
    assert "another processor is writing" in done.stderr


def test_a_heap_that_does_not_fit_the_container_is_refused(pipeline: Project) -> None:
    settings = {"SPARK_MEMORY": "4g", "PROCESSOR_MEM_LIMIT": "4g"}
    done = pipeline.compose("run", "--rm", "-T", "processor", settings=settings, check=False)
    assert done.returncode == 2
    assert "4g does not fit" in done.stderr


def test_another_rate_from_the_shell_needs_no_editing(pipeline: Project) -> None:
    start(pipeline, PRODUCER_RATE="200")
    pipeline.wait_until_healthy("producer")
    before, began = pipeline.written(), time.monotonic()
    pipeline.wait(lambda: pipeline.written() - before > 1000, "1,000 tickets at 200 a second")
    assert 100 < 1000 / (time.monotonic() - began) < 220


def test_stop_and_up_again_lose_nothing_and_repeat_nothing(pipeline: Project) -> None:
    pipeline.compose("stop")
    codes = {service: pipeline.container(service)["State"]["ExitCode"] for service in SERVICES}
    assert codes == {"producer": 0, "processor": 0, "dashboard": 0}
    kept = rows(pipeline.output)
    start(pipeline)
    pipeline.wait(lambda: rows(pipeline.output) > kept + 20, "tickets after the restart")
    pipeline.compose("stop", "producer")
    wait_until_caught_up(pipeline)
    assert_exact(pipeline)


def test_each_service_killed_in_turn_comes_back_and_the_output_is_exact(pipeline: Project) -> None:
    for service in ("producer", "processor", "redpanda"):
        start(pipeline)
        pipeline.wait_until_healthy(service)
        pipeline.compose("kill", service)
    start(pipeline)
    pipeline.wait_until_healthy(*ALL)
    kept = rows(pipeline.output)
    pipeline.wait(lambda: rows(pipeline.output) > kept + 20, "tickets after three kills")
    pipeline.compose("stop", "producer")
    wait_until_caught_up(pipeline)
    assert_exact(pipeline)


def test_a_service_that_dies_by_itself_is_started_again(pipeline: Project) -> None:
    start(pipeline)
    pipeline.wait_until_healthy("producer")
    pipeline.compose("exec", "-T", "producer", "sh", "-c", "kill -9 -1", check=False)
    pipeline.wait(lambda: pipeline.container("producer")["RestartCount"] >= 1, "the producer to be started again")
    pipeline.wait_until_healthy("producer")


def test_a_single_run_with_flags_converts_catches_up_and_ends(pipeline: Project) -> None:
    pipeline.compose("stop", "producer", "processor")
    flags = ("--memory", "1g", "--output-format", "json")
    done = pipeline.compose("run", "--rm", "-T", "processor", *flags, settings=QUICK)
    assert "asked for 1g" in done.stderr
    assert {file.suffix for file in (pipeline.output / "tickets_with_assignment").iterdir()} == {".json"}
    assert_exact(pipeline)


@pytest.mark.parametrize("service", OURS)
def test_a_password_comes_from_a_file_and_docker_inspect_does_not_show_it(pipeline: Project, service: str) -> None:
    secrets = pipeline.folder / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    (secrets / "kafka-password").write_text("hunter2-in-the-file\n", encoding="utf-8")
    (secrets / "kafka-password").chmod(0o644)
    given = {
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.secured.yml",
        "REDPANDA_BROKER_LOCAL": "redpanda:29092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "alice",
        "KAFKA_SASL_PASSWORD": "hunter2-in-the-shell",
        "KAFKA_SASL_PASSWORD_FILE": str(secrets / "kafka-password"),
        "OUTPUT_PATH": "data/secured",
    }
    name = f"client-tickets-secured-{service}"
    try:
        done = pipeline.compose("run", "--no-deps", "--name", name, service, settings=given, check=False)
        seen = pipeline.docker("inspect", name).stdout
    finally:
        pipeline.docker("rm", "-f", name, check=False)
    # It has read the file, because otherwise it would not have asked the broker, which accepts no logins.
    assert done.returncode == 3, done.stdout + done.stderr
    assert "it does not accept a SASL login on this port" in done.stdout + done.stderr
    assert "KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka-password" in seen
    assert "hunter2" not in seen + done.stdout + done.stderr


@pytest.mark.parametrize(("owner", "user"), [(54321, 54321), (0, 10001)])
def test_another_owner_of_the_data_folder_gets_new_and_old_files(pipeline: Project, owner: int, user: int) -> None:
    pipeline.compose("stop", "processor")
    os.chown(pipeline.data, owner, owner)
    kept = rows(pipeline.output)
    start(pipeline)
    pipeline.wait(lambda: rows(pipeline.output) > kept, "tickets for the new owner")
    assert owners(pipeline.output) == {user}
    assert users(pipeline, "processor") == {str(user)}


def test_what_is_counted_is_what_is_published(pipeline: Project) -> None:
    pipeline.compose("stop", "producer")
    assert wait_until_caught_up(pipeline) == read_metrics(pipeline.output)[0]["total_tickets"]
