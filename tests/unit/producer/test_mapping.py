"""From a row of a source to a ticket."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from contract.ticket import Ticket, decode
from producer.mapping import BadRow, Rules, columns, message, missing
from producer.ticket import Row

PLAIN = {
    "ticket_id": "3E476C38-2a7f-4d89-a08f-9e5f60456fa3",
    "client_id": "CLIENT_1",
    "created_at": "2026-01-31T09:30:00Z",
    "request": "Invoice\ncharges twice ",
    "request_type": "billing",
    "priority": "high",
}


def rules(**given: Any) -> Rules:
    return Rules(**{"name": "crm", "columns": {}, "values": {}, "defaults": {}, **given})


def ticket(row: Mapping[str, Any], number: int = 1, /, **given: Any) -> Ticket:
    return decode(message(rules(**given), Row(number, {}, row)).value)


def test_a_row_with_our_field_names_needs_no_rules_and_is_kept_unchanged() -> None:
    sent = message(rules(), Row(1, {}, PLAIN))
    assert sent.key == b"CLIENT_1"
    assert decode(sent.value) == decode(
        b'{"ticket_id": "3E476C38-2a7f-4d89-a08f-9e5f60456fa3", "client_id": "CLIENT_1", '
        b'"created_at": "2026-01-31T09:30:00Z", "request": "Invoice\\ncharges twice ", "request_type": "billing", '
        b'"priority": "high"}'
    )


def test_columns_values_and_defaults_turn_another_schema_into_a_ticket() -> None:
    row = {
        "Id": 17,
        "Requester": " ann@example.org ",
        "Created": "2026-01-31 10:30",
        "Subject": "x",
        "Type": " FACTURATION ",
    }
    found = ticket(
        row,
        columns={
            "ticket_id": "Id",
            "client_id": "Requester",
            "created_at": "Created",
            "request": "Subject",
            "request_type": "Type",
        },
        values={("request_type", "facturation"): "billing"},
        defaults={"priority": "low"},
        zone=ZoneInfo("Europe/Paris"),
    )
    assert (found.client_id, found.request_type, found.priority) == ("ann@example.org", "billing", "low")
    assert found.created_at == datetime.fromisoformat("2026-01-31T09:30:00Z")
    # uuid5(uuid5(NAMESPACE_URL, "client-tickets:crm"), "17"): users join on it, so it must never change.
    assert found.ticket_id == "f0a34c6b-ea4a-563e-979f-f6c531929355"


def test_an_id_is_one_in_its_namespace_however_the_source_writes_it() -> None:
    ids = {ticket(PLAIN | {"ticket_id": found}).ticket_id for found in (17, "17", " 17 ")}
    assert len(ids) == 1
    assert ticket(PLAIN | {"ticket_id": "17"}, name="other").ticket_id not in ids
    assert ticket(PLAIN | {"ticket_id": uuid.UUID(PLAIN["ticket_id"]).bytes}).ticket_id == PLAIN["ticket_id"].lower()


def test_a_changed_row_is_the_same_ticket_and_without_an_id_another_one() -> None:
    bare = {field: value for field, value in PLAIN.items() if field != "ticket_id"}
    changed = {"priority": "low"}
    assert ticket(PLAIN | changed).ticket_id == ticket(PLAIN).ticket_id
    assert ticket(bare, 1).ticket_id == ticket(bare, 1).ticket_id
    assert len({ticket(bare, 1).ticket_id, ticket(bare, 2).ticket_id, ticket(bare | changed, 1).ticket_id}) == 3


def test_a_dot_leads_into_json_unless_a_column_is_named_so() -> None:
    inner = PLAIN | {"requester": {"id": 9}, "a.b": "CLIENT_2"}
    assert ticket(inner, columns={"client_id": "requester.id"}).client_id == "9"
    assert ticket(inner, columns={"client_id": "a.b"}).client_id == "CLIENT_2"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"priority": ""}, "priority: is empty, and there is no --default priority=…"),
        ({"priority": None}, "priority: is empty"),
        (
            {"request_type": "Facturation"},
            "request_type: must be one of account, billing, technical, general, found 'Facturation'; "
            "map it with --value 'request_type:Facturation=general'",
        ),
        ({"client_id": "x" * 65}, "client_id: must be a string of 1 to 64 characters, found 65 characters"),
        ({"request": "x" * 10_001}, "request: must be a string of 1 to 10,000 characters, found 10,001 characters"),
        ({"created_at": "soon"}, "created_at: is not a date, found 'soon'"),
        ({"request": b"\xff"}, "a column holds 1 bytes that are not UTF-8 text"),
    ],
    ids=str,
)
def test_a_bad_row_says_which_field_and_what_would_work(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as error:
        ticket(PLAIN | values)
    assert str(error.value).startswith(reason)


def test_a_mapped_id_that_is_empty_is_a_bad_row() -> None:
    with pytest.raises(BadRow, match="ticket_id: is empty"):
        ticket(PLAIN | {"Id": ""}, columns={"ticket_id": "Id"})


def test_missing_columns_are_known_from_the_first_rows() -> None:
    rows = [Row(1, {}, {"Id": "1", "requester": {"id": 2}}), Row(2, {}, {"Subject": "x"})]
    wanted = {"ticket_id": "Id", "client_id": "requester.id", "request": "Subject"}
    assert missing(rules(columns=wanted, defaults={"priority": "low"}), rows) == ["created_at", "request_type"]
    assert missing(rules(columns={"ticket_id": "No"}, defaults={"priority": "low"}), rows)[0] == "ticket_id"
    assert missing(rules(numbered=False), rows)[0] == "ticket_id"
    assert columns(rows) == ["Id", "requester.id", "Subject"]
