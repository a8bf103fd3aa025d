"""A reader that never rests and writes a line each time: ``python -m tests.support.reader LIBRARY OUTPUT``.

It reads until SIGTERM. It ends with an error as soon as a dataset cannot be read or a count goes down.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from runtime.process.shutdown import Shutdown

# The library, given a folder of Parquet files, returns the number of rows in them.
Count = Callable[[Path], int]


def _pandas() -> Count:
    import pandas as pd

    return lambda folder: len(pd.read_parquet(folder))


def _duckdb() -> Count:
    import duckdb

    query = "SELECT count(client_id) FROM read_parquet(?)"
    return lambda folder: int(duckdb.execute(query, [f"{folder}/*.parquet"]).fetchall()[0][0])


def _polars() -> Count:
    import polars as pl

    return lambda folder: len(pl.read_parquet(folder / "*.parquet"))


def _pyarrow() -> Count:
    import pyarrow.parquet as pq

    return lambda folder: int(pq.read_table(folder).num_rows)


LIBRARIES = {"pandas": _pandas, "duckdb": _duckdb, "polars": _polars, "pyarrow": _pyarrow}


def main(library: str, output: Path) -> None:
    """Read until asked to stop. Raises whatever the library raises, and AssertionError for a wrong count."""
    # Four of these would otherwise leave a small machine nothing to publish with.
    os.nice(15)
    count, stop = LIBRARIES[library](), Shutdown().install()
    seen = {"tickets_with_assignment": 0, "high_priority_tickets": 0}
    while not stop.asked:
        for dataset in seen:
            rows = count(output / dataset)
            assert rows >= seen[dataset], f"{dataset} went from {seen[dataset]} rows to {rows}"
            seen[dataset] = rows
        print(seen["tickets_with_assignment"], flush=True)  # noqa: T201 - how often it has read, for the test


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
