"""Entry point of the producer: ``python producer/ticket_producer.py --help``."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # If this file is run as a script, its folder is on the path, where producer.py would shadow the package.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from runtime.process.interpreter import prepare

if __name__ == "__main__":
    prepare("producer/ticket_producer.py", "producer")

from producer.config import SETTINGS, ProducerConfig
from producer.sources.config import GROUPS, SOURCE
from runtime.process import entry, logs
from runtime.process.shutdown import Shutdown
from runtime.settings import catalogue
from runtime.settings.setting import add_flags, parse_flags

_log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of the producer; values stay text, the config checks them."""
    parser = argparse.ArgumentParser(
        prog="ticket_producer.py",
        description="Send support tickets to a Kafka topic: random ones, or those of a file, a database or an API.",
        epilog="Order: command line > environment > .env > default. Log and Kafka security: see .env.",
        allow_abbrev=False,
    )
    add_flags(parser, [*SETTINGS.values(), SOURCE])
    for title, group in GROUPS.items():
        add_flags(parser.add_argument_group(title), group.values())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the producer and return its exit code."""
    flags = parse_flags(build_parser(), argv)
    return entry.run(lambda: _produce(flags))


def _produce(flags: argparse.Namespace) -> None:
    config = ProducerConfig.from_sources(flags, os.environ)
    logs.configure_logging(config.log_level, config.log_format)
    catalogue.warn_of_near_misses(os.environ)
    stop = Shutdown().install()
    logs.tell(_log, config.started())
    # Imported here, so that a bad setting is reported before these libraries are loaded.
    from producer.run import run

    run(config, stop)


if __name__ == "__main__":
    sys.exit(main())
