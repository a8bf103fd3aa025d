"""The events and fields in docs/logs.md are those of the code."""

import importlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import get_type_hints

import pytest

import processor.events
import processor.progress
import producer.events
import runtime.process.events
from runtime.process.logs import Event, configure_logging, tell
from runtime.settings.setting import ROOT
from tests.support import documents

LOGS = "docs/logs.md"
TYPES = {
    str: "text",
    str | None: "text or null",
    int: "number",
    float: "number",
    float | None: "number or null",
    dict[str, int]: "object",
}
SECTIONS = {"runtime": "Of both services", "processor": "Of the processor", "producer": "Of the producer"}


def events() -> list[type[Event]]:
    """Return every event that a module of ours defines."""
    found = []
    for path in (path for part in SECTIONS for path in sorted((ROOT / part).rglob("*.py"))):
        if "(Event)" in path.read_text(encoding="utf-8"):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            kinds = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Event)]
            found += [kind for kind in kinds if kind.__module__ == module.__name__]
    assert len(found) > 20
    return found


def values(kind: type[Event]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field that a JSON log has, and its type."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if not field.name.startswith("_"):
            yield field.name, TYPES[hints[field.name]]


def test_every_event_is_documented_with_its_level_and_its_fields() -> None:
    documented = [
        (section, name, level, tuple(given.replace("`", "").split()))
        for section in SECTIONS.values()
        for name, level, _, given in documents.table(documents.section(documents.read(LOGS), section))
    ]
    in_the_code = [
        (
            SECTIONS[kind.__module__.partition(".")[0]],
            kind.name,
            logging.getLevelName(kind.level),
            tuple(name for name, _ in values(kind)),
        )
        for kind in events()
    ]
    assert sorted(documented) == sorted(in_the_code)


def test_every_field_is_documented_once_with_its_type_and_takes_no_name_of_the_line() -> None:
    rows = documents.table(documents.section(documents.read(LOGS), "Fields"))
    documented = {name: kind for name, kind, _ in rows}
    in_the_code: dict[str, set[str]] = {}
    for kind in events():
        for name, of_type in values(kind):
            in_the_code.setdefault(name, set()).add(of_type)
    assert len(rows) == len(documented)
    assert {name: max(kinds, key=len) for name, kinds in in_the_code.items()} == documented
    assert not {"time", "level", "logger", "message", "event", "traceback"} & set(documented)


def test_the_line_in_the_document_is_what_a_json_log_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    published = processor.events.Published("data/output", 3, 1_000, 990, 10, 0, 0, 1.20449, 250)
    tell(logging.getLogger("processor.processor"), published)
    line = json.loads(capsys.readouterr().err)
    (shown,) = documents.code_blocks(documents.read(LOGS), "json")
    documented = json.loads(shown)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert list(line.items())[1:] == list(documented.items())[1:]


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            processor.events.Published("out", 12, 15, 8, 1, 3, 3, 0.44, 2_000),
            "batch 12: 15 messages read, 8 tickets, 1 rejected, 3 duplicates, 3 of forgotten clients left out, "
            "published in 0.4 s in out, lag 2,000",
        ),
        (processor.events.Idle("client_tickets", 0), "nothing new in topic client_tickets, lag 0"),
        (
            processor.events.RejectedRetried(1_204, 1_000, 4, 150, 50),
            "1,204 rejected messages were decoded again: 1,000 are valid now and were published, 150 repeat the "
            "ticket_id of another and are rejected as duplicates, 50 of forgotten clients are left out, 4 are still "
            "rejected; --list-rejected shows why",
        ),
        (
            processor.events.Windowed("from latest", "tickets", "latest", None, 1_500),
            "topic tickets is read from latest: 1,500 offsets are there now",
        ),
        (processor.progress.Reading(1, 500, 1_000), "batch 1: 500 of 1,000 messages"),
        (runtime.process.events.Retry("the broker is away", 5.0), "the broker is away; trying again in 5 s"),
        (
            producer.events.BadRowsLeftOut(1_200, {"priority": 1_000, "client_id": 200}),
            "1,200 bad rows were left out: priority 1,000, client_id 200. To send them too, correct the flags, remove "
            "the state and start again: the ids stay the same",
        ),
        (
            producer.events.BadRowsLeftOut(1, {"priority": 1}),
            "1 bad row was left out: priority 1. To send it too, correct the flags, remove the state and start again: "
            "the ids stay the same",
        ),
        (
            producer.events.GoingOn(1, "data/sources/crm.json"),
            "going on after the 1 ticket that data/sources/crm.json counts as sent",
        ),
    ],
)
def test_the_text_log_keeps_its_sentences(event: Event, sentence: str) -> None:
    assert str(event) == sentence
