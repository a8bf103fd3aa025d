"""Spark for one run: a context on our own JVM, with the memory that was set and the code that tasks need."""

import logging
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from processor.config import tasks_that_fit
from processor.jvm import JvmNotStarted, SparkJvm
from processor.master import require_master
from runtime.errors import SettingError
from runtime.java.jdk import java_executable
from runtime.process.memory import memory_limit_mib
from runtime.settings.setting import ROOT
from store.files import writing

# pyspark is imported where it is used, so that the JVM starts while it loads.
if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext

_log = logging.getLogger(__name__)

# Packages that tasks import. The driver sends them to the workers, so that all run the same code.
_SHIPPED = ("contract", "processor", "runtime", "store")

_TASK_FAILURES = 4

# A task allocates and frees some 100 MB several times a second. By default glibc returns that to the kernel each time,
# and the page faults are a sixth of the cost of a ticket.
_WORKER_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(512 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


class SparkSettings(Protocol):
    """The settings that decide how Spark starts."""

    @property
    def master(self) -> str:
        """``local[*]``, or the address of a cluster."""

    @property
    def memory(self) -> str:
        """The heap, as ``2g``."""


def launch_jvm(config: SparkSettings, folder: Path) -> SparkJvm:
    """Start the JVM of a context and return at once. Call it early, because the JVM needs a second to get ready.

    What it prints goes to ``spark.log`` in ``folder``; hold the lock of the output before. Call it from the main
    thread, and end it with ``stop_context`` or ``close``.

    Raises SettingError when Java or pyspark is missing, OutputUnavailable when a file cannot be written.
    """
    with writing(folder):
        return SparkJvm(config.memory, folder / "spark.log", local=_is_local(config.master))


def start_context(config: SparkSettings, jvm: SparkJvm) -> "SparkContext":
    """Return the context that runs tasks, on a JVM that was launched with the same config.

    The handler of SIGINT stays as it is, because pyspark's own would raise KeyboardInterrupt anywhere.

    Raises SettingError when the JVM does not start or no master can be reached, OutputUnavailable when a file cannot be
    written, and py4j's errors when the JVM ends meanwhile; then another JVM may be tried.
    """
    from pyspark import SparkContext

    conf = configure(config)
    if not _is_local(config.master):
        require_master(config.master)
    try:
        gateway = jvm.connect(conf)
    except JvmNotStarted as error:
        raise SettingError(
            f"Spark's JVM did not start ({java_executable()} with a heap of {config.memory}): {error}\n"
            "check that the machine has enough memory, lower SPARK_MEMORY, or set JAVA_HOME to another Java"
        ) from error
    began = time.monotonic()
    try:
        with _same_handler(signal.SIGINT):
            context = SparkContext(gateway=gateway, conf=conf)
    except Exception:
        _forget(gateway)
        raise
    _expect_the_end(context)
    if not _is_local(config.master):
        # Workers fetch it from there during the whole run. In the output folder somebody else could replace it.
        with writing(jvm.scratch):
            context.addPyFile(str(_pack_code(jvm.scratch / "code.zip")))
    _log.info(
        "Spark %s started in %.1f s: %s, %d cores, heap %d MiB (asked for %s)",
        context.version,
        jvm.start_s + time.monotonic() - began,
        context.master,
        context.defaultParallelism,
        _heap_mib(context),
        config.memory,
    )
    return context


def _heap_mib(context: Any) -> int:
    """Return the heap that the JVM got.

    Not its ``maxMemory``: that leaves out what the collector keeps empty, so it would not match the setting.
    """
    from py4j.protocol import Py4JError

    java = context._jvm.java.lang
    try:
        diagnosis = java.Class.forName("com.sun.management.HotSpotDiagnosticMXBean")
        found = java.management.ManagementFactory.getPlatformMXBean(diagnosis).getVMOption("MaxHeapSize").getValue()
    except Py4JError:
        # Only HotSpot has this bean; other JVMs give the next best number.
        found = java.Runtime.getRuntime().maxMemory()
    return int(found) >> 20


def stop_context(context: "SparkContext", jvm: SparkJvm) -> None:
    """End the context and its JVM, even if tasks still run or the JVM has ended already.

    On a cluster, Spark is stopped in order, so that the cluster gives the cores to others. A JVM that runs the tasks
    itself is killed: all it holds is temporary, and an orderly stop waits 1.4 s for its network threads.
    """
    from pyspark import SparkContext

    if jvm.is_alive() and not _is_local(str(context.master)):
        context.stop()
    gateway: Any = SparkContext._gateway
    _forget(gateway)
    jvm.close()
    gateway.close()
    # With these two removed, stop() only cleans up in this process: it does not ask the JVM, and does not wait.
    server: Any = context._accumulatorServer
    context._jsc = None
    context._accumulatorServer = None  # type: ignore[assignment]
    context.stop()
    if server is not None:
        threading.Thread(target=server.shutdown, name="stop-accumulators", daemon=True).start()


def _forget(gateway: Any) -> None:
    """Make pyspark forget this gateway, so that the next context takes another one."""
    from py4j.clientserver import SHUTDOWN_FINALIZER_WORKER
    from pyspark import SparkContext

    SparkContext._gateway = SparkContext._jvm = None
    # A thread of py4j tells the JVM which objects Python has released; end it, as its JVM is gone.
    gateway._gateway_client.is_connected = False
    gateway._gateway_client.finalizer_deque.appendleft(SHUTDOWN_FINALIZER_WORKER)


def _expect_the_end(context: Any) -> None:
    """Keep a thread of pyspark from printing a traceback when the JVM ends: the calling thread gets an error anyway."""
    context._accumulatorServer.handle_error = lambda request, client_address: None


def configure(config: SparkSettings) -> "SparkConf":
    """Return the properties of a context."""
    from pyspark import SparkConf

    conf = SparkConf(loadDefaults=False).setAll(
        [
            ("spark.app.name", "client-tickets processor"),
            ("spark.master", _master(config)),
            ("spark.task.maxFailures", str(_TASK_FAILURES)),
            ("spark.driver.memory", config.memory),
            ("spark.executor.memory", config.memory),
            # Without it a worker imports from the current folder first, and inside processor/ that hides the package.
            ("spark.executorEnv.PYTHONSAFEPATH", "1"),
            *((f"spark.executorEnv.{name}", value) for name, value in _WORKER_MEMORY.items()),
            ("spark.sql.session.timeZone", "UTC"),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),
        ]
    )
    if _is_local(config.master):
        # The host's own name may not resolve, or resolve to an address that other machines can reach.
        conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
        # Without it every user of this machine could fetch the code of the tasks, secrets included, from Spark's ports,
        # or replace it. Spark makes the secret of a run itself.
        conf.set("spark.authenticate", "true")
        # Workers on this machine are forked from a process that has imported everything from the driver's own files.
        conf.set("spark.python.daemon.module", "processor.daemon").set("spark.executorEnv.PYTHONPATH", str(ROOT))
    return conf


