"""The tables and the messages in the documents are those of the code."""

import re

import processor.config
import producer.config
from contract.routing import TEAMS
from contract.ticket import FIELDS
from producer.sources import config as sources
from runtime import errors
from runtime.settings import catalogue
from runtime.settings.setting import Setting
from store.datasets import DATASETS
from store.manifest import KEYS
from tests.support import documents


def test_the_table_of_settings_is_the_catalogue() -> None:
    rows = documents.table(documents.section(documents.read("docs/settings.md"), "Settings"))
    assert [row[0] for row in rows] == list(catalogue.ALL)
    for key, flag, default, meaning in rows:
        setting = catalogue.ALL[key]
        assert flag == (setting.flag or ""), key
        parsed = default if setting.anchored else setting.parse(default) if default != "none" else None
        assert (None if default == "none" else parsed) == setting.default, key
        assert meaning == setting.help, key


def test_the_flags_without_a_key_stand_in_the_tables_of_their_service() -> None:
    rows = documents.table(documents.section(documents.read("docs/services.md"), "Broker, producer, processor"))
    settings = [*producer.config.SETTINGS.values(), *processor.config.SETTINGS.values()]
    ours = [setting for setting in settings if setting.flag and not setting.key]
    assert {row[0] for row in rows} == {setting.flag for setting in ours}
    assert_told(rows, ours)


def test_the_flags_of_sources_stand_in_their_document() -> None:
    rows = documents.table(documents.read("docs/sources.md"))
    ours = list(sources.SETTINGS.values())
    assert {row[0] for row in rows} == {setting.flag for setting in ours}
    assert_told(rows, ours)


def assert_told(rows: list[list[str]], settings: list[Setting]) -> None:
    """A flag may mean one thing to the producer and another to the processor."""
    for flag, default, meaning in rows:
        (setting,) = (each for each in settings if each.flag == flag and each.help.startswith(meaning))
        if setting.anchored or setting.several or default in {"none", "off"}:
            assert str(setting.default or default) in {default, "False"}, flag
        elif flag == "--timezone":
            assert str(setting.default) == default
        else:
            assert setting.parse(default) == setting.default, flag


def test_the_refused_prefixes_are_named() -> None:
    text = documents.inline_code(documents.section(documents.read("docs/settings.md"), "Settings"))
    assert set(catalogue.PREFIXES) <= set(text)


def test_the_memory_beside_the_heap_is_named() -> None:
    assert f"{processor.config.BESIDE_HEAP_MIB} MiB" in documents.read("docs/settings.md")


def test_the_exit_codes_are_those_of_the_errors() -> None:
    rows = dict(documents.table(documents.section(documents.read("docs/settings.md"), "Exit codes")))
    codes = {str(error.exit_code): error.__doc__ for error in errors.PipelineError.__subclasses__()}
    assert set(rows) == {"0", "1", *codes}
    for code, meaning in codes.items():
        assert f"{rows[code]}.".lower() == (meaning or "").lower()


def test_the_fields_and_teams_are_those_of_the_contract() -> None:
    section = documents.read("docs/ticket.md")
    assert [row[0] for row in documents.table(section)] == list(FIELDS)
    words = " ".join(section.split())
    for request_type, team in TEAMS.items():
        assert f"{request_type} → {team}" in words


def test_the_datasets_are_those_of_the_contract() -> None:
    rows = dict(documents.table(documents.section(documents.read("README.md"), "What you get")))
    assert list(rows) == [dataset.name for dataset in DATASETS]
    for name in ("tickets_by_type", "tickets_by_priority", "tickets_by_team", "tickets_by_hour", "rejected_messages"):
        columns = next(dataset for dataset in DATASETS if dataset.name == name).schema.names
        assert set(columns) <= set(documents.inline_code(rows[name]))


def test_the_columns_that_are_named_for_readers_of_json_are_those_of_the_contract() -> None:
    named: dict[str, dict[str, dict[str, str]]] = {}
    exec(documents.code_blocks(documents.section(documents.read("docs/reading.md"), "Any dataset"), "python")[0], named)
    kinds = {"string": "text", "binary": "text", "int32": "number", "int64": "number", "timestamp[us, tz=UTC]": "time"}
    assert named["COLUMNS"] == {
        dataset.name: {column.name: kinds[str(column.type)] for column in dataset.schema} for dataset in DATASETS
    }


def test_the_keys_of_the_manifest_are_named() -> None:
    rows = documents.table(documents.read("docs/manifest.md"))
    assert {row[0] for row in rows} == set(KEYS)


def test_every_message_in_troubleshooting_is_one_that_the_code_writes() -> None:
    text = documents.read("docs/troubleshooting.md")
    messages = [message for line in text.splitlines() if line.startswith("- `") for message in leading_code(line)]
    written = list(documents.strings_of_the_code())
    assert len(messages) > 20
    assert [message for message in messages if not any(message in string for string in written)] == []
    assert set(re.findall(r"see `([^`]+)` below", text)) <= set(messages)


def leading_code(line: str) -> list[str]:
    """Return the messages before the colon: ``- `one`, `two`: what to do``."""
    head = re.match(r"- (`[^`]+`(?:, `[^`]+`)*):", line)
    assert head, f"no message in {line!r}"
    return re.findall(r"`([^`]+)`", head[1])
