"""A reader that never rests and writes a line each time: ``python -m tests.support.reader LIBRARY OUTPUT [patient]``.

It reads until SIGTERM. It ends with an error as soon as a dataset cannot be read or a count goes down. A patient one
writes ``gone`` when a file that was listed is not there any more, or is a placeholder, and reads again. Each reads as
README.md does.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from runtime.process.shutdown import Shutdown

GONE = "gone"

# The library, given a folder of Parquet files, returns the number of rows in them.
Count = Callable[[Path], int]


class Library(NamedTuple):
    """How a library counts, and what it raises for a file that is not there, or is a placeholder."""

    count: Count
    gone: tuple[type[BaseException], ...]


def _pandas() -> Library:
    import pandas as pd
    import pyarrow as pa

    return Library(lambda folder: len(pd.read_parquet(folder)), (FileNotFoundError, pa.ArrowInvalid))


def _duckdb() -> Library:
    import duckdb

    query = "SELECT count(client_id) FROM read_parquet(?)"
    return Library(
        lambda folder: int(duckdb.execute(query, [f"{folder}/*.parquet"]).fetchall()[0][0]),
        (duckdb.Error,),
    )


def _polars() -> Library:
    import polars as pl

    gone = (FileNotFoundError, pl.exceptions.ComputeError)
    return Library(lambda folder: len(pl.read_parquet(folder / "*.parquet")), gone)


def _pyarrow() -> Library:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return Library(lambda folder: int(pq.read_table(folder).num_rows), (FileNotFoundError, pa.ArrowInvalid))


LIBRARIES = {"pandas": _pandas, "duckdb": _duckdb, "polars": _polars, "pyarrow": _pyarrow}


def main(name: str, output: Path, patient: bool) -> None:
    """Read until asked to stop. Raises whatever the library raises, and AssertionError for a wrong count."""
    # Four of these would otherwise leave a small machine nothing to publish with.
    os.nice(15)
    library, stop = LIBRARIES[name](), Shutdown().install()
    seen = {"tickets_with_assignment": 0, "high_priority_tickets": 0}
    while not stop.asked:
        for dataset in seen:
            try:
                rows = library.count(output / dataset)
            except library.gone:
                if not patient:
                    raise
                print(GONE, flush=True)  # noqa: T201 - how often that was, for the test
                continue
            assert rows >= seen[dataset], f"{dataset} went from {seen[dataset]} rows to {rows}"
            seen[dataset] = rows
        print(seen["tickets_with_assignment"], flush=True)  # noqa: T201 - how often it has read, for the test


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "patient" in sys.argv[3:])
