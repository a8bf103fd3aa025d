"""One run of the producer: check the broker, have the topic, produce in one process or in several."""

import logging
import os

from producer.config import ProducerConfig
from producer.producer import produce
from producer.progress import Reporter
from producer.topic import ensure_topic
from producer.workers import produce_with_workers
from runtime.broker.preflight import check_broker
from runtime.process.display import choose_display
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown

_log = logging.getLogger(__name__)


def run(config: ProducerConfig, stop: Shutdown) -> None:
    """Produce as the config says, until done or asked to stop. Raises PipelineError."""
    check_broker(config.brokers, config.security, stop=stop)
    if stop.asked:
        _log.info("stopped before the first ticket")
        return
    ensure_topic(config)
    rest_s = 1 / config.rate if config.rate else 0.0
    reporter = Reporter(choose_display(), Heartbeat.from_environment(os.environ), rest_s)
    try:
        if config.workers == 1:
            produce(config, 0, stop, reporter.update)
        else:
            produce_with_workers(config, stop, reporter.update)
    finally:
        reporter.close()
