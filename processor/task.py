"""What one Spark task does with its share of a batch: decode, assign, count, write."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext

from contract.ticket import InvalidTicket, RequestType, Ticket, decode
from processor.receipt import HourCount, PartitionRead, Receipt, StagedFile, encode_receipt
from processor.transformations import Transformations
from runtime.process.failpoint import failpoint
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.formats import ROW_GROUP_ROWS, WRITERS, FileWriter

# Messages of a megabyte are allowed, so what is gathered before it is written is bounded in bytes as well as in rows.
GATHERED_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class StagingTask:
    """Stages the files of one Spark partition; to be given to ``DataFrame.mapInArrow``."""

    staging: Path
    file_format: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Read ``batches`` (partition, offset, timestamp, key, value) and yield one row: the encoded receipt.

        A full or read-only disk is reported in the receipt, not raised: trying the task again would not help.
        """
        context = TaskContext.get()
        stage = _Stage(self.staging, self.file_format, context.partitionId() if context else 0)
        try:
            for batch in batches:
                stage.take(batch)
            receipt = stage.finish()
        except OSError as error:
            receipt = Receipt(failure=str(error))
        if context is not None and context.attemptNumber() == 0:
            failpoint("task-staged")
        yield pa.RecordBatch.from_pydict({"receipt": [encode_receipt(receipt)]})


@dataclass
class _Stage:
    """The work of one task under way."""

    folder: Path
    file_format: str
    number: int
    writers: dict[str, FileWriter] = field(default_factory=dict)
    files: dict[str, StagedFile] = field(default_factory=dict)
    tickets: list[Ticket] = field(default_factory=list)
    gathered_bytes: int = 0
    clients: set[str] = field(default_factory=set)
    hours: dict[tuple[datetime, RequestType, str], int] = field(default_factory=lambda: defaultdict(int))
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
                self.hours[row.hour, row.request_type, row.priority] += row.count
            self._write(TICKETS, assigned)
            self._write(HIGH_PRIORITY, Transformations.high_priority(assigned))
        self.gathered_bytes = 0

    def _write(self, dataset: Dataset, table: pa.Table) -> None:
        if not table.num_rows:
            return
        name = f"{dataset.name}-{self.attempt}.{self.file_format}"
        if dataset.name not in self.writers:
            self.writers[dataset.name] = WRITERS[self.file_format](self.folder / name, dataset)
        self.writers[dataset.name].write(table)
        rows = self.files[dataset.name].rows if dataset.name in self.files else 0
        self.files[dataset.name] = StagedFile(dataset.name, name, rows + table.num_rows)

    def finish(self) -> Receipt:
        """Close the files and return the receipt."""
        self._flush()
        for writer in self.writers.values():
            writer.close()
        clients = None
        if self.clients:
            clients = f"clients-{self.attempt}.parquet"
            pq.write_table(pa.table({"client_id": pa.array(self.clients, pa.string())}), self.folder / clients)
        return Receipt(
            files=list(self.files.values()),
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
