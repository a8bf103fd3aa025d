"""Which rule serves which ticket."""

from contract.routing import DEFAULT, KINDS, TEAMS, Routing, Rule, first_matches, tell_kinds

URGENT = Rule("Night Shift", ("technical", "billing"), ("high", "critical"))
CRITICAL = Rule("Managers", priority=("critical",))
REST = Rule("Desk")


def test_there_are_sixteen_kinds_of_tickets() -> None:
    assert len(KINDS) == 16
    assert KINDS[:5] == (
        ("account", "low"),
        ("account", "medium"),
        ("account", "high"),
        ("account", "critical"),
        ("billing", "low"),
    )


def test_by_default_every_request_type_has_its_team() -> None:
    assert DEFAULT.teams == ("Account Management", "Billing Team", "Technical Support", "General Support")
    assert DEFAULT.assignments() == {kind: TEAMS[kind[0]] for kind in KINDS}


def test_the_first_rule_that_matches_wins() -> None:
    found = first_matches([URGENT, CRITICAL, REST])
    assert {kind: found[kind] for kind in KINDS if kind[0] in ("technical", "account")} == {
        ("technical", "low"): 2,
        ("technical", "medium"): 2,
        ("technical", "high"): 0,
        ("technical", "critical"): 0,
        ("account", "low"): 2,
        ("account", "medium"): 2,
        ("account", "high"): 2,
        ("account", "critical"): 1,
    }
    assert Routing((CRITICAL, URGENT, REST)).assignments()["technical", "critical"] == "Managers"


def test_a_rule_that_never_matches_and_a_kind_that_no_rule_matches_are_told_by_what_is_missing() -> None:
    assert set(first_matches([REST, URGENT]).values()) == {0}
    assert first_matches([URGENT, CRITICAL]).keys() == {
        *(("technical", priority) for priority in ("high", "critical")),
        *(("billing", priority) for priority in ("high", "critical")),
        *((request_type, "critical") for request_type in ("account", "general")),
    }


def test_what_goes_elsewhere_by_later_rules_is_told_by_the_two_teams() -> None:
    later = Routing((Rule("Billing Team", ("general",), ("low",)), URGENT, *DEFAULT.rules))
    assert DEFAULT.changes(later) == {
        ("Billing Team", "Night Shift"): [("billing", "high"), ("billing", "critical")],
        ("Technical Support", "Night Shift"): [("technical", "high"), ("technical", "critical")],
        ("General Support", "Billing Team"): [("general", "low")],
    }
    before = Routing(DEFAULT.rules[1:])
    assert before.changes(DEFAULT) == {(None, "Account Management"): list(KINDS[:4])}
    reworded = Routing((*reversed(DEFAULT.rules[1:]), Rule("Account Management")))
    assert (reworded.assignments(), DEFAULT.changes(reworded)) == (DEFAULT.assignments(), {})


def test_rules_and_kinds_are_told_in_words() -> None:
    assert URGENT.conditions() == "technical or billing with high or critical priority"
    assert Rule("T", ("account",), ("low", "medium", "high")).conditions() == (
        "account with low, medium or high priority"
    )
    assert CRITICAL.conditions() == "any request type with critical priority"
    assert REST.conditions() == "any request type with any priority"
    assert tell_kinds(KINDS[:6]) == "account with any priority and billing with low or medium priority"
    assert tell_kinds([("account", "low"), ("billing", "low"), ("general", "high")]) == (
        "account or billing with low priority and general with high priority"
    )
