"""What a running service answers to Prometheus, and to whoever asks for its health."""

import json
from contextlib import suppress
from http.client import HTTPConnection
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


def metrics(port: int) -> dict[str, float]:
    """Return each series of a service with its value: ``client_tickets_lag_messages{partition="0",topic="t"}``.

    There are none before the service listens.
    """
    with suppress(OSError):
        return read(_get(port, "/metrics")[1].decode())
    return {}


def read(text: str) -> dict[str, float]:
    """Return each series in the text format, with its labels in the order of their names."""
    series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            series[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return series


def health(port: int) -> tuple[int, dict[str, Any]]:
    """Return the status of /healthz and what it says; 0 before the service listens."""
    with suppress(OSError):
        status, body = _get(port, "/healthz")
        return status, json.loads(body)
    return 0, {}


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
