"""Which team serves which ticket, as data. No other code names a team."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from contract.ticket import PRIORITIES, REQUEST_TYPES, Priority, RequestType

# The default rules: every request type has a team.
TEAMS: dict[RequestType, str] = {
    "account": "Account Management",
    "billing": "Billing Team",
    "technical": "Technical Support",
    "general": "General Support",
}

Kind = tuple[RequestType, Priority]
# Everything that rules can distinguish.
KINDS: tuple[Kind, ...] = tuple((kind, priority) for kind in REQUEST_TYPES for priority in PRIORITIES)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tickets of one of these types and one of these priorities go to ``team``.

    Ledgers keep rules, also from releases that know other types. A field that a program does not know could be a
    condition, so a rule with one is refused.
    """

    team: str
    request_type: tuple[str, ...] = REQUEST_TYPES
    priority: tuple[str, ...] = PRIORITIES

    def matches(self, kind: Kind) -> bool:
        """Whether the rule is for tickets of this type and priority."""
        return kind[0] in self.request_type and kind[1] in self.priority

    def conditions(self) -> str:
        """Return in words which tickets the rule is for."""
        kind = "any request type" if set(self.request_type) == set(REQUEST_TYPES) else _either(self.request_type)
        return f"{kind} with {_priorities(self.priority)}"


def _priorities(words: Sequence[str]) -> str:
    return "any priority" if set(words) == set(PRIORITIES) else f"{_either(words)} priority"


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def first_matches(rules: Iterable[Rule]) -> dict[Kind, int]:
    """Return the position of the first rule that matches, for each kind of ticket that one does.

    A rule whose position is not in it can never match.
    """
    found: dict[Kind, int] = {}
    for place, rule in enumerate(rules):
        for kind in KINDS:
            if rule.matches(kind):
                found.setdefault(kind, place)
    return {kind: found[kind] for kind in KINDS if kind in found}


def tell_kinds(kinds: Iterable[Kind]) -> str:
    """Return kinds of tickets in words, each request type once."""
    priorities: dict[RequestType, list[Priority]] = {}
    for request_type, priority in kinds:
        priorities.setdefault(request_type, []).append(priority)
    types: dict[tuple[Priority, ...], list[RequestType]] = {}
    for request_type, words in priorities.items():
        types.setdefault(tuple(words), []).append(request_type)
    return " and ".join(f"{_either(of)} with {_priorities(words)}" for words, of in types.items())


@dataclass(frozen=True, slots=True)
class Routing:
    """Rules, of which the first that matches a ticket names its team."""

    rules: tuple[Rule, ...]

    def assignments(self) -> dict[Kind, str]:
        """Return the team of each kind of ticket.

        Rules that assign the same are the same rules, however they are written. A kind is missing only if they are of a
        release that did not know it.
        """
        return {kind: self.rules[place].team for kind, place in first_matches(self.rules).items()}

    @property
    def teams(self) -> tuple[str, ...]:
        """All teams, each once, in the order of the rules."""
        return tuple(dict.fromkeys(rule.team for rule in self.rules))

    def changes(self, later: "Routing") -> dict[tuple[str | None, str], list[Kind]]:
        """Return which kinds of tickets go to another team by ``later``, by the two teams."""
        before = self.assignments()
        moved: dict[tuple[str | None, str], list[Kind]] = {}
        for kind, team in later.assignments().items():
            if team != before.get(kind):
                moved.setdefault((before.get(kind), team), []).append(kind)
        return moved


DEFAULT = Routing(tuple(Rule(team, (request_type,)) for request_type, team in TEAMS.items()))
