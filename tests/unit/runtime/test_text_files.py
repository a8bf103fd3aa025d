"""Settings that come as text in files: ``.env`` and the file of a password."""

import argparse
import codecs
import errno
import os
from pathlib import Path

import pytest

from runtime.broker import security
from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError
from runtime.settings.setting import resolve
from runtime.settings.text_files import read_env_file


def write(folder: Path, raw: bytes, name: str = ".env") -> Path:
    file = folder / name
    file.write_bytes(raw)
    return file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=pa${ss}word", "pa${ss}word"),
        ("KEY='pa${ss}word'", "pa${ss}word"),
        ('KEY="pa${ss}word"', "pa${ss}word"),
        ("KEY=pa$$word$HOME", "pa$$word$HOME"),
        ("KEY=${HOME}", "${HOME}"),
        ("KEY='a #b '", "a #b "),
        ("KEY=a # a comment", "a"),
        ("export KEY=value", "value"),
        ("KEY=", ""),
        ("KEY", ""),
    ],
)
def test_a_value_is_taken_exactly_as_written(line: str, value: str, tmp_path: Path) -> None:
    assert read_env_file(write(tmp_path, f"{line}\n".encode())) == {"KEY": value}


@pytest.mark.parametrize(
    "raw",
    [
        b"A=1\r\nB=two words\r\n",
        codecs.BOM_UTF8 + b"A=1\nB=two words\n",
        codecs.BOM_UTF8 + b"A=1\r\n\r\n# caf\xc3\xa9\r\nB='two words'\r\n",
        b"A=1\rB=two words",
    ],
)
def test_line_ends_and_a_byte_order_mark_of_any_editor_are_not_part_of_a_value(raw: bytes, tmp_path: Path) -> None:
    assert read_env_file(write(tmp_path, raw)) == {"A": "1", "B": "two words"}


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / ".env") == {}


NOT_UTF_8 = [
    (
        "A=hunter2\n".encode("utf-16"),
        "must be in UTF-8, found UTF-16 or another encoding with NUL bytes; save it as UTF-8",
    ),
    (
        "A=hunter2\n".encode("utf-16-be"),
        "must be in UTF-8, found UTF-16 or another encoding with NUL bytes; save it as UTF-8",
    ),
    (
        "A=1\r\nB=hunter2\u00e9\r\n".encode("cp1252"),
        "must be in UTF-8, found the byte 0xe9 in line 2, as other encodings (cp1252, Latin-1) write it; save the file "
        "as UTF-8",
    ),
]


@pytest.mark.parametrize(("raw", "said"), NOT_UTF_8, ids=["utf-16", "utf-16-be", "cp1252"])
def test_a_file_in_another_encoding_is_named_and_not_shown(raw: bytes, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, raw)

    with pytest.raises(SettingError) as error:
        read_env_file(file)

    assert str(error.value) == f"{file} {said}"


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.mkdir()

    with pytest.raises(SettingError) as error:
        read_env_file(file)

    assert str(error.value) == f"{file} cannot be read (Is a directory); it must be a file that this user may read"


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    file = write(tmp_path, b"A=1\n")
    # Root may read every file, so permissions would prove nothing where the tests run as root.
    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(SettingError) as error:
        read_env_file(file)

    assert str(error.value) == f"{file} cannot be read (Permission denied); it must be a file that this user may read"


def test_a_link_to_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.symlink_to(tmp_path / "gone")

    with pytest.raises(SettingError, match=r"cannot be read \(No such file or directory\)"):
        read_env_file(file)


@pytest.mark.parametrize(
    ("text", "line"),
    [("A=1\nB 2\n", 2), ("\n# one\n\n\nhunter2 = 'x\n", 5), ("A: hunter2\r\n", 1), ('A="hunter2\n', 1)],
)
def test_a_line_that_is_not_a_setting_is_named_by_its_number(text: str, line: int, tmp_path: Path) -> None:
    file = write(tmp_path, text.encode())

    with pytest.raises(SettingError) as error:
        read_env_file(file)

    assert str(error.value) == f"{file} must hold KEY=value on each line, found something else on line {line}"


def password_of(file: Path) -> str | None:
    environ = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "alice",
        "KAFKA_SASL_PASSWORD_FILE": str(file),
    }
    values = resolve(security.SETTINGS, argparse.Namespace(), environ, file.parent / "none")
    return KafkaSecurity.from_settings(values).password


@pytest.mark.parametrize(
    ("raw", "password"),
    [
        (b"pa${ss}word\n", "pa${ss}word"),
        (b"p\xc3\xa4ss word \r\n", "p\u00e4ss word "),
        (codecs.BOM_UTF8 + b"hunter2", "hunter2"),
    ],
)
def test_a_password_is_what_its_file_holds_without_the_line_end(raw: bytes, password: str, tmp_path: Path) -> None:
    assert password_of(write(tmp_path, raw, "password")) == password


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        *[(raw, "{file} " + said) for raw, said in NOT_UTF_8],
        (b"\n", "KAFKA_SASL_PASSWORD_FILE {file} is empty; it must hold the password"),
        (
            b"hunter2\nhunter3\n",
            "KAFKA_SASL_PASSWORD_FILE {file} must be text in UTF-8 without control characters, on one line",
        ),
    ],
    ids=["utf-16", "utf-16-be", "cp1252", "empty", "two lines"],
)
def test_a_file_that_holds_no_password_is_named_and_not_shown(raw: bytes, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, raw, "password")

    with pytest.raises(SettingError) as error:
        password_of(file)

    assert str(error.value) == said.format(file=file)
