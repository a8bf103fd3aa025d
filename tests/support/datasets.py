"""Look at published datasets from outside, with DuckDB: what a user's query would see."""

from pathlib import Path
from typing import Any

import duckdb

from store.datasets import DATASETS


class Published:
    """The datasets under an output folder, as SQL views of their names."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._database = duckdb.connect()
        self._database.execute("SET TimeZone = 'UTC'")
        for dataset in DATASETS:
            files = sorted((output / dataset.name).iterdir())
            reader = "read_parquet" if files[0].suffix == ".parquet" else "read_json"
            names = ", ".join(f"'{file}'" for file in files if file.stat().st_size)
            if names:
                self._database.execute(f"CREATE VIEW {dataset.name} AS SELECT * FROM {reader}([{names}])")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``."""
        return self._database.execute(query).fetchall()

    def value(self, query: str) -> Any:
        """Return the one value of ``query``."""
        ((value,),) = self.rows(query)
        return value

    def count(self, dataset: str) -> int:
        """Return how many rows ``dataset`` has."""
        return int(self.value(f"SELECT count(*) FROM {dataset}"))

    def require_agreement(self) -> None:
        """Fail unless every dataset says the same as the rows of tickets_with_assignment."""
        tickets = "tickets_with_assignment"
        totals = self.rows(
            """
            SELECT total_tickets, account_count, billing_count, technical_count, general_count, low_priority_count,
                   medium_priority_count, high_priority_count, critical_priority_count, unique_clients FROM metrics
            """
        )
        counted = ", ".join(
            ["count(*)"]
            + [f"count(*) FILTER (request_type = '{name}')" for name in ("account", "billing", "technical", "general")]
            + [f"count(*) FILTER (priority = '{name}')" for name in ("low", "medium", "high", "critical")]
            + ["count(DISTINCT client_id)"]
        )
        assert totals == self.rows(f"SELECT {counted} FROM {tickets}")
        for dataset, column, names in (
            ("tickets_by_type", "request_type", 4),
            ("tickets_by_priority", "priority", 4),
            ("tickets_by_team", "assigned_team", 4),
        ):
            summary = self.rows(f"SELECT {column}, count FROM {dataset}")
            assert len(summary) == names
            assert [count for _, count in summary] == sorted((count for _, count in summary), reverse=True)
            assert {row for row in summary if row[1]} == set(
                self.rows(f"SELECT {column}, count(*) FROM {tickets} GROUP BY 1")
            )
        hour = "date_trunc('hour', created_at)"
        assert self.rows("SELECT hour, request_type, priority, count FROM tickets_by_hour ORDER BY ALL") == self.rows(
            f"SELECT {hour}, request_type, priority, count(*) FROM {tickets} GROUP BY ALL ORDER BY ALL"
        )
        urgent = f"SELECT * FROM {tickets} WHERE priority IN ('high', 'critical') ORDER BY ALL"
        if self.rows(urgent):
            assert self.rows("SELECT * FROM high_priority_tickets ORDER BY ALL") == self.rows(urgent)
        assert self.value(f"SELECT count(*) - count(DISTINCT ticket_id) FROM {tickets}") == 0


def published_files(output: Path) -> dict[str, bytes]:
    """Return every published file with its content; times that differ from run to run are not among them."""
    return {
        str(file.relative_to(output)): file.read_bytes()
        for dataset in DATASETS
        for file in sorted((output / dataset.name).glob("*"))
        if dataset.name != "metrics"
    }
