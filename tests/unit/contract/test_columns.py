"""Decoding many messages to columns gives the same results as ``decode`` for each message."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

import contract.columns
from contract.arrays import bytes_of
from contract.columns import TICKET_SCHEMA, decode_columns
from contract.fields import read_texts
from contract.layout import Layout
from contract.ticket import FIELDS, InvalidTicket, Ticket, decode, encode
from tests.support import golden, hostile

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ID = "3e476c38-2a7f-4d89-a08f-9e5f60456fa3"
HELP = (
    b'{"ticket_id":"3e476c38-2a7f-4d89-a08f-9e5f60456fa3","client_id":"CLIENT_7","created_at":"2026-01-31T09:30:00Z",'
    b'"request":"Help","request_type":"billing","priority":"low"}'
)
# 2026-01-31T09:30:00Z
INSTANT = 1_769_851_800_000_000

# CLIENT_TICKETS_EXAMPLES=100000 tries more examples than the suite has time for.
EXAMPLES = int(os.environ.get("CLIENT_TICKETS_EXAMPLES", "50"))


def rows_of(tickets: pa.Table) -> list[tuple[object, ...]]:
    """Return the rows, with ``created_at`` in microseconds since 1970."""
    instants = tickets.column("created_at").cast(pa.int64())
    return list(zip(*tickets.set_column(2, "created_at", instants).to_pydict().values(), strict=True))


def one_by_one(messages: Sequence[bytes | None]) -> tuple[list[tuple[object, ...]], list[int], list[str]]:
    """Return the rows of the tickets, the positions of the rejected messages, and the reasons."""
    rows: list[tuple[object, ...]] = []
    rejected, reasons = [], []
    for position, message in enumerate(messages):
        try:
            ticket = decode(message)
        except InvalidTicket as error:
            rejected.append(position)
            reasons.append(str(error))
        else:
            instant = (ticket.created_at - EPOCH) // timedelta(microseconds=1)
            rows.append(tuple(instant if name == "created_at" else getattr(ticket, name) for name in FIELDS))
    return rows, rejected, reasons


def assert_both_ways_agree(messages: Sequence[bytes | None]) -> None:
    decoded = decode_columns(messages)
    decoded.tickets.validate(full=True)
    assert decoded.tickets.schema == TICKET_SCHEMA
    assert (rows_of(decoded.tickets), decoded.rejected, decoded.reasons) == one_by_one(messages)


@pytest.fixture
def no_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a message goes through ``decode``, except the one from which the layout is taken."""

    def refuse(message: bytes | None) -> Ticket:
        raise AssertionError(f"decoded one by one: {message!r}")

    monkeypatch.setattr(contract.columns, "decode", refuse)


@given(hostile.batches())
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_both_ways_agree_on_hostile_messages(messages: list[bytes | None]) -> None:
    assert_both_ways_agree(messages)
    # In this order other messages come first, and the layout is taken from them.
    assert_both_ways_agree(messages[::-1])


def test_both_ways_agree_on_the_golden_messages_in_one_batch() -> None:
    tickets = golden.tickets()
    rejected = [example.message for example in golden.rejected()]
    mixed = [message for pair in zip(tickets * 3, rejected, strict=False) for message in pair]

    assert_both_ways_agree(mixed)
    assert decode_columns(mixed).reasons == [example.reason for example in golden.rejected()]


def test_the_tickets_come_in_order_and_the_rejected_messages_by_position_and_reason() -> None:
    decoded = decode_columns([HELP, None, HELP.replace(b"low", b"high"), b"{}{}", HELP.replace(b"Help", b"1\\n2")])

    assert rows_of(decoded.tickets) == [
        (ID, "CLIENT_7", INSTANT, "Help", "billing", "low"),
        (ID, "CLIENT_7", INSTANT, "Help", "billing", "high"),
        (ID, "CLIENT_7", INSTANT, "1\n2", "billing", "low"),
    ]
    assert decoded.rejected == [1, 3]
    assert decoded.reasons == ["no value (a tombstone)", "not JSON: JSON is malformed: trailing characters (byte 3)"]


