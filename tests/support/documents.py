"""Parse the documents of the repository, for the tests that keep them correct."""

import ast
import re
from collections.abc import Iterator

from runtime.settings.setting import ROOT

# The top folders that hold our code.
PARTS = ("contract", "store", "runtime", "producer", "processor", "embedded", "dashboard", "doctor")

NAMES = (
    "README.md",
    "README.fr.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/compose.md",
    "docs/dashboard.md",
    "docs/doctor.md",
    "docs/faults.md",
    "docs/glossary.md",
    "docs/guarantees.md",
    "docs/logs.md",
    "docs/manifest.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/routing.md",
    "docs/reading.md",
    "docs/services.md",
    "docs/settings.md",
    "docs/sources.md",
    "docs/ticket.md",
    "docs/troubleshooting.md",
    "docs/walkthrough.md",
)

_CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")


def read(name: str) -> str:
    """Return the text of a document."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return the text between the heading ``title`` and the next one of the same or a higher level."""
    heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert heading, f"no heading {title!r}"
    rest = text[heading.end() :]
    following = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def code_blocks(text: str, language: str = "") -> list[str]:
    """Return the contents of the code blocks in ``language``; by default those without a language: commands."""
    return [block for kind, block in _CODE_BLOCK.findall(text) if kind == language]


def commands(text: str) -> list[str]:
    """Return the commands in the code blocks, without their comments; one over several lines is one command."""
    blocks = (block.replace("\\\n", " ") for block in code_blocks(text))
    lines = (line.partition("  #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def inline_code(text: str) -> list[str]:
    """Return everything between single backticks."""
    return _INLINE_CODE.findall(_CODE_BLOCK.sub("", text))


def anchors(text: str) -> set[str]:
    """Return the anchors under which links reach the headings."""
    headings = re.findall(r"^#+ (.+)$", _CODE_BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def table(text: str) -> list[list[str]]:
    """Return the cells of the rows of the tables in ``text``, without the headings; code without its backticks."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    rules = {number for number, row in enumerate(rows) if set(row) <= set("|- ")}
    return [
        [re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in row.strip("|").split("|")]
        for number, row in enumerate(rows)
        if number not in rules and number + 1 not in rules
    ]


def strings_of_the_code() -> Iterator[str]:
    """Yield the string literals in our code; an f-string yields the pieces between its values."""
    for part in PARTS:
        for text in code_of(part):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def code_of(part: str) -> list[str]:
    """Return the text of each module in a top folder and below it."""
    return [file.read_text(encoding="utf-8") for file in sorted((ROOT / part).rglob("*.py"))]
