"""Make the class-data archive with which Spark's JVM starts faster: ``python -m processor.archive``.

Set-up and the image's build run it. If a fitting archive exists, it does nothing. If none can be made, it logs why, and
Spark starts without one.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from processor.jvm import SparkJvm, archive_path, pyspark_folder
from runtime.errors import PipelineError
from runtime.java import archive
from runtime.java.jdk import java_executable
from runtime.process import entry

_log = logging.getLogger(__name__)

_WORKERS = 2
# Writing takes some 10 s on a quiet machine.
_WRITING_S = 180.0


@dataclass(frozen=True)
class _Small:
    """Settings of the smallest Spark that loads what a batch loads."""

    master: str = f"local[{_WORKERS}]"
    memory: str = "512m"


def main() -> int:
    """Make the archive unless it is there; return 0 also when it could not be made."""
    return entry.run(_make_if_missing)


def _make_if_missing() -> None:
    target = archive_path(java_executable(), pyspark_folder())
    if target.exists():
        return
    sys.stdout.write("preparing a fast start of Spark; some seconds\n")
    sys.stdout.flush()
    try:
        archive.make(target, _run_once)
    except (PipelineError, OSError) as error:
        _log.warning("Spark's class-data archive was not made, so Spark will start more slowly: %s", error)
    else:
        sys.stdout.write(f"{target} ({target.stat().st_size / 1e6:.0f} MB)\n")


def _run_once(unfinished: Path) -> None:
    """Let a JVM load the classes of a start and of a job, and write them to ``unfinished`` at its exit."""
    from processor.session import start_context

    # The log lies in the temporary folder of the unfinished archive, so both are removed together.
    folder = unfinished.parent
    jvm = SparkJvm(_Small.memory, folder / "spark.log", archive_to=unfinished)
    try:
        context = start_context(_Small(), jvm)
        # Twice, because a second job loads more classes, such as those that reuse a worker.
        for _ in range(2):
            context.parallelize(range(_WORKERS), _WORKERS).map(abs).collect()
        context.stop()
    except BaseException:
        jvm.close()
        raise
    # The JVM writes the archive when it exits, so it must not be killed before.
    jvm.close(patience_s=_WRITING_S)


if __name__ == "__main__":
    raise SystemExit(main())
