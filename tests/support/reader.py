"""A reader that reads without pause and writes a line each time: ``python -m tests.support.reader LIBRARY OUTPUT``.

It reads all datasets until SIGTERM, as README.md does. If a dataset cannot be read or a count goes down, it ends with
an error. If a file that it has listed was merged, or a placeholder is in its place, it writes ``gone`` and reads again.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from runtime.process.shutdown import Shutdown

GONE = "gone"

# Gets a folder of Parquet files and a column; returns how many values the column has, or their sum.
Count = Callable[[Path, str, bool], int]

# A column of each dataset. The files of the first three are merged; the other datasets are replaced by each batch.
COUNTED = {"tickets_with_assignment": "client_id", "high_priority_tickets": "client_id", "rejected_messages": "reason"}
SUMMED = {
    "metrics": "total_tickets",
    "tickets_by_type": "count",
    "tickets_by_priority": "count",
    "tickets_by_team": "count",
    "tickets_by_hour": "count",
}


class Library(NamedTuple):
    """How a library counts, and which errors it raises for a missing file or a placeholder."""

    rows: Count
    gone: tuple[type[BaseException], ...]


def _pandas() -> Library:
    import pandas as pd
    import pyarrow as pa

    def count(folder: Path, column: str, summed: bool) -> int:
        values = pd.read_parquet(folder)[column]
        return int(values.sum() if summed else values.count())

    return Library(count, (FileNotFoundError, pa.ArrowInvalid))


def _duckdb() -> Library:
    import duckdb

    def count(folder: Path, column: str, summed: bool) -> int:
        query = f"SELECT coalesce({'sum' if summed else 'count'}({column}), 0) FROM read_parquet(?)"
        return int(duckdb.execute(query, [f"{folder}/*.parquet"]).fetchall()[0][0])

    return Library(count, (duckdb.Error,))


def _polars() -> Library:
    import polars as pl

    def count(folder: Path, column: str, summed: bool) -> int:
        try:
            values = pl.read_parquet(folder / "*.parquet")[column]
        except (Exception, pl.exceptions.PanicException):
            if not summed:
                raise
            # Polars opens a file twice. If it was replaced in between, both parts do not fit.
            print("read again", file=sys.stderr, flush=True)  # noqa: T201 - for the test
            values = pl.read_parquet(folder / "*.parquet")[column]
        return int(values.sum() if summed else values.count())

    return Library(count, (FileNotFoundError, pl.exceptions.ComputeError))


def _pyarrow() -> Library:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def count(folder: Path, column: str, summed: bool) -> int:
        values = pq.read_table(folder)[column]
        return int((pc.sum(values) if summed else pc.count(values)).as_py() or 0)

    return Library(count, (FileNotFoundError, pa.ArrowInvalid))


LIBRARIES = {"pandas": _pandas, "duckdb": _duckdb, "polars": _polars, "pyarrow": _pyarrow}


def main(name: str, output: Path) -> None:
    """Read until asked to stop. Raises whatever the library raises, and AssertionError for a wrong count."""
    # Lower the priority: four of these would leave a small machine no time to publish.
    os.nice(15)
    library, stop = LIBRARIES[name](), Shutdown().install()
    seen = dict.fromkeys([*COUNTED, *SUMMED], 0)
    while not stop.asked:
        for dataset, column in (COUNTED | SUMMED).items():
            try:
                found = library.rows(output / dataset, column, dataset in SUMMED)
            except library.gone:
                if dataset in SUMMED:
                    raise
                print(GONE, flush=True)  # noqa: T201 - how often that was, for the test
                continue
            assert found >= seen[dataset], f"{dataset} went from {seen[dataset]} to {found}"
            seen[dataset] = found
        print(seen["tickets_with_assignment"], flush=True)  # noqa: T201 - how often it has read, for the test


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
