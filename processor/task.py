"""What one Spark task does with its share of a batch: consume, decode, assign, count, write."""

import gc
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from contract.columns import DecodedMessages, decode_columns
from contract.ticket import RequestType
from processor.consume import Piece, consume, utc_microseconds
from processor.outcome import ConsumeFailed, Failure, FailureKind, RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt, encode_receipt
from processor.rejections import Rejections, count_rejections
from processor.transformations import Transformations
from runtime.process.failpoint import failpoint
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.files import cannot_write
from store.staging import StagedWriter, Staging, write_clients


@dataclass(frozen=True, slots=True)
class StagingTask:
    """Reads offset ranges of a topic and stages the files that come of them.

    ``security`` holds secrets. It travels with the code of the task, never in the ranges, and is not shown.
    """

    staging: Staging
    brokers: str
    security: Mapping[str, str] = field(repr=False)
    topic: str
    consume: Callable[..., Generator[Piece, None, None]] = consume

    def __call__(self, ranges: Sequence[OffsetRange]) -> Receipt:
        """Return the receipt for ``ranges``.

        What trying again would not help, such as a full disk or messages that are gone, is reported in the receipt, not
        raised.
        """
        # Spark may run a task twice, also at the same time; each attempt has names of its own.
        stage = _Stage(self.staging, uuid.uuid4().hex)
        # Nothing here makes cycles, and to look for them among so many messages takes a twentieth of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            with closing(self.consume(self.brokers, self.security, self.topic, ranges)) as pieces:
                for piece in pieces:
                    stage.take(piece)
            return stage.finish()
        except ConsumeFailed as error:
            return Receipt(failure=error.failure)
        except OSError as error:
            return Receipt(failure=Failure(FailureKind.DISK, cannot_write(error, self.staging.folder)))
        finally:
            stage.close()
            if collects:
                gc.enable()


class Gathered:
    """How a Spark accumulator puts lists together."""

    def zero(self, value: list[bytes]) -> list[bytes]:
        """Return what a task begins with."""
        return []

    def addInPlace(self, value1: list[bytes], value2: list[bytes]) -> list[bytes]:  # noqa: N802 - Spark's name
        """Return both lists as one."""
        return value1 + value2


@dataclass(frozen=True, slots=True)
class Work:
    """What one Spark task calls: it does its share, and tells the driver at once, by two accumulators.

    ``read`` adds up the offsets that were read, ``failures`` gathers the receipts that say why that was not possible.
    """

    task: StagingTask
    read: Any
    failures: Any

    def __call__(self, ranges: Sequence[OffsetRange]) -> bytes:
        """Return the encoded receipt."""
        from pyspark import TaskContext

        receipt = self.task(ranges)
        context = TaskContext.get()
        if context is not None and context.attemptNumber() == 0:
            failpoint("task-staged")
        encoded = encode_receipt(receipt)
        if receipt.failure:
            self.failures.add([encoded])
        else:
            self.read.add(sum(r.length for r in ranges))
        return encoded


@dataclass
class _Stage:
    """The work of one task under way."""

    staging: Staging
    attempt: str
    writers: dict[str, StagedWriter] = field(default_factory=dict)
    clients: set[str] = field(default_factory=set)
    hours: dict[tuple[datetime, RequestType, str, str], int] = field(default_factory=lambda: defaultdict(int))
    reads: list[RangeRead] = field(default_factory=list)
    rejected: Counter[int] = field(default_factory=Counter)
    reasons: dict[str, Rejections] = field(default_factory=dict)

    def take(self, piece: Piece) -> None:
        """Decode the messages of one piece, count them and write them: while they are still in the cache."""
        decoded = decode_columns(piece.values)
        self.reads += piece.read
        if decoded.rejected:
            table = _rejected_table(piece, decoded)
            partitions, offsets = table["partition"].to_pylist(), table["offset"].to_pylist()
            self.rejected.update(partitions)
            count_rejections(self.reasons, zip(decoded.reasons, partitions, offsets, strict=True))
            self._write(REJECTED, table)
        if not decoded.tickets.num_rows:
            return
        assigned = Transformations.assign_team(decoded.tickets)
        self.clients.update(pc.unique(assigned["client_id"]).to_pylist())
        for row in Transformations.count_by_hour(assigned):
            self.hours[row.hour, row.request_type, row.priority, row.team] += row.count
        self._write(TICKETS, assigned)
        self._write(HIGH_PRIORITY, Transformations.high_priority(assigned))

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
        """Complete the files and return the receipt."""
        files = [writer.finish() for writer in self.writers.values()]
        clients = None
        if self.clients:
            clients = f"clients-{self.attempt}"
            write_clients(self.staging, clients, self.clients)
        return Receipt(
            files=files,
            clients=clients,
            reads=self.reads,
            rejected=dict(self.rejected),
            reasons=self.reasons,
            hours=[HourCount(*key, count) for key, count in self.hours.items()],
        )


def _rejected_table(piece: Piece, decoded: DecodedMessages) -> pa.Table:
    messages = [piece.messages[row] for row in decoded.rejected]
    columns = (
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [utc_microseconds(message) for message in messages],
        decoded.reasons,
        [message.key() for message in messages],
        [piece.values[row] for row in decoded.rejected],
    )
    arrays = [pa.array(column, kind) for column, kind in zip(columns, REJECTED.schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=REJECTED.schema)
