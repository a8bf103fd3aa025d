"""Messages of forgotten clients that were still unread."""

from contract.columns import decode_columns
from contract.ticket import encode
from processor.consume import Piece
from processor.forgotten import concerning, erased_rows, leave_out
from processor.plan import OffsetRange
from store.erasure import erasure_of
from tests.support.staging import messages, ticket

PIECE = messages(
    [
        encode(ticket(0)),
        b"CLIENT_1 has lost the password",
        encode(ticket(1, client_id="CLIENT_2")),
        b'{"client_id": "CLIENT_2"}',
        encode(ticket(2, client_id="CLIENT_9", request="CLIENT_1 sent me")),
        None,
        encode(ticket(3)),
        b"CLIENT_1 again",
    ],
    partition=2,
    first_offset=40,
)


def rows(client_ids: list[str], below: dict[int, int], piece: Piece = PIECE) -> set[int]:
    return erased_rows([erasure_of(client_ids, below)], piece, decode_columns(piece.values))


def test_tickets_of_the_client_and_rejected_messages_that_name_it_are_left_out() -> None:
    # A ticket of another client that only mentions the client stays.
    assert rows(["CLIENT_1"], {2: 1_000}) == {0, 1, 6, 7}
    assert rows(["CLIENT_2"], {2: 1_000}) == {2, 3}
    assert rows(["CLIENT_3"], {2: 1_000}) == set()


def test_what_came_after_the_erasure_is_published() -> None:
    assert rows(["CLIENT_1"], {2: 46}) == {0, 1}
    assert rows(["CLIENT_1"], {2: 47}) == {0, 1, 6}
    assert rows(["CLIENT_1"], {0: 1_000}) == set()


def test_the_key_of_a_rejected_message_decides_too() -> None:
    assert rows(["key"], {2: 1_000}) == {1, 3, 5, 7}


def test_several_erasures_each_with_its_own_end() -> None:
    erasures = [erasure_of(["CLIENT_1"], {2: 41}), erasure_of(["CLIENT_2"], {2: 43})]
    assert erased_rows(erasures, PIECE, decode_columns(PIECE.values)) == {0, 2}


def test_leaving_out_messages_gives_a_piece_that_never_had_them() -> None:
    left = leave_out(PIECE, {0, 1, 6, 7})
    assert [message.offset() for message in left.messages] == [42, 43, 44, 45]
    assert left.values == PIECE.values[2:6]
    assert left.read == PIECE.read


def test_a_batch_gets_only_the_erasures_of_its_own_ranges() -> None:
    erasures = [erasure_of(["a"], {0: 10}), erasure_of(["b"], {1: 10}), erasure_of(["c"], {1: 5})]
    assert concerning(erasures, [OffsetRange(1, 5, 20)]) == (erasures[1],)
    assert concerning(erasures, [OffsetRange(0, 10, 20)]) == ()
