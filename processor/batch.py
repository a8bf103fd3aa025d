"""From the receipts of a batch to its commit record: totals, one-file datasets, names of the published files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from processor.plan import OffsetRange
from processor.receipt import Receipt, require_complete
from processor.transformations import Transformations
from store.clients import ClientSet
from store.datasets import (
    BY_HOUR,
    BY_PRIORITY,
    BY_TEAM,
    BY_TYPE,
    DATASETS,
    METRICS,
    TICKETS,
    Dataset,
)
from store.formats import read_tables, write_file
from store.manifest import CommitRecord, Gap, Manifest, Rename, Source, Totals
from store.output import Output, writing


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of the ledger: ``ranges`` are read, after which each partition goes on at ``next_offsets``."""

    batch_id: int
    source: Source
    ranges: Sequence[OffsetRange]
    next_offsets: dict[int, int]
    gaps: Sequence[Gap]

    @property
    def length(self) -> int:
        """How many offsets the ranges span together."""
        return sum(r.length for r in self.ranges)


class Assembly:
    """Puts a batch together in its staging folder."""

    def __init__(
        self, output: Output, staging: Path, file_format: str, before: Manifest | None, clients: ClientSet
    ) -> None:
        self._output = output
        self._staging = staging
        self._format = file_format
        self._before = before
        self._clients = clients
        self._renames: list[Rename] = []
        self._files: dict[str, list[str]] = {d.name: list(before.files[d.name]) if before else [] for d in DATASETS}

    def assemble(self, batch: Batch, receipts: Sequence[Receipt]) -> CommitRecord:
        """Return the record that publishes ``batch``.

        Raises DataConflict when the receipts do not account for every message, OutputUnavailable when a file cannot be
        written.
        """
        require_complete(batch.ranges, receipts)
        hours = [count for receipt in receipts for count in receipt.hours]
        rejected = sum(read.rejected for receipt in receipts for read in receipt.partitions)
        with writing(self._staging):
            new_clients = self._clients.add(lambda: self._staged_clients(receipts), batch.batch_id)
            totals_before = self._before.totals if self._before else Totals()
            totals = Transformations.add_totals(totals_before, hours, rejected, new_clients)
            updated_at = datetime.now(UTC)
            self._append(batch.batch_id, receipts)
            self._replace(METRICS, Transformations.metrics(totals, batch.batch_id, updated_at))
            self._replace(BY_TYPE, Transformations.by_type(totals))
            self._replace(BY_PRIORITY, Transformations.by_priority(totals))
            self._replace(BY_TEAM, Transformations.by_team(totals))
            self._replace(BY_HOUR, Transformations.merge_hours(self._published_hours(), hours))
        manifest = Manifest(
            format=self._format,
            batch_id=batch.batch_id,
            updated_at=updated_at,
            source=batch.source,
            next_offsets=batch.next_offsets,
            totals=totals,
            files=self._files,
            gaps=[*(self._before.gaps if self._before else ()), *batch.gaps],
        )
        return CommitRecord(manifest, self._renames, removals=[])

    def _append(self, batch_id: int, receipts: Sequence[Receipt]) -> None:
        """Give the staged files their names; a dataset that would have no file gets an empty one, for its schema."""
        for dataset in (d for d in DATASETS if d.appended):
            staged = [file.name for receipt in receipts for file in receipt.files if file.dataset == dataset.name]
            if not staged and not self._files[dataset.name]:
                staged = [f"{dataset.name}-empty.{self._format}"]
                write_file(self._format, self._staging / staged[0], dataset, dataset.schema.empty_table())
            for number, name in enumerate(staged):
                self._publish_as(dataset, name, f"batch-{batch_id:06d}-{number:04d}.{self._format}")

    def _replace(self, dataset: Dataset, table: pa.Table) -> None:
        """Write a one-file dataset anew. Its name stays, so that readers find one file at any moment."""
        name = f"{dataset.name}.{self._format}"
        write_file(self._format, self._staging / name, dataset, table)
        self._files[dataset.name] = []
        self._publish_as(dataset, name, name)

    def _publish_as(self, dataset: Dataset, staged: str, name: str) -> None:
        self._files[dataset.name].append(name)
        staged_path = (self._staging / staged).relative_to(self._output.root)
        self._renames.append(Rename(str(staged_path), f"{dataset.name}/{name}"))

    def _published_hours(self) -> pa.Table:
        nothing = BY_HOUR.schema.empty_table()
        if self._before is None:
            return nothing
        return pa.concat_tables([nothing, *_published(self._output, self._before, BY_HOUR)])

    def _staged_clients(self, receipts: Sequence[Receipt]) -> Iterator[list[str]]:
        for receipt in receipts:
            if receipt.clients:
                yield pq.read_table(self._staging / receipt.clients)["client_id"].to_pylist()


def published_clients(output: Output, manifest: Manifest | None) -> Iterator[list[str]]:
    """Yield the client ids of all published tickets, in pieces."""
    if manifest is not None:
        for table in _published(output, manifest, TICKETS):
            yield table["client_id"].unique().to_pylist()


def _published(output: Output, manifest: Manifest, dataset: Dataset) -> Iterator[pa.Table]:
    for name in manifest.files[dataset.name]:
        yield from read_tables(manifest.format, output.root / dataset.name / name, dataset)
