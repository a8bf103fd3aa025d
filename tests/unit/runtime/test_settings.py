"""Where a setting comes from, and what is said when it is wrong."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from producer import ticket_producer
from producer.config import SETTINGS, ProducerConfig
from runtime.errors import SettingError
from runtime.settings import catalogue, parsers
from runtime.settings import setting as settings
from runtime.settings.setting import Setting

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
    [("PRODUCER_RAET", "did you mean PRODUCER_RATE?"), ("OUTPUT_FORMATS", "did you mean OUTPUT_FORMAT?")],
)
def test_a_key_that_looks_like_ours_but_is_none_is_refused(key: str, hint: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"{key}=1\n")

    with pytest.raises(SettingError) as from_environment:
        catalogue.refuse_typos({key: "1"}, tmp_path / "none")
    with pytest.raises(SettingError) as from_file:
        catalogue.refuse_typos({}, file)

    assert str(from_environment.value) == f"{key}=1 (from the environment) is no setting of this pipeline; {hint}"
    assert str(from_file.value) == f"{key}=1 (from {file}) is no setting of this pipeline; {hint}"


def test_a_mistyped_password_key_does_not_show_the_password(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        catalogue.refuse_typos({"KAFKA_SASL_PASWORD": "hunter2"}, tmp_path / "none")

    assert "hunter2" not in str(error.value)
    assert "did you mean KAFKA_SASL_PASSWORD?" in str(error.value)


def test_keys_of_others_are_left_alone(tmp_path: Path) -> None:
    catalogue.refuse_typos({"PATH": "/bin", "SPARK_HOME": "/opt/spark", "KAFKA_OPTS": "-Xmx1g"}, tmp_path / "none")


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
