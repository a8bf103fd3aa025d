"""The ticket as it travels on the topic: one JSON object, UTF-8.

``decode(encode(ticket)) == ticket`` for every valid ticket; anything else is rejected with a reason that names the
field. Unknown fields are ignored. If a field is given more than once, the last one counts, and all must be right.
"""

import codecs
import re
from datetime import UTC, datetime
from itertools import accumulate
from typing import Annotated, Any, Literal, get_args

import msgspec

RequestType = Literal["account", "billing", "technical", "general"]
Priority = Literal["low", "medium", "high", "critical"]

REQUEST_TYPES: tuple[RequestType, ...] = get_args(RequestType)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
# The priorities of the tickets in high_priority_tickets.
URGENT: tuple[Priority, ...] = ("high", "critical")

MAX_CLIENT_ID_CHARACTERS = 64
MAX_REQUEST_CHARACTERS = 10_000

# msgspec nests as deep as the stack of its caller allows. Whether a message is a ticket must not depend on the caller,
# so a fixed limit, far below that, is checked first.
MAX_NESTING = 500

UUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"

# The times that datetime, Arrow and every reader can hold after conversion to UTC.
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


class InvalidTicket(ValueError):
    """A message that is not a ticket; the text is the reason that users read in ``rejected_messages``."""


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """A support request of one client. ``created_at`` has a time zone; all strings are kept unchanged."""

    ticket_id: Annotated[str, msgspec.Meta(pattern=UUID_PATTERN)]
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CLIENT_ID_CHARACTERS)]
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    request: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REQUEST_CHARACTERS)]
    request_type: RequestType
    priority: Priority


FIELDS: tuple[str, ...] = Ticket.__struct_fields__

encode = msgspec.json.Encoder().encode
_decode_ticket = msgspec.json.Decoder(Ticket).decode
# A number that is too large for a float is still valid JSON.
_decode_anything = msgspec.json.Decoder(float_hook=float).decode


def decode(message: bytes | None) -> Ticket:
    """Return the ticket in ``message``, the value of one record (None for a tombstone).

    Raises InvalidTicket with the reason, and nothing else, whatever the bytes are.
    """
    if message is None:
        raise InvalidTicket("no value (a tombstone)")
    if _is_nested_too_deeply(message):
        raise InvalidTicket(f"nested too deeply: more than {MAX_NESTING} levels")
    try:
        ticket = _decode_ticket(message)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidTicket(_reason(message) or str(error)) from None
    if not EARLIEST <= ticket.created_at <= LATEST:
        raise InvalidTicket("created_at: in UTC it lies outside the years 0001 to 9999")
    return ticket


def _is_nested_too_deeply(message: bytes) -> bool:
    """Whether arrays and objects are nested more than MAX_NESTING deep."""
    if message.count(b"{") + message.count(b"[") <= MAX_NESTING:
        return False
    brackets = re.sub(rb"[^][{}]+", b"", _STRING.sub(b"", message))
    depths = accumulate(1 if bracket in b"{[" else -1 for bracket in brackets)
    return max(depths, default=0) > MAX_NESTING


def kind_of(reason: str) -> str:
    """Return a reason without what was found and where: then there are few kinds, and none holds user data."""
    return _FOUND.split(reason, maxsplit=1)[0]


def _reason(message: bytes) -> str | None:
    """Return what is wrong with a message that failed to decode; None if each of its parts is right."""
    if not message.strip():
        return "empty message"
    for beginning, reason in _BEGINNINGS:
        if message.startswith(beginning):
            return reason
    try:
        content = _decode_anything(message)
    except UnicodeDecodeError:
        return "not UTF-8"
    except msgspec.DecodeError as error:
        return _half_character(message) or f"not JSON: {error}"
    if isinstance(content, str) and content.lstrip().startswith("{"):
        return "encoded twice: a JSON string that holds a JSON object"
    if not isinstance(content, dict):
        return f"not a JSON object, found {_describe(content)}"
    missing = [name for name in FIELDS if name not in content]
    if missing:
        return f"missing field: {', '.join(missing)}"
    found = next((problem for name in FIELDS if (problem := _field_problem(name, content[name]))), None)
    return found or next((problem for name in FIELDS if (problem := _earlier_problem(name, message))), None)


