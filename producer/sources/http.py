"""An HTTP API that returns tickets as JSON, page by page."""

import base64
import contextlib
import email.utils
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from producer.ticket import Place, Row
from runtime.errors import SettingError, SourceUnreachable

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30
_TOO_MANY_REQUESTS = 429
_UNAVAILABLE = 503
_REFUSED = {401, 403}
_LONGEST_WAIT_S = 3_600.0


def authorization(secret: str) -> str:
    """Return the Authorization header for a secret: Basic for ``user:password``, Bearer for anything else (a token).

    Raises SettingError for one that no header can hold.
    """
    if ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    if not (secret.isascii() and secret.isprintable()):
        raise SettingError("--secret-file must hold user:password, or a token: one line of ASCII characters")
    return f"Bearer {secret}"


def pause(header: str | None, attempt: int, now: datetime) -> float:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3); without it, longer each attempt."""
    seconds = min(60.0, 2.0**attempt)
    if header is not None:
        try:
            seconds = float(header)
        except ValueError:
            with contextlib.suppress(ValueError, TypeError):
                seconds = (email.utils.parsedate_to_datetime(header) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


def at(answer: Any, path: str) -> Any:
    """Return the value in ``answer`` at ``path``, such as ``meta.after_cursor``; None if there is none."""
    for part in path.split("."):
        if not isinstance(answer, Mapping):
            return None
        answer = answer.get(part)
    return answer


class HttpSource:
    """The rows of an API. A place is a page and which of its rows were read, because the last page may grow.

    The next page is the URL at ``next_link`` in the response, or the same request with the response's ``cursor``, or
    the URL of the header Link. ``wait`` sleeps and returns whether to stop.
    """

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        items: str | None,
        next_link: str | None,
        cursor: str | None,
        cursor_parameter: str,
        wait: Callable[[float], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise SettingError(f"--source must be the URL of an API ({error})") from None
        self._items = items
        self._next_link = next_link
        self._cursor = cursor
        self._cursor_parameter = cursor_parameter
        self._wait = wait
        self._now = now
        self._number = 0

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        """Yield the rows of one page at a time. Raises SourceUnreachable (transient) and SettingError (permanent)."""
        url = httpx.URL(after["url"]) if after else self._url
        self._require_origin(url)
        given = set(after["given"][: after["count"]]) if after else set()
        visited = set()
        while url not in visited:
            visited.add(url)
            response = self._get(url)
            if response is None:
                return
            answer = self._json(response)
            rows, digests = [], list[str]()
            for item in self._tickets(answer):
                digests.append(_digest(item))
                if digests[-1] not in given:
                    self._number += 1
                    values = item if isinstance(item, dict) else {}
                    problem = "" if isinstance(item, dict) else "is not a JSON object"
                    place = {"url": str(url), "given": digests, "count": len(digests)}
                    rows.append(Row(self._number, place, values, problem))
            if rows:
                yield rows
            following = self._next(response, answer)
            if following is None:
                return
            url, given = following, set()

    def keep(self, place: Place) -> Place:
        """Return ``place`` without the rows after it."""
        return place | {"given": place["given"][: place["count"]]}

    def close(self) -> None:
        self._client.close()

    def _get(self, url: httpx.URL) -> httpx.Response | None:
        """Return a successful response; None if the producer is asked to stop while it waits for one."""
        attempt = 0
        while True:
            try:
                response = self._client.get(url)
            except httpx.TransportError as error:
                raise SourceUnreachable(f"{_shown(url)} cannot be reached ({error or type(error).__name__})") from error
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # Too many redirects, one to nowhere, or a body that cannot be decompressed.
                raise SettingError(f"{_shown(url)} cannot be used ({error})") from error
            retry_after = response.headers.get("Retry-After")
            # Without a time, 503 is a failure like others: a run that waited for its end might never end itself.
            is_busy = response.status_code == _TOO_MANY_REQUESTS or (
                response.status_code == _UNAVAILABLE and retry_after is not None
            )
            if not is_busy:
                return self._good(response)
            seconds = pause(retry_after, attempt, self._now())
            _log.info("%s asks to wait %.0f s (status %d)", _shown(url), seconds, response.status_code)
            if self._wait(seconds):
                return None
            attempt += 1

    def _good(self, response: httpx.Response) -> httpx.Response:
        status, shown = response.status_code, _shown(response.url)
        if status in _REFUSED:
            raise SettingError(f"{shown} refused the login (status {status}); correct the token in --secret-file")
        if status >= 500:
            raise SourceUnreachable(f"{shown} answered with status {status}")
        if status != 200:
            raise SettingError(f"{shown} answered with status {status}; correct --source, or the flags for pages")
        return response

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            kind = response.headers.get("Content-Type", "nothing")
            raise SettingError(
                f"{_shown(response.url)} must answer with JSON, found {kind}; correct --source"
            ) from None

    def _tickets(self, answer: Any) -> list[Any]:
        found = answer if self._items is None else at(answer, self._items)
        if isinstance(found, list):
            return found
        arrays = [name for name, value in answer.items() if isinstance(value, list)] if isinstance(answer, dict) else []
        hint = f"--items {arrays[0]}" if arrays else "--items with the path of the array"
        where = "the answer" if self._items is None else f"--items {self._items}"
        raise SettingError(f"{where} must be an array of tickets, found {type(found).__name__}; give {hint}")

    def _next(self, response: httpx.Response, answer: Any) -> httpx.URL | None:
        if self._cursor is not None:
            cursor = at(answer, self._cursor)
            return self._url.copy_set_param(self._cursor_parameter, cursor) if cursor else None
        in_header = response.links.get("next", {}).get("url")
        link = in_header if self._next_link is None else at(answer, self._next_link)
        if not link:
            return None
        try:
            url = response.url.join(str(link))
        except httpx.InvalidURL as error:
            raise SettingError(f"the link to the next page must be a URL ({error}); correct --next-link") from None
        self._require_origin(url)
        return url

    def _require_origin(self, url: httpx.URL) -> None:
        """Raise SettingError for a page on another host, because the token would be sent to it."""
        if (url.scheme, url.host, url.port) != (self._url.scheme, self._url.host, self._url.port):
            raise SettingError(f"the next page must be on {_shown(self._url)} too, found {_shown(url)}")


def connect(secret: str | None) -> httpx.Client:
    """Return a client that logs in with ``secret``. It uses the proxy of the environment."""
    headers = {"Accept": "application/json", "User-Agent": "client-tickets"}
    if secret:
        headers["Authorization"] = authorization(secret)
    try:
        return httpx.Client(headers=headers, timeout=_TIMEOUT_S, follow_redirects=True)
    except (ValueError, ImportError, OSError) as error:
        # A proxy that httpx does not know (ValueError) or only with another package (ImportError), or a bad CA file.
        raise SettingError(
            f"the environment has a proxy or a CA file for HTTP that cannot be used ({error}); correct HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR, or unset them"
        ) from error


def _shown(url: httpx.URL) -> str:
    """Return a URL without its query, which may hold a secret."""
    return f"{url.scheme}://{url.netloc.decode().rpartition('@')[2]}{url.path}"


def _digest(item: Any) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()[:20]
