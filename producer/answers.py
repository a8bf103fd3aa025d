"""Deliberate faults among random tickets, and the answer key that lists them."""

import hashlib
import json
import os
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from producer.ticket import Message, TicketSource
from runtime.errors import OutputUnavailable

# A duplicate repeats one of the last tickets; this many are remembered for that.
_REMEMBERED = 1_000


def _with(field: str, value: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda ticket: json.dumps(ticket | {field: value}, ensure_ascii=False).encode()


def _without(field: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda ticket: json.dumps({name: ticket[name] for name in ticket if name != field}).encode()


# How the reason of the rejection must begin, and the function that spoils a ticket in that way.
FAULTS: tuple[tuple[str, Callable[[dict[str, Any]], bytes]], ...] = (
    ("priority", _with("priority", "urgent")),
    ("request_type", _with("request_type", "invoice")),
    ("created_at", lambda ticket: json.dumps(ticket | {"created_at": ticket["created_at"].rstrip("Z")}).encode()),
    ("request", _with("request", "")),
    ("client_id", _with("client_id", None)),
    ("ticket_id", lambda ticket: json.dumps(ticket | {"ticket_id": ticket["ticket_id"][:-1]}).encode()),
    ("missing field: request_type", _without("request_type")),
    ("not JSON", lambda ticket: json.dumps(ticket).encode()[:-2]),
)


class Faulty:
    """Random tickets, some of them invalid and some sent twice. For each fault ``note`` gets a line of the answer key.

    The rates are shares of all messages. The same seed gives the same faults.
    """

    ended = False

    def __init__(
        self,
        source: TicketSource,
        invalid_rate: float,
        duplicate_rate: float,
        seed: int | None,
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        self._source = source
        self._invalid_rate = invalid_rate
        self._repeated = invalid_rate + duplicate_rate
        self._draw = random.Random(f"{secrets.randbits(64) if seed is None else seed}/faults")
        self._note = note
        self._earlier = deque[Message](maxlen=_REMEMBERED)

    def take(self, number: int) -> Iterable[Message]:
        return self._messages(number)

    def confirm(self, acknowledged: int) -> None:
        """Do nothing: random tickets have no state to move."""

    def _messages(self, number: int) -> Iterator[Message]:
        for message in self._source.take(number):
            drawn = self._draw.random()
            if drawn < self._invalid_rate:
                yield self._invalidated(message)
            elif drawn < self._repeated and self._earlier:
                again = self._draw.choice(self._earlier)
                self._note({"injected": "duplicate", "ticket_id": json.loads(again.value)["ticket_id"]})
                yield again
            else:
                self._earlier.append(message)
                yield message

    def _invalidated(self, message: Message) -> Message:
        reason, spoil = self._draw.choice(FAULTS)
        value = spoil(json.loads(message.value))
        self._note({"injected": "invalid", "reason": reason, "sha256": hashlib.sha256(value).hexdigest()})
        return Message(message.key, value)


class AnswerKey:
    """A new file of JSON lines: one for each fault, the last one with the totals. Raises OutputUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Never overwrite a key: without it, the faults of an earlier run cannot be checked any more.
            self._out = path.open("x", encoding="utf-8")
        except FileExistsError:
            raise OutputUnavailable(f"{path} exists; name a new file with --answers, each run has a key") from None
        except OSError as error:
            raise self._explained(error) from error

    def note(self, line: dict[str, Any]) -> None:
        """Write one line of the key."""
        try:
            self._out.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._explained(error) from error

    def close(self, sent: int, acknowledged: int) -> None:
        """Write the line with the totals, and force the file to the disk."""
        self.note({"injected": "end", "sent": sent, "acknowledged": acknowledged})
        try:
            with self._out as out:
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> OutputUnavailable:
        return OutputUnavailable(f"cannot write {self._path} ({error.strerror}); name another file with --answers")
