"""A real Kafka broker without Docker: Apache Kafka in KRaft mode, one node, on the Java that Spark needs anyway.

``python -m embedded.broker --port 9092 --data-dir data/broker`` runs it in the foreground until SIGTERM or SIGINT and
prints ``ready 127.0.0.1:9092`` once it answers. Exit codes: 0 stopped, 2 port in use or Java missing, 3 it did not
start or ended by itself, 5 the data folder is in use or not writable.
"""

import argparse
import base64
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from runtime.process.interpreter import prepare

if __name__ == "__main__":
    prepare("-m embedded.broker", "processor")

from embedded.data_folder import HOST, PROPERTIES, DataFolder, server_properties
from runtime.errors import BrokerError, OutputUnavailable, SettingError
from runtime.java import jars, launch
from runtime.java.jdk import java_executable
from runtime.process import entry
from runtime.process.scratch import Scratch
from runtime.process.shutdown import Shutdown
from runtime.settings import parsers
from runtime.settings.setting import ROOT, Setting, add_flags, parse_flags, resolve

_START_S = 60
_STOP_S = 20
_LOGGING = Path(__file__).with_name("log4j2.properties")
# A small node that must start fast: only the C1 compiler, and no parallel garbage collector. PerfData would leave files
# in /tmp after kill -9.
_JVM_FLAGS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_SCRATCH = "client-tickets-broker-"


class EmbeddedBroker:
    """One broker on 127.0.0.1 as a child process, with all its data in ``data_dir``; port 0 means a free one.

    ``properties`` override ours in server.properties. ``listeners`` opens more ports, security protocol → port.
    Use it as a context manager, or with ``start`` and ``stop``, repeatedly on the same port and data.
    Start it from the main thread: on Linux the JVM ends with the thread that started it.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, int] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.cluster_id = ""
        self._properties = dict(properties or {})
        self._listeners = dict(listeners or {})
        self._folder: DataFolder | None = None
        self._scratch: Scratch | None = None
        self._java: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the JVM; only between ``start`` and ``stop``."""
        assert self._process is not None, "the broker was not started"
        return self._process.pid

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and return when it answers. Raises SettingError, OutputUnavailable or BrokerError."""
        class_path, java = os.pathsep.join(map(str, jars.broker_jars())), java_executable()
        self._folder = DataFolder(self.data_dir)
        try:
            self._scratch = _scratch()
            flags = [*_JVM_FLAGS, *launch.properties(self._scratch.path)]
            self._java = [str(java), *flags, f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}", "-cp", class_path]
            self.port, controller_port = _free_ports(self.port)
            listeners = {"PLAINTEXT": self.port, **self._listeners}
            self._folder.configure(server_properties(listeners, controller_port, self._properties))
            self.cluster_id = self._folder.cluster_id() or self._format()
            self._launch("kafka.Kafka", PROPERTIES)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _format(self) -> str:
        """Prepare an empty data folder and return the id of the new cluster."""
        assert self._folder is not None
        # The id must not begin with a dash, or Kafka's tool would take it for an option.
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        process = self._launch("kafka.tools.StorageTool", "format", "-t", made, "-c", PROPERTIES)
        if process.wait():
            said = launch.what_it_said(self._folder.log_file)
            raise BrokerError(f"cannot prepare {self.data_dir} for a broker; {said}")
        return made

    def _launch(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a Java process that runs a class of Kafka; ``stop`` ends it."""
        assert self._folder is not None
        assert self._scratch is not None
        environ, lock_fd = launch.environment(os.environ), self._scratch.lock_fd
        command = [*self._java, *arguments]
        self._process = launch.start(command, self._folder.log_file, environ, lock_fd, folder=self._folder.path)
        return self._process

    def stop(self) -> None:
        """Stop the broker, with SIGKILL after 20 s, and return when it has ended."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None
        if self._folder is not None:
            self._folder.release()
            self._folder = None

    def check(self) -> None:
        """Raise BrokerError, with the end of the broker's log, if the broker ended by itself."""
        assert self._process is not None, "the broker was not started"
        assert self._folder is not None
        code = self._process.poll()
        if code is not None:
            said = launch.what_it_said(self._folder.log_file)
            raise BrokerError(f"the embedded broker ended with code {code}; {said}")

    def _wait_until_ready(self) -> None:
        assert self._folder is not None
        deadline = time.monotonic() + _START_S
        found = ""
        while time.monotonic() < deadline:
            self.check()
            found = _answering_cluster(self.address)
            if found == self.cluster_id:
                return
            time.sleep(0.05)
        other = f"cluster {found} answers there" if found else "nothing answers there"
        said = launch.what_it_said(self._folder.log_file)
        raise BrokerError(f"the embedded broker is not ready at {self.address} after {_START_S} s, {other}; {said}")