def test_the_columns_are_those_of_the_contract() -> None:
    assert decode_columns([HELP]).tickets.schema == pa.schema(
        [
            pa.field("ticket_id", pa.string(), nullable=False),
            pa.field("client_id", pa.string(), nullable=False),
            pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("request", pa.string(), nullable=False),
            pa.field("request_type", pa.string(), nullable=False),
            pa.field("priority", pa.string(), nullable=False),
        ]
    )


@pytest.mark.parametrize("messages", [[], [None], [b""], [b"", None, b"\xff"], [b"{}"] * 20])
def test_without_any_ticket_the_table_is_empty(messages: list[bytes | None]) -> None:
    decoded = decode_columns(messages)

    assert decoded.tickets == TICKET_SCHEMA.empty_table()
    assert decoded.rejected == list(range(len(messages)))


def test_positions_count_over_pieces() -> None:
    messages: list[bytes | None] = [HELP] * 10_000
    wrong = [0, 4_095, 4_096, 4_097, 8_191, 9_999]
    for position in wrong:
        messages[position] = b"wrong"
    odd = HELP.replace(b'"low"', b'"low","x":1')
    messages[4_098] = messages[8_192] = odd.replace(b"Help", b"odd")

    decoded = decode_columns(messages)

    assert decoded.rejected == wrong
    assert decoded.tickets.num_rows == 9_994
    requests = decoded.tickets["request"].to_pylist()
    assert [row for row, request in enumerate(requests) if request == "odd"] == [4_094, 8_187]


@pytest.mark.usefixtures("no_decode")
@pytest.mark.parametrize(
    "message",
    [
        HELP,
        json.dumps(json.loads(HELP)).encode(),
        json.dumps(json.loads(HELP), indent=2, sort_keys=True).encode(),
        HELP.replace(b"Help", "Grüße, 你好 🙂".encode()),
        HELP.replace(b"Help", rb"Gr\u00fc\u00dfe\n\\ \/ \ud83d\ude42 \u0000\t."),
        HELP.replace(b"CLIENT_7", "é".encode() * 32),
        HELP.replace(b"CLIENT_7", b"x" * 64),
        HELP.replace(b"3e476c38-2a7f", b"3E476C38-2A7F"),
        HELP.replace(b"00Z", b"00.5Z"),
        HELP.replace(b"00Z", b"00.123Z"),
        HELP.replace(b"00Z", b"00.123456Z"),
        HELP.replace(b"00Z", b"00+00:00"),
        HELP.replace(b"00Z", b"00.123456+00:00"),
        HELP.replace(b"2026-01-31", b"2024-02-29"),
        HELP.replace(b"2026-01-31T09:30:00", b"0001-01-01T00:00:00"),
        HELP.replace(b"2026-01-31T09:30:00", b"9999-12-31T23:59:59.999999"),
    ],
)
def test_what_usual_writers_write_is_read_without_decode(message: bytes) -> None:
    decoded = decode_columns([message] * 3)

    assert rows_of(decoded.tickets) == one_by_one([message] * 3)[0]


@pytest.mark.usefixtures("no_decode")
def test_a_quote_in_a_text_is_read_without_decode() -> None:
    decoded = decode_columns([HELP, HELP.replace(b"Help", rb"\"Help\", \\\" he said")])

    assert decoded.tickets["request"].to_pylist() == ["Help", '"Help", \\" he said']


@pytest.mark.usefixtures("no_decode")
def test_each_ticket_of_a_mixed_batch_is_read_in_the_layout_of_the_first() -> None:
    texts = [f"{number} {'x' * (number % 50)}" for number in range(200)]
    messages = [
        encode(Ticket(ID, f"CLIENT_{len(text)}", EPOCH + timedelta(seconds=len(text)), text, "account", "critical"))
        for text in texts
    ]

    assert rows_of(decode_columns(messages).tickets) == [
        (ID, f"CLIENT_{len(text)}", 1_000_000 * len(text), text, "account", "critical") for text in texts
    ]


