"""Spark's JVM as a child process: started directly, in an environment of its own, and it never outlives us.

pyspark starts a JVM by ``spark-submit``, which runs a first JVM only to work out the command line of the second. We
know that line (``SPARK_FLAGS``; a test compares it), so ``SparkJvm`` runs it itself. If that JVM does not start, it
falls back to spark-submit.
"""

import importlib.util
import logging
import os
import pwd
import shlex
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import SettingError
from runtime.java import archive, launch
from runtime.java.jdk import java_executable
from runtime.process.scratch import Scratch
from runtime.settings.setting import ROOT

# pyspark is imported only after the JVM was launched, so that the import and the JVM's start run at the same time.
if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway
    from pyspark import SparkConf

_log = logging.getLogger(__name__)

GATEWAY = "org.apache.spark.api.python.PythonGatewayServer"

# The flags that this Spark's spark-submit gives to every JVM, for any Java from 17 on.
_OPENED = (
    *("java.base/java." + name for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util")),
    *("java.base/java.util." + name for name in ("concurrent", "concurrent.atomic")),
    *("java.base/jdk.internal.ref", "java.base/sun.nio.ch", "java.base/sun.nio.cs", "java.base/sun.security.action"),
    *("java.base/sun.util.calendar", "java.security.jgss/sun.security.krb5"),
)
SPARK_FLAGS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-modules=jdk.incubator.vector",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Dderby.connection.requireAuthentication=false",
)
# The JVM only plans and waits, so it needs little: further optimisation (C2) costs 1.5 s of CPU and hardly pays; the
# default first heap, 1/64 of the machine's memory, takes 90 MB more; PerfData leaves files in /tmp, and the report of
# a crash would be left in the current folder.
OUR_FLAGS = (
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ErrorFileToStderr",
    "-Dfile.encoding=UTF-8",
    f"-Dlog4j2.configurationFile={(ROOT / 'processor/conf/log4j2.properties').as_uri()}",
)

# Variables of another Spark or Hadoop on this machine, and those that would change every Python that the JVM starts.
_FOREIGN_PREFIXES = ("SPARK_", "PYSPARK_", "_PYSPARK_", "HADOOP_", "YARN_", "HIVE_")
_FOREIGN_PYTHON = frozenset({"PYTHONPATH", "PYTHONSTARTUP"})
# The user sets the address at which the executors of a cluster reach the driver, so these are kept there.
_ADDRESS = frozenset({"SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_PUBLIC_DNS"})

_SCRATCH = "client-tickets-spark-"
_LIMIT_S = 60.0
_POLL_S = 0.005


class JvmNotStarted(Exception):
    """The JVM ended or did not answer in time; the message says which, and what the JVM printed about the reason."""


def pyspark_folder() -> Path:
    """Return the folder of the pyspark that ``import pyspark`` would load, without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SettingError("pyspark is missing; run make setup")
    return Path(spec.origin).parent.resolve()


def class_path(pyspark: Path) -> list[Path]:
    """Return pyspark's jars one by one (a class-data archive allows no wildcard), in the order of spark-submit."""
    return sorted((pyspark / "jars").glob("*.jar"), key=lambda jar: (not jar.name.startswith("slf4j-api-"), jar.name))


