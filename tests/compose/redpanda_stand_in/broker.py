"""From the flags of ``redpanda start`` to an Apache Kafka broker in KRaft mode."""

import argparse
import base64
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from kafka import KafkaAdminClient

# Each is a broker of its own group: on the seed they all are one, as with Redpanda.
_RPC_PORT, _CONTROLLER_PORT = 33145, 33146
_DATA = Path("/var/lib/redpanda/data/kafka")
_JAVA = (
    *("java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-Dlog4j2.configurationFile=file:/etc/log4j2.properties", "-cp", "/opt/kafka/*"),
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the flags of docker-compose.yml; an unknown one is an error, so that a typo is found."""
    parser = argparse.ArgumentParser(prog="redpanda start", allow_abbrev=False)
    for flag in ("--kafka-addr", "--advertise-kafka-addr", "--rpc-addr", "--advertise-rpc-addr", "--node-id"):
        parser.add_argument(flag, required=True)
    for flag in ("--smp", "--memory", "--reserve-memory", "--check", "--unsafe-bypass-fsync", "--default-log-level"):
        parser.add_argument(flag)
    parser.add_argument("--overprovisioned", action="store_true")
    parser.add_argument("--seeds")
    parser.add_argument("--set", action="append", default=[])
    return parser.parse_args(argv)


def start(argv: Sequence[str]) -> None:
    """Replace this process with a broker."""
    flags = parse(argv)
    _DATA.mkdir(parents=True, exist_ok=True)
    properties = _DATA / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in _properties(flags).items()))
    if not (_DATA / "log/meta.properties").exists():
        cluster = _cluster_of(flags.seeds) if flags.seeds else _new_cluster()
        command = [*_JAVA, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        subprocess.run(command + ([] if flags.seeds else ["--standalone"]), check=True)
    os.execvp("java", [*_JAVA, "kafka.Kafka", str(properties)])


def _properties(flags: argparse.Namespace) -> dict[str, str]:
    settings = dict(setting.removeprefix("redpanda.").split("=", 1) for setting in flags.set)
    names = [listener.split("://")[0].upper() for listener in flags.kafka_addr.split(",")]
    controller = f"{(flags.seeds or flags.advertise_rpc_addr).split(':')[0]}:{_CONTROLLER_PORT}"
    own_controller = "" if flags.seeds else f",CONTROLLER://0.0.0.0:{_CONTROLLER_PORT}"
    return {
        "process.roles": "broker" if flags.seeds else "broker,controller",
        "node.id": flags.node_id,
        "controller.quorum.bootstrap.servers": controller,
        "controller.listener.names": "CONTROLLER",
        "listeners": _upper(flags.kafka_addr) + own_controller,
        "advertised.listeners": _upper(flags.advertise_kafka_addr)
        + ("" if flags.seeds else f",CONTROLLER://{controller}"),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*names, "CONTROLLER"]),
        "inter.broker.listener.name": names[0],
        "log.dirs": str(_DATA / "log"),
        "auto.create.topics.enable": settings["auto_create_topics_enabled"],
        "default.replication.factor": settings.get("default_topic_replications", "1"),
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
    }


def _upper(listeners: str) -> str:
    """Return ``internal://a:1,external://b:2`` with the names in Kafka's form."""
    pairs = (listener.split("://") for listener in listeners.split(","))
    return ",".join(f"{name.upper()}://{address}" for name, address in pairs)


def _new_cluster() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def _cluster_of(seeds: str) -> str:
    """Ask the first seed, on its internal listener, for the id of the cluster to join."""
    host = seeds.split(",")[0].split(":")[0]
    for _ in range(60):
        try:
            return str(KafkaAdminClient(bootstrap_servers=f"{host}:29092").describe_cluster()["cluster_id"])
        except Exception as error:
            sys.stderr.write(f"waiting for {host}: {error}\n")
            time.sleep(1)
    raise SystemExit(f"no answer from the seed {host}")
