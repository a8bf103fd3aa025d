"""One Spark task: consume its ranges, decode, assign teams, count, write files."""

import gc
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from contract.columns import decode_columns
from contract.routing import Routing
from contract.ticket import RequestType
from contract.uuids import ids_of
from processor.consume import Piece, consume, utc_microseconds
from processor.duplicates import Duplicates
from processor.forgotten import erased_rows, leave_out
from processor.outcome import ConsumeFailed, Failure, FailureKind, RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt, encode_receipt
from processor.rejections import Rejections, count_rejections
from processor.transformations import Transformations
from runtime.process.failpoint import failpoint
from store.counts import HourCount
from store.datasets import HIGH_PRIORITY, REJECTED, TICKETS, Dataset
from store.files import cannot_write
from store.manifest import Erasure
from store.sorted_ids import order_of
from store.staging import StagedWriter, Staging, TicketIds, write_clients, write_ids


@dataclass(frozen=True, slots=True)
class StagingTask:
    """Reads offset ranges of a topic and writes their files into staging.

    ``security`` holds secrets. It travels with the code of the task, never in the ranges, and is not shown. ``routing``
    assigns the teams. It travels with the task as well, so a worker needs no routing file. Messages that ``erasures``
    concern are read and counted, but not published.
    """

    staging: Staging
    brokers: str
    security: Mapping[str, str] = field(repr=False)
    topic: str
    routing: Routing
    consume: Callable[..., Generator[Piece, None, None]] = consume
    erasures: Sequence[Erasure] = ()

    def __call__(self, ranges: Sequence[OffsetRange], duplicates: Duplicates | None = None) -> Receipt:
        """Return the receipt for ``ranges``.

        ``duplicates`` are those in the ranges that are known so far; they are rejected. With None, duplicates are not
        looked for; otherwise the ids of the tickets are staged. A failure that a retry would not help, such as a full
        disk or deleted messages, is reported in the receipt, not raised.
        """
        # Spark may run a task twice, even at the same time, so the files of each attempt have their own names.
        stage = _Stage(self.staging, uuid.uuid4().hex, self.routing, duplicates, self.erasures)
        # Nothing here makes reference cycles, and searching so many messages for them takes a twentieth of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            with closing(self.consume(self.brokers, self.security, self.topic, ranges)) as pieces:
                for piece in pieces:
                    stage.take(piece)
            return stage.finish()
        except ConsumeFailed as error:
            # In the receipt, because Spark would retry a task that raises, and hide the cause in its own error.
            return Receipt(failure=error.failure)
        except OSError as error:
            return Receipt(failure=Failure(FailureKind.DISK, cannot_write(error, self.staging.folder)))
        finally:
            stage.close()
            if collects:
                gc.enable()


class Gathered:
    """Tells a Spark accumulator how to add lists."""

    def zero(self, value: list[bytes]) -> list[bytes]:
        """Return the value that a task starts with."""
        return []

    def addInPlace(self, value1: list[bytes], value2: list[bytes]) -> list[bytes]:  # noqa: N802 - Spark's name
        """Return the joined lists."""
        return value1 + value2


