"""The set of all clients ever seen, so that ``unique_clients`` is exact and costs only what is new."""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path


class ClientSet:
    """Clients with the batch that first brought them, in a SQLite file that stands at a known batch.

    The file is committed before the batch is: a batch that then fails is undone at the next start, and a file that was
    lost or is behind is filled again from the published tickets.
    """

    def __init__(self, path: Path, batch_id: int, published_clients: Callable[[], Iterable[list[str]]]) -> None:
        """Open the set as it was after ``batch_id``; ``published_clients`` yields the clients of all published tickets.

        Raises sqlite3.OperationalError when the file cannot be written.
        """
        self._path = path
        try:
            self._open(batch_id, published_clients)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # It can be derived again, so a damaged file is not worth stopping for.
            self.close()
            path.unlink(missing_ok=True)
            path.with_name(path.name + "-journal").unlink(missing_ok=True)
            self._open(batch_id, published_clients)

    def _open(self, batch_id: int, published_clients: Callable[[], Iterable[list[str]]]) -> None:
        self._database = sqlite3.connect(self._path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS clients"
            " (client_id TEXT PRIMARY KEY, first_batch INTEGER NOT NULL) WITHOUT ROWID"
        )
        (standing,) = self._database.execute("PRAGMA user_version").fetchone()
        if standing > batch_id:
            self._database.execute("DELETE FROM clients WHERE first_batch > ?", (batch_id,))
            self._commit(batch_id)
        elif standing < batch_id:
            self._database.execute("DELETE FROM clients")
            for client_ids in published_clients():
                self._insert(client_ids, batch_id)
            self._commit(batch_id)

    def add(self, client_ids: Iterable[Iterable[str]], batch_id: int) -> int:
        """Add the clients of a batch and return how many of them are new."""
        before = self._database.total_changes
        for some in client_ids:
            self._insert(some, batch_id)
        new = self._database.total_changes - before
        self._commit(batch_id)
        return new

    def _insert(self, client_ids: Iterable[str], batch_id: int) -> None:
        self._database.executemany("INSERT OR IGNORE INTO clients VALUES (?, ?)", ((c, batch_id) for c in client_ids))

    def _commit(self, batch_id: int) -> None:
        # user_version lives in the file's header and changes in the same transaction as the rows.
        self._database.execute(f"PRAGMA user_version = {int(batch_id)}")
        self._database.commit()

    def close(self) -> None:
        """Close the file."""
        self._database.close()
