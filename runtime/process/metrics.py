"""``/metrics`` for Prometheus and ``/healthz`` for health checks, over HTTP.

Imported only if a port was given, because importing prometheus_client takes 0.1 s.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from runtime.errors import SettingError
from runtime.process.heartbeat import Health

_log = logging.getLogger(__name__)

# A client that sends nothing for this long is disconnected.
_PATIENCE_S = 10.0
# How long a shutdown waits for the serving thread, at most.
_POLL_S = 0.1


def new_registry() -> CollectorRegistry:
    """Return an empty registry: the global one could hold metrics of other libraries."""
    # Each counter would have a second series that says when it was created.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


@contextmanager
def served(host: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]) -> Iterator[None]:
    """Answer on ``host`` and ``port``, in threads, while the block runs.

    Raises SettingError if the port cannot be opened there.
    """
    with _listen(host, port, registry, health) as server:
        threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True).start()
        shown = f"[{host}]" if ":" in host else host
        _log.info("metrics on http://%s:%d/metrics, health on http://%s:%d/healthz", shown, port, shown, port)
        try:
            yield
        finally:
            server.shutdown()


def _listen(host: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]) -> "_Server":
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _Server(family, address, registry, health)
    except OSError as error:
        raise SettingError(
            f"port {port} on {host} cannot be used for metrics ({error.strerror}); stop what listens there, or choose "
            "another METRICS_PORT (--metrics-port, 0 for no metrics) or METRICS_HOST"
        ) from None


class _Server(ThreadingHTTPServer):
    """A thread for each request."""

    def __init__(
        self, family: socket.AddressFamily, address: Any, registry: CollectorRegistry, health: Callable[[], Health]
    ) -> None:
        self.address_family = family
        self.registry = registry
        self.health = health
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name that the base class does: it may take seconds."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log at DEBUG: a client that disconnects is not worth a traceback."""
        _log.debug("a request for metrics failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with the metrics, the health, or what there is."""
        status, kind, body = self._answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Answer without the body: that is how ``wget --spider`` asks."""
        self.do_GET()

    def version_string(self) -> str:
        """Leave out the version of Python."""
        return "client-tickets"

    def log_message(self, line: str, *args: Any) -> None:
        """Do not log each request."""

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.server.registry)
        if path == "/healthz":
            health = self.server.health()
            status = HTTPStatus.OK if health.is_good else HTTPStatus.SERVICE_UNAVAILABLE
            return status, "application/json", _in_json(health)
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"/metrics and /healthz are here\n"


def _in_json(health: Health) -> bytes:
    """Return what ``/healthz`` says; a planned rest counts as progress."""
    said = {
        "status": "ok" if health.is_good else "no progress",
        "seconds_since_progress": None if health.age_s is None else round(max(health.age_s, 0.0), 1),
        "seconds_allowed": health.longest_s,
    }
    return json.dumps(said).encode() + b"\n"
