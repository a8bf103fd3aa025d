"""Write Arrow tables to files that any reader opens, and read them back: Parquet, or JSON with one object a line."""

import os
import sys
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
_BACKWARD_BYTES = 1 << 20
_JSON_TYPES: dict[pa.DataType, Any] = {
    pa.string(): str,
    pa.int32(): int,
    pa.int64(): int,
    pa.binary(): bytes,
    UTC_MICROSECONDS: datetime,
}

# Small enough that a reader can skip much, and that a writer can hold one row group in memory.
ROW_GROUP_ROWS = 250_000
# If rows are larger than usual, a row group has fewer of them.
ROW_GROUP_BYTES = 96 << 20


class Damaged(Exception):
    """The content of a file does not fit its format or its dataset; the text says what was found."""


class TableWriter(Protocol):
    """Writes the rows of one dataset to an open file."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of ``table``, which has the schema of the dataset. Raises OSError."""

    def finish(self) -> None:
        """Write what the format needs at the end of a file. Raises OSError."""


class ParquetTableWriter:
    """Parquet with zstd compression, and dictionary encoding for the columns that the dataset names."""

    def __init__(self, file: ChecksummedFile, dataset: Dataset) -> None:
        self._writer = pq.ParquetWriter(
            file, dataset.schema, compression="zstd", use_dictionary=list(dataset.dictionary), write_statistics=True
        )
        # Rows that do not fill a row group yet.
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
        """Write the last row group and the footer."""
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
        """Write nothing: JSON lines need no end."""


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

    ``columns`` names the columns to read, all if None; they come in the order of the schema. Raises Damaged, OSError.
    """
    schema = _chosen(dataset, columns)
    yield from _readable(_parquet_tables(file, schema) if file_format == "parquet" else _json_tables(file, schema))


def read_last_tables(
    file_format: str,
    file: BinaryIO,
    dataset: Dataset,
    rows: int,
    columns: Sequence[str] | None = None,
    bytes_at_most: int = sys.maxsize,
) -> Iterator[pa.Table]:
    """Yield the last ``rows`` rows of a file as ``read_tables`` does, in their order, reading little more than these.

    Once about ``bytes_at_most`` are read, fewer rows are enough, but at least one. Raises Damaged, OSError.
    """
    schema = _chosen(dataset, columns)
    if file_format == "parquet":
        yield from _readable(_last_of_parquet(file, schema, rows, bytes_at_most))
    else:
        yield from _readable(_last_of_json(file, schema, rows, bytes_at_most))


def _last_of_parquet(file: BinaryIO, schema: pa.Schema, rows: int, bytes_at_most: int) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as parquet:
        first, found, size = parquet.num_row_groups, 0, 0
        while first > 0 and found < rows and size < bytes_at_most:
            first -= 1
            group = parquet.metadata.row_group(first)
            found, size = found + group.num_rows, size + group.total_byte_size
        superfluous = max(0, found - rows)
        for table in _parquet_batches(parquet, schema, range(first, parquet.num_row_groups)):
            skipped = min(superfluous, table.num_rows)
            superfluous -= skipped
            if skipped < table.num_rows:
                yield table.slice(skipped)


def _last_of_json(file: BinaryIO, schema: pa.Schema, rows: int, bytes_at_most: int) -> Iterator[pa.Table]:
    file.seek(_start_of_last_lines(file, rows, bytes_at_most))
    yield from _json_tables(file, schema)


def _start_of_last_lines(file: BinaryIO, lines: int, bytes_at_most: int) -> int:
    """Return where the last ``lines`` lines begin; fewer, but at least one, if they take ``bytes_at_most``."""
    end = position = file.seek(0, os.SEEK_END)
    # The start of the earliest line found so far.
    start = end
    wanted = lines
    while position > 0 and wanted > 0 and (end - position < bytes_at_most or start == end):
        size = min(_BACKWARD_BYTES, position)
        position -= size
        file.seek(position)
        piece = file.read(size)
        at = len(piece)
        # The newline at the very end of the file does not begin another line, so the search starts before it.
        while wanted > 0 and (at := piece.rfind(b"\n", 0, min(at, end - 1 - position))) >= 0:
            start = position + at + 1
            wanted -= 1
    return 0 if position == 0 and wanted > 0 else start


def _chosen(dataset: Dataset, columns: Sequence[str] | None) -> pa.Schema:
    return pa.schema([field for field in dataset.schema if columns is None or field.name in columns])


def _readable(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield ``pieces``; turn errors about the content of the file into Damaged."""
    try:
        yield from pieces
    except (pa.ArrowException, msgspec.MsgspecError, ValueError, OverflowError, KeyError, OSError) as error:
        # ValueError: a null in a column that must not have one. OverflowError: a number that is too large.
        raise _as_damage(error) from None


def _parquet_tables(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.Table]:
    with pq.ParquetFile(file) as parquet:
        yield from _parquet_batches(parquet, schema, range(parquet.num_row_groups))


def _parquet_batches(parquet: pq.ParquetFile, schema: pa.Schema, groups: Sequence[int]) -> Iterator[pa.Table]:
    for batch in parquet.iter_batches(batch_size=65_536, row_groups=list(groups), columns=schema.names):
        # An older release wrote received_at as a column without nulls.
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def _json_tables(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.Table]:
    decoder = msgspec.json.Decoder(_row_type(schema))
    while lines := file.readlines(_JSON_PIECE_BYTES):
        rows = [decoder.decode(line) for line in lines]
        columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
        yield pa.Table.from_arrays(columns, schema=schema)


def _row_type(schema: pa.Schema) -> type[msgspec.Struct]:
    """Return the type of one JSON line, so that msgspec decodes times and base64."""
    types = [_JSON_TYPES[field.type] | None if field.nullable else _JSON_TYPES[field.type] for field in schema]
    return msgspec.defstruct("Row", list(zip(schema.names, types, strict=True)))


def _as_damage(error: Exception) -> Exception:
    # Arrow also raises OSError for damaged pages; only an OSError of the system has a number.
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return Damaged((str(error).splitlines() or [type(error).__name__])[0])
