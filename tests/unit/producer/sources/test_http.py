"""Decisions about an API."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from producer.sources import http
from producer.sources.http import HttpSource, at, authorization, pause
from runtime.errors import SettingError, SourceUnreachable

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


def test_a_token_that_no_header_can_hold_is_refused() -> None:
    assert authorization("jürgen:s3cret") == "Basic asO8cmdlbjpzM2NyZXQ="
    for token in ("tök", "first line\nsecond line"):
        with pytest.raises(SettingError, match="--secret-file must hold user:password, or a token: one line of ASCII"):
            authorization(token)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ALL_PROXY", "socks5://localhost:1"), ("HTTPS_PROXY", "ssh://localhost"), ("SSL_CERT_FILE", "/nowhere/ca.pem")],
)
def test_an_environment_that_http_cannot_use_is_named(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(SettingError, match="the environment has a proxy or a CA file for HTTP that cannot be used"):
        http.connect(None)


def answering(response: Callable[[], httpx.Response], url: str = "https://desk.example.com/tickets") -> HttpSource:
    client = httpx.Client(transport=httpx.MockTransport(lambda request: response()), follow_redirects=True)
    return HttpSource(client, url, None, None, None, "cursor", lambda seconds: True)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (lambda: httpx.Response(302, headers={"Location": "/"}), "cannot be used .Exceeded maximum allowed redirects"),
        (
            lambda: httpx.Response(200, headers={"Link": '<https://desk:port/>; rel="next"'}, json=[{}]),
            "the link to the next page must be a URL .Invalid port",
        ),
        (
            lambda: httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"this is not compressed")
            ),
            "https://desk.example.com/tickets cannot be used",
        ),
    ],
)
def test_an_answer_that_leads_nowhere_ends_the_run(response: Callable[[], httpx.Response], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        list(answering(response).read(None))


def test_an_api_that_says_when_is_asked_then_and_one_that_only_fails_is_unreachable() -> None:
    answers = [
        httpx.Response(503, headers={"Retry-After": "7"}),
        httpx.Response(429),
        httpx.Response(200, json=[{"id": 1}]),
        httpx.Response(503),
    ]
    waited = list[float]()

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    client = httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0)))
    source = HttpSource(client, "https://desk.example.com/", None, None, None, "cursor", wait)
    assert [row.values for rows in source.read(None) for row in rows] == [{"id": 1}]
    assert waited == [7.0, 2.0]
    with pytest.raises(SourceUnreachable, match="answered with status 503"):
        list(source.read(None))


def test_a_source_that_is_not_a_url_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--source must be the URL of an API \(Invalid port: 'port'\)"):
        answering(lambda: httpx.Response(200), "https://desk.example.com:port/")


def test_a_path_leads_into_an_answer() -> None:
    assert at({"meta": {"after": "x"}}, "meta.after") == "x"
    assert at({"meta": None}, "meta.after") is None
    assert at([], "meta") is None
