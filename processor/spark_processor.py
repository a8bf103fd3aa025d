"""Entry point: read new tickets from the topic, assign each a team and publish the datasets."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Started as a file: the folder of this file would shadow the package and hide the others.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from processor.config import build_parser, load_config
from runtime import entry
from runtime.logs import configure_logging
from runtime.shutdown import Shutdown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the processor with the arguments ``argv`` and return its exit code."""
    flags = build_parser().parse_args(argv)

    def body() -> None:
        config = load_config(flags, os.environ)
        configure_logging(config.log_level, config.log_format)
        # Late, so that a bad setting is refused before anything heavy is loaded.
        from processor.processor import SparkProcessor

        SparkProcessor(config, Shutdown().install()).run()

    return entry.run(body)


if __name__ == "__main__":
    sys.exit(main())
