"""The ticket on the wire, against the golden examples."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from contract.ticket import FIELDS, InvalidTicket, Ticket, decode, encode
from runtime.settings.setting import ROOT
from tests.support import golden

ID = "3e476c38-2a7f-4d89-a08f-9e5f60456fa3"


def test_a_ticket_is_written_as_one_json_object_in_the_order_of_the_contract() -> None:
    ticket = Ticket(ID, "CLIENT_7", datetime(2026, 1, 31, 9, 30, tzinfo=UTC), "Grüße 🙂", "billing", "low")

    assert encode(ticket) == (
        b'{"ticket_id":"3e476c38-2a7f-4d89-a08f-9e5f60456fa3","client_id":"CLIENT_7",'
        b'"created_at":"2026-01-31T09:30:00Z","request":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x99\x82",'
        b'"request_type":"billing","priority":"low"}'
    )


def test_microseconds_are_kept() -> None:
    ticket = Ticket(ID, "CLIENT_7", datetime(2026, 1, 31, 9, 30, 0, 123456, UTC), "Help", "general", "high")

    assert b'"created_at":"2026-01-31T09:30:00.123456Z"' in encode(ticket)


@pytest.mark.parametrize("message", golden.tickets(), ids=range(len(golden.tickets())))
def test_a_golden_ticket_survives_decoding_and_encoding(message: bytes) -> None:
    ticket = decode(message)

    assert decode(encode(ticket)) == ticket


@pytest.mark.parametrize("example", golden.rejected(), ids=lambda example: example.name)
def test_an_invalid_message_is_rejected_with_the_exact_reason(example: golden.Rejected) -> None:
    with pytest.raises(InvalidTicket) as refused:
        decode(example.message)

    assert str(refused.value) == example.reason


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_has_a_golden_rejection_that_names_it(field: str) -> None:
    assert any(example.reason.startswith(f"{field}: ") for example in golden.rejected())


def test_a_zone_other_than_utc_is_the_same_instant() -> None:
    ticket = decode(golden.tickets()[5])

    assert ticket.created_at == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert ticket.created_at.utcoffset() == timedelta(hours=2)


def test_more_digits_than_microseconds_are_rounded() -> None:
    ticket = decode(golden.tickets()[0].replace(b"09:30:00Z", b"09:30:00.1234567Z"))

    assert ticket.created_at == datetime(2026, 1, 31, 9, 30, 0, 123457, UTC)


def test_unknown_fields_are_ignored() -> None:
    message = golden.tickets()[0]

    assert decode(message[:-1] + b',"mood":{"since":[1,2]}}') == decode(message)


def nested(levels: int) -> bytes:
    """Return a ticket with an unknown field of nested arrays, ``levels`` deep; the ticket itself counts as a level."""
    return golden.tickets()[0].replace(b"{", b'{"thread":' + b"[" * levels + b"]" * levels + b",", 1)


def reason_of(message: bytes) -> str:
    try:
        decode(message)
    except InvalidTicket as error:
        return str(error)
    return "none"


def deeper(calls: int, message: bytes) -> str:
    return deeper(calls - 1, message) if calls else reason_of(message)


TOO_DEEP = "nested too deeply: more than 500 levels"


@pytest.mark.parametrize(("levels", "reason"), [(499, "none"), (500, TOO_DEEP), (100_000, TOO_DEEP)])
def test_how_deep_a_ticket_may_be_nested_does_not_depend_on_the_caller(levels: int, reason: str) -> None:
    assert reason_of(nested(levels)) == reason
    assert deeper(300, nested(levels)) == reason


def test_brackets_in_texts_are_not_nesting() -> None:
    brackets = rb"[{\"" * 2_000
    ticket = golden.tickets()[0].replace(b'"request":"', b'"request":"' + brackets)

    assert decode(ticket).request.startswith('[{"[{"')
    assert reason_of(ticket[: ticket.index(brackets) + 5_000]) == "not JSON: Input data was truncated"


def test_if_a_field_is_given_twice_the_last_one_counts() -> None:
    assert decode(golden.tickets()[0][:-1] + b',"priority":"critical"}').priority == "critical"


@pytest.mark.parametrize("text", ["../../etc/passwd", "=cmd('calc')!A1", "<script>", "\0", "\u202egnp.exe", " x "])
def test_strings_are_kept_unchanged(text: str) -> None:
    moment = datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=-5)))
    ticket = Ticket(ID, text, moment, text, "account", "medium")

    assert (decode(encode(ticket)).client_id, decode(encode(ticket)).request) == (text, text)


def test_the_longest_texts_are_counted_in_characters_not_bytes() -> None:
    ticket = Ticket(ID, "😀" * 64, datetime(2026, 1, 31, tzinfo=UTC), "é" * 10_000, "account", "medium")

    assert decode(encode(ticket)) == ticket


def test_the_contract_needs_neither_kafka_nor_spark_nor_faker() -> None:
    code = (
        "import sys, contract.ticket, store.datasets; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'kafka', 'pyspark', 'faker'}))"
    )

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert shown.stdout == "[]\n"
