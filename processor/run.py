"""One run of the processor: build the output, the topic and Spark, and run SparkProcessor with them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from processor.config import ProcessorConfig
from processor.group import GroupOffsets, KafkaGroup
from processor.processor import SparkProcessor
from processor.recorder import NoRecorder, Recorder
from processor.tasks import SparkTasks
from processor.topic import Topic
from runtime.process.clock import Clock
from runtime.process.display import choose_display
from runtime.process.heartbeat import Heartbeat
from runtime.process.shutdown import Shutdown
from store.output import Output


def run(config: ProcessorConfig, stop: Shutdown) -> None:
    """Process until done or asked to stop. Raises PipelineError."""
    clock = Clock()
    output = Output(config.output, clock=clock)
    topic = Topic(config.broker, config.security, config.topic, stop)
    tasks = SparkTasks(config, output.state, stop)
    heartbeat = Heartbeat.from_environment(os.environ)
    group = GroupOffsets(
        config.consumer_group, KafkaGroup(config.broker, config.security, config.consumer_group).commit
    )
    display = choose_display(config.log_format)
    with _recorder(config, heartbeat) as recorder:
        SparkProcessor(config, output, topic, tasks, stop, heartbeat, clock, display, group, recorder).run()


@contextmanager
def _recorder(config: ProcessorConfig, heartbeat: Heartbeat) -> Iterator[Recorder]:
    if not config.metrics_port:
        yield NoRecorder()
        return
    # Only if it is needed: the import takes 0.1 s.
    from processor.metrics import recording

    with recording(config, heartbeat) as metrics:
        yield metrics
