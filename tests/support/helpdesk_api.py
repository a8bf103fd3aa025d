"""A helpdesk's API on a real HTTP server: ``python -m tests.support.helpdesk_api PORT FOLDER``.

It answers with the tickets in ``tickets.json`` of the folder, in their order; the file is read again for each request.
``/next`` gives the URL of the next page in the response, ``/header`` in the header Link, ``/cursor`` gives a cursor.
The files ``busy``, ``broken`` and ``slow`` hold for how many requests it answers with 429, with 500, or slowly. All
requests are appended to ``asked.log``.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TOKEN = "s3cret"
PAGE = 3
SLOW_S = 5.0


class Api(BaseHTTPRequestHandler):
    """One request."""

    folder: Path

    def do_GET(self) -> None:
        """Answer."""
        parts = urlsplit(self.path)
        with (self.folder / "asked.log").open("a") as log:
            log.write(f"{self.path}\n")
        if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", "Basic dXNlcjpzM2NyZXQ="):
            return self._answer(401, {"error": "who are you?"})
        if self._spend("busy"):
            return self._answer(429, {"error": "slow down"}, {"Retry-After": "1"})
        if self._spend("broken"):
            return self._answer(500, {"error": "oops"})
        if self._spend("slow"):
            time.sleep(SLOW_S)
        tickets = json.loads((self.folder / "tickets.json").read_text(encoding="utf-8"))
        query = parse_qs(parts.query)
        page = int(query.get("page", query.get("after", ["0"]))[0])
        shown = tickets[page * PAGE : (page + 1) * PAGE]
        more = len(tickets) > (page + 1) * PAGE
        link = f"http://{self.headers['Host']}{parts.path}?page={page + 1}"
        match parts.path:
            case "/next":
                return self._answer(200, {"data": {"tickets": shown}, "links": {"next": link if more else None}})
            case "/header":
                return self._answer(200, shown, {"Link": f'<{link}>; rel="next"'} if more else {})
            case "/cursor":
                # Like an export of Zendesk, it gives a cursor on the last page too.
                after = str(page + 1) if more else str(page)
                return self._answer(200, {"tickets": shown, "meta": {"after": after}})
            case "/elsewhere":
                return self._answer(200, {"data": {"tickets": shown}, "links": {"next": "http://example.org/next"}})
        return self._answer(404, {"error": "no such page"})

    def _spend(self, name: str) -> bool:
        file = self.folder / name
        left = int(file.read_text()) if file.exists() else 0
        if left:
            file.write_text(str(left - 1))
        return left > 0

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    Api.folder = Path(sys.argv[2])
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()
