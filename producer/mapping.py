"""Turn a row of a source into a ticket. Pure: the same row and rules give the same ticket."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache
from typing import Any

from contract.ticket import FIELDS, PRIORITIES, REQUEST_TYPES, UUID_PATTERN, InvalidTicket, Ticket, decode, encode
from producer.dates import instant
from producer.ticket import Message, Row

CHOICES: dict[str, tuple[str, ...]] = {"request_type": REQUEST_TYPES, "priority": PRIORITIES}


class BadRow(ValueError):
    """A row that is not a ticket; its text begins with the field."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The flags: ``columns`` maps field → column, ``values`` (field, found) → value, ``defaults`` field → value.

    ``found`` and the values of type and priority are compared without regard to case and surrounding spaces. ``name``
    is the namespace of ids. ``numbered``: a row may lack an id, because its row number never changes.
    """

    name: str
    columns: Mapping[str, str]
    values: Mapping[tuple[str, str], str]
    defaults: Mapping[str, str]
    date_order: str | None = None
    zone: tzinfo = UTC
    numbered: bool = True

    def column(self, field: str) -> str:
        """Return the column that holds ``field``: the mapped one, or the one with the name of the field."""
        return self.columns.get(field, field)


def missing(rules: Rules, rows: Sequence[Row]) -> list[str]:
    """Return the fields for which there is neither a column in ``rows`` nor a default."""
    optional = {field for field in rules.defaults if field not in rules.columns}
    if rules.numbered and "ticket_id" not in rules.columns:
        optional.add("ticket_id")
    return [
        field
        for field in FIELDS
        if field not in optional and not any(_holds(row.values, rules.column(field)) for row in rows)
    ]


def has_ids(rules: Rules, rows: Sequence[Row]) -> bool:
    """Whether ids are taken from a column, and not made from the row and its number."""
    return any(_holds(row.values, rules.column("ticket_id")) for row in rows)


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the column names that the flags may use for ``rows``, one level deep into JSON objects."""
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.values.items():
            inner = value if isinstance(value, Mapping) else {}
            names |= dict.fromkeys([f"{name}.{part}" for part in inner] or [name])
    return list(names)


def message(rules: Rules, row: Row) -> Message:
    """Return the ticket of ``row`` as a message for the topic. Raises BadRow."""
    if row.problem:
        raise BadRow(row.problem)
    texts = {field: _text(rules, field, row.values) for field in FIELDS if field not in {"ticket_id", "created_at"}}
    try:
        created_at = instant(_found(rules, "created_at", row.values), rules.date_order, rules.zone)
        # Readers and the counts by hour use UTC only.
        created_at = created_at.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadRow(f"created_at: {error}") from None
    ticket = Ticket(ticket_id=identity(rules, row), created_at=created_at, **texts)  # type: ignore[arg-type]
    try:
        value = encode(ticket)
        decode(value)
    except InvalidTicket as error:
        raise BadRow(str(error)) from None
    except UnicodeEncodeError:
        raise BadRow("request: must be Unicode, found half of a surrogate pair") from None
    return Message(ticket.client_id.encode(), value)


def identity(rules: Rules, row: Row) -> str:
    """Return the id of a row: a UUID unchanged, else a UUIDv5 of name and id or, without an id, of row and number."""
    found = _value(row.values, rules.column("ticket_id"))
    if isinstance(found, bytes | bytearray) and len(found) == 16:
        return str(uuid.UUID(bytes=bytes(found)))
    text = "" if found is None else _plain(found).strip()
    text = text or rules.defaults.get("ticket_id", "")
    if re.match(UUID_PATTERN, text):
        return text
    if not text:
        if not rules.numbered or "ticket_id" in rules.columns:
            raise BadRow("ticket_id: is empty")
        text = json.dumps([row.number, dict(row.values)], sort_keys=True, default=str)
    return str(uuid.uuid5(namespace(rules.name), text))


@cache
def namespace(name: str) -> uuid.UUID:
    """Return the namespace (RFC 9562, section 6.5) of the ids of a source."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"client-tickets:{name}")


def _found(rules: Rules, field: str, values: Mapping[str, Any]) -> Any:
    """Return what the row holds for ``field``, or its default. Raises BadRow when there is neither."""
    value = _value(values, rules.column(field))
    if value is None or (isinstance(value, str) and not value.strip()):
        if field not in rules.defaults:
            raise BadRow(f"{field}: is empty, and there is no --default {field}=…")
        return rules.defaults[field]
    return value


def _text(rules: Rules, field: str, values: Mapping[str, Any]) -> str:
    text = _plain(_found(rules, field, values))
    # A space that somebody typed after a client id must not make another client.
    folded = text.strip()
    if rules.values:
        text = rules.values.get((field, folded.casefold()), text)
    if field == "client_id":
        return text.strip()
    choices = CHOICES.get(field)
    if choices is None:
        return text
    choice = text.strip().lower()
    if choice not in choices:
        raise BadRow(
            f"{field}: must be one of {', '.join(choices)}, found {folded[:60]!r}; "
            f"map it with --value '{field}:{folded[:60]}={choices[-1]}'"
        )
    return choice


def _plain(value: Any) -> str:
    """Return a value from a database or JSON as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BadRow(f"a column holds {len(value):,} bytes that are not UTF-8 text") from None
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _value(values: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column; a dot leads into JSON objects: ``requester.id``."""
    if column in values or "." not in column:
        return values.get(column)
    inner: Any = values
    for part in column.split("."):
        if not isinstance(inner, Mapping):
            return None
        inner = inner.get(part)
    return inner


def _holds(values: Mapping[str, Any], column: str) -> bool:
    head = column.partition(".")[0]
    return column in values or (head != column and isinstance(values.get(head), Mapping))
