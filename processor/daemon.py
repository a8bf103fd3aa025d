"""The process that Spark forks its Python workers from, with what a task imports already imported.

When the tasks run on this machine, Spark runs ``python -m processor.daemon`` (property spark.python.daemon.module)
instead of pyspark's own daemon. A worker then begins in milliseconds instead of 0.5 s. Only imports happen before the
fork: no client, no thread, no Arrow work, since a fork copies none of their state in order.
"""

import gc
import importlib
import os
from contextlib import suppress

from runtime.process.absent import do_without

# Everything that a task needs; ``pyspark.worker`` is what Spark runs in a worker.
PREPARED = ("pyspark.worker", "processor.task")

# Each would start a thread when it is imported: one thread a core for NumPy, one that tidies up for Arrow's jemalloc.
_WITHOUT_THREADS = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


def prepare() -> None:
    """Import what tasks import; what cannot be imported is left to the task, whose error Spark reports."""
    os.environ.update(_WITHOUT_THREADS)
    # pyarrow would import it at its first array, where it is installed: 0.4 s for what no task uses.
    do_without("pandas")
    for name in PREPARED:
        with suppress(ImportError):
            importlib.import_module(name)
    # Workers share these objects' memory until one of them writes to it, which a garbage collection would do.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    from pyspark.daemon import manager

    prepare()
    manager()
