"""Arrow tables to files that any reader opens: Parquet, or JSON with one object a line."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from store.datasets import UTC_MICROSECONDS, Dataset

_JSON_PIECE_BYTES = 64 << 20
_JSON_TYPES: dict[pa.DataType, Any] = {
    pa.string(): str,
    pa.int32(): int,
    pa.int64(): int,
    pa.binary(): bytes | None,
    UTC_MICROSECONDS: datetime,
}

# With a row group as large as this a reader skips what it does not need, and a writer still holds little.
ROW_GROUP_ROWS = 250_000


class FileWriter(Protocol):
    """Writes one file of one dataset; the file is complete and on the disk once ``close`` returns."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table``, which has the schema of the dataset. Raises OSError."""

    def close(self) -> None:
        """Finish the file and force it to the disk. Raises OSError."""


class ParquetFileWriter:
    """Parquet: zstd, dictionary encoding where the dataset says that it pays."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(
            path, dataset.schema, compression="zstd", use_dictionary=list(dataset.dictionary), write_statistics=True
        )

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table`` as one or more row groups."""
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def close(self) -> None:
        """Write the footer and force the file to the disk."""
        self._writer.close()
        sync(self._path)


class JsonFileWriter:
    """JSON lines: times as RFC 3339 with Z, binary columns as base64."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._file = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def write(self, table: pa.Table) -> None:
        """Append one line for each row of ``table``."""
        for batch in table.to_batches(max_chunksize=10_000):
            self._file.write(self._encoder.encode_lines(batch.to_pylist()))

    def close(self) -> None:
        """Force the file to the disk."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


WRITERS: dict[str, type[ParquetFileWriter] | type[JsonFileWriter]] = {
    "parquet": ParquetFileWriter,
    "json": JsonFileWriter,
}


def write_file(file_format: str, path: Path, dataset: Dataset, table: pa.Table) -> None:
    """Write ``table`` as one finished file."""
    writer: FileWriter = WRITERS[file_format](path, dataset)
    writer.write(table)
    writer.close()


def read_tables(file_format: str, path: Path, dataset: Dataset) -> Iterator[pa.Table]:
    """Yield the rows of a file that one of the writers wrote, in pieces of bounded size."""
    if file_format == "parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=65_536):
                yield pa.Table.from_batches([batch], schema=dataset.schema)
        return
    decoder = msgspec.json.Decoder(_row_type(dataset.schema))
    with path.open("rb") as file:
        while lines := file.readlines(_JSON_PIECE_BYTES):
            rows = [decoder.decode(line) for line in lines]
            columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in dataset.schema]
            yield pa.Table.from_arrays(columns, schema=dataset.schema)


def _row_type(schema: pa.Schema) -> type[msgspec.Struct]:
    """Return the type of one JSON line, from which msgspec reads times and base64 back."""
    return msgspec.defstruct("Row", [(field.name, _JSON_TYPES[field.type]) for field in schema])


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