DAYS = [
    f"{year:04d}-{month:02d}-{day:02d}"
    for year in (0, 1, 4, 100, 400, 1582, 1900, 1970, 2000, 2023, 2024, 9999)
    for month in range(14)
    for day in range(33)
]


def test_both_ways_agree_on_the_calendar() -> None:
    assert_both_ways_agree([HELP, *(HELP.replace(b"2026-01-31", day.encode()) for day in DAYS)])


@pytest.mark.parametrize("part", ["{:02d}:30:00", "09:{:02d}:00", "09:30:{:02d}"])
def test_both_ways_agree_on_the_clock(part: str) -> None:
    assert_both_ways_agree([HELP, *(HELP.replace(b"09:30:00", part.format(n).encode()) for n in range(100))])


def test_both_ways_agree_on_every_byte_of_a_text_alone_and_after_a_backslash() -> None:
    for name in (b"Help", b"CLIENT_7"):
        for before in (b"", b"x", b"\\", b"\\\\", b"\\u00", b"\xc3"):
            # Also one by one, because one wrong byte sends the whole piece through ``decode``.
            messages = [HELP.replace(name, before + bytes([byte])) for byte in range(256)]
            assert_both_ways_agree([HELP, *messages])
            for message in messages[::16]:
                assert_both_ways_agree([HELP, message])


def test_both_ways_agree_on_other_characters_in_a_uuid() -> None:
    ids = [ID[:place] + character + ID[place + 1 :] for place in range(36) for character in "09afAF/:`g@G-xX_é\0"]

    assert_both_ways_agree([HELP, *(HELP.replace(ID.encode(), id_.encode()) for id_ in ids)])


def test_both_ways_agree_on_other_characters_in_a_time() -> None:
    for time in ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00.123456Z", "2026-01-31T09:30:00.5+00:00"):
        times = [
            time[:place] + character + time[place + 1 :]
            for place in range(len(time))
            for character in "0159/:Zz+-.Tt é"
        ]
        assert_both_ways_agree([HELP, *(HELP.replace(b"2026-01-31T09:30:00Z", time.encode()) for time in times)])


