"""Every key of ``.env`` in one table, so that the services agree on each key and a typo can be found.

Flags without a key (``--count``, ``--seed``, …) belong to the service that has them.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from runtime.process import logs
from runtime.settings import parsers
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ENV_FILE, Setting, near_miss, refuse_unknown_keys
from runtime.settings.text_files import read_env_file

_log = logging.getLogger(__name__)

BROKER = Setting(
    "REDPANDA_BROKER_LOCAL",
    "localhost:9092",
    parsers.brokers,
    "address of the broker, host:port, several with commas",
    "--broker",
)
TOPIC = Setting("TOPIC_NAME", "client_tickets", parsers.topic, "name of the topic", "--topic")
TOPIC_PARTITIONS = Setting(
    "TOPIC_PARTITIONS", 4, parsers.integer(1, "4", 10_000), "number of partitions if the producer creates the topic"
)
TOPIC_FROM = Setting(
    "TOPIC_FROM",
    None,
    parsers.place_in_time,
    "where a new output begins: earliest, latest or a time, such as 2026-01-31T09:30:00Z",
    "--from",
)
TOPIC_UNTIL = Setting("TOPIC_UNTIL", None, parsers.moment, "the time at which a new output ends", "--until")
PRODUCER_RATE = Setting(
    "PRODUCER_RATE", 10.0, parsers.number(0, "20"), "tickets a second, 0 for as fast as possible", "--rate"
)
SPARK_MEMORY = Setting(
    "SPARK_MEMORY", "2g", parsers.memory, "heap of the Spark JVM, in m or g, at least 512m", "--memory"
)
SPARK_MASTER = Setting(
    "SPARK_MASTER", "local[*]", parsers.spark_master, "where Spark runs: local[N] or spark://host:port", "--master"
)
OUTPUT_FORMAT = Setting(
    "OUTPUT_FORMAT",
    "parquet",
    parsers.choice("parquet", "json", fold=str.lower),
    "format of the datasets: parquet or json",
    "--output-format",
)
OUTPUT_PATH = Setting(
    "OUTPUT_PATH", "data/output", OutputLocation.parse, "folder of the datasets", "--output-path", anchored=True
)
BATCH_INTERVAL = Setting(
    "BATCH_INTERVAL",
    0.0,
    parsers.number(0, "30"),
    "seconds from one batch to the next, 0 to catch up once and exit",
    "--interval",
)
BATCH_MAX_MESSAGES = Setting(
    "BATCH_MAX_MESSAGES", 5_000_000, parsers.integer(1, "5000000"), "most messages in one batch", "--max-messages"
)
COMPACT_FILES = Setting(
    "COMPACT_FILES", 64, parsers.integer(0, "64"), "merge small files of a dataset when there are more, 0 for never"
)
DEDUPE = Setting(
    "DEDUPE",
    "off",
    parsers.choice("off", "all", fold=str.lower),
    "all rejects tickets whose ticket_id was published before, off publishes them again",
    "--dedupe",
)
CONSUMER_GROUP = Setting(
    "CONSUMER_GROUP",
    "client-tickets-processor",
    parsers.consumer_group,
    "group that shows how far it is, empty for none",
    "--consumer-group",
    may_be_empty=True,
)
ROUTING_FILE = Setting(
    "ROUTING_FILE",
    None,
    parsers.readable_file,
    "file of the rules that assign teams, instead of the default rules",
    "--routing-file",
    anchored=True,
)
DASHBOARD_PORT = Setting(
    "DASHBOARD_PORT", 8501, parsers.integer(1, "8501", 65_535), "port of the dashboard on this machine", "--port"
)
METRICS_PORT = Setting(
    "METRICS_PORT",
    0,
    parsers.integer(0, "9101", 65_535),
    "port of /metrics (Prometheus) and /healthz, 0 for neither",
    "--metrics-port",
)
METRICS_HOST = Setting("METRICS_HOST", "127.0.0.1", parsers.address, "address that METRICS_PORT is opened on")
LOG_LEVEL = Setting("LOG_LEVEL", "INFO", parsers.choice(*logs.LEVELS, fold=str.upper), "least severe level logged")
LOG_FORMAT = Setting("LOG_FORMAT", "text", parsers.choice(*logs.FORMATS, fold=str.lower), "text or json")
KAFKA_SECURITY_PROTOCOL = Setting(
    "KAFKA_SECURITY_PROTOCOL",
    "PLAINTEXT",
    parsers.choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", fold=str.upper),
    "how to talk to the broker",
)
KAFKA_SASL_MECHANISM = Setting(
    "KAFKA_SASL_MECHANISM",
    "SCRAM-SHA-256",
    parsers.choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", fold=str.upper),
    "how to log in, with SASL_PLAINTEXT or SASL_SSL",
)
KAFKA_SASL_USERNAME = Setting("KAFKA_SASL_USERNAME", None, str, "user name, with SASL_PLAINTEXT or SASL_SSL")
KAFKA_SASL_PASSWORD = Setting("KAFKA_SASL_PASSWORD", None, str, "password of that user", secret=True)
KAFKA_SASL_PASSWORD_FILE = Setting(
    "KAFKA_SASL_PASSWORD_FILE",
    None,
    parsers.readable_file,
    "file that holds the password, instead of KAFKA_SASL_PASSWORD",
    anchored=True,
)
KAFKA_SSL_CAFILE = Setting(
    "KAFKA_SSL_CAFILE", None, parsers.readable_file, "PEM file of the CA to trust, with SSL or SASL_SSL", anchored=True
)

ALL: dict[str, Setting] = {
    setting.key: setting for setting in tuple(globals().values()) if isinstance(setting, Setting) and setting.key
}

# A key of our ``.env`` that begins like this is meant for us.
PREFIXES = (
    *("BATCH_", "COMPACT_", "CONSUMER_", "DASHBOARD_", "KAFKA_S", "METRICS_", "OUTPUT_", "PRODUCER_", "REDPANDA_"),
    "ROUTING_",
    "TOPIC_",
)

# Only docker-compose.yml reads these, from the same ``.env``.
OF_COMPOSE = ("PROCESSOR_MEM_LIMIT", "PROCESSOR_METRICS_PORT", "PRODUCER_METRICS_PORT")


def refuse_typos(env_file: Path = ENV_FILE) -> None:
    """Raise SettingError for a key in ``.env`` that begins like one of ours but is not one."""
    refuse_unknown_keys([*ALL, *OF_COMPOSE], PREFIXES, env_file)


def warn_of_near_misses(environ: Mapping[str, str], env_file: Path = ENV_FILE) -> None:
    """Warn of keys that are almost ours. Other keys are not ours to judge: Kubernetes sets KAFKA_SERVICE_HOST."""
    for source, keys in (("the environment", environ), (str(env_file), read_env_file(env_file))):
        for key in keys:
            if key not in ALL and (meant := near_miss(key, ALL)):
                _log.warning("%s (from %s) is not a setting and is ignored; did you mean %s?", key, source, meant)
