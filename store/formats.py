"""Arrow tables to files that any reader opens: Parquet, or JSON with one object a line."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from contract.columns import UTC_MICROSECONDS
from store.datasets import Dataset
from store.files import ChecksummedFile

_JSON_PIECE_BYTES = 64 << 20
_JSON_TYPES: dict[pa.DataType, Any] = {
    pa.string(): str,
    pa.int32(): int,
    pa.int64(): int,
    pa.binary(): bytes,
    UTC_MICROSECONDS: datetime,
}

# With row groups as large as this a reader skips what it does not need; a writer holds one of them in memory.
ROW_GROUP_ROWS = 250_000
# Where rows are larger than those of tickets, fewer make a row group.
ROW_GROUP_BYTES = 96 << 20


class Damaged(Exception):
    """The content of a file is not what its format and its dataset ask for; the text says what was found."""


class TableWriter(Protocol):
    """Writes the rows of one dataset to an open file."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table``, which has the schema of the dataset. Raises OSError."""

    def finish(self) -> None:
        """Write what the format has at its end. Raises OSError."""


class ParquetTableWriter:
    """Parquet: zstd, dictionary encoding where the dataset says that it pays."""

    def __init__(self, file: ChecksummedFile, dataset: Dataset) -> None:
        self._writer = pq.ParquetWriter(
            file, dataset.schema, compression="zstd", use_dictionary=list(dataset.dictionary), write_statistics=True
        )
        # Rows that wait for enough others to make a row group.
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table``; they are in the file once a row group is full, or finished."""
        self._wait(table)
        while self._rows >= ROW_GROUP_ROWS:
            waiting = pa.concat_tables(self._waiting)
            self._waiting, self._rows, self._bytes = [], 0, 0
            self._writer.write_table(waiting.slice(0, ROW_GROUP_ROWS), row_group_size=ROW_GROUP_ROWS)
            self._wait(waiting.slice(ROW_GROUP_ROWS))
        if self._bytes >= ROW_GROUP_BYTES:
            self._write_waiting()

    def _wait(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes

    def _write_waiting(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP_ROWS)
        self._waiting, self._rows, self._bytes = [], 0, 0

    def finish(self) -> None:
        """Write what still waits, and the footer."""
        self._write_waiting()
        self._writer.close()


class JsonTableWriter:
    """JSON lines: times as RFC 3339 with Z, binary columns as base64."""

    def __init__(self, file: ChecksummedFile, dataset: Dataset) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()

    def write(self, table: pa.Table) -> None:
        """Append one line for each row of ``table``."""
        for batch in table.to_batches(max_chunksize=10_000):
            self._file.write(self._encoder.encode_lines(batch.to_pylist()))

    def finish(self) -> None:
        """Write nothing: a line is complete by itself."""


WRITERS: dict[str, type[ParquetTableWriter] | type[JsonTableWriter]] = {
    "parquet": ParquetTableWriter,
    "json": JsonTableWriter,
}


def count_rows(file_format: str, file: BinaryIO) -> int:
    """Return how many rows a file holds. Raises Damaged, OSError."""
    if file_format == "json":
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
    try:
        return int(pq.ParquetFile(file).metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _as_damage(error) from None


def read_tables(
    file_format: str, file: BinaryIO, dataset: Dataset, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a file that one of the writers wrote, in pieces of bounded size.

    ``columns`` names those wanted, in the order of the schema; without it all. Raises Damaged, OSError.
    """
    schema = pa.schema([field for field in dataset.schema if columns is None or field.name in columns])
    pieces = _parquet_tables(file, schema) if file_format == "parquet" else _json_tables(file, schema)
    try:
        yield from pieces
    except (pa.ArrowException, msgspec.MsgspecError, ValueError, OverflowError, KeyError, OSError) as error:
        # A null where none may be is a ValueError, a number that is too large an OverflowError.
        raise _as_damage(error) from None


def _parquet_tables(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=65_536, columns=schema.names):
            # An older release wrote received_at as never null.
            yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def _json_tables(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.Table]:
    decoder = msgspec.json.Decoder(_row_type(schema))
    while lines := file.readlines(_JSON_PIECE_BYTES):
        rows = [decoder.decode(line) for line in lines]
        columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
        yield pa.Table.from_arrays(columns, schema=schema)


def _row_type(schema: pa.Schema) -> type[msgspec.Struct]:
    """Return the type of one JSON line, from which msgspec reads times and base64 back."""
    types = [_JSON_TYPES[field.type] | None if field.nullable else _JSON_TYPES[field.type] for field in schema]
    return msgspec.defstruct("Row", list(zip(schema.names, types, strict=True)))


def _as_damage(error: Exception) -> Exception:
    # Arrow reports damaged pages as an OSError too; only one of the system has a number.
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return Damaged((str(error).splitlines() or [type(error).__name__])[0])
