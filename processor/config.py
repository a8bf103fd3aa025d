"""The settings of the processor: one frozen value, checked when it is built."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from contract.routing import DEFAULT, Kind, Routing
from contract.ticket import MAX_CLIENT_ID_CHARACTERS
from processor.events import Started
from processor.routing_file import RoutingFile, kind, read_routing
from runtime.broker import security
from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError
from runtime.process.clock import Clock
from runtime.process.memory import memory_limit_mib
from runtime.settings import catalogue, parsers
from runtime.settings.location import OutputLocation
from runtime.settings.parsers import heap_mib, readable_file
from runtime.settings.setting import ENV_FILE, Setting, resolve, source_of
from runtime.settings.text_files import read_text

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
    "check everything that is published against the ledger, and exit; asks the broker only if --broker is given",
    "--verify",
    switch=True,
)

ANSWERS = Setting(
    None,
    None,
    readable_file,
    "with --verify: the answer key that the producer wrote; reports what became of each injected fault",
    "--answers",
    anchored=True,
)

STATUS = Setting(
    None,
    False,
    lambda text: text == "true",
    "show what the processor does, what is published, and the lag if the broker answers, and exit",
    "--status",
    switch=True,
)

COMPACT = Setting(
    None,
    False,
    lambda text: text == "true",
    "merge neighbouring small files, and exit; asks no broker",
    "--compact",
    switch=True,
)


def _client_id(text: str) -> str:
    if not 1 <= len(text) <= MAX_CLIENT_ID_CHARACTERS:
        raise ValueError(f"must be the id of a client, of 1 to {MAX_CLIENT_ID_CHARACTERS} characters")
    return text


def _client_ids(text: str, base: Path) -> tuple[str, ...]:
    """Return the ids in a file, one a line; a line that is a JSON string is decoded."""
    file = parsers.readable_file(text, base)
    ids = [_from_json(line) for line in read_text(file).split("\n") if line.strip()]
    if not ids:
        raise ValueError("must name a file that holds the id of a client on each line")
    return tuple(_client_id(client_id) for client_id in ids)


def _from_json(line: str) -> str:
    line = line.removesuffix("\r")
    try:
        return msgspec.json.decode(line, type=str)
    except msgspec.DecodeError:
        return line


FORGET = Setting(
    None,
    None,
    _client_id,
    "erase every row of this client, also those that are still unread, and exit; asks the broker",
    "--forget",
)

FORGET_FILE = Setting(
    None,
    None,
    _client_ids,
    "like --forget, for each id in this file, one a line",
    "--forget-file",
    anchored=True,
)

LIST_REJECTED = Setting(
    None,
    False,
    lambda text: text == "true",
    "show why messages were rejected, how many, with an example each, and exit; asks no broker",
    "--list-rejected",
    switch=True,
)

RETRY_REJECTED = Setting(
    None,
    False,
    lambda text: text == "true",
    "publish rejected messages that this release accepts as tickets, and exit; asks no broker",
    "--retry-rejected",
    switch=True,
)


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("must be a reason that --list-rejected shows")
    return text


REASON = Setting(
    None,
    None,
    _reason,
    "with --retry-rejected: only messages that were rejected for this reason",
    "--reason",
)

EXPLAIN = Setting(
    None,
    None,
    kind,
    "print the team of tickets of this type and priority, and the rule that says so, and exit",
    "--explain",
    words=("TYPE", "PRIORITY"),
)

READERS_STOPPED = Setting(
    None,
    False,
    lambda text: text == "true",
    "for --compact, --forget and --retry-rejected: all readers are stopped, so folders need not be exchanged",
    "--readers-stopped",
    switch=True,
)

# Memory beside the heap: the JVM's own, the driver, and one task with its consumer and its Arrow columns.
BESIDE_HEAP_MIB = 768
# Memory for each further task that runs at the same time.
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
    "start": catalogue.TOPIC_FROM,
    "until": catalogue.TOPIC_UNTIL,
    "consumer_group": catalogue.CONSUMER_GROUP,
    "routing_file": catalogue.ROUTING_FILE,
    "accept_gap": ACCEPT_GAP,
    "verify": VERIFY,
    "answers": ANSWERS,
    "status": STATUS,
    "compact": COMPACT,
    "forget": FORGET,
    "forget_file": FORGET_FILE,
    "list_rejected": LIST_REJECTED,
    "retry_rejected": RETRY_REJECTED,
    "reason": REASON,
    "readers_stopped": READERS_STOPPED,
    "metrics_port": catalogue.METRICS_PORT,
    "metrics_host": catalogue.METRICS_HOST,
    "explain": EXPLAIN,
    "log_level": catalogue.LOG_LEVEL,
    "log_format": catalogue.LOG_FORMAT,
    "compact_files": catalogue.COMPACT_FILES,
}

# Flags that ask for another task than reading the topic, and the settings that each may be combined with.
_FORGETTING = ("output", "broker", "topic", "readers_stopped", "forget", "forget_file")
_BESIDE = {
    "verify": ("output", "broker", "topic", "answers"),
    "status": ("output", "broker"),
    "compact": ("output", "readers_stopped"),
    "forget": _FORGETTING,
    "forget_file": _FORGETTING,
    "list_rejected": ("output",),
    "retry_rejected": ("output", "reason", "readers_stopped"),
    "explain": ("routing_file",),
}
_OF_OTHER_TASKS = {*_BESIDE, "answers", "reason", "readers_stopped"}


@dataclass(frozen=True, slots=True)
class ProcessorConfig:
    """What one run of the processor needs to know. ``interval_s`` 0 means: catch up once and exit.

    ``start`` (earliest, latest or a time) and ``until`` are what part of the topic was asked for, None where nothing
    was: then an output that exists goes on with its own, and a new one holds the whole topic.
    """

    broker: str
    topic: str
    output: OutputLocation
    memory: str = catalogue.SPARK_MEMORY.default
    master: str = catalogue.SPARK_MASTER.default
    output_format: str = catalogue.OUTPUT_FORMAT.default
    interval_s: float = catalogue.BATCH_INTERVAL.default
    max_messages: int = catalogue.BATCH_MAX_MESSAGES.default
    dedupe: str = catalogue.DEDUPE.default
    start: str | datetime | None = catalogue.TOPIC_FROM.default
    until: datetime | None = catalogue.TOPIC_UNTIL.default
    consumer_group: str = catalogue.CONSUMER_GROUP.default
    # None: the default rules.
    routing_file: RoutingFile | None = None
    accept_gap: bool = ACCEPT_GAP.default
    compact_files: int = catalogue.COMPACT_FILES.default
    metrics_port: int = catalogue.METRICS_PORT.default
    metrics_host: str = catalogue.METRICS_HOST.default
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default
    security: KafkaSecurity = field(default_factory=KafkaSecurity)
    # Where ``output_format``, ``start`` and ``until`` were set; only for messages.
    format_source: str = field(default="the default", compare=False)
    start_source: str = field(default="--from", compare=False)
    until_source: str = field(default="--until", compare=False)

    def __post_init__(self) -> None:
        """Refuse a heap that does not fit beside the Python workers, and a part of the topic that holds nothing."""
        limit = memory_limit_mib()
        if limit is not None and heap_mib(self.memory) + BESIDE_HEAP_MIB > limit:
            raise SettingError(
                f"SPARK_MEMORY (--memory) {self.memory} does not fit: the heap and the {BESIDE_HEAP_MIB} MiB beside it "
                f"for the JVM and the Python workers exceed the {limit:,} MiB that this machine or container has; "
                f"at most {max(limit - BESIDE_HEAP_MIB, 0)}m would work, more with a larger PROCESSOR_MEM_LIMIT "
                "(docker-compose)"
            )
        start, until = self.start, self.until
        if until is not None and (start == "latest" or (isinstance(start, datetime) and start >= until)):
            raise SettingError(
                f"{self.start_source} must be earlier than {self.until_source}, found {parsers.rfc_3339(start)} and "
                f"{parsers.rfc_3339(until)}"
            )

    @classmethod
    def from_sources(
        cls,
        flags: argparse.Namespace,
        environ: Mapping[str, str],
        env_file: Path = ENV_FILE,
        clock: Clock | None = None,
    ) -> "ProcessorConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        login = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        fields = {name: setting for name, setting in SETTINGS.items() if name not in _OF_OTHER_TASKS}
        values = resolve(fields, flags, environ, env_file)
        for name, of in (("format", "output_format"), ("start", "start"), ("until", "until")):
            values[f"{name}_source"] = source_of(SETTINGS[of], flags, environ, env_file)
        config = cls(security=login, **_with_routing(values))
        _require_past(config, (clock or Clock()).now())
        return config

    @property
    def routing(self) -> Routing:
        """The rules that assign teams."""
        return self.routing_file.routing if self.routing_file else DEFAULT

    def started(self) -> Started:
        """Return what the log says at the start."""
        return Started(
            self.describe(),
            broker=self.broker,
            topic=self.topic,
            output=str(self.output),
            output_format=self.output_format,
            interval=self.interval_s,
            max_messages=self.max_messages,
            dedupe=self.dedupe,
        )

    def describe(self) -> str:
        """Return the settings on one line, without secrets."""
        every = f"every {self.interval_s:g} s" if self.interval_s else "once"
        return (
            f"broker {self.broker} ({self.security.protocol}), topic {self.topic}, output {self.output} "
            f"({self.output_format}), Spark {self.master} with {self.memory}, {every}, "
            f"at most {self.max_messages:,} messages a batch, dedupe {self.dedupe}, "
            f"consumer group {self.consumer_group or 'none'}"
            + (f", from {parsers.rfc_3339(self.start)}" if self.start else "")
            + (f", until {parsers.rfc_3339(self.until)}" if self.until else "")
            + f", teams by {self.routing_file.path if self.routing_file else 'the default rules'}"
        )


def _require_past(config: ProcessorConfig, now: datetime) -> None:
    """Raise SettingError for a time that has not come: it cannot be resolved to an offset yet."""
    for place, source in ((config.start, config.start_source), (config.until, config.until_source)):
        if isinstance(place, datetime) and place > now:
            raise SettingError(
                f"{source} must be a time that has passed, found {parsers.rfc_3339(place)}, and now it is "
                f"{parsers.rfc_3339(now.replace(microsecond=0))}; start again after that time, or leave it out"
            )


def _with_routing(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the content of the file that ``routing_file`` names. Raises SettingError."""
    file = values["routing_file"]
    return {**values, "routing_file": file and read_routing(file)}


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """What ``--verify`` needs to know. No broker is asked if ``broker`` is None; ``topic`` None is the ledger's."""

    output: OutputLocation
    broker: str | None = None
    topic: str | None = None
    answers: Path | None = None
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
        fields += [name for name in ("broker", "topic", "answers") if getattr(flags, name) is not None]
        values = resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file)
        if "broker" in values:
            values["security"] = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """What ``--status`` needs to know. The topic is the one of the ledger."""

    output: OutputLocation
    broker: str
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "StatusConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        login = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        fields = ("output", "broker", "log_level", "log_format")
        return cls(security=login, **resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file))


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """What ``--compact`` needs to know. ``readers_stopped``: nobody reads the datasets meanwhile."""

    output: OutputLocation
    readers_stopped: bool = READERS_STOPPED.default
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "CompactConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        fields = ("output", "readers_stopped", "log_level", "log_format")
        return cls(**resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file))


