"""The exact number of clients, whatever happens to the file that remembers them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from store.clients import ClientSet


class Published:
    """The clients of the published tickets, and how often somebody asked for them."""

    def __init__(self, *pieces: list[str]) -> None:
        self.pieces = pieces
        self.asked = 0

    def __call__(self) -> Sequence[list[str]]:
        self.asked += 1
        return self.pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clients.sqlite"


@pytest.fixture
def two_batches(path: Path) -> Path:
    """Give a file that stands at batch 2 with the clients a, b and c."""
    with closing(ClientSet(path, 0, Published())) as clients:
        clients.add(lambda: [["a", "b"]], 1)
        clients.add(lambda: [["c"]], 2)
    return path


def test_only_new_clients_count_within_a_batch_and_across_batches(path: Path) -> None:
    with closing(ClientSet(path, 0, Published())) as clients:
        assert clients.add(lambda: [["a", "b"], ["b", "c", "c"]], 1) == 3
        assert clients.add(lambda: [["c", "d"]], 2) == 1
        assert clients.add(lambda: [["a", "b", "c", "d"]], 3) == 0
        assert clients.add(list, 4) == 0


def test_a_file_that_stands_at_the_batch_is_taken_as_it_is(two_batches: Path) -> None:
    published = Published()
    with closing(ClientSet(two_batches, 2, published)) as clients:
        assert clients.add(lambda: [["a", "c", "x"]], 3) == 1
    assert published.asked == 0


def test_a_batch_that_was_not_committed_is_undone(two_batches: Path) -> None:
    published = Published()
    with closing(ClientSet(two_batches, 1, published)) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 2) == 1
    assert published.asked == 0


def test_the_first_batch_can_be_undone_too(two_batches: Path) -> None:
    with closing(ClientSet(two_batches, 0, Published())) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 1) == 3


def test_a_file_that_is_behind_is_filled_from_the_published_tickets(two_batches: Path) -> None:
    published = Published(["x", "y"], ["y", "z"])
    with closing(ClientSet(two_batches, 5, published)) as clients:
        assert clients.add(lambda: [["x", "y", "z", "a"]], 6) == 1
    with closing(ClientSet(two_batches, 6, published)):
        pass
    assert published.asked == 1


def test_a_lost_file_is_filled_from_the_published_tickets(path: Path) -> None:
    with closing(ClientSet(path, 3, Published(["a"], ["b"]))):
        pass
    published = Published()
    with closing(ClientSet(path, 3, published)) as clients:
        assert clients.add(lambda: [["a", "b", "c"]], 4) == 1
    assert published.asked == 0


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_filled_from_the_published_tickets(two_batches: Path, content: bytes) -> None:
    two_batches.write_bytes(content)
    with closing(ClientSet(two_batches, 2, Published(["a", "b", "c"]))) as clients:
        assert clients.add(lambda: [["a", "d"]], 3) == 1


def test_a_file_damaged_behind_its_first_page_is_filled_from_the_published_tickets(path: Path) -> None:
    known = [f"CLIENT_{number}" for number in range(2000)]
    with closing(ClientSet(path, 0, Published())) as clients:
        clients.add(lambda: [known], 1)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with closing(ClientSet(path, 1, Published(known))) as clients:
        assert clients.add(lambda: [known, ["new"]], 2) == 1


def test_ids_are_kept_apart_to_the_letter(path: Path) -> None:
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
    with closing(ClientSet(path, 0, Published())) as clients:
        assert clients.add(lambda: [hostile], 1) == 12
        assert clients.add(lambda: [hostile], 2) == 0


def test_a_file_that_cannot_be_written_is_an_operational_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        ClientSet(tmp_path, 0, Published())
