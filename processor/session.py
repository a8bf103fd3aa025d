"""Spark for one run: a context on a JVM of ours, with the memory that was asked for and the code that tasks need."""

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

# Imported where it is used: it takes its time, in which the JVM can start.
if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext

_log = logging.getLogger(__name__)

# What tasks import; the driver ships it, so that workers run its very code whatever they have installed.
_SHIPPED = ("contract", "processor", "runtime", "store")

_TASK_FAILURES = 4

# A task takes and gives back some 100 MB several times a second. glibc would hand each to the kernel and ask for it
# again, and the page faults of that are a sixth of what a ticket costs.
_WORKER_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(512 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


class SparkSettings(Protocol):
    """What of the processor's config decides how Spark starts."""

    @property
    def master(self) -> str:
        """``local[*]``, or the address of a cluster."""

    @property
    def memory(self) -> str:
        """The heap, as ``2g``."""


def launch_jvm(config: SparkSettings, folder: Path) -> SparkJvm:
    """Start the JVM of a context and return at once; call it early, it needs a second to get ready.

    What it prints goes to ``spark.log`` in ``folder``, which must be ours alone by now. Call it from the main
    thread, and see that ``stop_context`` or ``close`` ends it.

    Raises SettingError when Java or pyspark is missing, OutputUnavailable when a file cannot be written.
    """
    with writing(folder):
        return SparkJvm(config.memory, folder / "spark.log", local=_is_local(config.master))


def start_context(config: SparkSettings, jvm: SparkJvm) -> "SparkContext":
    """Return the context that runs tasks, on a JVM that was launched with the same config.

    The handler of SIGINT is the same afterwards as before: pyspark's own would raise KeyboardInterrupt anywhere.

    Raises SettingError when the JVM does not start or no master can be reached, OutputUnavailable when a file cannot be
    written, and what py4j raises when the JVM ends meanwhile; another one can be tried then.
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
            "see that the machine has the memory, or lower SPARK_MEMORY, or set JAVA_HOME to another Java"
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
        # Workers fetch it from there as long as the run lasts. In the output somebody else could exchange it.
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
    """Return the heap that the JVM set aside.

    Its ``maxMemory`` is less, and so looks like another setting: it leaves out what the collector keeps empty.
    """
    from py4j.protocol import Py4JError

    java = context._jvm.java.lang
    try:
        diagnosis = java.Class.forName("com.sun.management.HotSpotDiagnosticMXBean")
        found = java.management.ManagementFactory.getPlatformMXBean(diagnosis).getVMOption("MaxHeapSize").getValue()
    except Py4JError:
        # A JVM that is not HotSpot.
        found = java.Runtime.getRuntime().maxMemory()
    return int(found) >> 20


def stop_context(context: "SparkContext", jvm: SparkJvm) -> None:
    """End the context and its JVM, whatever still runs there, also when the JVM is gone already.

    A cluster is told, so that it gives the cores to others. A JVM that runs the tasks itself is killed: all that it
    holds is temporary, and an orderly stop is 1.4 s of waiting for its network threads.
    """
    from pyspark import SparkContext

    if jvm.is_alive() and not _is_local(str(context.master)):
        context.stop()
    gateway: Any = SparkContext._gateway
    _forget(gateway)
    jvm.close()
    gateway.close()
    # Without these two, stop() ends what is left in this process, asks the JVM for nothing and does not wait.
    server: Any = context._accumulatorServer
    context._jsc = None
    context._accumulatorServer = None  # type: ignore[assignment]
    context.stop()
    if server is not None:
        threading.Thread(target=server.shutdown, name="stop-accumulators", daemon=True).start()


def _forget(gateway: Any) -> None:
    """Let pyspark take another gateway the next time."""
    from py4j.clientserver import SHUTDOWN_FINALIZER_WORKER
    from pyspark import SparkContext

    SparkContext._gateway = SparkContext._jvm = None
    # A thread of py4j tells the JVM which objects Python needs no more; it would go on to tell one that is gone.
    gateway._gateway_client.is_connected = False
    gateway._gateway_client.finalizer_deque.appendleft(SHUTDOWN_FINALIZER_WORKER)


def _expect_the_end(context: Any) -> None:
    """Keep a thread of pyspark from printing a traceback when the JVM ends: whoever uses it gets an error."""
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
            # Else a worker imports from the current folder first, and inside processor/ that hides the package.
            ("spark.executorEnv.PYTHONSAFEPATH", "1"),
            *((f"spark.executorEnv.{name}", value) for name, value in _WORKER_MEMORY.items()),
            ("spark.sql.session.timeZone", "UTC"),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),
        ]
    )
    if _is_local(config.master):
        # The host's own name may resolve to nothing, or to an address that others reach.
        conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
        # Else every user of this machine could fetch the code of the tasks from Spark's ports, secrets included, or
        # exchange it. Spark makes the secret of a run itself.
        conf.set("spark.authenticate", "true")
        # Workers on this machine can have everything imported before they are forked, from the driver's own files.
        conf.set("spark.python.daemon.module", "processor.daemon").set("spark.executorEnv.PYTHONPATH", str(ROOT))
    return conf


def _is_local(master: str) -> bool:
    return master.startswith("local") and not master.startswith("local-cluster")


def _master(config: SparkSettings) -> str:
    """Return the master that Spark is given: a local one runs no more tasks at once than memory allows."""
    limit = memory_limit_mib()
    fit = tasks_that_fit(config.memory, limit)
    if fit is None:
        return local_master(config.master, 0, None)
    cores = len(os.sched_getaffinity(0))
    master = local_master(config.master, cores, fit)
    if master != local_master(config.master, cores, None):
        _log.warning(
            "%s instead of %s: beside a heap of %s there is room for %d tasks at once in %s MiB",
            master,
            config.master,
            config.memory,
            fit,
            f"{limit:,}",
        )
    return master


def local_master(master: str, cores: int, most: int | None) -> str:
    """Give a local master the retries that a cluster has, and at most ``most`` of the ``cores`` that ``*`` means.

    Spark takes both from the master's name alone. Another master, or one that says how often to retry, stays.
    """
    if not _is_local(master) or "," in master:
        return master
    wanted = {"local": "1"}.get(master) or master.removeprefix("local[").removesuffix("]")
    if most is not None and most < (cores if wanted == "*" else int(wanted)):
        wanted = str(most)
    return f"local[{wanted},{_TASK_FAILURES}]"


@contextmanager
def _same_handler(number: signal.Signals) -> Iterator[None]:
    """Put the handler of a signal back that the body replaces, and let none arrive in between.

    Only the main thread has a say in that.
    """
    before = signal.getsignal(number)
    # None is a handler that was not set from Python, which Python cannot set either.
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
