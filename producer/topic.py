"""Look up or create the topic that the tickets go to."""

import logging
from contextlib import closing

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from producer.config import ProducerConfig
from producer.events import TopicCreated
from runtime.errors import BrokerError
from runtime.process.logs import tell

_log = logging.getLogger(__name__)

TIMEOUT_MS = 8_000
_UNKNOWN_TOPIC = 3
_BROKER_DEFAULT = -1
# The topic id in the answer of a broker that does not support topic ids.
_NO_TOPIC_ID = "00000000-0000-0000-0000-000000000000"


def ensure_topic(config: ProducerConfig) -> str | None:
    """Create the topic if it is missing, and leave it unchanged if it exists. Raises BrokerError.

    Returns its id, which changes if the topic is deleted and created again; None if the broker does not report it.
    """
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=config.brokers.split(","),
            bootstrap_timeout_ms=TIMEOUT_MS,
            request_timeout_ms=TIMEOUT_MS,
            **config.security.for_kafka_python(),
        )
        with closing(admin):
            _ensure(admin, config)
            topic_id = admin.describe_topics([config.topic])[0].get("topic_id")
            return None if topic_id is None or str(topic_id) == _NO_TOPIC_ID else str(topic_id)
    except KafkaError as error:
        raise BrokerError(
            f"topic {config.topic} could not be looked up or created ({type(error).__name__}); "
            "create it yourself, or give this user the right to create it"
        ) from error


def _ensure(admin: KafkaAdminClient, config: ProducerConfig) -> None:
    found = admin.describe_topics([config.topic])[0]
    if found["error_code"] == _UNKNOWN_TOPIC:
        options = {"num_partitions": config.partitions, "replication_factor": _BROKER_DEFAULT}
        try:
            admin.create_topics({config.topic: options}, timeout_ms=TIMEOUT_MS, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            return
        tell(_log, TopicCreated(config.topic, config.partitions))
    elif found["error_code"]:
        raise for_code(found["error_code"])
    elif len(found["partitions"]) != config.partitions:
        _log.info(
            "topic %s has %d partitions, not TOPIC_PARTITIONS=%d; it is left as it is",
            config.topic,
            len(found["partitions"]),
            config.partitions,
        )
