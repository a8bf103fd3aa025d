"""The Spark session: the memory it is given, and the jars and the code that it carries to wherever tasks run."""

import logging
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from processor.config import ProcessorConfig
from runtime.java.jars import spark_jars
from runtime.java.jdk import java_executable
from runtime.settings.setting import ROOT
from store.files import writing

_log = logging.getLogger(__name__)

# What tasks import; the driver ships it, so that workers run its very code whatever they have installed.
_SHIPPED = ("contract", "processor", "runtime", "store")

_TASK_FAILURES = 4

# A JVM that ends after a small batch would spend half of its time on optimising code that it hardly uses again: 15 s of
# CPU instead of 8 s. One that stays, or has a million messages to hand over, earns that back.
_BRIEF_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_LASTING_JVM = "-XX:+UseParallelGC"


def start_session(config: ProcessorConfig, folder: Path, brief: bool) -> SparkSession:
    """Start the JVM and return a session on it; ``brief`` says that it has little to do before it ends.

    What the JVM prints goes to ``spark.log`` in ``folder``.

    Raises SettingError when Java or the jars are missing, RuntimeError when the JVM does not start.
    """
    java_executable()
    began = time.monotonic()
    # Another Spark that happens to be installed would not fit these jars, nor the Python of its workers this one.
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_CONF_DIR", str(ROOT / "processor" / "conf"))
    conf = _configure(config, brief)
    with writing(folder):
        code = _pack_code(folder / "code.zip")
    context = _start_context(conf, folder / "spark.log")
    context.addPyFile(str(code))
    session = SparkSession(context)
    jvm: Any = context._jvm
    heap = jvm.java.lang.Runtime.getRuntime().maxMemory()
    _log.info(
        "Spark %s started in %.1f s: %s, %d cores, heap %d MiB (asked for %s)",
        context.version,
        time.monotonic() - began,
        context.master,
        context.defaultParallelism,
        heap >> 20,
        config.memory,
    )
    return session


def _configure(config: ProcessorConfig, brief: bool) -> SparkConf:
    local = config.master.startswith("local")
    conf = SparkConf(loadDefaults=False).setAll(
        [
            ("spark.app.name", "client-tickets processor"),
            ("spark.master", _with_retries(config.master)),
            ("spark.task.maxFailures", str(_TASK_FAILURES)),
            ("spark.driver.memory", config.memory),
            ("spark.driver.extraJavaOptions", _BRIEF_JVM if brief else _LASTING_JVM),
            ("spark.executor.memory", config.memory),
            # Else a worker imports from the current folder first, and inside processor/ that hides the package.
            ("spark.executorEnv.PYTHONSAFEPATH", "1"),
            ("spark.jars", ",".join(map(str, spark_jars()))),
            ("spark.sql.session.timeZone", "UTC"),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),
        ]
    )
    if local:
        # The host's own name may resolve to nothing, or to an address that others reach.
        conf.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
    return conf


def _with_retries(master: str) -> str:
    """Give a local master the retries that a cluster has; Spark takes them from the master's name alone."""
    cores = {"local": "1"}.get(master) or master.removeprefix("local[").removesuffix("]")
    return f"local[{cores},{_TASK_FAILURES}]" if master.startswith("local") and "," not in master else master


def _start_context(conf: SparkConf, jvm_log: Path) -> SparkContext:
    try:
        with jvm_log.open("wb") as log:
            output = {"stdout": log, "stderr": log}
            gateway = launch_gateway(conf=conf, popen_kwargs=output)  # type: ignore[no-untyped-call]
        return SparkContext(gateway=gateway, conf=conf)
    except PySparkRuntimeError as error:
        tail = jvm_log.read_text(errors="replace").splitlines()[-15:]
        raise RuntimeError("Spark's JVM did not start; it said:\n" + "\n".join(tail)) from error


def _pack_code(archive: Path) -> Path:
    """Write our packages into ``archive``, which Spark copies to every worker, and return it."""
    with zipfile.ZipFile(archive, "w") as file:
        for package in _SHIPPED:
            for source in sorted((ROOT / package).rglob("*.py")):
                file.write(source, source.relative_to(ROOT))
    return archive
