"""The golden examples: messages that are tickets, and messages that are not, with the exact reason.

``tickets.jsonl`` holds the messages as they are on the topic, one a line. Each entry of ``rejected.json`` has a name, a
reason and a payload: null for a tombstone, ``text``, ``base64``, or ``parts`` (pairs of a text and a repeat count).
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "golden"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that is not a ticket."""

    name: str
    message: bytes | None
    reason: str


def tickets() -> list[bytes]:
    """Return the valid messages."""
    return (FOLDER / "tickets.jsonl").read_bytes().removesuffix(b"\n").split(b"\n")


def rejected() -> list[Rejected]:
    """Return the invalid messages."""
    entries = json.loads((FOLDER / "rejected.json").read_text(encoding="utf-8"))
    return [Rejected(entry["name"], _message(entry["payload"]), entry["reason"]) for entry in entries]


def _message(payload: dict[str, Any] | None) -> bytes | None:
    match payload:
        case None:
            return None
        case {"text": text}:
            return str(text).encode()
        case {"base64": text}:
            return base64.b64decode(text)
        case {"parts": parts}:
            return "".join(text * times for text, times in parts).encode()
    raise ValueError(f"unknown payload {payload}")
