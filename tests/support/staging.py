"""The input and the results of Spark tasks, made without Spark."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from contract.routing import DEFAULT, Routing, Rule
from contract.ticket import Ticket
from processor.batch import Batch, assemble, find_duplicates
from processor.consume import Piece
from processor.duplicates import NO_DUPLICATES, Duplicates
from processor.forgotten import concerning
from processor.outcome import RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt
from processor.task import StagingTask
from runtime.errors import OutputUnavailable
from store.clients import open_clients
from store.files import make_folders, writing
from store.ids import IdSet
from store.manifest import CommitRecord, Erasure, Manifest, Source
from store.output import Output
from store.staging import Staging
from tests.support.disks import QuickDisk

# High and critical technical tickets go to a team of their own, all others as usual.
NIGHT_SHIFT = Routing((Rule("Night Shift", ("technical",), ("high", "critical")), *DEFAULT.rules))

SOURCE = Source("client_tickets", "cluster-1", "topic-1")

RECEIVED_AT = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
UPDATED_AT = datetime(2026, 1, 31, 11, 0, tzinfo=UTC)


def ticket(number: int = 0, **changes: Any) -> Ticket:
    """Return a valid ticket; each number has its own ticket_id."""
    plain = Ticket(
        ticket_id=f"3e476c38-2a7f-4d89-a08f-{number:012x}",
        client_id="CLIENT_1",
        created_at=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
        request="The invoice is wrong",
        request_type="billing",
        priority="low",
    )
    return msgspec.structs.replace(plain, **changes)


def messages(values: Sequence[bytes | None], partition: int = 0, first_offset: int = 0) -> Piece:
    """Return messages with ``values`` at consecutive offsets of one partition, as a range of their own."""
    stamp = (TIMESTAMP_CREATE_TIME, int(RECEIVED_AT.timestamp() * 1000))
    made = [
        Message(partition=partition, offset=first_offset + number, key=b"key", value=value, timestamp=stamp)
        for number, value in enumerate(values)
    ]
    end = first_offset + len(values)
    return Piece(made, list(values), [RangeRead(partition, first_offset, end, end, len(values))] if values else [])


def staging(folder: Path, file_format: str = "parquet") -> Staging:
    """Return a staging folder outside of any output."""
    return Staging(folder, file_format, QuickDisk())


def stage(
    folder: Staging,
    pieces: Iterable[Piece],
    duplicates: Duplicates | None = None,
    erasures: Sequence[Erasure] = (),
    routing: Routing = DEFAULT,
) -> Receipt:
    """Run one task that reads ``pieces`` from the topic, and return its receipt."""

    def consume(*arguments: object) -> Generator[Piece, None, None]:
        yield from pieces

    task = StagingTask(folder, "localhost:9092", {}, "client_tickets", routing, consume, erasures)
    return task([], duplicates)


def prepare_batch(
    output: Output,
    before: Manifest | None,
    file_format: str,
    tasks: Sequence[Sequence[Piece]],
    updated_at: datetime = UPDATED_AT,
    ids: IdSet | None = None,
    routing: Routing = DEFAULT,
) -> CommitRecord:
    """Return the record that publishes what ``tasks`` read of partition 0 as the batch that follows ``before``.

    With ``ids``, which are as of ``before``, duplicates are rejected.
    """
    batch_id = before.batch_id + 1 if before else 1
    start = before.next_offsets[0] if before else 0
    end = start + sum(len(piece.values) for pieces in tasks for piece in pieces)
    with writing(output.state):
        # If the output was not locked before, its state folder is missing.
        if output.disk.look(output.state) is None:
            make_folders(output.disk, output.state)
    change = output.begin(before, "batch", file_format)
    ranges = [OffsetRange(0, start, end)] if end > start else []
    erasures = concerning(before.erasures, ranges) if before else ()
    receipts = _staged(change.staging, tasks, None if ids is None else NO_DUPLICATES, erasures, routing)
    if ids is not None:
        run, duplicates = find_duplicates(change.staging, receipts, ids)
        if len(duplicates.offset):
            receipts = _staged(change.staging, tasks, duplicates, erasures, routing)
    batch = Batch(batch_id, SOURCE, {0: start}, ranges, [])
    with closing(open_clients(output, before)) as clients:
        record = assemble(output, change, before, batch, receipts, clients, routing, updated_at, ids is not None)
    if ids is not None:
        ids.prepare(change.commit_id, run)
    return record


def _staged(
    folder: Staging,
    tasks: Sequence[Sequence[Piece]],
    duplicates: Duplicates | None,
    erasures: Sequence[Erasure],
    routing: Routing,
) -> list[Receipt]:
    receipts = [stage(folder, pieces, duplicates, erasures, routing) for pieces in tasks]
    for receipt in receipts:
        if receipt.failure:
            raise OutputUnavailable(receipt.failure.detail)
    return receipts


def publish_batch(
    output: Output,
    before: Manifest | None,
    file_format: str,
    tasks: Sequence[Sequence[Piece]],
    updated_at: datetime = UPDATED_AT,
    ids: IdSet | None = None,
    routing: Routing = DEFAULT,
) -> Manifest:
    """Publish what ``tasks`` read, as the processor does, and return the new manifest."""
    record = prepare_batch(output, before, file_format, tasks, updated_at, ids, routing)
    output.commit(record)
    return record.manifest