def _is_local(master: str) -> bool:
    return master.startswith("local") and not master.startswith("local-cluster")


def _master(config: SparkSettings) -> str:
    """Return the master for Spark: a local one runs at most as many tasks at once as fit into memory."""
    limit = memory_limit_mib()
    fit = tasks_that_fit(config.memory, limit)
    if fit is None:
        return local_master(config.master, 0, None)
    cores = len(os.sched_getaffinity(0))
    master = local_master(config.master, cores, fit)
    if master != local_master(config.master, cores, None):
        _log.warning(
            "Spark runs with %s instead of %s: beside a heap of %s, %s MiB of memory hold %d tasks at once",
            master,
            config.master,
            config.memory,
            f"{limit:,}",
            fit,
        )
    return master


def local_master(master: str, cores: int, most: int | None) -> str:
    """Return a local master with the retries that a cluster has, and at most ``most`` of the ``cores`` of ``*``.

    Spark takes both from the master's name alone. Other masters, and one that sets the retries, stay as they are.
    """
    if not _is_local(master) or "," in master:
        return master
    wanted = {"local": "1"}.get(master) or master.removeprefix("local[").removesuffix("]")
    if most is not None and most < (cores if wanted == "*" else int(wanted)):
        wanted = str(most)
    return f"local[{wanted},{_TASK_FAILURES}]"


@contextmanager
def _same_handler(number: signal.Signals) -> Iterator[None]:
    """Restore the handler of a signal that the block replaces, and hold the signal back meanwhile.

    Does nothing outside the main thread, because only that one may set handlers.
    """
    before = signal.getsignal(number)
    # None is a handler that was not set from Python, so Python cannot restore it.
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.signal(number, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _pack_code(archive: Path) -> Path:
    """Write our packages into ``archive``, which Spark copies to every worker, and return it."""
    with zipfile.ZipFile(archive, "w") as file:
        for package in _SHIPPED:
            for source in sorted((ROOT / package).rglob("*.py")):
                file.write(source, source.relative_to(ROOT))
    return archive
