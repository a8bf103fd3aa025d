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
        self._batch_id = batch_id
        self._published_clients = published_clients
        try:
            self._open()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._start_anew()

    def _start_anew(self) -> None:
        """Give up a damaged file: it can be derived again, so it is not worth stopping for."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
        self._open()

    def _open(self) -> None:
        batch_id = self._batch_id
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
            for client_ids in self._published_clients():
                self._insert(client_ids, batch_id)
            self._commit(batch_id)

    def add(self, clients_of_batch: Callable[[], Iterable[list[str]]], batch_id: int) -> int:
        """Add the clients of a batch and return how many of them are new."""
        try:
            return self._add(clients_of_batch(), batch_id)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._start_anew()
            return self._add(clients_of_batch(), batch_id)

    def _add(self, client_ids: Iterable[list[str]], batch_id: int) -> int:
        before = self._database.total_changes
        for some in client_ids:
            self._insert(some, batch_id)
        new = self._database.total_changes - before
        self._commit(batch_id)
        self._batch_id = batch_id
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
