"""The whole examination, in its order, once everything that it needs is installed."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from doctor import broker, disk, docker, interpreter, java, output, ports, settings, topic
from doctor.finding import Finding, Section, from_error, not_looked_at
from embedded.broker import DATA_DIR
from embedded.broker import SETTINGS as BROKER_SETTINGS
from processor.config import ProcessorConfig, tasks_that_fit
from processor.jvm import jvm_environment
from processor.topic import Topic
from runtime.errors import SettingError
from runtime.process.shutdown import Shutdown
from runtime.settings import catalogue
from runtime.settings.setting import ENV_FILE, ROOT


class Examination:
    """What is looked at, with the settings that ``flags``, ``environ`` and ``.env`` give. It changes nothing."""

    def __init__(self, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE) -> None:
        self._environ = environ
        self._env_file = env_file
        self.settings = settings.look_up(flags, environ, env_file)

    @property
    def sections(self) -> Sequence[Section]:
        """The sections, in their order. A later one may rest on what an earlier one has found."""
        return [
            Section("Python", partial(interpreter.examine, self._environ)),
            Section("Java", self._java),
            Section("Disk", partial(disk.examine, self._environ, self._places())),
            Section("Ports", self._ports),
            Section("Settings", partial(settings.examine, self.settings, self._environ, self._env_file)),
            Section("Broker", self._broker),
            Section("Topic", self._topic),
            Section("Output", self._output),
            Section("Docker", partial(docker.examine, self._environ)),
        ]

    def _get(self, setting: Any) -> Any:
        return self.settings.get(setting)

    @property
    def _folder(self) -> Path:
        folder: Path = self._get(catalogue.OUTPUT_PATH).folder
        return folder

    def _places(self) -> dict[str, Path]:
        known = {} if self.settings.is_wrong(catalogue.OUTPUT_PATH) else {"the output": self._folder}
        return {**known, "the embedded broker": ROOT / DATA_DIR.default}

    def _java(self) -> Iterator[Finding]:
        memory = self._get(catalogue.SPARK_MEMORY)
        wrong = self.settings.is_wrong(catalogue.SPARK_MEMORY)
        heap = not_looked_at("SPARK_MEMORY cannot be used: see Settings") if wrong else self._heap(memory)
        yield from java.examine(self._environ, memory if heap.level == "ok" else None)
        yield heap
        kept = jvm_environment(self._environ, Path(), self._get(catalogue.SPARK_MASTER).startswith("local"))
        yield from java.left_out(self._environ, kept, catalogue.ALL)

    def _heap(self, memory: str) -> Finding:
        source, limit = self.settings.source(catalogue.SPARK_MEMORY), java.memory_of_machine()
        try:
            ProcessorConfig(
                broker=self._get(catalogue.BROKER),
                topic=self._get(catalogue.TOPIC),
                output=self._get(catalogue.OUTPUT_PATH),
                memory=memory,
            )
        except SettingError as error:
            return from_error(error)
        return java.heap(memory, source, limit, tasks_that_fit(memory, limit), len(os.sched_getaffinity(0)))

    def _ports(self) -> Iterator[Finding]:
        return ports.examine(self._get(catalogue.BROKER), BROKER_SETTINGS["port"].default, self.settings.values)

    @cached_property
    def _looks(self) -> broker.Looks | None:
        """What came of the steps with each broker; None if the settings of that cannot be used."""
        try:
            return broker.look(self._get(catalogue.BROKER), settings.login(self.settings))
        except SettingError:
            return None

    def _broker(self) -> Iterator[Finding]:
        if self._looks is None:
            yield not_looked_at("a setting of the broker cannot be used: see Settings")
        else:
            yield from broker.judge(self._looks)

    def _topic(self) -> Iterator[Finding]:
        if self._looks is None or not broker.can_be_used(self._looks):
            yield not_looked_at("the broker cannot be used")
        elif self.settings.is_wrong(catalogue.TOPIC):
            yield not_looked_at("TOPIC_NAME cannot be used: see Settings")
        else:
            brokers = ",".join(broker.addresses(self._looks))
            name, wrong = self._get(catalogue.TOPIC), self.settings.is_wrong(catalogue.OUTPUT_PATH)
            asked = Topic(brokers, settings.login(self.settings), name, Shutdown())
            yield from topic.examine(name, asked, None if wrong else output.read(self._folder), datetime.now(UTC))

    def _output(self) -> Iterator[Finding]:
        if self.settings.is_wrong(catalogue.OUTPUT_PATH):
            yield not_looked_at("OUTPUT_PATH cannot be used: see Settings")
            return
        wanted, files = self._get(catalogue.OUTPUT_FORMAT), self._get(catalogue.COMPACT_FILES)
        yield from output.examine(self._folder, wanted, files, datetime.now(UTC))
        start, until = catalogue.TOPIC_FROM, catalogue.TOPIC_UNTIL
        sources = (self.settings.named(start), self.settings.named(until))
        yield from output.part(
            output.Part(self._get(catalogue.OUTPUT_PATH), self._get(start), self._get(until), *sources)
        )
