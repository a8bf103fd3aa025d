"""The folder of an embedded broker: its lock, its configuration, its log, and the Kafka data in ``log/``."""

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from runtime.errors import OutputUnavailable

HOST = "127.0.0.1"
PROPERTIES = "server.properties"

_SINGLE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # Relative to the working directory, so that no character of the path needs escaping.
    "log.dirs": "log",
    "auto.create.topics.enable": "false",
    # After a kill, the controller does not admit the new broker until the session of the old one has expired.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}


def server_properties(
    listeners: Mapping[str, int], controller_port: int, properties: Mapping[str, str]
) -> dict[str, str]:
    """Return the configuration of a broker with ``listeners`` (security protocol → port); ``properties`` override."""
    shown = ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items())
    protocols = ",".join(f"{name}:{name}" for name in listeners)
    return {
        **_SINGLE_NODE,
        "listeners": f"{shown},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": shown,
        "listener.security.protocol.map": f"{protocols},CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        **properties,
    }


class DataFolder:
    """Locked for one broker at a time, from construction until ``release``. Raises OutputUnavailable if in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)

    def release(self) -> None:
        """Unlock the folder."""
        self._lock.close()

    @property
    def log_file(self) -> Path:
        """The broker's log since its last start."""
        return self.path / "broker.log"

    def configure(self, properties: Mapping[str, str]) -> None:
        """Write server.properties."""
        text = "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())
        (self.path / PROPERTIES).write_text(text, encoding="ascii")

    def cluster_id(self) -> str:
        """Return the cluster id of the data; empty if the folder has none yet."""
        try:
            text = (self.path / "log" / "meta.properties").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        found = [line.partition("=")[2] for line in text.splitlines() if line.startswith("cluster.id=")]
        return found[0] if found else ""


def _escaped(value: str) -> str:
    """Return ``value`` escaped for java.util.Properties, which reads Latin-1 and takes a backslash for an escape."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[n : n + 2]) for n in range(0, len(units), 2)]
    text = "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)
    # A leading space would be skipped.
    return f"\\{text}" if text.startswith(" ") else text


def _lock(path: Path) -> IO[str]:
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "broker.lock").open("w", encoding="utf-8")
    except OSError as error:
        raise OutputUnavailable(
            f"cannot write to {path} ({error.strerror}); correct its permissions or choose another --data-dir"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OutputUnavailable(f"another broker runs on {path}; stop it or choose another --data-dir") from None
    except OSError as error:
        lock.close()
        raise OutputUnavailable(
            f"cannot lock {path / 'broker.lock'} ({error.strerror}); choose a --data-dir on a file system that "
            "supports locks"
        ) from None
    return lock