def jvm_environment(environ: Mapping[str, str], scratch: Path, local: bool) -> dict[str, str]:
    """Return the environment of the JVM, which its Python workers inherit: ``environ`` without foreign variables.

    Left out are the variables that ``launch.environment`` removes for every JVM, those of another Spark or Hadoop
    (SPARK_HOME, SPARK_CONF_DIR, SPARK_REMOTE, PYSPARK_SUBMIT_ARGS, HADOOP_USER_NAME, …) and PYTHONPATH.
    The addresses SPARK_LOCAL_IP, SPARK_LOCAL_HOSTNAME and SPARK_PUBLIC_DNS are kept on a cluster only.

    SPARK_HOME is not set: if it is, Spark's workers import pyspark from a zip without compiled files, 0.5 s slower.
    """
    kept = {
        name: value
        for name, value in launch.environment(environ).items()
        if name not in _FOREIGN_PYTHON and not name.startswith(_FOREIGN_PREFIXES)
    }
    if local:
        # Spark would look up the host's own name, which may take seconds and fail.
        kept |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}
    else:
        kept |= {name: environ[name] for name in _ADDRESS & environ.keys()}
    return kept | {
        "TMPDIR": str(scratch),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


class SparkJvm:
    """One JVM with the gateway that pyspark talks to; it is starting when the constructor returns.

    ``memory`` is its heap (``2g``), ``log`` the file for what it prints, ``local`` whether the tasks run in it.
    With ``archive_to`` it writes its class-data archive there when it is closed; otherwise it uses a fitting archive,
    if there is one.

    The JVM leads a session of its own, so that Ctrl-C in a terminal does not reach it. It ends when we end, also by
    kill -9: Linux kills it when the thread that started it ends (only if that is the main thread, so start it from
    there), and it exits by itself when the pipe to its standard input breaks. Its Python workers end when the worker
    pipe breaks. All temporary files go into one folder, which ``close`` or the next start removes.

    The constructor removes the variables of another Spark from our own environment and sets SPARK_HOME, PYSPARK_PYTHON
    and PYSPARK_DRIVER_PYTHON, because pyspark reads them in this process, too.

    Raises SettingError when Java or pyspark cannot be used, OSError when a file cannot be written.
    """

    def __init__(self, memory: str, log: Path, local: bool = True, archive_to: Path | None = None) -> None:
        # Seconds from the launch until the gateway answered, once ``connect`` has returned.
        self.start_s = 0.0
        self._launched_at = time.time()
        self._log = log
        self._memory = memory
        self._pyspark, java = pyspark_folder(), java_executable()
        self._scratch = Scratch(_SCRATCH)
        try:
            self._environment = jvm_environment(os.environ, self._scratch.path, local)
            _own_spark_only(self._pyspark)
            shared = archive.record(archive_to) if archive_to else archive.use(archive_path(java, self._pyspark))
            jar_files = class_path(self._pyspark)
            self._connection = self._scratch.path / "connection"
            self._process = self._launch(
                [str(java), *self._flags(shared), "-cp", os.pathsep.join(map(str, jar_files)), GATEWAY]
            )
        except BaseException:
            self._scratch.remove()
            raise

    def _flags(self, shared: Sequence[str]) -> list[str]:
        return [f"-Xmx{self._memory}", *SPARK_FLAGS, *OUR_FLAGS, *shared, *launch.properties(self._scratch.path)]

    def _launch(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        environ = {**self._environment, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(self._connection)}
        try:
            return launch.start(command, self._log, environ, self._scratch.lock_fd, has_stdin=True)
        except OSError as error:
            # The log cannot be written, so Java is not at fault.
            if error.filename == str(self._log):
                raise
            raise SettingError(f"Java at {command[0]} does not run ({error}); set JAVA_HOME to another") from None

    @property
    def scratch(self) -> Path:
        """Folder of the temporary files of this run, readable by this user only; ``close`` removes it."""
        return self._scratch.path

    @property
    def pid(self) -> int:
        """Process id of the JVM, or of spark-submit after a fallback."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code of the JVM, negative for a signal; None while it runs. Costs one system call."""
        return self._process.poll()

    def is_alive(self) -> bool:
        """Whether the JVM still runs."""
        return self.returncode is None

    def connect(self, conf: "SparkConf") -> "JavaGateway":
        """Wait for the gateway and return the connection to it; ``conf`` is what spark-submit would be told.

        Raises JvmNotStarted when neither this JVM nor one started by spark-submit answers.
        """
        try:
            port, secret = self._wait_for_gateway()
        except JvmNotStarted as error:
            _log.warning("Spark's JVM did not start directly, trying spark-submit; %s", error)
            self._start_by_spark_submit(conf)
            port, secret = self._wait_for_gateway()
        # From the file's time, because the JVM may have been ready long before this call.
        self.start_s = max(0.0, self._connection.stat().st_mtime - self._launched_at)
        gateway = _connected({"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret})
        gateway.proc = self._process
        _name_the_user(gateway)
        return gateway

    def _wait_for_gateway(self) -> tuple[int, str]:
        """Return port and secret, which the JVM writes into a file of big-endian length and bytes."""
        deadline = time.monotonic() + _LIMIT_S
        # The JVM renames the file when it is complete, so half a file is never read.
        while not self._connection.exists():
            code = self._process.poll()
            if code is not None:
                raise JvmNotStarted(f"it ended with code {code}; {launch.what_it_said(self._log)}")
            if time.monotonic() > deadline:
                raise JvmNotStarted(f"it does not answer after {_LIMIT_S:g} s; {launch.what_it_said(self._log)}")
            time.sleep(_POLL_S)
        told = self._connection.read_bytes()
        port, length = struct.unpack_from(">ii", told)
        return port, told[8 : 8 + length].decode()

    def _start_by_spark_submit(self, conf: "SparkConf") -> None:
        """Start another JVM by spark-submit, the documented way.

        pyspark's launch_gateway would do that as well, but it waits for ever for a JVM that hangs, and if we are
        killed, its JVM goes on.
        """
        self._kill()
        self._connection.unlink(missing_ok=True)
        self._environment |= {"SPARK_HOME": str(self._pyspark), "SPARK_CONNECT_MODE": "0"}
        flags = [*OUR_FLAGS, *launch.properties(self._scratch.path)]
        conf.set("spark.driver.extraJavaOptions", shlex.join(flags))
        settings = [part for name, value in conf.getAll() for part in ("--conf", f"{name}={value}")]
        self._process = self._launch([str(self._pyspark / "bin" / "spark-submit"), *settings, "pyspark-shell"])

    def close(self, patience_s: float = 0.0) -> None:
        """End the JVM and remove its temporary folder. It is killed if it does not exit by itself in ``patience_s``.

        Python workers that are busy end within a second.
        """
        if patience_s and self.is_alive():
            assert self._process.stdin is not None
            self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self._kill()
        self._scratch.remove()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def archive_path(java: Path, pyspark: Path) -> Path:
    """Return where the class-data archive of Spark's JVM belongs."""
    return archive.archive_path(java, class_path(pyspark), (*SPARK_FLAGS, *OUR_FLAGS))


def _own_spark_only(pyspark: Path) -> None:
    """Remove other Sparks from our environment: pyspark reads it when it starts and at each ``collect``."""
    for name in [name for name in os.environ if name.startswith(("SPARK_", "PYSPARK_", "_PYSPARK_"))]:
        del os.environ[name]
    os.environ["SPARK_HOME"] = str(pyspark)
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable


def _connected(variables: Mapping[str, str]) -> Any:
    with _environment({**os.environ, **variables}):
        return _launch_gateway()


def _launch_gateway(**arguments: Any) -> Any:
    from pyspark.java_gateway import launch_gateway

    return launch_gateway(**arguments)  # type: ignore[no-untyped-call]


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Make ``wanted`` the environment of this process inside the block; only variables that differ are changed."""
    before = dict(os.environ)
    try:
        _become(wanted)
        yield
    finally:
        _become(before)


def _become(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _name_the_user(gateway: Any) -> None:
    """Give Hadoop a user name if this user id has none: Spark does not start without one."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        users = gateway.jvm.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(f"uid-{os.getuid()}"))
