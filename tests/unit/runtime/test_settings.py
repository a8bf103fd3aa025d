"""Where a setting comes from, and what is said when it is wrong."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import embedded.broker
import embedded.demo
from dashboard.config import DashboardConfig
from dashboard.serve import build_parser as build_dashboard
from processor import spark_processor
from processor.config import ProcessorConfig
from producer import ticket_producer
from producer.config import SETTINGS, ProducerConfig
from runtime.errors import SettingError
from runtime.settings import catalogue, parsers
from runtime.settings import setting as settings
from runtime.settings.setting import Setting, near_miss

NAME = Setting("TOPIC_NAME", "default_topic", parsers.topic, "name of the topic", "--topic")
SECRET = Setting("KAFKA_SASL_PASSWORD", None, parsers.choice("open sesame"), "password", secret=True)


def resolve(
    flags: str | None = None, environ: Mapping[str, str] | None = None, env_file: Path = Path("/nowhere/.env")
) -> object:
    return settings.resolve({"name": NAME}, argparse.Namespace(topic=flags), environ or {}, env_file)["name"]


def write(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def produce(*argv: str, env_file: Path = Path("/nowhere/.env"), **environ: str) -> ProducerConfig:
    return ProducerConfig.from_sources(ticket_producer.build_parser().parse_args(argv), environ, env_file)


def produce_with(environ: Mapping[str, str]) -> ProducerConfig:
    return ProducerConfig.from_sources(ticket_producer.build_parser().parse_args([]), environ, Path("/nowhere/.env"))


def process_with(environ: Mapping[str, str]) -> ProcessorConfig:
    return ProcessorConfig.from_sources(spark_processor.build_parser().parse_args([]), environ, Path("/nowhere/.env"))


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "TOPIC_NAME=from_file\n")

    assert resolve("from_flag", {"TOPIC_NAME": "from_environment"}, file) == "from_flag"
    assert resolve(None, {"TOPIC_NAME": "from_environment"}, file) == "from_environment"
    assert resolve(None, {}, file) == "from_file"
    assert resolve(None, {}) == "default_topic"


def test_a_relative_path_starts_at_the_current_folder_or_at_the_root_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Setting("OUTPUT_PATH", "of/default", parsers.path, "a folder", "--output-path", anchored=True)
    file = write(tmp_path, "OUTPUT_PATH=of/file\n")

    def found(flag: str | None, environ: Mapping[str, str], env_file: Path) -> object:
        return settings.resolve({"place": place}, argparse.Namespace(output_path=flag), environ, env_file)["place"]

    assert found("of/flag", {"OUTPUT_PATH": "/x"}, file) == tmp_path / "of/flag"
    assert found(None, {"OUTPUT_PATH": "of/environment"}, file) == tmp_path / "of/environment"
    assert found(None, {}, file) == settings.ROOT / "of/file"
    assert found(None, {}, tmp_path / "none") == settings.ROOT / "of/default"


def test_an_empty_text_counts_as_not_given(tmp_path: Path) -> None:
    assert resolve(None, {"TOPIC_NAME": ""}, write(tmp_path, "TOPIC_NAME=\n")) == "default_topic"
    assert resolve(None, {"TOPIC_NAME": ""}, write(tmp_path, "TOPIC_NAME=from_file\n")) == "from_file"


def test_for_a_setting_that_may_be_empty_the_empty_text_is_a_value(tmp_path: Path) -> None:
    def found(flag: str | None, environ: dict[str, str], in_file: str) -> str:
        flags, ours = argparse.Namespace(consumer_group=flag), {"group": catalogue.CONSUMER_GROUP}
        group: str = settings.resolve(ours, flags, environ, write(tmp_path, in_file))["group"]
        return group

    assert found(None, {}, "") == "client-tickets-processor"
    assert found(None, {}, "CONSUMER_GROUP=\n") == ""
    assert found(None, {"CONSUMER_GROUP": ""}, "CONSUMER_GROUP=from_file\n") == ""
    assert found("", {"CONSUMER_GROUP": "from_environment"}, "") == ""
    with pytest.raises(SettingError, match="--consumer-group must be the name of a consumer group, at most 249"):
        found("ends with a space ", {}, "")


def test_an_empty_flag_is_a_mistake() -> None:
    with pytest.raises(SettingError, match="--topic must be"):
        resolve("")


@pytest.mark.parametrize(
    ("flag", "environ", "in_file", "message"),
    [
        ("a b", {}, "", "--topic must be 1 to 249 letters, digits, '.', '_' or '-', e.g. client_tickets, found 'a b'"),
        (
            None,
            {"TOPIC_NAME": "a/b"},
            "",
            "TOPIC_NAME (from the environment) must be 1 to 249 letters, digits, '.', '_' or '-', "
            "e.g. client_tickets, found 'a/b'",
        ),
        (
            None,
            {},
            "TOPIC_NAME=a/b\n",
            "TOPIC_NAME (from {file}) must be 1 to 249 letters, digits, '.', '_' or '-', "
            "e.g. client_tickets, found 'a/b'",
        ),
    ],
)
def test_an_error_names_the_setting_its_source_the_value_and_what_would_work(
    flag: str | None, environ: dict[str, str], in_file: str, message: str, tmp_path: Path
) -> None:
    file = write(tmp_path, in_file)

    with pytest.raises(SettingError) as error:
        resolve(flag, environ, file)

    assert str(error.value) == message.format(file=file)


def test_a_secret_is_not_shown_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        settings.resolve(
            {"password": SECRET}, argparse.Namespace(), {"KAFKA_SASL_PASSWORD": "hunter2"}, tmp_path / ".env"
        )

    assert str(error.value) == "KAFKA_SASL_PASSWORD (from the environment) must be one of open sesame, found (hidden)"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("PRODUCER_RAET", "did you mean PRODUCER_RATE?"),
        ("OUTPUT_FORMATS", "did you mean OUTPUT_FORMAT?"),
        ("KAFKA_SASL_PASWORD", "did you mean KAFKA_SASL_PASSWORD?"),
        (
            "OUTPUT_AWS_SECRET_ACCESS_KEY",
            "the keys are BATCH_INTERVAL, BATCH_MAX_MESSAGES, COMPACT_FILES, CONSUMER_GROUP, DASHBOARD_PORT,",
        ),
    ],
)
def test_a_key_of_the_file_that_looks_like_ours_but_is_not_one_is_refused_without_its_value(
    key: str, hint: str, tmp_path: Path
) -> None:
    file = write(tmp_path, f"{key}=hunter2\n")

    with pytest.raises(SettingError) as error:
        catalogue.refuse_typos(file)

    assert str(error.value).startswith(f"{key} (from {file}) is not a setting of this pipeline; {hint}")
    assert "hunter2" not in str(error.value)


FOREIGN = {
    "KAFKA_SERVICE_HOST": "10.0.0.7",
    "KAFKA_SERVICE_PORT": "9092",
    "REDPANDA_PORT": "tcp://10.0.0.8:9092",
    "REDPANDA_BROKERS": "10.0.0.8:9092",
    "BATCH_TASK_INDEX": "3",
    "KAFKA_SSL_KEY_PEM": "hunter2",
    "KAFKA_SSL_CERTFILE": "/etc/cert.pem",
    "OUTPUT_AWS_SECRET_ACCESS_KEY": "hunter2",
    "SPARK_MASTER_HOST": "spark",
    "SPARK_HOME": "/opt/spark",
    "KAFKA_OPTS": "-Xmx1g",
    "LANG": "C",
}


def test_keys_of_others_in_the_environment_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert produce_with(FOREIGN) == produce()
    catalogue.warn_of_near_misses(FOREIGN, Path("/nowhere/.env"))

    assert caplog.messages == []


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:9100", "udp://10.0.0.1:9100", "sctp://[fd00::1]:9100"])
def test_the_address_that_kubernetes_sets_for_a_service_of_the_same_name_is_not_a_port(address: str) -> None:
    of_kubernetes = {"METRICS_PORT": address, "METRICS_SERVICE_HOST": "10.0.0.1", "DASHBOARD_PORT": address}

    assert produce_with(of_kubernetes).metrics_port == 0
    assert process_with(of_kubernetes).metrics_port == 0
    shown = DashboardConfig.from_sources(build_dashboard().parse_args([]), of_kubernetes, Path("/nowhere/.env"))
    assert shown.port == 8501


def test_below_the_address_that_kubernetes_sets_the_file_counts(tmp_path: Path) -> None:
    file = write(tmp_path, "METRICS_PORT=9105\n")

    assert produce(env_file=file, METRICS_PORT="tcp://10.0.0.1:9100").metrics_port == 9105


@pytest.mark.parametrize("text", ["http://10.0.0.1:9100", "tcp:/", "9100/tcp", "70000"])
def test_anything_else_that_is_not_a_port_is_refused(text: str) -> None:
    with pytest.raises(SettingError) as error:
        produce_with({"METRICS_PORT": text})

    assert str(error.value) == (
        f"METRICS_PORT (from the environment) must be a whole number from 0 to 65535, e.g. 9101, found {text!r}"
    )


def test_an_address_of_kubernetes_from_a_person_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "METRICS_PORT=tcp://10.0.0.1:9100\n")

    with pytest.raises(SettingError, match=r"^METRICS_PORT \(from .*\) must be"):
        produce(env_file=file)
    with pytest.raises(SettingError, match=r"^--metrics-port must be"):
        produce("--metrics-port", "tcp://10.0.0.1:9100")
    with pytest.raises(SettingError, match=r"^REDPANDA_BROKER_LOCAL \(from the environment\) must be"):
        produce_with({"REDPANDA_BROKER_LOCAL": "tcp://10.0.0.1:9092"})


def test_what_only_docker_compose_reads_may_stand_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "PRODUCER_METRICS_PORT=9201\nPROCESSOR_METRICS_PORT=9202\nTOPIC_NAME=t\n")

    assert (produce(env_file=file).topic, produce(env_file=file).metrics_port) == ("t", 0)


def test_keys_of_others_may_stand_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(tmp_path, "COMPOSE_PROJECT_NAME=x\nAWS_SECRET_ACCESS_KEY=y\nPROCESSOR_MEM_LIMIT=10g\nTOPIC_NAME=t\n")

    assert produce(env_file=file).topic == "t"
    catalogue.warn_of_near_misses({}, file)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("PRODUCER_RAET", "PRODUCER_RATE"),
        ("OUTPUT_FORMATS", "OUTPUT_FORMAT"),
        ("KAFKA_SASL_PASWORD", "KAFKA_SASL_PASSWORD"),
        ("KAFKA_SSL_CA_FILE", "KAFKA_SSL_CAFILE"),
        ("SPARK_NEMORY", "SPARK_MEMORY"),
        ("topic_name", "TOPIC_NAME"),
    ],
)
def test_a_near_miss_in_the_environment_gives_a_warning_without_its_value(
    key: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert produce_with({key: "hunter2"}) == produce()
    catalogue.warn_of_near_misses({key: "hunter2"}, Path("/nowhere/.env"))

    assert caplog.messages == [f"{key} (from the environment) is not a setting and is ignored; did you mean {meant}?"]


def test_a_near_miss_in_the_file_that_does_not_begin_like_ours_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path, "LOG_LEVLE=DEBUG\nSPARK_MEMORY=1g\n")

    catalogue.warn_of_near_misses({}, file)

    assert caplog.messages == [f"LOG_LEVLE (from {file}) is not a setting and is ignored; did you mean LOG_LEVEL?"]


@pytest.mark.parametrize("key", sorted(catalogue.ALL))
def test_no_key_of_ours_is_a_near_miss_of_another(key: str) -> None:
    assert near_miss(key, catalogue.ALL.keys() - {key}) is None


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\tb", "a\0b", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\udce9b"])
@pytest.mark.parametrize(
    "key",
    [
        *("REDPANDA_BROKER_LOCAL", "TOPIC_NAME", "SPARK_MASTER", "SPARK_MEMORY", "OUTPUT_PATH", "OUTPUT_FORMAT"),
        *(
            "PRODUCER_RATE",
            "KAFKA_SASL_USERNAME",
            "KAFKA_SASL_PASSWORD",
            "KAFKA_SASL_PASSWORD_FILE",
            "KAFKA_SSL_CAFILE",
        ),
    ],
)
def test_control_characters_are_refused_in_every_setting(key: str, text: str) -> None:
    setting = catalogue.ALL[key]
    with pytest.raises(SettingError) as error:
        settings.resolve({"it": setting}, argparse.Namespace(**FLAGS), {key: text}, Path("/nowhere/.env"))

    found = "(hidden)" if key == "KAFKA_SASL_PASSWORD" else repr(text)
    assert str(error.value) == (
        f"{key} (from the environment) must be text in UTF-8 without control characters, found {found}"
    )


FLAGS = dict.fromkeys(["broker", "topic", "master", "memory", "output_path", "output_format", "rate"])


@pytest.mark.parametrize(
    "folder", ["a[red]b", "50%", "a b", "*?", "{x}", "\u00e9\u00df", "a\u00a0b", "\U0001f469\u200d\U0001f4bb"]
)
def test_other_characters_may_stand_in_a_path(folder: str, tmp_path: Path) -> None:
    found = settings.resolve(
        {"it": catalogue.OUTPUT_PATH}, argparse.Namespace(output_path=str(tmp_path / folder)), {}, tmp_path / ".env"
    )
    assert str(found["it"]) == f"{tmp_path}/{folder}"


def test_the_source_of_a_setting_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "TOPIC_NAME=from_file\n")

    def source(flag: str | None, environ: Mapping[str, str], env_file: Path) -> str:
        return settings.source_of(NAME, argparse.Namespace(topic=flag), environ, env_file)

    assert source("x", {"TOPIC_NAME": "y"}, file) == "--topic"
    assert source(None, {"TOPIC_NAME": "y"}, file) == "TOPIC_NAME (from the environment)"
    assert source(None, {}, file) == f"TOPIC_NAME (from {file})"
    assert source(None, {}, tmp_path / "none") == "the default"


@pytest.mark.parametrize(
    ("build", "argv", "said"),
    [
        (ticket_producer.build_parser, ["--rte", "20"], "unrecognized arguments: --rte 20; did you mean --rate?"),
        (ticket_producer.build_parser, ["--brok=b:1"], "unrecognized arguments: --brok=b:1; did you mean --broker?"),
        (ticket_producer.build_parser, ["--zzz"], "unrecognized arguments: --zzz; --help lists the flags"),
        (ticket_producer.build_parser, ["20"], "unrecognized arguments: 20; --help lists the flags"),
        (
            spark_processor.build_parser,
            ["--format", "json"],
            "unrecognized arguments: --format json; did you mean --output-format?",
        ),
        (embedded.broker.build_parser, ["--prot", "9095"], "unrecognized arguments: --prot 9095; did you mean --port?"),
        (
            embedded.demo.build_parser,
            ["--out", "x"],
            "unrecognized arguments: --out x; did you mean --output-path or --output-format?",
        ),
    ],
)
def test_an_unknown_flag_is_answered_with_the_one_that_was_meant(
    build: Callable[[], argparse.ArgumentParser], argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.parse_flags(build(), argv)

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {said}")


@pytest.mark.parametrize("setting", [s for s in SETTINGS.values() if s.flag], ids=lambda s: str(s.flag))
def test_help_shows_each_flag_with_its_key_and_default(setting: Setting) -> None:
    text = " ".join(ticket_producer.build_parser().format_help().split())
    default = "none" if setting.default is None else setting.default

    assert f"[{setting.key or 'no .env key'}, default: {default}]" in text
    assert f"{setting.flag} " in text


def test_every_setting_has_a_default_that_its_own_parser_takes() -> None:
    for setting in [*catalogue.ALL.values(), *SETTINGS.values()]:
        if setting.anchored:
            assert setting.default is None or setting.parse(setting.default, Path("/base")), setting.key
        elif setting.default is not None:
            assert setting.parse(str(setting.default)) == setting.default, setting.key


def test_a_flag_cannot_be_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ticket_producer.build_parser().parse_args(["--work", "2"])

    assert "unrecognized arguments: --work 2" in capsys.readouterr().err


def test_the_producer_needs_nothing_but_defaults() -> None:
    config = produce()

    assert (config.brokers, config.topic, config.partitions) == ("localhost:9092", "client_tickets", 4)
    assert (config.rate, config.count, config.duration, config.workers) == (10.0, 0, 0.0, 1)


def test_the_producer_describes_its_settings_without_the_password() -> None:
    config = produce(
        "--rate=0",
        KAFKA_SECURITY_PROTOCOL="sasl_plaintext",
        KAFKA_SASL_USERNAME="alice",
        KAFKA_SASL_PASSWORD="hunter2",
    )

    assert config.security.password == "hunter2"
    assert "hunter2" not in config.describe() + repr(config)
    assert "SASL_PLAINTEXT" in config.describe()


def test_more_workers_than_tickets_are_refused() -> None:
    with pytest.raises(SettingError, match="--workers 3 is more than --count 2"):
        produce("--workers=3", "--count=2")


def test_the_shares_of_the_workers_add_up_to_the_whole() -> None:
    config = produce("--workers=3", "--count=1000", "--rate=100", "--duration=5", "--seed=1")
    shares = [config.share(worker) for worker in range(3)]

    assert [share.count for share in shares] == [334, 333, 333]
    assert sum(share.rate for share in shares) == pytest.approx(100)
    assert {(share.workers, share.duration, share.seed) for share in shares} == {(1, 5.0, 1)}
