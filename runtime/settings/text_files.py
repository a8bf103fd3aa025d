"""Read settings from text files: ``.env``, and the file of a password."""

import codecs
import io
import os
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from runtime.errors import SettingError


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark.

    Raises SettingError, which names the file and never shows its content, because that may be a secret.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SettingError(
            f"{file} cannot be read ({error.strerror}); it must be a file that this user may read"
        ) from None
    # Settings never hold NUL, and in UTF-16 every second byte of plain text is NUL.
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw:
        raise SettingError(
            f"{file} must be in UTF-8, found UTF-16 or another encoding with NUL bytes; save it as UTF-8"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingError(
            f"{file} must be in UTF-8, found the byte 0x{raw[error.start]:02x} in line {line}, as other encodings "
            "(cp1252, Latin-1) write it; save the file as UTF-8"
        ) from None


def read_env_file(file: Path) -> dict[str, str]:
    """Return key → value of a ``.env``, values exactly as written; nothing if there is no such file.

    ``$`` is not expanded, because a password may hold ``${…}``. Raises SettingError when the file or a line cannot be
    read.
    """
    if not os.path.lexists(file):
        return {}
    text = read_text(file)
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # dotenv skips such a line, and its setting would silently keep the default.
            line = binding.original.line + binding.original.string.count("\n", 0, _indent(binding.original.string))
            raise SettingError(f"{file} must hold KEY=value on each line, found something else on line {line}")
    return {key: value or "" for key, value in dotenv_values(stream=io.StringIO(text), interpolate=False).items()}


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
