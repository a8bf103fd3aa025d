"""The settings of the processor: where each comes from, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.routing import DEFAULT, Routing, Rule
from processor.config import CompactConfig, ForgetConfig, ProcessorConfig, RetryConfig, VerifyConfig, senseless, task_of
from processor.routing_file import RoutingFile
from processor.spark_processor import build_parser, main
from runtime.errors import SettingError
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from tests.support.time import Time


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(16_384, monkeypatch)


def machine_with(mib: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.config.memory_limit_mib", lambda: mib)


def load(env_file: Path, *argv: str, **environ: str) -> ProcessorConfig:
    return ProcessorConfig.from_sources(build_parser().parse_args(argv), environ, env_file)


def test_without_anything_given_the_defaults_hold(env_file: Path) -> None:
    assert load(env_file) == ProcessorConfig(
        broker="localhost:9092",
        topic="client_tickets",
        output=OutputLocation(ROOT / "data" / "output"),
        memory="2g",
        master="local[*]",
        output_format="parquet",
        interval_s=0.0,
        max_messages=5_000_000,
        accept_gap=False,
        log_level="INFO",
        log_format="text",
    )


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(env_file: Path) -> None:
    env_file.write_text("SPARK_MEMORY=1g\nOUTPUT_FORMAT=json\nTOPIC_NAME=from_file\n")
    config = load(env_file, "--memory", "4g", SPARK_MEMORY="3g", OUTPUT_FORMAT="parquet")
    assert (config.memory, config.output_format, config.topic) == ("4g", "parquet", "from_file")


def test_every_flag_takes_effect(env_file: Path) -> None:
    config = load(
        env_file,
        *("--broker", "b:1,c:2", "--topic", "t", "--memory", "512M", "--master", "local[2]", "--output-format", "JSON"),
        *("--output-path", "/o", "--interval", "1.5", "--max-messages", "7", "--accept-gap"),
    )
    assert config == ProcessorConfig(
        broker="b:1,c:2",
        topic="t",
        output=OutputLocation(Path("/o")),
        memory="512m",
        master="local[2]",
        output_format="json",
        interval_s=1.5,
        max_messages=7,
        accept_gap=True,
    )


def test_a_relative_output_path_starts_where_the_user_is_or_at_the_root_of_the_repository(
    env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env_file.write_text("OUTPUT_PATH=of/file\n")
    assert load(env_file).output == OutputLocation(ROOT / "of/file")
    assert load(env_file, OUTPUT_PATH="of/environment").output == OutputLocation(tmp_path / "of/environment")
    assert load(env_file, "--output-path", "of/flag", OUTPUT_PATH="/x").output == OutputLocation(tmp_path / "of/flag")
    assert load(env_file, OUTPUT_PATH="").output == OutputLocation(ROOT / "of/file")


@pytest.mark.parametrize("path", ["/absolute", "~/home"])
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_an_absolute_output_path_is_taken_as_it_is(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, path: str, source: str
) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    expected = Path("/absolute" if path == "/absolute" else "/users/me/home")
    if source == "file":
        env_file.write_text(f"OUTPUT_PATH={path}\n")
    argv = ["--output-path", path] if source == "flag" else []
    environ = {"OUTPUT_PATH": path} if source == "environment" else {}
    assert load(env_file, *argv, **environ).output == OutputLocation(expected)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "--output-path must be a path, e.g. data/output, found ''"),
        ("~nobody-here/x", "--output-path must begin with the home of a user who exists, found '~nobody-here/x'"),
        ("s3://bucket/tickets", "--output-path must be a folder, e.g. data/output, found 's3://bucket/tickets'"),
    ],
)
def test_an_output_path_that_names_no_folder_is_refused(env_file: Path, path: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(env_file, "--output-path", path)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("memory", "limit", "works"),
    [("2g", 2816, True), ("2g", 2815, False), ("512m", 1279, False), ("512m", 1280, True), ("64g", None, True)],
)
def test_a_heap_must_leave_room_for_the_workers(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, memory: str, limit: int | None, works: bool
) -> None:
    machine_with(limit, monkeypatch)
    if works:
        assert load(env_file, "--memory", memory).memory == memory
    else:
        with pytest.raises(SettingError, match=rf"SPARK_MEMORY \(--memory\) {memory} does not fit"):
            load(env_file, "--memory", memory)


def test_a_heap_that_does_not_fit_is_refused_with_one_that_would(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(4096, monkeypatch)
    with pytest.raises(SettingError, match=r"the 4,096 MiB that this machine .*at most 3328m would work") as caught:
        load(env_file, "--memory", "4g")
    assert caught.value.exit_code == 2
    assert load(env_file, "--memory", "3328m").memory == "3328m"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--memory", "2x"], "--memory must be a size in m or g of at least 512m, e.g. 4g, found '2x'"),
        (["--memory", "511m"], "--memory must be a size in m or g of at least 512m, e.g. 4g, found '511m'"),
        (["--output-format", "xml"], "--output-format must be one of parquet, json, found 'xml'"),
        (["--interval", "nan"], "--interval must be a number from 0 up, e.g. 30, found 'nan'"),
        (["--max-messages", "0"], "--max-messages must be a whole number from 1 up, e.g. 5000000, found '0'"),
        (["--master", "yarn"], "--master must be local[*], local[N] or spark://host:port, e.g. local[2], found 'yarn'"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named_with_what_would_work(env_file: Path, argv: list[str], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        load(env_file, *argv)
    assert str(caught.value) == said


def test_a_mistyped_key_of_ours_in_the_file_is_refused(env_file: Path) -> None:
    env_file.write_text("OUTPUT_FROMAT=json\n")
    with pytest.raises(SettingError, match=r"OUTPUT_FROMAT \(from .*\.env\) .*did you mean OUTPUT_FORMAT"):
        load(env_file)


def test_the_source_of_the_format_is_known(env_file: Path) -> None:
    assert load(env_file).format_source == "the default"
    env_file.write_text("OUTPUT_FORMAT=json\n")
    assert load(env_file).format_source == f"OUTPUT_FORMAT (from {env_file})"
    assert load(env_file, OUTPUT_FORMAT="json").format_source == "OUTPUT_FORMAT (from the environment)"
    assert load(env_file, "--output-format", "json", OUTPUT_FORMAT="json").format_source == "--output-format"


def at_noon(env_file: Path, *argv: str, **environ: str) -> ProcessorConfig:
    """Load at 12:00:00.5 UTC on the last day of January."""
    clock = Time()
    clock.passed = 3600.5
    return ProcessorConfig.from_sources(build_parser().parse_args(argv), environ, env_file, clock)


def test_a_part_of_the_topic_is_asked_for_in_any_zone(env_file: Path) -> None:
    env_file.write_text("TOPIC_FROM=earliest\n")
    assert (at_noon(env_file).start, at_noon(env_file).until) == ("earliest", None)
    config = at_noon(env_file, "--from", "2026-01-31T10:30:00+01:00", TOPIC_UNTIL="2026-01-31T12:00:00Z")
    assert config.start == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert config.until == datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert (config.start_source, config.until_source) == ("--from", "TOPIC_UNTIL (from the environment)")
    assert ", from 2026-01-31T09:30:00Z, until 2026-01-31T12:00:00Z, teams by " in config.describe()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--until", "2026-01-31T12:00:01Z"],
            "--until must be a time that has passed, found 2026-01-31T12:00:01Z, and now it is 2026-01-31T12:00:00Z; "
            "start again after that time, or leave it out",
        ),
        (
            ["--from", "2027-01-31T12:00:00Z"],
            "--from must be a time that has passed, found 2027-01-31T12:00:00Z, and now it is 2026-01-31T12:00:00Z; "
            "start again after that time, or leave it out",
        ),
        (
            ["--from", "2026-01-31T10:30:00+01:00", "--until", "2026-01-31T09:30:00Z"],
            "--from must be earlier than --until, found 2026-01-31T09:30:00Z and 2026-01-31T09:30:00Z",
        ),
        (
            ["--from", "latest", "--until", "2026-01-31T09:30:00Z"],
            "--from must be earlier than --until, found latest and 2026-01-31T09:30:00Z",
        ),
        (
            ["--until", "2026-01-31T09:30:00"],
            "--until must say the zone of its time, e.g. 2026-01-31T09:30:00Z for UTC or 2026-01-31T09:30:00+01:00, "
            "found '2026-01-31T09:30:00'",
        ),
        (
            ["--until", "latest"],
            "--until must be a time with its zone, e.g. 2026-01-31T09:30:00Z or 2026-01-31T10:30:00+01:00, found "
            "'latest'",
        ),
        (
            ["--from", "yesterday"],
            "--from must be earliest, latest, or a time with its zone, e.g. 2026-01-31T09:30:00Z, found 'yesterday'",
        ),
    ],
)
def test_a_part_of_the_topic_that_cannot_be_is_refused(env_file: Path, argv: list[str], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        at_noon(env_file, *argv)
    assert str(caught.value) == said


def test_the_effective_settings_fit_on_one_line_and_hide_the_password(env_file: Path) -> None:
    login = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "hunter2",
    }
    config = load(env_file, "--output-path", "/o", "--interval", "30", **login)
    assert config.describe() == (
        "broker localhost:9092 (SASL_SSL), topic client_tickets, output /o (parquet), Spark local[*] with 2g, "
        "every 30 s, at most 5,000,000 messages a batch, dedupe off, consumer group client-tickets-processor, "
        "teams by the default rules"
    )
    assert "hunter2" not in repr(config)


def test_a_routing_file_is_read_once_when_the_settings_are(env_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nteam = "Desk"\n', encoding="utf-8")
    assert load(env_file).routing == DEFAULT
    for config in (load(env_file, "--routing-file", str(file)), load(env_file, ROUTING_FILE=str(file))):
        assert config.routing_file == RoutingFile(file, Routing((Rule("Desk"),)), (1,))
        assert config.routing == Routing((Rule("Desk"),))
        assert config.describe().endswith(f", teams by {file}")
    file.write_text('[[rule]]\nteem = "Desk"\n', encoding="utf-8")
    with pytest.raises(SettingError, match=f"^{file}, line 2: unknown key 'teem'"):
        load(env_file, "--routing-file", str(file))


def test_help_names_key_and_default_of_each_flag() -> None:
    text = " ".join(build_parser().format_help().split())
    assert "[SPARK_MEMORY, default: 2g]" in text
    assert "[OUTPUT_PATH, default: data/output]" in text
    assert "[no .env key]" in text


def load_verify(env_file: Path, *argv: str, **environ: str) -> VerifyConfig:
    return VerifyConfig.from_sources(build_parser().parse_args(["--verify", *argv]), environ, env_file)


def test_verifying_asks_a_broker_only_if_one_was_typed(env_file: Path) -> None:
    env_file.write_text("REDPANDA_BROKER_LOCAL=file:1\nTOPIC_NAME=from_file\nOUTPUT_PATH=/o\nLOG_FORMAT=json\n")
    config = load_verify(env_file, TOPIC_NAME="from_environment", REDPANDA_BROKER_LOCAL="environment:1")
    assert config == VerifyConfig(OutputLocation(Path("/o")), broker=None, topic=None, log_format="json")
    asking = load_verify(env_file, "--broker", "b:1", "--topic", "t")
    assert (asking.broker, asking.topic) == ("b:1", "t")
    assert load_verify(env_file, "--broker", "b:1").topic is None


def test_verifying_needs_no_heap_and_no_login_where_no_broker_is_asked(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(512, monkeypatch)
    login = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
    assert load_verify(env_file, **login).broker is None
    with pytest.raises(SettingError, match="KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT needs a login"):
        load_verify(env_file, "--broker", "b:1", **login)
    env_file.write_text("OUTPUT_FROMAT=json\n")
    with pytest.raises(SettingError, match="did you mean OUTPUT_FORMAT"):
        load_verify(env_file)


@pytest.mark.parametrize(
    ("argv", "task", "wrong"),
    [
        ([], None, []),
        (["--interval", "30", "--broker", "b:1"], None, []),
        (["--readers-stopped"], None, ["--readers-stopped without --compact, --forget or --retry-rejected"]),
        (["--reason", "priority"], None, ["--reason without --retry-rejected"]),
        (
            ["--retry-rejected", "--reason", "priority", "--output-path", "/o", "--readers-stopped"],
            "retry_rejected",
            [],
        ),
        (["--retry-rejected", "--broker", "b:1", "--dedupe", "all"], "retry_rejected", ["--broker", "--dedupe"]),
        (["--list-rejected", "--output-path", "/o"], "list_rejected", []),
        (["--list-rejected", "--retry-rejected", "--reason", "x"], "list_rejected", ["--retry-rejected", "--reason"]),
        (["--forget", "C", "--reason", "x"], "forget", ["--reason"]),
        (["--answers", "key"], None, ["--answers without --verify"]),
        (["--verify", "--answers", "key"], "verify", []),
        (["--compact", "--answers", "key"], "compact", ["--answers"]),
        (["--verify"], "verify", []),
        (["--verify", "--output-path", "/o", "--broker", "b:1", "--topic", "t"], "verify", []),
        (["--verify", "--topic", "t"], "verify", ["--topic without --broker"]),
        (["--verify", "--interval", "30", "--memory", "1g"], "verify", ["--memory", "--interval"]),
        (
            ["--verify", "--master", "local", "--output-format", "json", "--max-messages", "7", "--accept-gap"],
            "verify",
            ["--master", "--output-format", "--max-messages", "--accept-gap"],
        ),
        (["--verify", "--compact"], "verify", ["--compact"]),
        (["--verify", "--readers-stopped"], "verify", ["--readers-stopped"]),
        (["--compact", "--output-path", "/o", "--readers-stopped"], "compact", []),
        (["--compact", "--broker", "b:1", "--interval", "30"], "compact", ["--broker", "--interval"]),
        (["--verify", "--from", "latest", "--until", "2026-01-31T09:30:00Z"], "verify", ["--from", "--until"]),
        (["--forget", "C", "--topic", "t", "--output-path", "/o", "--readers-stopped"], "forget", []),
        (["--forget", "C", "--forget-file", "ids", "--broker", "b:1"], "forget", []),
        (["--forget", "C", "--output-format", "json", "--compact"], "compact", ["--output-format", "--forget"]),
        (["--routing-file", "f"], None, []),
        (["--explain", "billing", "low", "--routing-file", "f"], "explain", []),
        (["--explain", "billing", "low", "--output-path", "/o"], "explain", ["--output-path"]),
        (["--verify", "--routing-file", "f"], "verify", ["--routing-file"]),
    ],
)
def test_a_flag_without_effect_on_the_task_is_a_usage_error(
    argv: list[str], task: str | None, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = build_parser().parse_args(argv)
    assert task_of(flags) == task
    assert senseless(task, flags) == wrong
    if wrong:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2
        where = f" with --{task.replace('_', '-')}" if task else ""
        assert f"leave out what has no effect{where}: {', '.join(wrong)}" in capsys.readouterr().err


def test_compacting_needs_an_output_and_nothing_else(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with(512, monkeypatch)
    env_file.write_text("OUTPUT_PATH=/o\nLOG_LEVEL=DEBUG\nKAFKA_SECURITY_PROTOCOL=SASL_SSL\n")
    flags = build_parser().parse_args(["--compact"])
    config = CompactConfig.from_sources(flags, {"LOG_FORMAT": "json"}, env_file)
    assert config == CompactConfig(OutputLocation(Path("/o")), False, "DEBUG", "json")
    env_file.write_text("COMPACT_FILE=3\n")
    with pytest.raises(SettingError, match="did you mean COMPACT_FILES"):
        CompactConfig.from_sources(flags, {}, env_file)


def test_a_reason_is_not_empty(env_file: Path) -> None:
    flags = build_parser().parse_args(["--retry-rejected", "--reason", ""])
    with pytest.raises(SettingError, match="--reason must be a reason that --list-rejected shows, found ''"):
        RetryConfig.from_sources(flags, {}, env_file)


def load_forget(env_file: Path, *argv: str, **environ: str) -> ForgetConfig:
    return ForgetConfig.from_sources(build_parser().parse_args(argv), environ, env_file)


def test_the_clients_to_forget_come_from_the_command_line_or_from_a_file(
    env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(512, monkeypatch)
    ids = tmp_path / "ids"
    ids.write_bytes('\ufeffCLIENT_1\r\n\r\n"line\\nbreak"\nZoë\n"\n CLIENT_7 \n'.encode())
    one = load_forget(env_file, "--forget", "CLIENT_9", REDPANDA_BROKER_LOCAL="environment:1")
    assert (one.client_ids, one.broker) == (("CLIENT_9",), "environment:1")
    several = load_forget(env_file, "--forget-file", str(ids))
    assert several.client_ids == ("CLIENT_1", "line\nbreak", "Zoë", '"', " CLIENT_7 ")
    assert load_forget(env_file, "--forget", "Zoë", "--forget-file", str(ids)).client_ids[0] == "Zoë"
    # A printed config must not show the ids of the clients.
    assert "CLIENT_9" not in repr(one)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "--forget-file must name a file that holds the id of a client on each line"),
        (b"\n \n", "--forget-file must name a file that holds the id of a client on each line"),
        (b"x" * 65, "--forget-file must be the id of a client, of 1 to 64 characters"),
        (b"CLIENT_1\nM\xfcller\n", "must be in UTF-8, found the byte 0xfc in line 2"),
    ],
)
def test_a_file_without_proper_ids_is_refused(env_file: Path, tmp_path: Path, content: bytes, said: str) -> None:
    ids = tmp_path / "ids"
    ids.write_bytes(content)
    with pytest.raises(SettingError, match=said):
        load_forget(env_file, "--forget-file", str(ids))


def test_an_empty_id_or_a_missing_file_is_refused(env_file: Path) -> None:
    with pytest.raises(SettingError, match="--forget must be the id of a client"):
        load_forget(env_file, "--forget", "")
    with pytest.raises(SettingError, match="--forget-file must name a file that can be read"):
        load_forget(env_file, "--forget-file", "/not/there")


@pytest.mark.parametrize(("text", "files"), [("0", 0), ("1", 1), ("500", 500)])
def test_the_number_of_small_files_that_is_too_many_can_be_set(env_file: Path, text: str, files: int) -> None:
    assert load(env_file).compact_files == 64
    assert load(env_file, COMPACT_FILES=text).compact_files == files
    with pytest.raises(SettingError, match=r"COMPACT_FILES .*must be a whole number from 0 up, e\.g\. 64"):
        load(env_file, COMPACT_FILES="-1")
