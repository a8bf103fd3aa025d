"""What docs/faults.md says is proved, is: by tests that exist, with the exit codes and the messages of the code."""

import ast
import re

import pytest

from runtime import errors
from runtime.settings.setting import ROOT
from tests.support import documents

FAULTS = documents.read("docs/faults.md")
ROWS = documents.table(documents.section(FAULTS, "What is proved"))
REFERENCE = r"(tests/[\w/]+\.py)::(test_\w+)"
NAMED = re.findall(f"`{REFERENCE}`", FAULTS)


def functions_of(path: str) -> set[str]:
    """Return the names of the test functions in a file; nothing when there is no such file."""
    file = ROOT / path
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if file.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_says_what_happens_what_is_seen_and_what_proves_it() -> None:
    assert len(ROWS) > 40
    for happens, seen, proof in ROWS:
        assert happens
        assert seen
        for test in proof.split("<br>"):
            assert re.fullmatch(REFERENCE, test.strip("`")), happens


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 80
    assert [f"{path}::{name}" for path, name in NAMED if name not in functions_of(path)] == []


def test_what_is_not_proved_names_no_test_and_says_what_is_missing() -> None:
    entries = re.split(r"^- ", documents.section(FAULTS, "Not proved yet"), flags=re.MULTILINE)[1:]
    assert len(entries) > 2
    assert [entry for entry in entries if "::" in entry or "Missing:" not in " ".join(entry.split())] == []


@pytest.mark.parametrize("pattern", ["tests/faults/test_*.py", "tests/integration/test_processor_[cs]*.py"])
def test_every_file_of_fault_tests_is_named(pattern: str) -> None:
    files = {str(file.relative_to(ROOT)) for file in ROOT.glob(pattern)}
    assert len(files) > 1
    assert files <= {path for path, _ in NAMED}


def test_the_exit_codes_are_those_of_the_errors() -> None:
    named = {int(code) for code in re.findall(r"\b[Ee]xit\s+code (\d+)", FAULTS)}
    # 0 and 1 belong to no expected error.
    assert named == {0, 1, *(error.exit_code for error in errors.PipelineError.__subclasses__())}


def test_every_message_in_the_table_is_one_that_the_code_writes() -> None:
    messages = {text for _, seen, _ in ROWS for text in documents.inline_code(seen) if " " in text}
    written = list(documents.strings_of_the_code())
    assert len(messages) > 25
    assert {text for text in messages if not any(text in string for string in written)} == {
        # Commands, not messages.
        "docker-compose up -d",
        "make chaos MINUTES=30",
    }
