"""The JSON Schema agrees with the decoder, except for rules that a schema cannot express."""

import json
import re
from collections.abc import Sequence
from typing import Any

import jsonschema_rs
from hypothesis import given

from contract.schema import schema
from contract.ticket import InvalidTicket, decode
from runtime.settings.setting import ROOT
from tests.support import golden, hostile

FILE = ROOT / "contract/ticket.schema.json"
VALIDATOR = jsonschema_rs.Draft202012Validator(json.loads(FILE.read_bytes()))


class NotOneObject(ValueError):
    """JSON of which a schema sees only a part, such as a key that is given twice."""


def test_the_file_is_what_follows_from_the_type() -> None:
    assert json.loads(FILE.read_bytes()) == schema(), "run: make schema"


def test_every_golden_ticket_is_valid() -> None:
    assert [message for message in golden.tickets() if not VALIDATOR.is_valid(json.loads(message))] == []


def test_the_schema_rejects_what_the_decoder_rejects_except_what_its_descriptions_name() -> None:
    unsaid = set()
    for entry in golden.rejected():
        try:
            value = parsed(entry.message)
        except (ValueError, RecursionError):
            continue
        if VALIDATOR.is_valid(value):
            unsaid.add(entry.name)
    assert unsaid == {"created_at after year 9999 in UTC", "created_at before year 1 in UTC"}


@given(hostile.batches())
def test_both_say_the_same_of_hostile_messages(messages: list[bytes | None]) -> None:
    for message in messages:
        try:
            value = parsed(message)
        except (ValueError, RecursionError):
            continue
        assert VALIDATOR.is_valid(value) == (is_ticket(message) or is_beyond_a_pattern(message)), message


def is_ticket(message: bytes | None) -> bool:
    try:
        decode(message)
    except InvalidTicket:
        return False
    return True


def is_beyond_a_pattern(message: bytes | None) -> bool:
    """Whether a message is rejected only for a time that the pattern of created_at cannot exclude."""
    try:
        decode(message)
    except InvalidTicket as error:
        if "in UTC it lies outside the years 0001 to 9999" in str(error):
            return True
        moment = re.search(r'found "(\d{4})-02-29[Tt ]', str(error))
        return (
            moment is not None and not is_leap(int(moment[1])) and VALIDATOR.is_valid(parsed(in_a_leap_year(message)))
        )
    return False


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def in_a_leap_year(message: bytes | None) -> bytes:
    return re.sub(rb"\d{4}-02-29", b"2024-02-29", message or b"")


def parsed(message: bytes | None) -> Any:
    """Return the JSON value in a message. Raises ValueError if a schema would see only a part of it."""
    value = json.loads((message or b"").decode(), object_pairs_hook=_once, parse_constant=_refuse)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _once(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(members)) < len(members):
        raise NotOneObject
    return dict(members)


def _refuse(constant: str) -> None:
    raise NotOneObject
