"""Spark's JVM as a child process of ours: started directly, in an environment of its own, and gone when we are.

pyspark starts a JVM by ``spark-submit``, which runs a first JVM only to work out the command line of the second. We
know that line (``SPARK_FLAGS``; a test compares it), so ``SparkJvm`` runs it itself. When that does not come up, it
takes pyspark's way after all.
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

# pyspark itself is imported only once the JVM is on its way: both take their time, and can take it side by side.
if TYPE_CHECKING:
    from py4j.java_gateway import JavaGateway
    from pyspark import SparkConf

_log = logging.getLogger(__name__)

GATEWAY = "org.apache.spark.api.python.PythonGatewayServer"

# What spark-submit of this Spark gives to every JVM, for any Java from 17 on.
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
# The JVM only plans and waits. Code that is optimised further costs 1.5 s of CPU and is hardly used; a heap that begins
# at 1/64 of the machine's memory takes 90 MB more; PerfData leaves files in /tmp, and a crash would in any folder.
OUR_FLAGS = (
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ErrorFileToStderr",
    "-Dfile.encoding=UTF-8",
    f"-Dlog4j2.configurationFile={(ROOT / 'processor/conf/log4j2.properties').as_uri()}",
)

# What belongs to another Spark or Hadoop on this machine, or would reach every Python that the JVM starts.
_FOREIGN_PREFIXES = ("SPARK_", "PYSPARK_", "_PYSPARK_", "HADOOP_", "YARN_", "HIVE_")
_FOREIGN_PYTHON = frozenset({"PYTHONPATH", "PYTHONSTARTUP"})
# Under which address the executors of a cluster reach the driver is for the user to say.
_ADDRESS = frozenset({"SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME", "SPARK_PUBLIC_DNS"})

_SCRATCH = "client-tickets-spark-"
_LIMIT_S = 60.0
_POLL_S = 0.005


class JvmNotStarted(Exception):
    """The JVM ended, or said nothing in time; the message tells which, with what it printed about the reason."""


def pyspark_folder() -> Path:
    """Return the folder of the pyspark that ``import pyspark`` takes, without importing it."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise SettingError("pyspark is missing; run make setup")
    return Path(spec.origin).parent.resolve()


def class_path(pyspark: Path) -> list[Path]:
    """Return pyspark's jars one by one (an archive needs that), in the order of spark-submit."""
    return sorted((pyspark / "jars").glob("*.jar"), key=lambda jar: (not jar.name.startswith("slf4j-api-"), jar.name))


def jvm_environment(environ: Mapping[str, str], scratch: Path, local: bool) -> dict[str, str]:
    """Return the environment of the JVM, which its Python workers inherit: ``environ`` without what is not ours.

    Left out is what no JVM of ours gets, and also the variables of another Spark or Hadoop (SPARK_HOME, SPARK_CONF_DIR,
    SPARK_REMOTE, PYSPARK_SUBMIT_ARGS, HADOOP_USER_NAME, …) and PYTHONPATH.
    The addresses SPARK_LOCAL_IP, SPARK_LOCAL_HOSTNAME and SPARK_PUBLIC_DNS are kept on a cluster only.

    SPARK_HOME is not set: with it Spark's workers import pyspark from a zip without compiled files, in 0.5 s more.
    """
    kept = {
        name: value
        for name, value in launch.environment(environ).items()
        if name not in _FOREIGN_PYTHON and not name.startswith(_FOREIGN_PREFIXES)
    }
    if local:
        # The host's own name may resolve to nothing, and only after seconds.
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
    With ``archive_to`` it writes its class-data archive there when it is closed; without, it uses the one that fits, if
    there is one.

    The JVM is the head of a session of its own, so that Ctrl-C in a terminal does not reach it. It ends with us, also
    when we get kill -9: Linux kills it with the thread that started it (so start it from the main thread; from another
    one that is left out), and it exits by itself when the pipe to its standard input breaks. Its Python workers end
    when their pipe to it breaks. What they all write into temporary files goes into one folder, which ``close``
    removes, or the next start.

    The constructor takes what another Spark left in our own environment out of it, and sets SPARK_HOME, PYSPARK_PYTHON
    and PYSPARK_DRIVER_PYTHON: pyspark reads them in this process, too.

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
            if error.filename == str(self._log):
                raise
            raise SettingError(f"Java at {command[0]} does not run ({error}); set JAVA_HOME to another") from None

    @property
    def scratch(self) -> Path:
        """Folder of the files of this run, into which only this user sees; it goes with the JVM."""
        return self._scratch.path

    @property
    def pid(self) -> int:
        """Process id of the JVM."""
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
        # Nobody need have waited for it: it may have answered long before it is used.
        self.start_s = max(0.0, self._connection.stat().st_mtime - self._launched_at)
        gateway = _connected({"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret})
        gateway.proc = self._process
        _name_the_user(gateway)
        return gateway

    def _wait_for_gateway(self) -> tuple[int, str]:
        """Return port and secret, which the JVM writes into a file of big-endian length and bytes."""
        deadline = time.monotonic() + _LIMIT_S
        # It appears under this name only when it is complete.
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
        """Start another JVM the documented way.

        pyspark's launch_gateway would do that as well, but waits for ever for a JVM that hangs, and leaves it behind
        when we are killed.
        """
        self._kill()
        self._connection.unlink(missing_ok=True)
        self._environment |= {"SPARK_HOME": str(self._pyspark), "SPARK_CONNECT_MODE": "0"}
        flags = [*OUR_FLAGS, *launch.properties(self._scratch.path)]
        conf.set("spark.driver.extraJavaOptions", shlex.join(flags))
        settings = [part for name, value in conf.getAll() for part in ("--conf", f"{name}={value}")]
        self._process = self._launch([str(self._pyspark / "bin" / "spark-submit"), *settings, "pyspark-shell"])

    def close(self, patience_s: float = 0.0) -> None:
        """End the JVM and remove its temporary folder: kill it, unless it exits by itself in ``patience_s``.

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
    """Leave no other Spark in our environment: pyspark looks there when it starts and whenever it collects."""
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
    """Let ``wanted`` be the environment of this process for a while; only what differs is touched."""
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
    """Give Hadoop, and so Spark, a name for a user id that has none: it would not start for one without a name."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        users = gateway.jvm.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(f"uid-{os.getuid()}"))
