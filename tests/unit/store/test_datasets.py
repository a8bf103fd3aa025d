"""The tables on disk."""

import pyarrow as pa
import pytest

from contract.routing import TEAMS
from contract.ticket import FIELDS, REQUEST_TYPES
from store.datasets import DATASETS, HIGH_PRIORITY, TICKETS, Dataset

COLUMNS = {
    "tickets_with_assignment": ("ticket_id client_id created_at request request_type priority assigned_team"),
    "high_priority_tickets": "ticket_id client_id created_at request request_type priority assigned_team",
    "metrics": (
        "total_tickets account_count billing_count technical_count general_count low_priority_count "
        "medium_priority_count high_priority_count critical_priority_count unique_clients rejected_messages "
        "batch_id updated_at"
    ),
    "tickets_by_type": "request_type count",
    "tickets_by_priority": "priority count",
    "tickets_by_team": "assigned_team count",
    "tickets_by_hour": "hour request_type priority count",
    "rejected_messages": "partition offset received_at reason key payload",
}


def test_the_datasets_and_their_columns_are_those_that_users_rely_on() -> None:
    assert {dataset.name: " ".join(dataset.schema.names) for dataset in DATASETS} == COLUMNS


def test_an_assigned_ticket_is_the_ticket_and_its_team() -> None:
    assert TICKETS.schema.names == [*FIELDS, "assigned_team"]
    assert HIGH_PRIORITY.schema == TICKETS.schema


def test_every_request_type_has_the_team_that_serves_it() -> None:
    assert TEAMS == {
        "account": "Account Management",
        "billing": "Billing Team",
        "technical": "Technical Support",
        "general": "General Support",
    }
    assert tuple(TEAMS) == REQUEST_TYPES


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_times_are_instants_in_utc(dataset: Dataset) -> None:
    times = [
        field.type for field in dataset.schema if field.name in {"created_at", "received_at", "updated_at", "hour"}
    ]

    assert all(kind == pa.timestamp("us", tz="UTC") for kind in times)


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_only_what_a_rejected_message_may_lack_can_be_missing(dataset: Dataset) -> None:
    nullable = {field.name for field in dataset.schema if field.nullable}

    assert nullable == ({"received_at", "key", "payload"} if dataset.name == "rejected_messages" else set())


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_dictionary_columns_exist(dataset: Dataset) -> None:
    assert set(dataset.dictionary) <= set(dataset.schema.names)
