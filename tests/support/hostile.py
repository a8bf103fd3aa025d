"""Messages that are nearly tickets, for Hypothesis: batches of one layout with good, odd, wrong and broken messages."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from hypothesis import strategies as st

from contract.ticket import FIELDS, PRIORITIES, REQUEST_TYPES

_CHARACTERS = 'aZ0 "\\/\b\f\n\r\t\0\x1f\x7f{}[]:,é€中🙂\u2028\ufeff\ufffd'
_TEXTS = st.one_of(
    st.sampled_from(
        ["CLIENT_7", "Help", "x", "", "\\", '\\"', '"', "\\\\", "C:\\", "request", "null", '","priority":"']
    ),
    st.text(st.sampled_from(_CHARACTERS), max_size=6),
    st.builds(str.__mul__, st.sampled_from("aé中🙂\n"), st.sampled_from([15, 16, 21, 22, 32, 33, 63, 64, 65])),
    st.builds(str.__mul__, st.sampled_from("aé\n"), st.sampled_from([3_334, 5_000, 5_001, 10_000, 10_001])),
)


def _in_units(text: str) -> bytes:
    """Return a JSON string with each UTF-16 unit written as an escape."""
    units = text.encode("utf-16-be")
    return b'"%b"' % b"".join(b"\\u%02x%02x" % pair for pair in zip(units[::2], units[1::2], strict=True))


_WRITERS: st.SearchStrategy[Callable[[str], bytes]] = st.sampled_from(
    [
        lambda text: msgspec.json.encode(text),
        lambda text: json.dumps(text).encode(),
        lambda text: msgspec.json.encode(text).replace(b"/", b"\\/"),
        _in_units,
    ]
)
_STRINGS = st.builds(lambda write, text: write(text), _WRITERS, _TEXTS)

# Strings, most of which JSON or UTF-8 forbids.
_ODD_STRINGS = st.sampled_from(
    [
        *(b'"\\ud800"', b'"\\udc00"', b'"\\ud83d\\ude00"', b'"\\ud83dx"', b'"\\ude00\\ud83d"', b'"\\ud83d\\ud83d"'),
        *(b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xc3\xa9"', b'"\x80"'),
        *(b'"\\u0000"', b'"\\x41"', b'"\\u12"', b'"\\u12g4"', b'"\\U0041"', b'"\\', b'"\\"', b'"\\\\"', b'"\\\\\\"'),
        *(b'"a\nb"', b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\r"', b"'a'", b'a"'),
        *(b'"a"b"', b'"a\\\\"b"', b'"a\\""', b'"a\\\\""'),
        *(b'"a"\n"b"', b'"a\\\\"\n"b"', b'"a\\","client_id":"b"', b'"a\\\\","client_id":"b"', b'"a" "b"', b'"a",'),
    ]
)
_OTHER_VALUES = st.sampled_from(
    [
        *(b"null", b"true", b"false", b"0", b"-1", b"1.5", b"1e999", b"9" * 400, b"01", b"NaN", b"Infinity", b"-", b""),
        *(b"[]", b"{}", b'["low"]', b'{"priority":"low"}', b"[" * 2_000 + b"]" * 2_000, b"{", b"]", b'"', b"/**/1"),
    ]
)

_DIGITS = st.text("0123456789", max_size=10)
_TIMES = st.builds(
    lambda year, month, day, between, hour, minute, second, fraction, zone: json.dumps(
        f"{year:04d}-{month:02d}-{day:02d}{between}{hour:02d}:{minute:02d}:{second:02d}{fraction}{zone}"
    ).encode(),
    st.sampled_from([0, 1, 4, 1582, 1900, 1969, 1970, 2000, 2016, 2024, 2026, 9999, 10000]),
    st.sampled_from([*range(1, 13), *range(14)]),
    st.sampled_from([*range(1, 29), *range(33)]),
    st.sampled_from([*"TTTTTTTTTTTTt _", "", "TT"]),
    st.sampled_from([*range(24), *range(24), 24, 60, 99]),
    st.sampled_from([*range(60), 59, 60, 61, 99]),
    st.sampled_from([*range(60), 59, 60, 61, 99]),
    st.one_of(
        st.just(""),
        _DIGITS.map(".{}".format),
        st.sampled_from([".123456", ".9999994", ".9999996", ".", ",5", ".1_0", "..1"]),
    ),
    st.sampled_from(
        [
            *["Z"] * 16,
            *["+00:00"] * 8,
            *("z", "-00:00", "+01:00", "-01:00", "+05:45", "-23:59", "+23:59", "+24:00", "+0545", "+05", "", " Z"),
            *("+00:60", "+99:99", "UTC", "+00:00Z", "ZZ", ".5Z", "+00.00", "\n", "\0"),
        ]
    ),
)

_UUID = "3e476c38-2a7f-4D89-a08f-9e5f60456fa3"
_IDS = st.one_of(
    st.uuids().map(lambda uuid: json.dumps(str(uuid)).encode()),
    st.sampled_from(
        [_UUID.upper(), _UUID.replace("-", ""), _UUID + "\n", f"{{{_UUID}}}", _UUID[:-1], _UUID[:-2] + "é"]
    ).map(msgspec.json.encode),
    st.builds(
        lambda place, text: json.dumps(_UUID[:place] + text + _UUID[place + 1 :]).encode(),
        st.integers(0, 35),
        st.sampled_from([*'0g/:@G`-_ \\"', "", "\0", "é", "１"]),
    ),
)

_VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "ticket_id": _IDS,
    "client_id": _STRINGS,
    "created_at": _TIMES,
    "request": _STRINGS,
    "request_type": st.sampled_from(
        [json.dumps(word).encode() for word in (*REQUEST_TYPES, "sales", "Billing", "billing\0")]
    ),
    "priority": st.sampled_from([json.dumps(word).encode() for word in (*PRIORITIES, "urgent", "low ", "", "lo")]),
}
_PLAIN = {
    "ticket_id": b'"3e476c38-2a7f-4d89-a08f-9e5f60456fa3"',
    "client_id": b'"CLIENT_7"',
    "created_at": b'"2026-01-31T09:30:00Z"',
    "request": b'"Help"',
    "request_type": b'"billing"',
    "priority": b'"low"',
}
_NAMES = [json.dumps(name).encode() for name in FIELDS]


@dataclass(frozen=True, slots=True)
class Style:
    """How a program writes tickets: the order of the fields, and the bytes before, between and after them."""

    order: tuple[str, ...]
    marks: tuple[bytes, bytes, bytes, bytes]

    def write(self, members: list[tuple[bytes, bytes]]) -> bytes:
        """Return a JSON object of pairs of a name and a value."""
        opening, comma, colon, closing = self.marks
        return opening + comma.join(name + colon + value for name, value in members) + closing

    def members(self, values: dict[str, bytes]) -> list[tuple[bytes, bytes]]:
        """Return the pairs of the six fields in the order of this style."""
        return [(json.dumps(name).encode(), values[name]) for name in self.order]


_STYLES = st.builds(
    Style,
    st.one_of(st.just(FIELDS), st.permutations(FIELDS).map(tuple)),
    st.sampled_from(
        [
            (b"{", b",", b":", b"}"),
            (b"{", b", ", b": ", b"}"),
            (b"{", b",", b":", b"}\n"),
            (b"{\n  ", b",\n  ", b": ", b"\n}"),
            (b" \t{ ", b" ,\r", b" : ", b" } "),
        ]
    ),
)

# Values of mostly plain tickets: at most two fields have unusual values.
_TICKETS = st.lists(
    st.sampled_from(FIELDS).flatmap(lambda name: st.tuples(st.just(name), _VALUES[name])), max_size=2
).map(lambda changes: {**_PLAIN, **dict(changes)})
_ANY_VALUES = st.one_of(_STRINGS, _ODD_STRINGS, _OTHER_VALUES, _TIMES, _IDS, st.sampled_from(list(_PLAIN.values())))
_ANY_NAMES = st.one_of(
    st.sampled_from(_NAMES),
    st.sampled_from(
        [b'"x"', b'""', b'"priorit\\u0079"', b'"request\\u0000"', b'"Request"', b'"\xff"', b"priority", b"1"]
    ),
)

_HOSTILE_BYTES = st.one_of(
    st.sampled_from([b'"', b"\\", b"{", b"}", b",", b":", b"\n", b"\0", b"\xff", b" "]), st.binary(max_size=3)
)


def _with_other_members(style: Style) -> st.SearchStrategy[bytes]:
    """One or two more members anywhere: a field twice, an unknown field, a name with escapes, and so on."""

    def write(values: dict[str, bytes], extra: list[tuple[int, bytes, bytes]]) -> bytes:
        members = style.members(values)
        for place, name, value in extra:
            members.insert(place, (name, value))
        return style.write(members)

    return st.builds(
        write, _TICKETS, st.lists(st.tuples(st.integers(0, 6), _ANY_NAMES, _ANY_VALUES), min_size=1, max_size=2)
    )


def _with_another_member(style: Style) -> st.SearchStrategy[bytes]:
    """One member replaced or missing."""

    def write(values: dict[str, bytes], place: int, replacement: list[tuple[bytes, bytes]]) -> bytes:
        members = style.members(values)
        members[place : place + 1] = replacement
        return style.write(members)

    return st.builds(write, _TICKETS, st.integers(0, 5), st.lists(st.tuples(_ANY_NAMES, _ANY_VALUES), max_size=1))


def _with_another_value(style: Style) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda values, name, value: style.write(style.members({**values, name: value})),
        _TICKETS,
        st.sampled_from(FIELDS),
        _ANY_VALUES,
    )


def _damaged(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes replaced, removed or inserted."""

    def damage(message: bytes, cuts: list[tuple[float, int, bytes]]) -> bytes:
        for where, length, text in cuts:
            start = int(where * len(message))
            message = message[:start] + text + message[start + length :]
        return message

    cuts = st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 1, 1, 2, 10, 100, 10_000]), _HOSTILE_BYTES)
    return st.builds(damage, messages, st.lists(cuts, min_size=1, max_size=2))


