"""Where a setting comes from: command line > environment > ``.env`` > default.

A service describes its settings as fields of one frozen dataclass and resolves them before it opens anything.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import SettingError
from runtime.settings.parsers import require_printable
from runtime.settings.text_files import read_env_file

ROOT = Path(__file__).resolve().parents[2]
ENV_FILE = ROOT / ".env"

# What Kubernetes puts into NAME_PORT when somebody calls a service NAME.
_OF_KUBERNETES = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its ``.env`` key, its flag, or both.

    ``parse`` turns text into the value, or raises ValueError with the words "must be …". An ``anchored`` setting is a
    path: its ``parse`` takes as a second argument the folder where a relative path starts, and its default is text. If
    ``several``, the flag may be repeated, and the value is a tuple. If it ``may_be_empty``, the empty text is a value
    like any other. If ``words``, the flag takes one word for each of these names, and ``parse`` gets them with a space
    between them.
    """

    key: str | None
    default: Any
    parse: Callable[..., Any]
    help: str
    flag: str | None = None
    switch: bool = False
    secret: bool = False
    anchored: bool = False
    several: bool = False
    may_be_empty: bool = False
    words: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the help text with the ``.env`` key and the default, as ``--help`` shows it."""
        default = "none" if self.default in (None, "", ()) else self.default
        notes = [self.key or "no .env key"] + ([] if self.switch else [f"default: {default}"])
        return f"{self.help} [{', '.join(notes)}]"


@dataclass(frozen=True, slots=True)
class Given:
    """The text given for a setting, and where it was given; a relative path in it starts at ``base``."""

    text: str
    source: str
    base: Path

    def parse(self, setting: Setting) -> Any:
        """Return the value. Raises SettingError with the text, its source and what would work."""
        try:
            require_printable(self.text)
            return setting.parse(self.text, self.base) if setting.anchored else setting.parse(self.text)
        except ValueError as error:
            shown = "(hidden)" if setting.secret else repr(self.text)
            raise SettingError(f"{self.source} {error}, found {shown}") from None


def add_flags(parser: argparse._ActionsContainer, settings: Iterable[Setting]) -> None:
    """Add the flag of each setting that has one. Values stay text: ``resolve`` parses them from every source."""
    for setting in settings:
        if setting.flag is None:
            continue
        help_text = setting.describe().replace("%", "%%")
        if setting.switch:
            parser.add_argument(setting.flag, action="store_const", const="true", help=help_text)
        elif setting.words:
            parser.add_argument(setting.flag, metavar=setting.words, nargs=len(setting.words), help=help_text)
        else:
            metavar = setting.flag.lstrip("-").replace("-", "_").upper()
            action = "append" if setting.several else "store"
            parser.add_argument(setting.flag, metavar=metavar, action=action, help=help_text)


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags in ``argv``. An unknown flag ends the process with code 2 and names the likely one."""
    flags, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        close = _close_flags(unknown[0].partition("=")[0], known)
        hint = f"did you mean {' or '.join(close)}?" if close else "--help lists the flags"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
    return flags


def _close_flags(found: str, known: Sequence[str]) -> list[str]:
    """Return the flags with ``found`` in their name (--format: --output-format), else the most similar one."""
    if not found.startswith("--"):
        return []
    return [flag for flag in known if found[1:] in flag] or difflib.get_close_matches(found, known, n=1)


def resolve(
    settings: Mapping[str, Setting],
    flags: argparse.Namespace,
    environ: Mapping[str, str],
    env_file: Path = ENV_FILE,
) -> dict[str, Any]:
    """Return field → value for each of ``settings`` (field → Setting). Raises SettingError.

    An empty text counts as not given, so ``KEY=`` in ``.env`` and ``${KEY:-}`` in Compose mean the default, unless the
    setting may be empty. The address that Kubernetes puts into a variable with the name of one of our ports counts as
    not given, too. A relative path from the command line or the environment starts at the current folder; one from
    ``.env`` or the default starts at the root of the repository, so that it is the same from every folder.
    """
    from_file = read_env_file(env_file)
    values = {}
    for field, setting in settings.items():
        if setting.several:
            values[field] = _several(setting, flags)
            continue
        given = _given(setting, flags, environ, from_file, env_file)
        if given is None and setting.anchored and setting.default is not None:
            given = Given(setting.default, "the default", ROOT)
        values[field] = setting.default if given is None else given.parse(setting)
    return values


def _several(setting: Setting, flags: argparse.Namespace) -> tuple[Any, ...]:
    """Return the values of a flag that may be repeated, in the order in which they were typed."""
    flag = setting.flag or ""
    texts = getattr(flags, flag.lstrip("-").replace("-", "_")) or ()
    return tuple(Given(text, flag, Path.cwd()).parse(setting) for text in texts)


def _given(
    setting: Setting,
    flags: argparse.Namespace,
    environ: Mapping[str, str],
    from_file: Mapping[str, str],
    env_file: Path,
) -> Given | None:
    if setting.flag is not None:
        text = getattr(flags, setting.flag.lstrip("-").replace("-", "_"))
        if text is not None:
            return Given(" ".join(text) if setting.words else text, setting.flag, Path.cwd())
    if setting.key is not None:
        text = environ.get(setting.key)
        if text and _is_of_kubernetes(setting.key, text):
            text = None
        if text or (text is not None and setting.may_be_empty):
            return Given(text, f"{setting.key} (from the environment)", Path.cwd())
        text = from_file.get(setting.key)
        if text or (text is not None and setting.may_be_empty):
            return Given(text, f"{setting.key} (from {env_file})", ROOT)
    return None


def _is_of_kubernetes(key: str, text: str) -> bool:
    return key.endswith("_PORT") and _OF_KUBERNETES.match(text) is not None


def source_of(
    setting: Setting, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
) -> str:
    """Return where the value of ``setting`` comes from, as error messages name it. Raises SettingError."""
    given = _given(setting, flags, environ, read_env_file(env_file), env_file)
    return "the default" if given is None else given.source


def refuse_unknown_keys(known: Iterable[str], prefixes: tuple[str, ...], env_file: Path = ENV_FILE) -> None:
    """Raise SettingError for a key of ``.env`` that begins like ours but is not one: a typo must not mean the default.

    The value is not shown, because it may be a secret of another program.
    """
    for key, hint in unknown_keys(read_env_file(env_file), known, prefixes):
        raise SettingError(f"{key} (from {env_file}) is not a setting of this pipeline; {hint}")


def unknown_keys(keys: Iterable[str], known: Iterable[str], prefixes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield those of ``keys`` that begin like ours but are none of ``known``, each with what would work."""
    known = set(known)
    for key in keys:
        if key.startswith(prefixes) and key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            yield key, f"did you mean {close[0]}?" if close else f"the keys are {', '.join(sorted(known))}"


def near_miss(key: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that differs from ``key`` only in case or by one typing error, or None."""
    return next((meant for meant in known if key != meant and _is_slip(key.upper(), meant)), None)


def _is_slip(found: str, meant: str) -> bool:
    """Whether at most one letter is missing, added or changed, or two neighbours are swapped."""
    shorter = min(len(found), len(meant))
    start = next((n for n in range(shorter) if found[n] != meant[n]), shorter)
    left, right = found[start:], meant[start:]
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    return max(len(left), len(right)) <= 1 or (len(left) == 2 and left == right[::-1])
