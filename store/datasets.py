"""The tables on disk: the Arrow schema of every published dataset."""

from dataclasses import dataclass

import pyarrow as pa

from contract.columns import TICKET_SCHEMA, UTC_MICROSECONDS
from contract.ticket import PRIORITIES, REQUEST_TYPES


def _schema(*columns: tuple[str, pa.DataType], nullable: frozenset[str] = frozenset()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns])


_ASSIGNED_TICKET = TICKET_SCHEMA.append(pa.field("assigned_team", pa.string(), nullable=False))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder of files under the output path.

    An appended dataset gains files with every batch; the others are one file that each batch replaces.
    ``dictionary`` names the columns whose values repeat so much that Parquet dictionary encoding pays.
    """

    name: str
    schema: pa.Schema
    appended: bool
    dictionary: tuple[str, ...] = ()


TICKETS = Dataset(
    "tickets_with_assignment",
    _ASSIGNED_TICKET,
    appended=True,
    dictionary=("client_id", "request_type", "priority", "assigned_team"),
)
HIGH_PRIORITY = Dataset("high_priority_tickets", _ASSIGNED_TICKET, appended=True, dictionary=TICKETS.dictionary)
REJECTED = Dataset(
    "rejected_messages",
    _schema(
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("received_at", UTC_MICROSECONDS),
        ("reason", pa.string()),
        ("key", pa.binary()),
        ("payload", pa.binary()),
        # A record may carry a timestamp that is not a valid time.
        nullable=frozenset({"received_at", "key", "payload"}),
    ),
    appended=True,
    dictionary=("reason",),
)
# The reason begins with this if a ticket is rejected because its id was there before.
DUPLICATE = "duplicate: "

METRICS = Dataset(
    "metrics",
    _schema(
        ("total_tickets", pa.int64()),
        *((f"{request_type}_count", pa.int64()) for request_type in REQUEST_TYPES),
        *((f"{priority}_priority_count", pa.int64()) for priority in PRIORITIES),
        ("unique_clients", pa.int64()),
        ("rejected_messages", pa.int64()),
        ("batch_id", pa.int64()),
        ("updated_at", UTC_MICROSECONDS),
    ),
    appended=False,
)
BY_TYPE = Dataset("tickets_by_type", _schema(("request_type", pa.string()), ("count", pa.int64())), appended=False)
BY_PRIORITY = Dataset("tickets_by_priority", _schema(("priority", pa.string()), ("count", pa.int64())), appended=False)
BY_TEAM = Dataset("tickets_by_team", _schema(("assigned_team", pa.string()), ("count", pa.int64())), appended=False)
BY_HOUR = Dataset(
    "tickets_by_hour",
    _schema(
        ("hour", UTC_MICROSECONDS),
        ("request_type", pa.string()),
        ("priority", pa.string()),
        ("count", pa.int64()),
    ),
    appended=False,
    dictionary=("hour", "request_type", "priority"),
)

DATASETS: tuple[Dataset, ...] = (
    TICKETS,
    HIGH_PRIORITY,
    METRICS,
    BY_TYPE,
    BY_PRIORITY,
    BY_TEAM,
    BY_HOUR,
    REJECTED,
)
BY_NAME: dict[str, Dataset] = {dataset.name: dataset for dataset in DATASETS}
