"""The exact number of clients, whatever happens to the file that keeps them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from runtime.errors import DataConflict, OutputUnavailable
from store.clients import ClientSet, Standing


class Published:
    """The clients of the published tickets, and how often they were requested."""

    def __init__(self, *pieces: list[str]) -> None:
        self.pieces = pieces
        self.asked = 0

    def __call__(self) -> Sequence[list[str]]:
        self.asked += 1
        return self.pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clients.sqlite"


NEW = Standing()
ONE = Standing(1, "commit-1", 2)
TWO = Standing(2, "commit-2", 3)


@pytest.fixture
def two_batches(path: Path) -> Path:
    """Give a file that stands at the second commit with the clients a, b and c."""
    with closing(ClientSet(path, NEW, Published())) as clients:
        clients.add(lambda: [["a", "b"]], 1, "commit-1")
        clients.add(lambda: [["c"]], 2, "commit-2")
    return path


def test_only_new_clients_count_within_a_batch_and_across_batches(path: Path) -> None:
    with closing(ClientSet(path, NEW, Published())) as clients:
        assert clients.add(lambda: [["a", "b"], ["b", "c", "c"]], 1, "commit-1") == 3
        assert clients.add(lambda: [["c", "d"]], 2, "commit-2") == 1
        assert clients.add(lambda: [["a", "b", "c", "d"]], 3, "commit-3") == 0
        assert clients.add(list, 4, "commit-4") == 0


def test_a_file_at_the_right_commit_is_used_unchanged(two_batches: Path) -> None:
    published = Published()
    with closing(ClientSet(two_batches, TWO, published)) as clients:
        assert clients.add(lambda: [["a", "c", "x"]], 3, "commit-3") == 1
    assert published.asked == 0


def test_a_commit_that_was_not_made_is_undone(two_batches: Path) -> None:
    published = Published()
    with closing(ClientSet(two_batches, ONE, published)) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 2, "another-commit-2") == 1
    assert published.asked == 0


def test_the_first_commit_can_be_undone_too(path: Path) -> None:
    with closing(ClientSet(path, NEW, Published())) as clients:
        clients.add(lambda: [["a", "b"]], 1, "commit-1")
    published = Published()
    with closing(ClientSet(path, NEW, published)) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 1, "another-commit-1") == 3
    assert published.asked == 0


@pytest.mark.parametrize(
    "at",
    [
        Standing(6, "commit-6", 3),
        Standing(1, "commit-1-of-another-output", 3),
        Standing(2, "commit-2-of-another-output", 3),
        Standing(2, "commit-2", 4),
    ],
    ids=["behind", "ahead of another", "of another output", "another number of clients"],
)
def test_a_file_at_another_commit_is_filled_from_the_published_tickets(two_batches: Path, at: Standing) -> None:
    published = Published(["x", "y"], ["y", "z"], ["w"] if at.clients == 4 else [])
    with closing(ClientSet(two_batches, at, published)) as clients:
        assert clients.add(lambda: [["x", "y", "z", "a"]], at.commit + 1, "next") == 1
    with closing(ClientSet(two_batches, Standing(at.commit + 1, "next", at.clients + 1), published)):
        pass
    assert published.asked == 1


def test_a_lost_file_is_filled_from_the_published_tickets(path: Path) -> None:
    with closing(ClientSet(path, Standing(3, "commit-3", 2), Published(["a"], ["b"]))):
        pass
    published = Published()
    with closing(ClientSet(path, Standing(3, "commit-3", 2), published)) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 4, "commit-4") == 1
    assert published.asked == 0


def test_a_ledger_with_a_wrong_number_of_clients_is_refused(path: Path) -> None:
    with pytest.raises(DataConflict, match="the published tickets have 2 clients, but the ledger says 3"):
        ClientSet(path, Standing(3, "commit-3", 3), Published(["a"], ["b", "a"]))


def test_the_file_of_release_0_1_is_filled_again(path: Path) -> None:
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE clients (client_id TEXT PRIMARY KEY, first_batch INTEGER NOT NULL) WITHOUT ROWID")
        old.execute("INSERT INTO clients VALUES ('a', 1)")
        old.execute("PRAGMA user_version = 2")
        old.commit()
    published = Published(["a", "b", "c"])
    with closing(ClientSet(path, TWO, published)) as clients:
        assert clients.add(lambda: [["a", "b", "d"]], 3, "commit-3") == 1
    assert published.asked == 1


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_filled_from_the_published_tickets(two_batches: Path, content: bytes) -> None:
    two_batches.write_bytes(content)
    with closing(ClientSet(two_batches, TWO, Published(["a", "b", "c"]))) as clients:
        assert clients.add(lambda: [["a", "d"]], 3, "commit-3") == 1


def test_a_file_whose_making_was_interrupted_is_filled_from_the_published_tickets(two_batches: Path) -> None:
    with closing(sqlite3.connect(two_batches)) as database:
        database.execute("DROP TABLE standing")
    with closing(ClientSet(two_batches, TWO, Published(["a", "b", "c"]))) as clients:
        assert clients.add(lambda: [["a", "d"]], 3, "commit-3") == 1


def test_a_file_that_cannot_be_opened_is_left_alone_and_reported(path: Path) -> None:
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        ClientSet(path, NEW, Published())
    assert path.is_dir()


def test_a_file_damaged_behind_its_first_page_is_filled_from_the_published_tickets(path: Path) -> None:
    known = [f"CLIENT_{number}" for number in range(2000)]
    with closing(ClientSet(path, NEW, Published())) as clients:
        clients.add(lambda: [known], 1, "commit-1")
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with closing(ClientSet(path, Standing(1, "commit-1", 2000), Published(known))) as clients:
        assert clients.add(lambda: [known, ["new"]], 2, "commit-2") == 1


def test_client_ids_that_differ_in_any_character_are_different_clients(path: Path) -> None:
    hostile = [
        "",
        "a",
        "A",
        "a ",
        "a\x00",
        "a\x00b",
        "é",
        "e\u0301",
        "\u202ea",
        "🎫",
        "../a",
        "'; DROP TABLE clients; --",
    ]
    with closing(ClientSet(path, NEW, Published())) as clients:
        assert clients.add(lambda: [hostile], 1, "commit-1") == 12
        assert clients.add(lambda: [hostile], 2, "commit-2") == 0


def test_a_file_that_cannot_be_written_is_an_operational_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        ClientSet(tmp_path, NEW, Published())


def test_a_set_that_could_not_be_filled_does_not_lock_its_file(two_batches: Path) -> None:
    def unreadable() -> Sequence[list[str]]:
        raise OutputUnavailable("a published file cannot be read")

    other = Standing(7, "commit-7", 1)
    # The error refers to the set that could not be made, so keep it until here.
    with pytest.raises(OutputUnavailable) as kept:
        ClientSet(two_batches, other, unreadable)
    with closing(sqlite3.connect(two_batches, timeout=0)) as database:
        database.execute("DELETE FROM clients")
    with closing(ClientSet(two_batches, other, Published(["d"]))) as clients:
        assert clients.add(lambda: [["d", "e"]], 8, "commit-8") == 1
    assert kept.value.exit_code == 5
