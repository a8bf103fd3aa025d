"""What a Spark task works on and leaves behind, made without Spark."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from contract.ticket import Ticket
from processor.batch import Batch, assemble
from processor.plan import OffsetRange
from processor.receipt import Receipt, decode_receipt
from processor.task import StagingTask
from store.clients import open_clients
from store.datasets import UTC_MICROSECONDS
from store.files import make_folders
from store.manifest import CommitRecord, Manifest, Source
from store.output import Output
from store.staging import Staging
from tests.support.disks import QuickDisk

SOURCE = Source("client_tickets", "cluster-1", "topic-1")

RECEIVED_AT = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
UPDATED_AT = datetime(2026, 1, 31, 11, 0, tzinfo=UTC)

# A message as Spark's Kafka source hands it over.
MESSAGE = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", UTC_MICROSECONDS),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
)


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


def messages(values: Sequence[bytes | None], partition: int = 0, first_offset: int = 0) -> pa.RecordBatch:
    """Return messages with ``values`` at consecutive offsets of one partition."""
    count = len(values)
    columns = [[partition] * count, range(first_offset, first_offset + count), [RECEIVED_AT] * count, [b"key"] * count]
    arrays = [pa.array(column, kind) for column, kind in zip([*columns, values], MESSAGE.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=MESSAGE)


def staging(folder: Path, file_format: str = "parquet") -> Staging:
    """Return a staging folder that no output knows."""
    return Staging(folder, file_format, QuickDisk())


def stage(folder: Staging, batches: Iterable[pa.RecordBatch]) -> Receipt:
    """Run one task on ``batches`` and return its receipt."""
    (answer,) = StagingTask(folder)(iter(batches))
    (receipt,) = answer["receipt"].to_pylist()
    return decode_receipt(receipt)


def prepare_batch(
    output: Output, before: Manifest | None, file_format: str, tasks: Sequence[Sequence[pa.RecordBatch]]
) -> CommitRecord:
    """Return the record that publishes what ``tasks`` read of partition 0 as the batch that follows ``before``."""
    batch_id = before.batch_id + 1 if before else 1
    start = before.next_offsets[0] if before else 0
    end = start + sum(batch.num_rows for batches in tasks for batch in batches)
    make_folders(output.disk, output.state)
    change = output.begin(before, "batch", file_format)
    receipts = [stage(change.staging, batches) for batches in tasks]
    batch = Batch(batch_id, SOURCE, {0: start}, [OffsetRange(0, start, end)] if end > start else [], [])
    with closing(open_clients(output, before)) as clients:
        return assemble(output, change, before, batch, receipts, clients, UPDATED_AT)


def publish_batch(
    output: Output, before: Manifest | None, file_format: str, tasks: Sequence[Sequence[pa.RecordBatch]]
) -> Manifest:
    """Publish what ``tasks`` read, as the processor does, and return the new manifest."""
    record = prepare_batch(output, before, file_format, tasks)
    output.commit(record)
    return record.manifest