def _scratch() -> Scratch:
    """Return the folder into which the broker unpacks its native libraries."""
    try:
        return Scratch(_SCRATCH, launch.library_folder())
    except OSError as error:
        raise OutputUnavailable(
            f"no temporary files can be written ({error.strerror}); free space there, or set TMPDIR to another folder"
        ) from None


def _free_ports(wanted: int) -> tuple[int, int]:
    """Return the port for clients, ``wanted`` or a free one for 0, and one for the controller."""
    with socket.socket() as clients, socket.socket() as controller:
        clients.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            clients.bind((HOST, wanted))
        except OSError as error:
            raise SettingError(
                f"port {wanted} cannot be used ({error.strerror}); stop what listens there or choose another --port"
            ) from None
        controller.bind((HOST, 0))
        return clients.getsockname()[1], controller.getsockname()[1]


def _answering_cluster(address: str) -> str:
    """Return the id of the cluster that answers the Kafka API at ``address``; empty when none does."""
    # Imported here, because an entry point sets the import path first.
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    host, port = address.split(":")
    try:
        # kafka-python takes seconds to notice a closed port, so try a plain connection first.
        socket.create_connection((host, int(port)), timeout=1).close()
        admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5_000, bootstrap_timeout_ms=5_000)
    except (OSError, KafkaError):
        return ""
    try:
        return str(admin.describe_cluster()["cluster_id"])
    except KafkaError:
        return ""
    finally:
        admin.close()


DATA_DIR = Setting(None, "data/broker", parsers.path, "folder of the broker's data", "--data-dir", anchored=True)

SETTINGS = {
    "port": Setting(None, 9092, parsers.integer(0, "9092", 65_535), "port on 127.0.0.1, 0 for a free one", "--port"),
    "data_dir": DATA_DIR,
}


def next_steps(address: str, data_dir: Path) -> str:
    """Return the commands to try with a broker at ``address``, for a person who has just started it."""
    return (
        f"Send tickets:  .venv/bin/python producer/ticket_producer.py --broker {address} --rate 20\n"
        f"Publish them:  .venv/bin/python processor/spark_processor.py --broker {address}\n"
        f"Each in a terminal of its own, in {ROOT}. Ctrl-C ends the broker; its data stays in {data_dir}."
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.broker",
        description="Run a Kafka broker in the foreground until SIGTERM or SIGINT.",
        allow_abbrev=False,
    )
    add_flags(parser, SETTINGS.values())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker until told to stop; return the exit code."""
    flags = parse_flags(build_parser(), argv)
    shutdown = Shutdown().install()

    def body() -> None:
        values = resolve(SETTINGS, flags, os.environ)
        with EmbeddedBroker(values["data_dir"], values["port"]) as broker:
            print(f"ready {broker.address}", flush=True)
            if sys.stdout.isatty():
                # Only on a terminal: a program that waits for the line above gets nothing else.
                print(next_steps(broker.address, values["data_dir"]), flush=True)
            while not shutdown.wait(0.5):
                broker.check()

    return entry.run(body)


if __name__ == "__main__":
    raise SystemExit(main())
