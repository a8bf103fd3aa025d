"""The process that Spark forks its Python workers from; it has already imported what a task needs.

When the tasks run on this machine, Spark runs ``python -m processor.daemon`` (property spark.python.daemon.module)
instead of pyspark's own daemon. A worker then starts in milliseconds instead of 0.5 s. Only imports happen before the
fork: no client, no thread, no Arrow work, because their state does not survive a fork.
"""

import gc
import importlib
import os
from contextlib import suppress

from runtime.process.absent import do_without

# Everything that a task needs; ``pyspark.worker`` is what Spark runs in a worker.
PREPARED = ("pyspark.worker", "processor.task")

# Without these, imports start threads: NumPy one for each core, Arrow's jemalloc one that frees memory.
_WITHOUT_THREADS = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


def prepare() -> None:
    """Import what tasks import. If an import fails, the task repeats it, and Spark reports the task's error."""
    os.environ.update(_WITHOUT_THREADS)
    # If pandas is installed, pyarrow imports it with its first array: 0.4 s, and no task uses it.
    do_without("pandas")
    for name in PREPARED:
        with suppress(ImportError):
            importlib.import_module(name)
    # Workers share the memory of these objects until somebody writes to it, as a garbage collection in a worker would.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    from pyspark.daemon import manager

    prepare()
    manager()
