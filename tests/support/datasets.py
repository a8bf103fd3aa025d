"""Query published datasets in SQL, and compare them with each other."""

from pathlib import Path
from typing import Any

import duckdb

from runtime.settings.location import OutputLocation
from store.datasets import DATASETS
from store.reader import open_output
from store.verify import verify


class Published:
    """The datasets of an output, each as a table of its name.

    Queries go through the product's reader. It is checked that its files are all files in the folders, and so what any
    other reader sees.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._database = duckdb.connect()
        self._database.execute("SET TimeZone = 'UTC'")
        reader = open_output(OutputLocation(output))
        assert reader is not None, f"nothing was published in {output}"
        for dataset in DATASETS:
            assert {file.name for file in (output / dataset.name).iterdir()} == set(reader.files(dataset))
            self._database.register(dataset.name, reader.table(dataset))

    def files(self, dataset: str) -> list[str]:
        """Return the names of the files of ``dataset``."""
        return sorted(file.name for file in (self.output / dataset).iterdir())

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

    def require_agreement(self, teams: int = 4) -> None:
        """Fail unless all datasets and the ledger agree, according to both the product's --verify and SQL.

        ``teams`` is the number of teams that are listed.
        """
        differences = verify(OutputLocation(self.output)).differences
        assert differences == []
        self.require_agreement_in_sql(teams)

    def require_agreement_in_sql(self, teams: int = 4) -> None:
        """Fail unless every dataset agrees with the rows of tickets_with_assignment."""
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
            ("tickets_by_team", "assigned_team", teams),
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
        assert self.rows("SELECT * FROM high_priority_tickets ORDER BY ALL") == self.rows(urgent)
        assert self.value(f"SELECT count(*) - count(DISTINCT ticket_id) FROM {tickets}") == 0
