"""Faults among random tickets, and the answer key."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contract.ticket import InvalidTicket, decode
from producer.answers import FAULTS, AnswerKey, Faulty
from producer.sources.random import RandomTickets
from producer.ticket import Message
from runtime.errors import OutputUnavailable


def drawn(invalid: float, duplicate: float, number: int = 4_000) -> tuple[list[Message], list[dict[str, Any]]]:
    notes: list[dict[str, Any]] = []
    faulty = Faulty(RandomTickets(1), invalid, duplicate, 1, notes.append)
    return list(faulty.take(number)), notes


def test_each_fault_is_rejected_for_the_reason_in_the_key() -> None:
    ticket = json.loads(next(RandomTickets(1).take(1)).value)
    for reason, spoil in FAULTS:
        with pytest.raises(InvalidTicket) as error:
            decode(spoil(ticket))
        assert str(error.value).startswith(reason)


def test_the_rates_are_shares_of_all_messages_and_the_key_names_each_fault() -> None:
    messages, notes = drawn(0.2, 0.1)

    kinds = Counter(note["injected"] for note in notes)
    assert kinds["invalid"] == pytest.approx(800, rel=0.1)
    assert kinds["duplicate"] == pytest.approx(400, rel=0.15)
    digests = {hashlib.sha256(message.value).hexdigest(): message.value for message in messages}
    ids: Counter[str] = Counter()
    for message in messages:
        try:
            ids[decode(message.value).ticket_id] += 1
        except InvalidTicket:
            continue
    assert sum(ids.values()) == 4_000 - kinds["invalid"]
    assert sum(count - 1 for count in ids.values()) == kinds["duplicate"]
    assert {note["reason"] for note in notes if "reason" in note} == {reason for reason, _ in FAULTS}
    for note in notes:
        if note["injected"] == "invalid":
            with pytest.raises(InvalidTicket):
                decode(digests[note["sha256"]])
        else:
            assert ids[note["ticket_id"]] > 1


def test_a_seed_draws_the_same_faults_and_without_rates_there_are_none() -> None:
    key = [{key: note[key] for key in note if key != "sha256"} for note in drawn(0.2, 0.1, 500)[1]]
    assert key == [{key: note[key] for key in note if key != "sha256"} for note in drawn(0.2, 0.1, 500)[1]]
    assert drawn(0, 0)[1] == []


def test_a_key_is_a_new_file_and_ends_with_what_was_sent(tmp_path: Path) -> None:
    key = AnswerKey(tmp_path / "key")
    key.note({"injected": "duplicate", "ticket_id": "1"})
    key.close(10, 9)
    assert (tmp_path / "key").read_text() == (
        '{"injected": "duplicate", "ticket_id": "1"}\n{"injected": "end", "sent": 10, "acknowledged": 9}\n'
    )
    with pytest.raises(OutputUnavailable, match="key exists; name a new file"):
        AnswerKey(tmp_path / "key")
    with pytest.raises(OutputUnavailable, match="cannot write"):
        AnswerKey(tmp_path / "no" / "key")
