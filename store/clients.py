"""The set of all clients so far: ``unique_clients`` is exact, at a cost that depends on the new tickets only."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import DataConflict
from store.datasets import TICKETS
from store.files import writing
from store.manifest import WAY_OUT, Manifest
from store.output import Output

# Distinguishes our file from that of release 0.1, which kept a batch number where this one keeps a commit.
_APPLICATION_ID = 0x54494B32

Clients = Callable[[], Iterable[list[str]]]


class Standing(NamedTuple):
    """A commit, and how many clients the output had after it. Before the first commit: number 0 and no id."""

    commit: int = 0
    commit_id: str = ""
    clients: int = 0


class ClientSet:
    """Clients, each with the commit that first brought it, in a SQLite file that says at which commit it stands.

    The file is committed before the output is. If the commit of the output then fails, the next start undoes what was
    added for it. If the file stands at any other commit, or is lost or damaged, it is filled again from the published
    tickets. So it is a cache and can be deleted.
    """

    def __init__(self, path: Path, at: Standing, published_clients: Clients) -> None:
        """Open the set as of the commit ``at``; ``published_clients`` yields the clients of all published tickets.

        Raises sqlite3.OperationalError when the file cannot be written, DataConflict when the published tickets do not
        have as many clients as the ledger says.
        """
        self.path = path
        self._at = at
        self._published_clients = published_clients
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if _is_of_the_disk(error):
                raise
            self._start_anew()

    def _start_anew(self) -> None:
        """Replace a file that is damaged or not ours: its content can be derived again, so this is not an error."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.path.with_name(self.path.name + "-journal").unlink(missing_ok=True)
        self._open()

    def _open(self) -> None:
        self._database = sqlite3.connect(self.path)
        try:
            self._stand()
        except BaseException:
            # A transaction that stays open would lock the file when this process tries again.
            self.close()
            raise

    def _stand(self) -> None:
        # Overwrite what is deleted: it may be a client who is to be erased.
        self._database.execute("PRAGMA secure_delete = ON")
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        if tables and application != _APPLICATION_ID:
            raise sqlite3.DatabaseError("written by another release")
        if not tables:
            self._create()
        found = self._database.execute("SELECT commit_number, commit_id, clients, follows FROM standing").fetchone()
        if found is None:
            raise sqlite3.DatabaseError("it does not say where it stands")
        if found[:3] == self._at:
            return
        if found[3] == self._at.commit_id:
            # The commit after ours was prepared in this file but never made: undo it.
            self._database.execute("DELETE FROM clients WHERE since_commit > ?", (self._at.commit,))
        if found[3] != self._at.commit_id or self._count() != self._at.clients:
            self._fill()
        self._stand_at(self._at, "")

    def _create(self) -> None:
        self._database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._database.execute(
            "CREATE TABLE clients (client_id TEXT PRIMARY KEY, since_commit INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._database.execute(
            "CREATE TABLE standing (commit_number INTEGER, commit_id TEXT, clients INTEGER, follows TEXT)"
        )
        self._database.execute("INSERT INTO standing VALUES (0, '', 0, NULL)")
        self._database.commit()

    def _fill(self) -> None:
        self._database.execute("DELETE FROM clients")
        for client_ids in self._published_clients():
            self._insert(client_ids, self._at.commit)
        if (found := self._count()) != self._at.clients:
            self._database.rollback()
            raise DataConflict(
                f"the published tickets have {found:,} clients, but the ledger says {self._at.clients:,}; {WAY_OUT}"
            )

    def _count(self) -> int:
        (number,) = self._database.execute("SELECT count(*) FROM clients").fetchone()
        return int(number)

    def add(self, clients: Clients, commit: int, commit_id: str) -> int:
        """Add the clients of the next commit, and return how many of them are new."""
        try:
            return self._add(clients(), commit, commit_id)
        except sqlite3.DatabaseError as error:
            if _is_of_the_disk(error):
                raise
            self._start_anew()
            return self._add(clients(), commit, commit_id)

    def _add(self, clients: Iterable[list[str]], commit: int, commit_id: str) -> int:
        before = self._database.total_changes
        for some in clients:
            self._insert(some, commit)
        new = self._database.total_changes - before
        follows, self._at = self._at.commit_id, Standing(commit, commit_id, self._at.clients + new)
        self._stand_at(self._at, follows)
        return new

    def remove(self, clients: Iterable[str], commit: int, commit_id: str) -> int:
        """Remove clients with the next commit, and return how many of them were in the set."""
        before = self._database.total_changes
        self._database.executemany("DELETE FROM clients WHERE client_id = ?", ((client,) for client in clients))
        removed = self._database.total_changes - before
        follows, self._at = self._at.commit_id, Standing(commit, commit_id, self._at.clients - removed)
        self._stand_at(self._at, follows)
        return removed

    def _insert(self, client_ids: Iterable[str], commit: int) -> None:
        self._database.executemany("INSERT OR IGNORE INTO clients VALUES (?, ?)", ((c, commit) for c in client_ids))

    def _stand_at(self, at: Standing, follows: str) -> None:
        """Write the commit in the same transaction as the rows, so that both are there or neither."""
        self._database.execute(
            "UPDATE standing SET commit_number = ?, commit_id = ?, clients = ?, follows = ?", (*at, follows)
        )
        self._database.commit()

    def close(self) -> None:
        self._database.close()


def _is_of_the_disk(error: sqlite3.DatabaseError) -> bool:
    """Whether the disk refused. Otherwise the content is wrong: a kill may have left only some of the tables."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR


def open_clients(output: Output, manifest: Manifest | None) -> ClientSet:
    """Return the client set of an output as of ``manifest``.

    Raises OutputUnavailable when it cannot be written, DataConflict when the published tickets are not what they were.
    """

    def published() -> Iterator[list[str]]:
        if manifest is None:
            return
        reader = output.reader(manifest)
        for name in reader.files(TICKETS):
            reader.require_intact(TICKETS, name)
            for table in reader.tables_of(TICKETS, name, ["client_id"]):
                yield table["client_id"].unique().to_pylist()

    at = Standing(manifest.commit, manifest.commit_id, manifest.totals.unique_clients) if manifest else Standing()
    path = output.state / "clients.sqlite"
    with writing(path):
        return ClientSet(path, at, published)
