"""The ``.env`` that we ship: every key, each with its default."""

from runtime.settings import catalogue
from runtime.settings.setting import ENV_FILE
from runtime.settings.text_files import read_env_file


def test_every_value_in_env_is_the_default() -> None:
    for key, text in read_env_file(ENV_FILE).items():
        setting = catalogue.ALL[key]
        value = text if setting.anchored else setting.parse(text)
        assert value == setting.default, key


def test_every_key_stands_in_env_set_or_commented() -> None:
    keys = {line.removeprefix("#").partition("=")[0] for line in ENV_FILE.read_text().splitlines() if "=" in line}
    assert keys == set(catalogue.ALL)
