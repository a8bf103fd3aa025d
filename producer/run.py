"""One run of the producer: check the broker, create the topic if needed, produce in one process or in several."""

import logging
import os

from producer.config import ProducerConfig
from producer.producer import Report, produce
from producer.progress import Progress, Reporter
from producer.sending import send_source
from producer.topic import ensure_topic
from producer.workers import produce_with_workers
from runtime.broker.preflight import check_broker
from runtime.process.display import choose_display
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown

_log = logging.getLogger(__name__)


def run(config: ProducerConfig, stop: Shutdown) -> None:
    """Produce according to ``config``, until done or asked to stop. Raises PipelineError."""
    heartbeat = Heartbeat.from_environment(os.environ)
    if not config.metrics_port:
        _produce(config, stop, heartbeat, lambda progress: None)
        return
    # Only if it is needed: the import takes 0.1 s.
    from producer.metrics import counted

    with counted(config, heartbeat) as count:
        _produce(config, stop, heartbeat, count)


def _produce(config: ProducerConfig, stop: Shutdown, heartbeat: Heartbeat, count: Report) -> None:
    check_broker(config.brokers, config.security, stop=stop)
    if stop.asked:
        _log.info("stopped before the first ticket")
        return
    topic_id = ensure_topic(config)
    rest_s = max(1 / config.rate if config.rate else 0.0, config.source.poll_s if config.source.follow else 0.0)
    reporter = Reporter(choose_display(config.log_format), heartbeat, rest_s)

    def report(progress: Progress) -> None:
        count(progress)
        reporter.update(progress)

    try:
        if not config.source.is_random:
            send_source(config, topic_id, stop, report, heartbeat)
        elif config.workers == 1:
            produce(config, 0, stop, report)
        else:
            produce_with_workers(config, stop, report)
    finally:
        reporter.close()
