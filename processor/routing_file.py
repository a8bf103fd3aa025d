"""The file that ROUTING_FILE names: from TOML to rules, or to an error that names the line."""

import difflib
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from contract.routing import KINDS, Kind, Routing, Rule, first_matches, tell_kinds
from contract.ticket import PRIORITIES, REQUEST_TYPES
from runtime.errors import SettingError
from runtime.settings.parsers import require_printable
from runtime.settings.text_files import read_text

# Sixteen rules can tell all kinds of tickets apart, so what is larger is another file. The time to find the line of an
# error grows with the square of the size.
MOST_CHARACTERS = 16_384
_MOST_SHOWN = 60

_WORDS: dict[str, tuple[str, ...]] = {"request_type": REQUEST_TYPES, "priority": PRIORITIES}
_KEYS = Rule.__struct_fields__


@dataclass(frozen=True, slots=True)
class RoutingFile:
    """The rules of a file, and the line in which each of them begins."""

    path: Path
    routing: Routing
    lines: tuple[int, ...]


class _Wrong(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def read_routing(path: Path) -> RoutingFile:
    """Return the rules in a file. Raises SettingError, which names file and line."""
    return parse_routing(path, read_text(path))


def parse_routing(path: Path, text: str) -> RoutingFile:
    """Return the rules in ``text``, which was read from ``path``. Raises SettingError, which names file and line."""
    if len(text) > MOST_CHARACTERS:
        raise SettingError(
            f"{path} must be a file of routing rules with at most {MOST_CHARACTERS:,} characters, found {len(text):,}"
        )
    try:
        rules, lines = _read_rules(text)
        _require_useful(rules, lines)
    except _Wrong as wrong:
        raise SettingError(f"{path}, line {wrong.line}: {wrong}") from None
    return RoutingFile(path, Routing(rules), lines)


def _read_rules(text: str) -> tuple[tuple[Rule, ...], tuple[int, ...]]:
    """Return the rules, and the line in which each begins. Raises _Wrong."""
    content = _load(text)
    if isinstance(content, Exception):
        raise _Wrong(_line_of_error(text), f"this is not TOML: {content}")
    places = _Places(text)
    for key in content:
        if key != "rule":
            what = f"unknown {_shown(key)}; a routing file holds rules only, and each begins with [[rule]]"
            raise _Wrong(places.of_key(key), what)
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        what = f"each rule must begin with [[rule]], in two pairs of brackets, found {_shown(tables)}"
        raise _Wrong(places.of_key("rule"), what)
    if not tables:
        raise _Wrong(1, 'found no rule; write [[rule]] on one line, and team = "…" on the next')
    lines = tuple(map(places.of_rule, range(len(tables))))
    rules = (_rule(table, line, places.keys_of(n)) for n, (table, line) in enumerate(zip(tables, lines, strict=True)))
    return tuple(rules), lines


def _rule(table: Mapping[str, Any], line: int, lines: Mapping[str, int]) -> Rule:
    """Return the rule in ``table``, which begins in ``line``; ``lines`` are those of its keys. Raises _Wrong."""
    for key in table:
        if key not in _KEYS:
            keys = ", ".join(_KEYS)
            raise _Wrong(
                lines.get(key, line), f"unknown key {_shown(key)}; a rule has the keys {keys}{_meant(key, _KEYS)}"
            )
    if "team" not in table:
        raise _Wrong(line, 'this rule names no team; add team = "…" to it')
    team = _team(table["team"], lines.get("team", line))
    words = {key: _words(key, table[key], lines.get(key, line)) for key in _WORDS if key in table}
    return msgspec.convert({"team": team, **words}, Rule)


def _team(value: Any, line: int) -> str:
    # Format characters alone, such as a space of no width, look like nothing.
    if not isinstance(value, str) or value != value.strip() or not any(map(str.isprintable, value)):
        raise _Wrong(line, f"team must be the name of a team, without spaces at its ends, found {_shown(value)}")
    try:
        require_printable(value)
    except ValueError as error:
        raise _Wrong(line, f"team {error}, found {_shown(value)}") from None
    return value


def _words(key: str, value: Any, line: int) -> tuple[str, ...]:
    known = _WORDS[key]
    wanted = f"{key} must be one of {', '.join(known)}"
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise _Wrong(
            line, f"{wanted}, or several of them in brackets, found {_shown(value)}; without it the rule is for all"
        )
    for word in found:
        if word not in known:
            raise _Wrong(line, f"{wanted}, found {_shown(word)}{_meant(word, known)}")
    return tuple(word for word in known if word in found)


def _require_useful(rules: Sequence[Rule], lines: Sequence[int]) -> None:
    """Raise _Wrong for a rule that can never match, and for kinds of tickets that no rule matches."""
    places = first_matches(rules)
    for number, rule in enumerate(rules):
        if number not in places.values():
            earlier = sorted({places[kind] for kind in KINDS if rule.matches(kind)})
            raise _Wrong(
                lines[number],
                f"the rule for {_shown(rule.team)} can never match: the first rule that matches wins, and all of its "
                f"tickets go to rules before it ({_in_lines([lines[place] for place in earlier])}); move it before "
                "them, or remove it",
            )
    if missing := [kind for kind in KINDS if kind not in places]:
        raise _Wrong(
            lines[-1],
            f"this is the last rule, and none is for {tell_kinds(missing)}; add rules for them below it; one with "
            'nothing but team = "…" takes all that is left',
        )


def _in_lines(lines: Sequence[int]) -> str:
    return f"line {lines[0]}" if len(lines) == 1 else f"lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}"


def _load(text: str) -> dict[str, Any] | Exception:
    """Return the content of a TOML document, or what is wrong with it."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        return ValueError("it is nested too deeply")
    # tomllib has an error of its own, but lets through what Python says of a number with too many digits.
    except ValueError as error:
        return error


def _parses(text: str) -> bool:
    return isinstance(_load(text), dict)


def kind(text: str) -> Kind:
    """Return the request type and the priority in ``text``, as ``--explain`` is given them. Raises ValueError."""
    words = text.split(" ")
    if len(words) != len(_WORDS):
        raise ValueError("must be a request type and a priority, e.g. billing high")
    for (name, known), word in zip(_WORDS.items(), words, strict=True):
        if word not in known:
            raise ValueError(f"must have a {name} that is one of {', '.join(known)}")
    found: Kind = msgspec.convert(words, Kind)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of a TOML document, comments too, with the number of its first line.

    tomllib does not report lines. But a statement ends with the first line at which it is a document by itself: a
    string or an array over several lines is not one before it is closed. If a statement is wrong or never ends, all
    that follows counts as part of it.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and not _parses("".join(lines[start:end])):
            end += 1
        yield start + 1, "".join(lines[start:end])
        start = end


def _line_of_error(text: str) -> int:
    """Return the first line of the statement with which a document stops being TOML."""
    statements = list(_statements(text))
    parts = [statement for _, statement in statements]
    # One that is right by itself may contradict those before it.
    wrong = bisect_left(range(len(parts)), True, key=lambda last: not _parses("".join(parts[: last + 1])))
    return statements[wrong][0]


class _Places:
    """The lines of the rules and keys in a TOML document."""

    def __init__(self, text: str) -> None:
        self._rules: list[int] = []
        # By the number of the rule, None outside of rules.
        self._keys: dict[tuple[int | None, str], int] = {}
        in_rule: int | None = None
        for line, statement in _statements(text):
            content = tomllib.loads(statement)
            for key, value in content.items():
                if not statement.lstrip().startswith("["):
                    self._keys.setdefault((in_rule, key), line)
                elif content == {"rule": [{}]}:
                    self._rules.append(line)
                    in_rule = len(self._rules) - 1
                else:
                    # A table of its own, or one within a rule.
                    self._keys.setdefault((None, key), line)
                    self._keys.update({(in_rule, inner): line for inner in value if key == "rule"})

    def of_key(self, key: str) -> int:
        """Return the line of a key outside of rules."""
        return self._keys[None, key]

    def of_rule(self, number: int) -> int:
        """Return the line in which a rule begins; that of the whole list where it is an element of one."""
        return self._rules[number] if self._rules else self._keys[None, "rule"]

    def keys_of(self, number: int) -> dict[str, int]:
        """Return the line of each key of a rule that has a line of its own."""
        return {key: line for (rule, key), line in self._keys.items() if rule == number}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _meant(word: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
