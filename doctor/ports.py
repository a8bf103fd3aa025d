"""Ports on which something of ours listens: free, or taken by whom."""

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from doctor.finding import Finding, ok, problem, warning
from doctor.holders import Holder, holder_of_port

_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")
# What the command line of a service of ours holds.
_OURS = ("dashboard/page.py", "spark_processor", "ticket_producer")
# Docker listens for containers, whosever they are.
_DOCKER = "docker-proxy"


def examine(broker: str, broker_port: int, values: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at the embedded broker's port, and at each setting of ``values`` that is a port (``…_PORT``)."""
    here = addresses_here(broker)
    for port in sorted({broker_port, *here}):
        yield for_broker(port, _holder(port), looked_for=port in here)
    for key, port in values.items():
        if key.endswith("_PORT") and isinstance(port, int) and port:
            yield for_service(key, port, _holder(port))


def addresses_here(brokers: str) -> set[int]:
    """Return the ports of those of ``brokers`` (``host:port``, several with commas) that are on this machine."""
    pairs = [address.rpartition(":") for address in brokers.split(",")]
    return {int(port) for host, _, port in pairs if host in _THIS_MACHINE}


def _holder(port: int) -> Holder | str | None:
    """Return who listens on a port, why nobody can, or None when it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return "only root may listen there"
        except OSError:
            return holder_of_port(port)
    return None


def for_broker(port: int, holder: Holder | str | None, looked_for: bool) -> Finding:
    """Judge a port on which a broker may listen; ``looked_for`` is whether --broker names it."""
    if holder is None:
        return ok(f"port {port} is free: make broker can take it")
    if isinstance(holder, str):
        return problem(f"port {port}: {holder}", "choose another: make broker PORT=9095")
    if looked_for:
        return ok(f"port {port}, where --broker looks for a broker, is taken by {holder}")
    return warning(f"port {port}, which make broker takes, is taken by {holder}", "end that, or make broker PORT=9095")


def for_service(key: str, port: int, holder: Holder | str | None) -> Finding:
    """Judge the port that a setting names for one of our services."""
    if holder is None:
        return ok(f"port {port} ({key}) is free")
    remedy = f"set {key} to another port, or end what listens there"
    if isinstance(holder, str):
        return problem(f"port {port} ({key}): {holder}", remedy)
    told = f"port {port} ({key}) is taken by {holder}"
    if any(mark in holder.command for mark in _OURS):
        return ok(told)
    if holder.pid is None or _DOCKER in holder.command:
        return warning(told, f"if that is not ours, {remedy}")
    return problem(told, remedy)