def _together(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Several messages in one, or one with other bytes around it."""
    around = [b"", b"\xef\xbb\xbf", b"\xff\xfe", b"{}", b"{\0", b"null", b"\0", b" ", b"}", b"#"]
    other = st.one_of(messages, st.sampled_from(around))
    return st.builds(lambda *parts: b"".join(parts), other, st.sampled_from([b"", b"\n", b",", b" "]), other)


def _messages(style: Style) -> st.SearchStrategy[bytes | None]:
    # Three separate strategies: if the same one were given three times, one_of would not draw it more often.
    tickets = [st.builds(lambda values: style.write(style.members(values)), _TICKETS) for _ in range(3)]
    return st.one_of(
        *tickets,
        _with_another_value(style),
        _with_another_member(style),
        _with_other_members(style),
        _damaged(tickets[0]),
        _together(tickets[0]),
        st.builds(lambda values, other: other.write(other.members(values)), _TICKETS, _STYLES),
        st.sampled_from([None, b"", b" \n", b"null", b"[]", b"{}", b"{}{}", b'"', b"\xef\xbb\xbf", b'{"a":' * 1_000]),
    )


def batches() -> st.SearchStrategy[list[bytes | None]]:
    """Lists of messages, most of them in the style of one writer; the first ones are often plain tickets."""
    return _STYLES.flatmap(
        lambda style: st.builds(
            list.__add__,
            st.sampled_from([[], [_plain(style)], [_plain(style)]]),
            st.lists(_messages(style), min_size=1, max_size=12),
        )
    )


def _plain(style: Style) -> bytes | None:
    return style.write(style.members(_PLAIN))
