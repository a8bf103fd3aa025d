"""The settings of the processor: one frozen value, checked when it is built."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.broker import security
from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError
from runtime.process.memory import memory_limit_mib
from runtime.settings import catalogue
from runtime.settings.location import OutputLocation
from runtime.settings.parsers import heap_mib
from runtime.settings.setting import ENV_FILE, Setting, resolve, source_of

ACCEPT_GAP = Setting(
    None,
    False,
    lambda text: text == "true",
    "go on although messages were deleted from the topic before they were read; the manifest records which",
    "--accept-gap",
    switch=True,
)

VERIFY = Setting(
    None,
    False,
    lambda text: text == "true",
    "check everything that is published against the ledger, and end; asks the broker only if --broker is given",
    "--verify",
    switch=True,
)

# What the JVM takes beside its heap, the driver, and one task with its consumer and its Arrow columns.
BESIDE_HEAP_MIB = 768
# What each further task takes that runs at the same time.
TASK_MIB = 384


def tasks_that_fit(memory: str, limit_mib: int | None) -> int | None:
    """Return how many tasks may run at once beside a heap of ``memory`` in ``limit_mib``; None for no limit."""
    if limit_mib is None:
        return None
    return 1 + max(0, limit_mib - heap_mib(memory) - BESIDE_HEAP_MIB) // TASK_MIB


SETTINGS: dict[str, Setting] = {
    "broker": catalogue.BROKER,
    "topic": catalogue.TOPIC,
    "memory": catalogue.SPARK_MEMORY,
    "master": catalogue.SPARK_MASTER,
    "output_format": catalogue.OUTPUT_FORMAT,
    "output": catalogue.OUTPUT_PATH,
    "interval_s": catalogue.BATCH_INTERVAL,
    "max_messages": catalogue.BATCH_MAX_MESSAGES,
    "dedupe": catalogue.DEDUPE,
    "accept_gap": ACCEPT_GAP,
    "verify": VERIFY,
    "log_level": catalogue.LOG_LEVEL,
    "log_format": catalogue.LOG_FORMAT,
}


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """What one run of the processor needs to know. ``interval_s`` 0 means: catch up once and exit."""

    broker: str
    topic: str
    output: OutputLocation
    memory: str = catalogue.SPARK_MEMORY.default
    master: str = catalogue.SPARK_MASTER.default
    output_format: str = catalogue.OUTPUT_FORMAT.default
    interval_s: float = catalogue.BATCH_INTERVAL.default
    max_messages: int = catalogue.BATCH_MAX_MESSAGES.default
    dedupe: str = catalogue.DEDUPE.default
    accept_gap: bool = ACCEPT_GAP.default
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default
    security: KafkaSecurity = field(default_factory=KafkaSecurity)
    # For a message only: what decided ``output_format``.
    format_source: str = field(default="the default", compare=False)

    def __post_init__(self) -> None:
        """Refuse a heap that this machine or container cannot hold beside the Python workers."""
        limit = memory_limit_mib()
        if limit is not None and heap_mib(self.memory) + BESIDE_HEAP_MIB > limit:
            raise SettingError(
                f"SPARK_MEMORY (--memory) {self.memory} does not fit: the heap and the {BESIDE_HEAP_MIB} MiB beside it "
                f"for the JVM and the Python workers exceed the {limit:,} MiB that this machine or container has; "
                f"at most {max(limit - BESIDE_HEAP_MIB, 0)}m would work, more with a larger PROCESSOR_MEM_LIMIT "
                "(docker-compose)"
            )

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "ProcessorConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        login = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        values = resolve({name: SETTINGS[name] for name in SETTINGS if name != "verify"}, flags, environ, env_file)
        asked = source_of(catalogue.OUTPUT_FORMAT, flags, environ, env_file)
        return cls(security=login, format_source=asked, **values)

    def describe(self) -> str:
        """Return the settings on one line, without secrets."""
        every = f"every {self.interval_s:g} s" if self.interval_s else "once"
        return (
            f"broker {self.broker} ({self.security.protocol}), topic {self.topic}, output {self.output} "
            f"({self.output_format}), Spark {self.master} with {self.memory}, {every}, "
            f"at most {self.max_messages:,} messages a batch, dedupe {self.dedupe}"
        )


_BESIDE_VERIFY = ("broker", "topic", "output", "verify")


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """What ``--verify`` needs to know. Without ``broker`` none is asked; ``topic`` None is the one of the ledger."""

    output: OutputLocation
    broker: str | None = None
    topic: str | None = None
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "VerifyConfig":
        """Resolve command line, environment and ``.env``; broker and topic count on the command line only.

        Raises SettingError.
        """
        catalogue.refuse_typos(env_file)
        fields = ["output", "log_level", "log_format"]
        fields += [name for name in ("broker", "topic") if getattr(flags, name) is not None]
        values = resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file)
        if "broker" in values:
            values["security"] = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        return cls(**values)


def senseless_beside_verify(flags: argparse.Namespace) -> list[str]:
    """Return the flags that were typed and mean nothing to ``--verify``."""
    typed = {
        name: setting.flag
        for name, setting in SETTINGS.items()
        if setting.flag and getattr(flags, setting.flag.lstrip("-").replace("-", "_")) is not None
    }
    senseless = [flag for name, flag in typed.items() if name not in _BESIDE_VERIFY]
    return senseless + (["--topic without --broker"] if "topic" in typed and "broker" not in typed else [])
