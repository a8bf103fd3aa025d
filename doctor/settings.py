"""Each setting: its value, where it came from, and keys that look like a setting but are not one.

The settings are those of ``runtime.settings.catalogue``, whichever these are.
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctor.finding import Finding, from_error, ok, problem, warning
from processor.routing_file import read_routing
from runtime.broker import security
from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError
from runtime.process.words import things
from runtime.settings import catalogue
from runtime.settings.setting import ENV_FILE, Setting, near_miss, resolve, source_of, unknown_keys
from runtime.settings.text_files import read_env_file

_NOTHING = Path(os.devnull)
_KNOWN = frozenset({*catalogue.ALL, *catalogue.OF_COMPOSE})


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found for each key: its value (the default where ``errors`` has the key), and its source."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    errors: Mapping[str, SettingError]
    # What is wrong with ``.env`` as a whole; the rest is without it then.
    env_file_error: SettingError | None = None

    def is_wrong(self, setting: Setting) -> bool:
        """Whether the value that was given for a setting cannot be used."""
        return setting.key in self.errors

    def get(self, setting: Setting) -> Any:
        """Return the value of a setting of the catalogue."""
        return self.values[setting.key or ""]

    def source(self, setting: Setting) -> str:
        """Return where that value comes from, in words."""
        return self.sources[setting.key or ""]

    def named(self, setting: Setting) -> str:
        """Return how an error message names a setting: its flag, or its key and where that stands."""
        source = self.source(setting)
        return source if source == setting.flag else f"{setting.key} ({source})"


def look_up(flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE) -> Looked:
    """Resolve each setting by itself, so that one that is wrong hides none of the others."""
    broken = None
    try:
        read_env_file(env_file)
    except SettingError as error:
        broken, env_file = error, _NOTHING
    values, sources, errors = {}, {}, {}
    for key, setting in catalogue.ALL.items():
        sources[key] = _in_words(key, source_of(setting, flags, environ, env_file))
        try:
            values[key] = resolve({key: setting}, flags, environ, env_file)[key]
        except SettingError as error:
            errors[key] = error
            values[key] = _default(setting)
    return Looked(values, sources, errors, broken)


def _default(setting: Setting) -> Any:
    nothing = argparse.Namespace(**{setting.flag.lstrip("-").replace("-", "_"): None}) if setting.flag else None
    return resolve({"": setting}, nothing or argparse.Namespace(), {}, _NOTHING)[""]


def _in_words(key: str, source: str) -> str:
    """Return where a value comes from, without the key, which stands before it."""
    return source.removeprefix(f"{key} (").removesuffix(")") if source.startswith(key) else source


def login(looked: Looked) -> KafkaSecurity:
    """Return how to talk to the broker. Raises SettingError if one of its settings is wrong, or they do not fit."""
    for setting in (catalogue.BROKER, *security.SETTINGS.values()):
        if looked.is_wrong(setting):
            raise looked.errors[setting.key or ""]
    return KafkaSecurity.from_settings({name: looked.get(setting) for name, setting in security.SETTINGS.items()})


def examine(looked: Looked, environ: Mapping[str, str], env_file: Path = ENV_FILE) -> Iterator[Finding]:
    """Tell each setting and its source, and what was meant to be one."""
    if looked.env_file_error:
        yield from_error(looked.env_file_error)
    for key, setting in catalogue.ALL.items():
        if key in looked.errors:
            yield wrong(looked.errors[key])
        else:
            yield told(setting, looked.values[key], looked.sources[key])
    try:
        login(looked)
    except SettingError as error:
        # A setting that is wrong by itself was reported above.
        if error not in looked.errors.values():
            yield from_error(error)
    if file := looked.get(catalogue.ROUTING_FILE):
        yield routing(file)
    if not looked.env_file_error:
        yield from misspelt(read_env_file(env_file), str(env_file))
    yield from in_environment(environ)


def routing(file: Path) -> Finding:
    """Judge the rules in a file, as the processor does at its start."""
    try:
        rules = read_routing(file).routing
    except SettingError as error:
        return from_error(error)
    return ok(f"{file} assigns tickets to {things(len(rules.teams), 'team', 'teams')}")


def wrong(error: SettingError) -> Finding:
    """Return the problem of a value that cannot be used."""
    return problem(str(error), "correct it there, or leave it out for the default")


def told(setting: Setting, value: Any, source: str) -> Finding:
    """Tell the value of a setting; that of a secret is not shown."""
    if value in (None, "", ()):
        shown = "not set"
    elif setting.secret:
        shown = "(hidden)"
    else:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
    return ok(f"{setting.key} = {shown} ({source})")


def misspelt(keys: Mapping[str, str], env_file: str) -> Iterator[Finding]:
    """Yield the keys of ``.env`` that look like a setting but are not one; values are not shown."""
    refused = dict(unknown_keys(keys, _KNOWN, catalogue.PREFIXES))
    for key, hint in refused.items():
        yield problem(f"{key} (from {env_file}) is not a setting of this pipeline, so it refuses to start", hint)
    for key in keys:
        if key not in refused and key not in _KNOWN and (meant := near_miss(key, catalogue.ALL)):
            yield warning(f"{key} (from {env_file}) is not a setting and is ignored", f"did you mean {meant}?")


def in_environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield keys of the environment that are almost a setting, or begin like one and belong to another program."""
    for key in environ:
        if key not in _KNOWN and (meant := near_miss(key, catalogue.ALL)):
            yield warning(f"{key} (from the environment) is not a setting and is ignored", f"did you mean {meant}?")
    others = sorted(key for key in environ if key not in _KNOWN and key.startswith(catalogue.PREFIXES))
    if foreign := [key for key in others if not near_miss(key, catalogue.ALL)]:
        yield ok(f"{', '.join(foreign)} in the environment: not ours (Kubernetes sets such names), left alone")