@dataclass(frozen=True, slots=True)
class Work:
    """The function that each Spark task calls. It tells the driver the result at once, by two accumulators.

    ``read`` adds up the offsets that were read, ``failures`` gathers the receipts of tasks that failed.
    """

    task: StagingTask
    read: Any
    failures: Any

    def __call__(self, share: tuple[Sequence[OffsetRange], Duplicates | None]) -> bytes:
        """Return the encoded receipt; ``share`` is what the task is called with."""
        from pyspark import TaskContext

        ranges, _ = share
        receipt = self.task(*share)
        context = TaskContext.get()
        # Only the first attempt dies there, so that a test sees Spark's retry succeed.
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
    """What one task has read and written so far."""

    staging: Staging
    attempt: str
    routing: Routing
    duplicates: Duplicates | None = None
    erasures: Sequence[Erasure] = ()
    writers: dict[str, StagedWriter] = field(default_factory=dict)
    clients: set[str] = field(default_factory=set)
    ids: list[TicketIds] = field(default_factory=list)
    hours: dict[tuple[datetime, RequestType, str, str], int] = field(default_factory=lambda: defaultdict(int))
    reads: list[RangeRead] = field(default_factory=list)
    rejected: Counter[int] = field(default_factory=Counter)
    duplicate: Counter[int] = field(default_factory=Counter)
    forgotten: Counter[int] = field(default_factory=Counter)
    reasons: dict[str, Rejections] = field(default_factory=dict)

    def take(self, piece: Piece) -> None:
        """Decode, count and write the messages of one piece, while they are still in the processor's cache."""
        decoded = decode_columns(piece.values)
        if rows := erased_rows(self.erasures, piece, decoded):
            self.forgotten.update(piece.place(row)[0] for row in rows)
            # Decoded again without them, which is simpler than cutting them out of the columns, and rare.
            piece = leave_out(piece, rows)
            decoded = decode_columns(piece.values)
        tickets, rejected = decoded.tickets, dict(zip(decoded.rejected, decoded.reasons, strict=True))
        self.reads += piece.read
        if rejected:
            places = [piece.place(row) for row in rejected]
            self.rejected.update(partition for partition, _ in places)
            of_messages = zip(rejected.values(), places, strict=True)
            count_rejections(self.reasons, ((reason, *place) for reason, place in of_messages))
        if self.duplicates is not None and tickets.num_rows:
            tickets, duplicates = self._set_aside(piece, tickets, decoded.rejected, self.duplicates)
            rejected |= duplicates
        if rejected:
            self._write(REJECTED, _rejected_table(piece, dict(sorted(rejected.items()))))
        if tickets.num_rows:
            self._publish(tickets)

    def _publish(self, tickets: pa.Table) -> None:
        assigned = Transformations.assign_team(tickets, self.routing)
        self.clients.update(pc.unique(assigned["client_id"]).to_pylist())
        for row in Transformations.count_by_hour(assigned):
            self.hours[row.hour, row.request_type, row.priority, row.team] += row.count
        self._write(TICKETS, assigned)
        self._write(HIGH_PRIORITY, Transformations.high_priority(assigned))

    def _set_aside(
        self, piece: Piece, tickets: pa.Table, rejected: list[int], duplicates: Duplicates
    ) -> tuple[pa.Table, dict[int, str]]:
        """Return the tickets that are not duplicates, and the reason for each duplicate; keep the ids of the former."""
        rows = np.delete(np.arange(len(piece.values)), rejected)
        partitions, offsets = (
            np.fromiter(map(read, piece.messages), np.int64, len(piece.messages))[rows]
            for read in (Message.partition, Message.offset)
        )
        known = duplicates.places(partitions, offsets)
        if len(lost := np.flatnonzero(known >= 0)):
            kept = np.flatnonzero(known < 0)
            self.duplicate.update(partitions[lost].tolist())
            reasons = map(duplicates.reason, known[lost].tolist())
            found = dict(zip(rows[lost].tolist(), reasons, strict=True))
            tickets, partitions, offsets = tickets.take(kept), partitions[kept], offsets[kept]
        else:
            found = {}
        self.ids.append(TicketIds(*ids_of(tickets["ticket_id"]), partitions, offsets))
        return tickets, found

    def _write(self, dataset: Dataset, table: pa.Table) -> None:
        if not table.num_rows:
            return
        if dataset.name not in self.writers:
            self.writers[dataset.name] = self.staging.writer(dataset, f"{dataset.name}-{self.attempt}")
        self.writers[dataset.name].write(table)

    def close(self) -> None:
        """Close the files, finished or not."""
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
            ids=self._write_ids(),
            reads=self.reads,
            rejected=dict(self.rejected),
            duplicates=dict(self.duplicate),
            forgotten=dict(self.forgotten),
            reasons=self.reasons,
            hours=[HourCount(*key, count) for key, count in self.hours.items()],
        )

    def _write_ids(self) -> str | None:
        """Write the ids of all tickets in rising order, and return the name of the file; None if there are no ids."""
        if not self.clients or self.duplicates is None:
            return None
        ids = TicketIds(*(np.concatenate(columns) for columns in zip(*self.ids, strict=True)))
        name = f"ids-{self.attempt}"
        write_ids(self.staging, name, ids.at(order_of(ids.ids)))
        return name


def _rejected_table(piece: Piece, reasons: Mapping[int, str]) -> pa.Table:
    """Return the rows of ``rejected_messages`` for the messages at the rows that ``reasons`` names."""
    messages = [piece.messages[row] for row in reasons]
    columns = (
        [message.partition() for message in messages],
        [message.offset() for message in messages],
        [utc_microseconds(message) for message in messages],
        list(reasons.values()),
        [message.key() for message in messages],
        [piece.values[row] for row in reasons],
    )
    arrays = [pa.array(column, kind) for column, kind in zip(columns, REJECTED.schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=REJECTED.schema)