# Where the message in the middle differs from its neighbours, and what the request of the ticket is, if it is one.
@pytest.mark.parametrize(
    ("message", "request_text"),
    [
        # Two strings between the outer quotes; msgspec would read a line break between them as the end of a message.
        (HELP.replace(b"Help", b'a"\n"b'), None),
        (HELP.replace(b"Help", b'a\\\\"\n"b'), None),
        # The last value counts.
        (HELP.replace(b"Help", b'a","request":"b'), "b"),
        (HELP.replace(b"Help", b'a\\","request":"b'), None),
        (HELP.replace(b"Help", b'a\\\\","request":"b'), "b"),
        (HELP.replace(b"Help", b"C:\\\\"), "C:\\"),
        # One quote too few, and one too many.
        (HELP.replace(b"Help", b"Help\\"), None),
        (HELP.replace(b'"Help"', b"null"), None),
        (HELP.replace(b"Help", b"He\nlp"), None),
        (HELP.replace(b"Help", b"He\x00lp"), None),
        (HELP.replace(b"Help", b"\xff"), None),
        (HELP.replace(b"Help", b"\\ud800"), None),
        (HELP.replace(b"Help", b"\xed\xa0\x80"), None),
        (HELP.replace(b'"request"', b'"requesT"'), None),
        (HELP.replace(b'"request"', b'"reques\\u0074"'), "Help"),
        (HELP + b" ", "Help"),
        (HELP + b"\n", "Help"),
        (HELP + b"#", None),
        (HELP.replace(b'":"', b'"="'), None),
        (HELP + HELP, None),
        (b"\xef\xbb\xbf" + HELP, None),
        (HELP.replace(b"Help", "é".encode() * 10_000), "é" * 10_000),
        (HELP.replace(b"Help", "é".encode() * 10_001), None),
        (HELP.replace(b"Help", b"\\u00e9" * 10_000), "é" * 10_000),
        (HELP.replace(b"Help", b"\\n" * 10_001), None),
        (HELP.replace(b"Help", b""), None),
        (HELP.replace(b"00Z", b"00+05:45"), "Help"),
        (HELP.replace(b"00Z", b"60Z"), None),
        (HELP.replace(b"0:00Z", b"0:00.1234567Z"), "Help"),
        (HELP.replace(b"T09", b"t09"), "Help"),
        (HELP.replace(b"2026-01-31T09:30:00Z", b"9999-12-31T23:59:59.9999999Z"), None),
        (HELP.replace(b"CLIENT_7", "é".encode() * 64), "Help"),
        (HELP.replace(b"CLIENT_7", "é".encode() * 65), None),
        (HELP.replace(b"3e47", b"3g47"), None),
        (HELP.replace(b"3e47", b"\\u0033e47"), "Help"),
    ],
)
def test_an_odd_message_among_usual_ones(message: bytes, request_text: str | None) -> None:
    usual = HELP.replace(b"Help", rb"\n")

    decoded = decode_columns([HELP, usual, message, HELP, usual])

    expected = ["Help", "\n", *([] if request_text is None else [request_text]), "Help", "\n"]
    assert decoded.tickets["request"].to_pylist() == expected
    assert_both_ways_agree([HELP, usual, message, HELP, usual])
    assert_both_ways_agree([message, message, HELP])


def test_bytes_that_are_not_exactly_one_string_are_not_read_as_a_text() -> None:
    raw = [b"1", b'a"b', b'a"\n"b', b"\\n", b"\\", b"\x1f", b"\xff", b"\x80", b'a","b', b"", b"123456", b"\\u0031"]

    texts, are_texts = read_texts(pa.array(raw, pa.binary()), 5)

    assert are_texts.tolist() == [True, False, False, True, *[False] * 7, True]
    assert [text for text, is_text in zip(texts.to_pylist(), are_texts, strict=True) if is_text] == [b"1", b"\n", b"1"]


def test_two_strings_on_two_lines_are_not_taken_for_two_texts() -> None:
    texts, are_texts = read_texts(pa.array([b'a"\n"b', b"\\t"], pa.binary()), 5)

    assert texts.to_pylist() == [None, b"\t"]
    assert are_texts.tolist() == [False, True]


def test_two_halves_of_a_character_in_two_messages_are_not_joined() -> None:
    halves: list[bytes | None] = [HELP.replace(b"Help", b"\xe2\x82"), HELP.replace(b"Help", b"\xac")]

    assert decode_columns([HELP, *halves]).rejected == [1, 2]


def test_a_layout_with_a_field_twice_is_not_learned() -> None:
    wrong_then_right = HELP.replace(b'"priority":"low"', b'"priority":"urgent","priority":"low"')
    right_twice = wrong_then_right.replace(b"urgent", b"high")

    decoded = decode_columns([right_twice, wrong_then_right, right_twice])

    assert decoded.rejected == [1]


def test_large_messages_are_decoded_one_by_one_without_a_copy_of_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "cut", lambda *_: pytest.fail("copied"))
    large = [HELP.replace(b"Help", b"x" * size) for size in (10_000, 10_001)] * 600

    decoded = decode_columns(large)

    assert decoded.rejected == list(range(1, 1200, 2))
    assert set(decoded.tickets["request"].to_pylist()) == {"x" * 10_000}


def test_the_bytes_of_a_slice_are_its_own() -> None:
    edges, data = bytes_of(pa.array([b"ab", b"c", None, b"de"], pa.binary()).slice(1, 2))

    assert (edges.tolist(), data.tobytes()) == ([0, 1, 1], b"c")
