"""Entry point of the processor: ``python processor/spark_processor.py --help``."""

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Started as a file: Python searches the folder of this file first, where processor.py hides the package.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from runtime.process.interpreter import prepare

if __name__ == "__main__":
    prepare("processor/spark_processor.py", "processor")

from processor.config import (
    SETTINGS,
    CompactConfig,
    ExplainConfig,
    ForgetConfig,
    ListRejectedConfig,
    ProcessorConfig,
    RetryConfig,
    StatusConfig,
    VerifyConfig,
    senseless,
    task_of,
)
from runtime.process import entry, logs
from runtime.process.absent import do_without
from runtime.process.failpoint import warn_of_failpoint
from runtime.process.shutdown import Shutdown
from runtime.settings import catalogue
from runtime.settings.setting import add_flags, parse_flags

_log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; values stay text, the config checks them."""
    parser = argparse.ArgumentParser(
        prog="spark_processor.py",
        description="Read new tickets from the topic, assign each a team and publish the datasets.",
        epilog="Order: command line > environment > .env > default. Log and Kafka security: see .env.",
        allow_abbrev=False,
    )
    add_flags(parser, SETTINGS.values())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the processor and return its exit code."""
    parser = build_parser()
    flags = parse_flags(parser, argv)
    task = task_of(flags)
    if too_many := senseless(task, flags):
        where = f" with {SETTINGS[task].flag}" if task else ""
        parser.error(f"leave out what has no effect{where}: {', '.join(too_many)}")
    return entry.run(lambda: _TASKS[task](flags))


_Changing = ProcessorConfig | CompactConfig | ForgetConfig | RetryConfig


def _set_up_logging(config: _Changing | VerifyConfig | StatusConfig | ListRejectedConfig | ExplainConfig) -> None:
    logs.configure_logging(config.log_level, config.log_format)
    catalogue.warn_of_near_misses(os.environ)


def _ready_to_change(config: _Changing) -> Shutdown:
    """Set up logging and signals for a task that changes the output, and return what tells it to stop."""
    _set_up_logging(config)
    warn_of_failpoint(os.environ)
    return Shutdown().install()


def _process(flags: argparse.Namespace) -> None:
    config = ProcessorConfig.from_sources(flags, os.environ)
    stop = _ready_to_change(config)
    logs.tell(_log, config.started())
    # Imported here, so that a bad setting is reported before heavy libraries are loaded.
    from processor.run import run

    run(config, stop)


def _verify(flags: argparse.Namespace) -> None:
    config = VerifyConfig.from_sources(flags, os.environ)
    _set_up_logging(config)
    from processor.verification import run

    run(config)


def _status(flags: argparse.Namespace) -> None:
    config = StatusConfig.from_sources(flags, os.environ)
    _set_up_logging(config)
    from processor.status import run

    run(config)


def _compact(flags: argparse.Namespace) -> None:
    config = CompactConfig.from_sources(flags, os.environ)
    stop = _ready_to_change(config)
    from processor.compaction import run

    run(config, stop)


def _forget(flags: argparse.Namespace) -> None:
    config = ForgetConfig.from_sources(flags, os.environ)
    stop = _ready_to_change(config)
    from processor.forgetting import run

    run(config, stop)


def _explain(flags: argparse.Namespace) -> None:
    config = ExplainConfig.from_sources(flags, os.environ)
    _set_up_logging(config)
    from processor.explanation import run

    run(config)


def _list_rejected(flags: argparse.Namespace) -> None:
    config = ListRejectedConfig.from_sources(flags, os.environ)
    _set_up_logging(config)
    from processor.listing import run

    run(config)


def _retry_rejected(flags: argparse.Namespace) -> None:
    config = RetryConfig.from_sources(flags, os.environ)
    stop = _ready_to_change(config)
    from processor.retrying import run

    run(config, stop)


_TASKS = {
    None: _process,
    "verify": _verify,
    "status": _status,
    "compact": _compact,
    "forget": _forget,
    "forget_file": _forget,
    "list_rejected": _list_rejected,
    "retry_rejected": _retry_rejected,
    "explain": _explain,
}


if __name__ == "__main__":
    # If pandas is installed, pyarrow imports it with its first array: 0.4 s, and nothing here uses it.
    do_without("pandas")
    code = main()
    # Without this, Python searches everything that was imported for cycles at exit: 0.1 s.
    gc.freeze()
    sys.exit(code)
