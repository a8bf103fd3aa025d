"""Give the golden messages a new last field: ``python -m tests.support.add_golden_field channel '"email"'``.

It writes the field after ``priority`` in every message of ``tests/golden`` that has a priority. These stay to be done
by hand: rejections of the new field, reasons that list missing fields, and messages that are written in an odd way on
purpose. The tests of the contract fail for each of them and name it.
"""

import argparse
import base64
import json
import re
from pathlib import Path
from typing import Any

from contract.ticket import FIELDS
from tests.support.golden import FOLDER

_STRING = r'"(?:[^"\\]|\\.)*"'


def add(message: str, after: str, name: str, value: str) -> str:
    """Return ``message`` with the field inserted after the last field ``after``, with the same spacing."""
    pairs = list(re.finditer(rf'(?P<comma>,\s*)?"{after}"(?P<colon>\s*:\s*){_STRING}', message))
    if not pairs:
        return message
    last = pairs[-1]
    return f'{message[: last.end()]}{last["comma"] or ","}"{name}"{last["colon"]}{value}{message[last.end() :]}'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.add_golden_field", description=__doc__)
    parser.add_argument("name", help="name of the new field")
    parser.add_argument("value", help="its value in each message, as JSON")
    return parser


def rewrite(name: str, value: str) -> None:
    """Write the field into both files; ``value`` is JSON."""
    after = next(field for field in reversed(FIELDS) if field != name)
    tickets = FOLDER / "tickets.jsonl"
    lines = tickets.read_text(encoding="utf-8").split("\n")
    _write(tickets, "\n".join(add(line, after, name, value) for line in lines))
    rejected = FOLDER / "rejected.json"
    entries = json.loads(rejected.read_text(encoding="utf-8"))
    for entry in entries:
        entry["payload"] = _payload(entry["payload"], after, name, value)
    # One entry a line, so that people can read and compare them.
    _write(rejected, "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in entries) + "\n]\n")


def _payload(payload: dict[str, Any] | None, after: str, name: str, value: str) -> dict[str, Any] | None:
    match payload:
        case {"text": text}:
            return {"text": add(text, after, name, value)}
        case {"base64": text}:
            # In Latin-1 every byte is one character, so the field is found in any bytes.
            message = add(base64.b64decode(text).decode("latin-1"), after, name, value)
            return {"base64": base64.b64encode(message.encode("latin-1")).decode()}
        case {"parts": parts}:
            return {"parts": [[add(text, after, name, value), times] for text, times in parts]}
    return payload


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    arguments = build_parser().parse_args()
    rewrite(arguments.name, arguments.value)
