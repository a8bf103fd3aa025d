"""README.fr.md says what README.md says: the same headings, commands, code, tables and links, in the same order."""

import re

from tests.support import documents

ENGLISH = documents.read("README.md")
FRENCH = documents.read("README.fr.md")

# A new heading needs its translation here and in README.fr.md.
HEADINGS = {
    "# Client tickets": "# Tickets clients",
    "## Start": "## Démarrer",
    "## What you get": "## Ce que vous obtenez",
    "## Read it": "## Lire les données",
    "### Parquet": "### Parquet",
    "### JSON": "### JSON",
    "## The services by hand": "## Lancer les services à la main",
    "## Where to go on": "## Pour aller plus loin",
}


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ .+$", text, re.MULTILINE)


def links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)]+)\)", text) if link not in {"README.md", "README.fr.md"}]


def test_the_headings_are_the_same_in_the_same_order() -> None:
    assert headings(ENGLISH) == list(HEADINGS)
    assert headings(FRENCH) == list(HEADINGS.values())


def test_the_commands_and_the_code_are_the_same() -> None:
    for title, translation in HEADINGS.items():
        ours = documents.section(ENGLISH, title.lstrip("# "))
        theirs = documents.section(FRENCH, translation.lstrip("# "))
        for language in ("", "python"):
            assert documents.code_blocks(ours, language) == documents.code_blocks(theirs, language), title


def test_what_stands_in_code_is_named_as_often_in_each_section() -> None:
    for title, translation in HEADINGS.items():
        ours = documents.inline_code(documents.section(ENGLISH, title.lstrip("# ")))
        theirs = documents.inline_code(documents.section(FRENCH, translation.lstrip("# ")))
        assert sorted(ours) == sorted(theirs), title


def test_the_tables_have_the_same_rows_and_the_links_lead_to_the_same_places() -> None:
    for title, translation in HEADINGS.items():
        ours = documents.section(ENGLISH, title.lstrip("# "))
        theirs = documents.section(FRENCH, translation.lstrip("# "))
        assert len(documents.table(ours)) == len(documents.table(theirs)), title
        assert links(ours) == links(theirs), title


def test_each_leads_to_the_other() -> None:
    assert "[Français](README.fr.md)" in ENGLISH
    assert "[English](README.md)" in FRENCH


def test_no_line_can_break_inside_a_number_or_before_a_sign_that_french_sets_apart() -> None:
    prose = re.sub(r"```.*?```|`[^`\n]+`", "", FRENCH, flags=re.DOTALL)
    assert re.findall(r"\S+ [:;?!](?=\s)|\d \d{3}\b", prose) == []
    assert "2\N{NARROW NO-BREAK SPACE}000 tickets" in prose
