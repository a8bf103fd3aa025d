"""The settings of the producer: one frozen value, checked when it is built."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from producer.events import Started
from producer.sources import config as sources
from producer.sources.config import SourceConfig
from runtime.broker import security
from runtime.broker.security import KafkaSecurity
from runtime.errors import SettingError
from runtime.settings import catalogue, parsers
from runtime.settings import setting as settings
from runtime.settings.setting import ENV_FILE, Setting

SETTINGS: dict[str, Setting] = {
    "brokers": catalogue.BROKER,
    "topic": catalogue.TOPIC,
    "partitions": catalogue.TOPIC_PARTITIONS,
    "rate": catalogue.PRODUCER_RATE,
    "count": Setting(None, 0, parsers.integer(0, "1000"), "tickets to send, 0 for no limit", "--count"),
    "duration": Setting(None, 0.0, parsers.number(0, "60"), "seconds to send for, 0 for no limit", "--duration"),
    "seed": Setting(None, None, parsers.integer(0, "42"), "whole number that makes a run reproducible", "--seed"),
    "workers": Setting(None, 1, parsers.integer(1, "2", 64), "processes that share the work", "--workers"),
    "invalid_rate": Setting(
        None, 0.0, parsers.share, "share of messages that are made invalid on purpose", "--invalid-rate"
    ),
    "duplicate_rate": Setting(
        None, 0.0, parsers.share, "share of messages that repeat an earlier ticket", "--duplicate-rate"
    ),
    "answers": Setting(
        None, None, parsers.path, "new file that lists the invalid and repeated ones", "--answers", anchored=True
    ),
    "metrics_port": catalogue.METRICS_PORT,
    "metrics_host": catalogue.METRICS_HOST,
    "log_level": catalogue.LOG_LEVEL,
    "log_format": catalogue.LOG_FORMAT,
}


@dataclass(frozen=True, slots=True)
class ProducerConfig:
    """What a run of the producer does. Raises SettingError when the parts do not fit together.

    ``rate`` is in tickets a second, 0 for as fast as possible; ``count`` and ``duration`` (seconds) are 0 for no limit.
    """

    brokers: str
    topic: str
    partitions: int
    rate: float
    count: int
    duration: float
    seed: int | None
    workers: int
    log_level: str
    log_format: str
    security: KafkaSecurity
    source: SourceConfig = field(default_factory=SourceConfig)
    invalid_rate: float = 0.0
    duplicate_rate: float = 0.0
    answers: Path | None = None
    metrics_port: int = catalogue.METRICS_PORT.default
    metrics_host: str = catalogue.METRICS_HOST.default

    def __post_init__(self) -> None:
        if not self.source.is_random:
            for flag, given in (
                ("--workers", self.workers > 1),
                ("--seed", self.seed is not None),
                ("--invalid-rate", self.invalid_rate),
                ("--duplicate-rate", self.duplicate_rate),
                ("--answers", self.answers),
            ):
                if given:
                    raise SettingError(f"{flag} has no effect with --source {self.source.shown}; leave it out")
        if self.invalid_rate + self.duplicate_rate > 1:
            raise SettingError("--invalid-rate and --duplicate-rate must be at most 1 together")
        if self.workers > 1 and (self.answers or self.is_faulty):
            raise SettingError("faults are injected, and --answers written, by one worker only; leave out --workers")
        if self.count and self.workers > self.count:
            raise SettingError(f"--workers {self.workers} is more than --count {self.count}; lower --workers")

    @classmethod
    def from_sources(
        cls, flags: argparse.Namespace, environ: Mapping[str, str], env_file: Path = ENV_FILE
    ) -> "ProducerConfig":
        """Resolve command line, environment and ``.env``. Raises SettingError."""
        catalogue.refuse_typos(env_file)
        login = KafkaSecurity.from_settings(settings.resolve(security.SETTINGS, flags, environ, env_file))
        source = SourceConfig(**settings.resolve(sources.SETTINGS, flags, environ, env_file))
        values = settings.resolve(SETTINGS, flags, environ, env_file)
        if not source.is_random and flags.rate is None:
            # PRODUCER_RATE in .env is meant for random tickets; without --rate, others are sent as fast as possible.
            values["rate"] = 0.0
        return cls(security=login, source=source, **values)

    @property
    def is_faulty(self) -> bool:
        """Whether some messages are made invalid or repeated."""
        return self.invalid_rate + self.duplicate_rate > 0

    def share(self, worker: int) -> "ProducerConfig":
        """Return the config of one of the workers, counted from 0: together they do the whole work."""
        whole, rest = divmod(self.count, self.workers)
        return replace(self, rate=self.rate / self.workers, count=whole + (worker < rest), workers=1)

    def started(self) -> Started:
        """Return what the log says at the start."""
        return Started(
            self.describe(),
            broker=self.brokers,
            topic=self.topic,
            source=self.source.shown,
            rate=self.rate,
            count=self.count,
            duration=self.duration,
            workers=self.workers,
        )

    def describe(self) -> str:
        """Return one line on what the run will do, without secrets."""
        rate = f"{self.rate:g} tickets/s" if self.rate else "as many tickets/s as possible"
        limits = [f"{self.count:,} tickets"] if self.count else []
        limits += [f"{self.duration:g} s"] if self.duration else []
        end = "until stopped" if self.source.is_random or self.source.follow else "until the end"
        source = "" if self.source.is_random else f"from {self.source.shown} as {self.source.known_as}, "
        return (
            f"{source}topic {self.topic} at {self.brokers} ({self.security.protocol}), {rate}, "
            f"{' or '.join(limits) or end}, "
            f"seed {'none' if self.seed is None else self.seed}, workers {self.workers}, "
            f"partitions of a new topic {self.partitions}"
        )