def _half_character(message: bytes) -> str | None:
    """Return the reason if a message would be JSON but for a lone surrogate; it names the first one.

    msgspec reports some of these messages as truncated, because it looks for the other half after their end.
    """
    half = next((escape for escape in _ESCAPE.finditer(message) if escape["half"]), None)
    if half is None:
        return None
    try:
        _decode_anything(_ESCAPE.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], message))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return f"not Unicode: half of a surrogate pair, found {half[0].decode()} (byte {half.start()})"


def _field_problem(name: str, value: Any) -> str | None:
    try:
        msgspec.convert(value, _FIELD_TYPES[name])
    except msgspec.ValidationError:
        return f"{name}: {_FIELD_RULES[name]}, found {_describe(value)}"
    return None


def _earlier_problem(name: str, message: bytes) -> str | None:
    """Return the reason if a field is given more than once, and wrong in a place that does not count."""
    try:
        _DECODE_ALONE[name](message)
    except msgspec.MsgspecError:
        return f"{name}: {_FIELD_RULES[name]}, wherever it is given"
    return None


def _describe(value: Any) -> str:
    """Describe a JSON value in a few words: short scalars unchanged, everything else by its kind and size."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return "a number"
        case str() if len(value) > MAX_QUOTED_CHARACTERS:
            return f"{len(value):,} characters"
        case str():
            return msgspec.json.encode(value).decode()
        case list():
            return "an array"
        case _:
            return "an object"


MAX_QUOTED_CHARACTERS = 60

# Beginnings that show another encoding, or a wrapper around the JSON. Longer beginnings come first.
_BEGINNINGS = (
    (codecs.BOM_UTF8, "not JSON: it begins with a byte order mark"),
    (codecs.BOM_UTF32_LE, "not UTF-8 but UTF-32"),
    (codecs.BOM_UTF32_BE, "not UTF-8 but UTF-32"),
    (codecs.BOM_UTF16_LE, "not UTF-8 but UTF-16"),
    (codecs.BOM_UTF16_BE, "not UTF-8 but UTF-16"),
    (b"{\0\0\0", "not UTF-8 but UTF-32"),
    (b"\0\0\0{", "not UTF-8 but UTF-32"),
    (b"{\0", "not UTF-8 but UTF-16"),
    (b"\0{", "not UTF-8 but UTF-16"),
    # The wire format of Confluent's registry: a zero byte, the id of the schema in four bytes, the content.
    (b"\0", "not JSON: it begins with a zero byte, as the messages of a schema registry do"),
)

_FOUND = re.compile(r", found | \(byte ")

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)

# A pair of surrogates, one without the other, or any other escape.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

_FIELD_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Ticket)}
_FIELD_RULES = {
    "ticket_id": "must be a UUID such as 3e476c38-2a7f-4d89-a08f-9e5f60456fa3",
    "client_id": f"must be a string of 1 to {MAX_CLIENT_ID_CHARACTERS} characters",
    "created_at": "must be an RFC 3339 time with a zone such as 2026-01-31T09:30:00Z",
    "request": f"must be a string of 1 to {MAX_REQUEST_CHARACTERS:,} characters",
    "request_type": f"must be one of {', '.join(REQUEST_TYPES)}",
    "priority": f"must be one of {', '.join(PRIORITIES)}",
}
_DECODE_ALONE = {
    name: msgspec.json.Decoder(msgspec.defstruct("Alone", [(name, kind)])).decode for name, kind in _FIELD_TYPES.items()
}