@dataclass(frozen=True, slots=True)
class ForgetConfig:
    """What ``--forget`` needs to know. ``readers_stopped``: nobody reads the datasets meanwhile."""

    broker: str
    topic: str
    output: OutputLocation
    client_ids: tuple[str, ...] = field(repr=False)
    readers_stopped: bool = READERS_STOPPED.default
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default
    security: KafkaSecurity = field(default_factory=KafkaSecurity)

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "ForgetConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        login = KafkaSecurity.from_settings(resolve(security.SETTINGS, flags, environ, env_file))
        fields = (*_FORGETTING, "log_level", "log_format")
        values = resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file)
        one, several = values.pop("forget"), values.pop("forget_file") or ()
        client_ids = tuple(dict.fromkeys([*([one] if one else []), *several]))
        return cls(security=login, client_ids=client_ids, **values)


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """What ``--explain`` needs to know. Without ``routing_file`` the default rules hold."""

    explain: Kind
    routing_file: RoutingFile | None = None
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "ExplainConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        fields = ("explain", "routing_file", "log_level", "log_format")
        return cls(**_with_routing(resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file)))


@dataclass(frozen=True, slots=True)
class ListRejectedConfig:
    """What ``--list-rejected`` needs to know."""

    output: OutputLocation
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "ListRejectedConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        fields = ("output", "log_level", "log_format")
        return cls(**resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file))


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """What ``--retry-rejected`` needs to know. ``reason`` None: all. ``readers_stopped``: nobody reads meanwhile."""

    output: OutputLocation
    reason: str | None = None
    readers_stopped: bool = READERS_STOPPED.default
    log_level: str = catalogue.LOG_LEVEL.default
    log_format: str = catalogue.LOG_FORMAT.default

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "RetryConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        fields = ("output", "reason", "readers_stopped", "log_level", "log_format")
        return cls(**resolve({name: SETTINGS[name] for name in fields}, flags, environ, env_file))


def task_of(flags: argparse.Namespace) -> str | None:
    """Return the task that the flags ask for instead of reading the topic, the first in _BESIDE of several; or None."""
    return next((task for task in _BESIDE if getattr(flags, task) is not None), None)


def senseless(task: str | None, flags: argparse.Namespace) -> list[str]:
    """Return the flags that were typed and have no effect on ``task``."""
    typed = {
        name: setting.flag
        for name, setting in SETTINGS.items()
        if setting.flag and getattr(flags, setting.flag.lstrip("-").replace("-", "_")) is not None
    }
    if task is None:
        owners = {
            "reason": "--retry-rejected",
            "readers_stopped": "--compact, --forget or --retry-rejected",
            "answers": "--verify",
        }
        return [f"{typed[name]} without {owner}" for name, owner in owners.items() if name in typed]
    without = [flag for name, flag in typed.items() if name not in (task, *_BESIDE[task])]
    topic_alone = task == "verify" and "topic" in typed and "broker" not in typed
    return without + (["--topic without --broker"] if topic_alone else [])
