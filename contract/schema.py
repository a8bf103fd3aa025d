"""The ticket as a JSON Schema, for programs in other languages: ``make schema`` writes it to a file.

It is derived from ``contract.ticket``; rules that JSON Schema cannot express are in its descriptions. It does not
replace ``contract.ticket.decode``, which also gives a reason.
"""

import json
import sys
from typing import Any

import msgspec

from contract.ticket import MAX_NESTING, PRIORITIES, REQUEST_TYPES, Ticket

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_DATE = (
    "(?!0000)[0-9]{4}-"
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
_ZONE = "([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])"

_SAID_IN_WORDS = {
    "ticket_id": "A UUID of any version, in upper or lower case.",
    "client_id": "Any characters; a character is a Unicode code point.",
    "created_at": (
        "An RFC 3339 time with a zone; a space may stand for the T, and the colon of the zone may be missing. What the "
        "pattern cannot say: 29 February only in a leap year, and in UTC a time within the years 0001 to 9999. No leap "
        "seconds. Finer than a microsecond is rounded."
    ),
    "request": "Any characters; a character is a Unicode code point.",
    "request_type": "Decides which team is assigned, perhaps together with the priority.",
    "priority": "High and critical are published a second time, in high_priority_tickets.",
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a ticket, in the dialect of 2020-12."""
    found = msgspec.json.schema(Ticket)["$defs"]["Ticket"]
    properties: dict[str, dict[str, Any]] = {
        name: {"description": _SAID_IN_WORDS[name], **rules} for name, rules in found["properties"].items()
    }
    # JSON Schema uses ECMAScript patterns, in which $ is the very end, and \Z is unknown.
    properties["ticket_id"]["pattern"] = properties["ticket_id"]["pattern"].replace(r"\Z", "$")
    # The format "date-time" would forbid the space, and many programs ignore it.
    del properties["created_at"]["format"]
    properties["created_at"]["pattern"] = f"^{_DATE}[Tt ]{_TIME}{_ZONE}$"
    properties["request_type"]["enum"], properties["priority"]["enum"] = list(REQUEST_TYPES), list(PRIORITIES)
    return {
        "$schema": _DIALECT,
        "title": "Ticket",
        "description": (
            "The value of a message on the topic: one JSON object in UTF-8, without a byte order mark, and not nested "
            f"more than {MAX_NESTING} levels deep. Fields that are not named here are ignored. If a field is given "
            "more than once, the last one counts, and all must be right. Escapes of half a surrogate pair are refused."
        ),
        "type": "object",
        "properties": properties,
        "required": found["required"],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
