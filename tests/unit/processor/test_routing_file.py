"""The file of ROUTING_FILE: what its rules are, and what is said of one that cannot be used."""

import sys
from pathlib import Path

import pytest

from contract.routing import DEFAULT, Routing, Rule
from processor.routing_file import MOST_CHARACTERS, parse_routing
from processor.spark_processor import main
from runtime.errors import SettingError
from runtime.settings.setting import ROOT
from tests.support import documents

PATH = Path("/etc/tickets/routing.toml")

ALL = '[[rule]]\nteam = "Desk"\n'

LIKE_THE_DEFAULT = """\
[[rule]]
team = "General Support"
request_type = "general"
[[rule]]
team = "Technical Support"
request_type = ["technical"]
priority = ["critical", "low", "high", "medium"]
[[rule]]
team = "Billing Team"
request_type = "billing"
[[rule]]
team = "Account Management"
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_rules_are_read_in_their_order_with_the_line_in_which_each_begins(newline: str) -> None:
    text = '''\
# [[rule]] in a comment is none

[[rule]]  # this one is
team = """\\
  [[rule]]"""
priority = [
    "critical", # [[rule]]
    "high",
]
request_type = "billing"

  [["rule"]]
team = "N\\u00e4chte"
'''
    found = parse_routing(PATH, text.replace("\n", newline))
    assert found.routing == Routing((Rule("[[rule]]", ("billing",), ("high", "critical")), Rule("Nächte")))
    assert found.lines == (3, 12)


def test_rules_may_be_a_list_of_one_statement() -> None:
    found = parse_routing(PATH, '\nrule = [\n  {team = "A", priority = "low"},\n  {team = "B"},\n]')
    assert found.routing == Routing((Rule("A", priority=("low",)), Rule("B")))
    assert found.lines == (2, 2)


def test_a_file_that_says_what_the_default_says_is_the_same_rules() -> None:
    found = parse_routing(PATH, LIKE_THE_DEFAULT).routing
    assert found != DEFAULT
    assert found.assignments() == DEFAULT.assignments()


def test_the_example_in_the_documents_can_be_used() -> None:
    path = ROOT / "docs/routing.toml"
    teams = parse_routing(path, path.read_text(encoding="utf-8")).routing.assignments()
    assert teams["technical", "critical"] == "Incident Desk"
    assert teams["billing", "critical"] == "Duty Manager"
    assert teams["account", "high"] == teams["billing", "low"] == "Account Management"
    assert teams["general", "high"] == teams["technical", "medium"] == "Support"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'line 1: found no rule; write [[rule]] on one line, and team = "…" on the next'),
        ("# nothing\n\n", 'line 1: found no rule; write [[rule]] on one line, and team = "…" on the next'),
        ("\n[[rule]]\npriority = 'low'", 'line 2: this rule names no team; add team = "…" to it'),
        # TOML that is none.
        ("[[rule]]\nteam Desk\n", "line 2: this is not TOML: "),
        ('[[rule]]\nteam = "Desk\n', "line 2: this is not TOML: "),
        ('[[rule]]\nteam = """Desk\n\n\n', "line 2: this is not TOML: "),
        (f'{ALL}priority = ["low",\n[[rule]]\nteam = "x"\n', "line 3: this is not TOML: "),
        (f'{ALL}\n\nteam = "x"\n# and so on\n', "line 5: this is not TOML: "),
        (f"{ALL}[rule]\n", "line 3: this is not TOML: "),
        ("# \x01", "line 1: this is not TOML: "),
        (f"{ALL}x = {'[' * 10_000}", "line 3: this is not TOML: it is nested too deeply"),
        (f"{ALL}x = {'9' * 10_000}", "line 3: this is not TOML: "),
        # What a routing file does not hold.
        (
            "[[rules]]\nteam = 'x'",
            "line 1: unknown 'rules'; a routing file holds rules only, and each begins with [[ru",
        ),
        (f"# x\nteam = 'x'\n{ALL}", "line 2: unknown 'team'; a routing file holds rules only, and each begins with"),
        (f"{ALL}[other]\n", "line 3: unknown 'other'; a routing file holds rules only, and each begins with [[rule]]"),
        (
            "\n[rule]\nteam = 'x'",
            "line 2: each rule must begin with [[rule]], in two pairs of brackets, found {'team': ",
        ),
        ("rule = [1]", "line 1: each rule must begin with [[rule]], in two pairs of brackets, found [1]"),
        # Keys of a rule.
        (f"{ALL}type = 'low'", "line 3: unknown key 'type'; a rule has the keys team, request_type, priority"),
        (
            f"{ALL}Priority = 'low'",
            "line 3: unknown key 'Priority'; a rule has the keys team, request_type, priority; did you mean priority?",
        ),
        (f"{ALL}\n[rule.x]\ny = 1", "line 4: unknown key 'x'; a rule has the keys team, request_type, priority"),
        (f"{ALL}\nx.y = 1", "line 4: unknown key 'x'; a rule has the keys team, request_type, priority"),
        # Teams.
        ("[[rule]]\nteam = ''", "line 2: team must be the name of a team, without spaces at its ends, found ''"),
        ("[[rule]]\nteam = ' x'", "line 2: team must be the name of a team, without spaces at its ends, found ' x'"),
        ("[[rule]]\n\nteam = 7", "line 3: team must be the name of a team, without spaces at its ends, found 7"),
        (
            '[[rule]]\nteam = "\\u200b"',
            "line 2: team must be the name of a team, without spaces at its ends, found '\\u200b'",
        ),
        (
            '[[rule]]\nteam = "a\\u001b[31mb"',
            "line 2: team must be text in UTF-8 without control characters, found 'a\\x1b[31mb'",
        ),
        ("[[rule]]\nteam = '''a\nb'''", "line 2: team must be text in UTF-8 without control characters, found 'a\\nb'"),
        # Request types and priorities.
        (
            f"{ALL}request_type = 'Billing'",
            "line 3: request_type must be one of account, billing, technical, general, found 'Billing'; did you mean "
            "billing?",
        ),
        (
            f"{ALL}priority = ['low',\n'urgent']",
            "line 3: priority must be one of low, medium, high, critical, found 'u",
        ),
        (f"{ALL}priority = ['low', 3]", "line 3: priority must be one of low, medium, high, critical, found 3"),
        (
            f"{ALL}\npriority = []",
            "line 4: priority must be one of low, medium, high, critical, or several of them in brackets, found []; "
            "without it the rule is for all",
        ),
        (
            f"{ALL}priority = true",
            "line 3: priority must be one of low, medium, high, critical, or several of them in b",
        ),
        # Rules that say too much or too little.
        (
            f"{ALL}\n[[rule]]\nteam = 'x'",
            "line 4: the rule for 'x' can never match: the first rule that matches wins, and all of its tickets go to "
            "rules before it (line 1); move it before them, or remove it",
        ),
        (
            "[[rule]]\nteam = 'a'\npriority = 'low'\n[[rule]]\nteam = 'b'\npriority = 'high'\n"
            f"[[rule]]\nteam = 'c'\nrequest_type = 'general'\npriority = ['high', 'low']\n{ALL}",
            "line 7: the rule for 'c' can never match: the first rule that matches wins, and all of its tickets go to "
            "rules before it (lines 1 and 4); move it before them, or remove it",
        ),
        (
            "[[rule]]\nteam = 'a'\npriority = ['low', 'medium', 'high']\n"
            "[[rule]]\nteam = 'b'\nrequest_type = ['billing', 'account']\n",
            "line 4: this is the last rule, and none is for technical or general with critical priority; add rules for "
            'them below it; one with nothing but team = "…" takes all that is left',
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_file_and_line(text: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_routing(PATH, text)
    assert str(caught.value).startswith(f"{PATH}, {said}")
    assert caught.value.exit_code == 2


def test_the_first_of_several_errors_is_told() -> None:
    with pytest.raises(SettingError, match=f"^{PATH}, line 4: this is not TOML: "):
        parse_routing(PATH, f"{ALL}# x\nteam = 'y'\nteam = 'z'\nx = [\n")


def test_another_file_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(SettingError) as caught:
        parse_routing(PATH, "[" * (MOST_CHARACTERS + 1))
    said = f"{PATH} must be a file of routing rules with at most 16,384 characters, found 16,385"
    assert str(caught.value) == said


def explained(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    return main(["--explain", *argv]), capfd.readouterr().out


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUTING_FILE", raising=False)


def test_the_default_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    said = "Technical Support\nrule 3 of 4 (the default rules): technical with any priority\n"
    assert explained(capfd, "technical", "low") == (0, said)


def test_a_file_is_explained_by_rule_and_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "docs/routing.toml"
    expected = (
        f"Incident Desk\nrule 1 of 4 ({path}, line 4): technical with high or critical priority\n",
        f"Duty Manager\nrule 2 of 4 ({path}, line 10): any request type with critical priority\n",
        f"Support\nrule 4 of 4 ({path}, line 19): any request type with any priority\n",
    )
    assert explained(capfd, "technical", "critical", "--routing-file", str(path)) == (0, expected[0])
    monkeypatch.setenv("ROUTING_FILE", str(path))
    assert explained(capfd, "account", "critical") == (0, expected[1])
    assert explained(capfd, "general", "low") == (0, expected[2])


def test_a_team_is_printed_whatever_the_encoding_of_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "routing.toml", tmp_path / "out"
    path.write_text('[[rule]]\nteam = "Équipe ☎"\n', encoding="utf-8")
    with out.open("w", encoding="latin-1") as latin:
        monkeypatch.setattr(sys, "stdout", latin)
        assert main(["--explain", "billing", "low", "--routing-file", str(path)]) == 0
    assert out.read_text(encoding="utf-8").startswith("Équipe ☎\nrule 1 of 1 (")


def test_the_document_shows_the_example_and_what_is_said_of_it(capfd: pytest.CaptureFixture[str]) -> None:
    text = documents.read("docs/routing.md")
    path = ROOT / "docs/routing.toml"
    assert documents.code_blocks(text, "toml") == [path.read_text(encoding="utf-8")]
    _, out = explained(capfd, "billing", "critical", "--routing-file", str(path))
    assert documents.code_blocks(text, "text") == [out.replace(str(ROOT), "…")]
    assert f"{MOST_CHARACTERS:,} characters" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("biling", "low"),
            "--explain must have a request_type that is one of account, billing, technical, general, found 'biling low",
        ),
        (("low", "billing"), "--explain must have a request_type that is one of account, billing, technical, general"),
        (("billing", "urgent"), "--explain must have a priority that is one of low, medium, high, critical, found 'bi"),
        (("billing low", "x"), "--explain must be a request type and a priority, e.g. billing high, found 'billing lo"),
        (
            ("billing", ""),
            "--explain must have a priority that is one of low, medium, high, critical, found 'billing '",
        ),
        (
            ("billing", "low", "--routing-file", "/nowhere"),
            "--routing-file must name a file that can be read, found '/",
        ),
        (
            ("billing", "low", "--routing-file", "/tmp"),
            "--routing-file must name a file that can be read, found '/tmp'",
        ),
    ],
)
def test_what_cannot_be_explained_is_a_usage_error(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, argv: tuple[str, ...], said: str
) -> None:
    assert explained(capfd, *argv) == (2, "")
    assert caplog.messages[0].startswith(said)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[[rule]]\nteam = 'N\xe4chte'", " must be in UTF-8, found the byte 0xe4 in line 2"),
        ("[[rule]]\nteam = 'x'".encode("utf-16"), " must be in UTF-8, found UTF-16 or another encoding"),
        (
            b"[[rule]]\nteem = 'x'",
            ", line 2: unknown key 'teem'; a rule has the keys team, request_type, priority; did ",
        ),
        (b"\xef\xbb\xbf[[rule]]\npriority = 'x'", ", line 1: this rule names no team"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_setting_error_wherever_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes, said: str
) -> None:
    path = tmp_path / "routing.toml"
    path.write_bytes(raw)
    assert main(["--explain", "billing", "low", "--routing-file", str(path)]) == 2
    assert main(["--routing-file", str(path)]) == 2
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == caplog.messages[1]
    assert caplog.messages[0].startswith(f"{path}{said}")
