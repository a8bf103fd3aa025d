"""Decisions about an API."""

from datetime import UTC, datetime

import pytest

from producer.sources.http import at, authorization, pause

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "attempt", "seconds"),
    [
        ("7", 0, 7.0),
        ("0", 3, 0.0),
        ("-5", 0, 0.0),
        ("Sat, 31 Jan 2026 09:30:20 GMT", 0, 20.0),
        ("Sat, 31 Jan 2026 09:29:00 GMT", 0, 0.0),
        ("soon", 2, 4.0),
        (None, 0, 1.0),
        (None, 5, 32.0),
        (None, 50, 60.0),
        ("999999", 0, 3_600.0),
    ],
)
def test_a_pause_is_as_long_as_the_api_asks_for(header: str | None, attempt: int, seconds: float) -> None:
    assert pause(header, attempt, NOW) == seconds


def test_a_login_and_a_token_are_told_apart() -> None:
    assert authorization("user:s3cret") == "Basic dXNlcjpzM2NyZXQ="
    assert authorization("s3cret") == "Bearer s3cret"


def test_a_path_leads_into_an_answer() -> None:
    assert at({"meta": {"after": "x"}}, "meta.after") == "x"
    assert at({"meta": None}, "meta.after") is None
    assert at([], "meta") is None
