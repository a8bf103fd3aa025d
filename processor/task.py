"""What one Spark task does with its share of a batch: decode, assign, count, write."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from contract.ticket import InvalidTicket, RequestType, Ticket, decode
from processor.receipt import PartitionRead, Receipt, encode_receipt
from processor.transformations import Transformations
from runtime.process.failpoint import failpoint
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.formats import ROW_GROUP_ROWS
from store.staging import StagedWriter, Staging, write_clients

# Messages of a megabyte are allowed, so what is gathered before it is written is bounded in bytes as well as in rows.
GATHERED_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class StagingTask:
    """Stages the files of one Spark partition; to be given to ``DataFrame.mapInArrow``."""

    staging: Staging

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Read ``batches`` (partition, offset, timestamp, key, value) and yield one row: the encoded receipt.

        A full or read-only disk is reported in the receipt, not raised: trying the task again would not help.
        """
        context = TaskContext.get()
        stage = _Stage(self.staging, context.partitionId() if context else 0)
        try:
            for batch in batches:
                stage.take(batch)
            receipt = stage.finish()
        except OSError as error:
            receipt = Receipt(failure=str(error))
        finally:
            stage.close()
        if context is not None and context.attemptNumber() == 0:
            failpoint("task-staged")
        yield pa.RecordBatch.from_pydict({"receipt": [encode_receipt(receipt)]})


@dataclass
class _Stage:
    """The work of one task under way."""

    staging: Staging
    number: int
    writers: dict[str, StagedWriter] = field(default_factory=dict)
    tickets: list[Ticket] = field(default_factory=list)
    gathered_bytes: int = 0
    clients: set[str] = field(default_factory=set)
    hours: dict[tuple[datetime, RequestType, str, str], int] = field(default_factory=lambda: defaultdict(int))
    reads: dict[int, PartitionRead] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Spark may run a task twice, also at the same time; each attempt has its own names.
        self.attempt = f"{self.number:05d}-{uuid.uuid4().hex}"

    def take(self, batch: pa.RecordBatch) -> None:
        """Decode one batch of messages and write what has gathered."""
        rejected: list[int] = []
        reasons: list[str] = []
        keep = self.tickets.append
        for row, value in enumerate(batch["value"].to_pylist()):
            try:
                keep(decode(value))
            except InvalidTicket as error:
                rejected.append(row)
                reasons.append(str(error))
        self._account(batch, rejected)
        if rejected:
            self._write(REJECTED, _rejected_table(batch, rejected, reasons))
        self.gathered_bytes += batch["value"].nbytes
        if len(self.tickets) >= ROW_GROUP_ROWS or self.gathered_bytes >= GATHERED_BYTES:
            self._flush()

    def _account(self, batch: pa.RecordBatch, rejected: list[int]) -> None:
        """Note which offsets were read. Raises RuntimeError when Spark hands them over out of order."""
        partitions, offsets = batch["partition"].to_numpy(), batch["offset"].to_numpy()
        bad = np.zeros(len(partitions), dtype=bool)
        bad[rejected] = True
        for partition in np.unique(partitions).tolist():
            mine = partitions == partition
            read_offsets = offsets[mine]
            first, last = int(read_offsets[0]), int(read_offsets[-1])
            read = self.reads.setdefault(partition, PartitionRead(partition, first, first - 1))
            if first <= read.last or not (np.diff(read_offsets) > 0).all():
                raise RuntimeError(f"offsets of partition {partition} do not rise between {read.last} and {last}")
            read.last = last
            rejected_here = int(bad[mine].sum())
            read.rejected += rejected_here
            read.tickets += len(read_offsets) - rejected_here

    def _flush(self) -> None:
        if self.tickets:
            assigned = Transformations.assign_team(Transformations.tabulate(self.tickets))
            self.clients.update(ticket.client_id for ticket in self.tickets)
            self.tickets.clear()
            for row in Transformations.count_by_hour(assigned):
                self.hours[row.hour, row.request_type, row.priority, row.team] += row.count
            self._write(TICKETS, assigned)
            self._write(HIGH_PRIORITY, Transformations.high_priority(assigned))
        self.gathered_bytes = 0

    def _write(self, dataset: Dataset, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if dataset.name not in self.writers:
            self.writers[dataset.name] = self.staging.writer(dataset, f"{dataset.name}-{self.attempt}")
        self.writers[dataset.name].write(table)

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for writer in self.writers.values():
            writer.__exit__()

    def finish(self) -> Receipt:
        """Close the files and return the receipt."""
        self._flush()
        files = [writer.finish() for writer in self.writers.values()]
        clients = None
        if self.clients:
            clients = f"clients-{self.attempt}"
            write_clients(self.staging, clients, self.clients)
        return Receipt(
            files=files,
            clients=clients,
            partitions=list(self.reads.values()),
            hours=[HourCount(*key, count) for key, count in self.hours.items()],
        )


def _rejected_table(batch: pa.RecordBatch, rows: list[int], reasons: list[str]) -> pa.Table:
    messages = batch.take(pa.array(rows))
    columns = [
        messages["partition"],
        messages["offset"],
        messages["timestamp"],
        pa.array(reasons, pa.string()),
        messages["key"],
        messages["value"],
    ]
    return pa.Table.from_arrays(
        [column.cast(kind) for column, kind in zip(columns, REJECTED.schema.types, strict=True)], schema=REJECTED.schema
    )
