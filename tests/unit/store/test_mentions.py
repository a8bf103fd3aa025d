"""Which messages belong to a client, or name it."""

import json

import pytest

from store.mentions import is_of_client, words

ID = b"CLIENT_1"


def found(key: bytes | None, payload: bytes | None, client_id: bytes = ID) -> bool:
    return is_of_client(key, payload, [len(client_id)], {client_id}.__contains__)


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        (b"CLIENT_1", None),
        (b"CLIENT_1", b"\xff\x00"),
        (None, b"CLIENT_1"),
        (None, b'{"client_id": "CLIENT_1"}'),
        (None, b'{"client_id":"CLIENT_1","priority":"later"}'),
        (None, b'{"client_id": "\\u0043LIENT_1"}'),
        (None, b'[{"a": {"b": ["\\u0043LIENT_1 called again"]}}]'),
        (None, b'{"\\u0043LIENT_1": 1}'),
        (None, b"not JSON at all, said CLIENT_1."),
        (None, b"CLIENT_12, CLIENT_1"),
        (None, b"-CLIENT_1-"),
        (None, b"\xff\xfe CLIENT_1 \x00"),
    ],
)
def test_a_message_of_the_client(key: bytes | None, payload: bytes | None) -> None:
    assert found(key, payload)


@pytest.mark.parametrize(
    ("key", "payload"),
    [
        (None, None),
        (b"CLIENT_12", None),
        (b"the CLIENT_1", None),
        (None, b""),
        (None, b'{"client_id": "CLIENT_12"}'),
        (None, b'{"client_id": "XCLIENT_1"}'),
        (None, b'{"client_id": "CLIENT_1_"}'),
        (None, "CLIENT_1é".encode()),
        (None, "éCLIENT_1".encode()),
        (None, b"client_1"),
        (None, b'{"client_id": "\\u0043LIENT_12"}'),
    ],
)
def test_a_message_of_somebody_else(key: bytes | None, payload: bytes | None) -> None:
    assert not found(key, payload)


@pytest.mark.parametrize(
    ("client_id", "payload", "expected"),
    [
        ("Zoë", '{"client_id":"Zoë"}', True),
        ("Zoë", json.dumps({"client_id": "Zoë"}), True),
        ("Zoë", '{"client_id":"Zoës"}', False),
        ("Ann Lee", "wrote: Ann Lee, Paris", True),
        ("Ann Lee", "wrote: Joann Lee, Paris", False),
        # If an id does not begin or end with a letter, any neighbour there is a word boundary.
        ("#7", "order#7", True),
        ("#7", "order#75", False),
        ('a"b', '{"client_id":"a\\"b"}', True),
        ("a\\b", '{"client_id":"a\\\\b"}', True),
    ],
)
def test_ids_of_any_characters(client_id: str, payload: str, expected: bool) -> None:
    assert found(None, payload.encode(), client_id.encode()) is expected


def test_json_that_is_nested_too_deeply_is_searched_as_bytes() -> None:
    deep = b'{"a":' * 100_000 + b'"\\n CLIENT_1"'
    assert found(None, deep)


def test_the_words_of_a_text() -> None:
    assert list(words(b"ab-cd", [2])) == [b"ab", b"cd"]
    assert list(words(b"ab-cd", [1, 5])) == [b"ab-cd", b"-"]
    assert list(words(b"", [1])) == []
