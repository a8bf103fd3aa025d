"""Java: which one, whether it starts with the heap that is asked for, and the jars. Standard library only."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from doctor.finding import Finding, from_error, ok, problem, warning
from runtime.errors import SettingError
from runtime.java import jars, jdk, launch
from runtime.process.memory import memory_limit_mib

_START_S = 10.0
# The locale is set on every machine, so it is not reported.
_LANGUAGE = ("LANG", "LANGUAGE", "LC_")


def examine(environ: Mapping[str, str], memory: str | None) -> Iterator[Finding]:
    """Look for Java, start it with a heap of ``memory`` (``2g``), and look for the jars."""
    try:
        java = jdk.java_executable(environ)
    except SettingError as error:
        yield from_error(error)
    else:
        yield starts(java, memory, environ, _START_S)
    try:
        paths = jars.broker_jars()
    except SettingError as error:
        yield from_error(error)
    else:
        yield intact(paths, jars.read_lock())


def starts(java: Path, memory: str | None, environ: Mapping[str, str], limit_s: float) -> Finding:
    """Start a JVM that ends at once, in the environment of ours, and judge what it says."""
    heap = [f"-Xmx{memory}"] if memory else []
    # Without the flag a JVM leaves a file in /tmp as long as it runs.
    command = [str(java), *heap, "-XX:-UsePerfData", "-version"]
    shown = f"{java} with a heap of {memory}" if memory else str(java)
    where = f"JAVA_HOME={environ['JAVA_HOME']}" if environ.get("JAVA_HOME") else "PATH"
    try:
        done = subprocess.run(
            command, env=launch.environment(environ), capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return problem(
            f"{shown} did not start within {limit_s:.0f} s", "see whether the machine has memory and time left"
        )
    except OSError as error:
        return problem(f"{shown} does not run ({error.strerror})", "set JAVA_HOME to another Java")
    told = done.stderr.decode("utf-8", "replace").splitlines() or ["nothing"]
    if done.returncode:
        return problem(
            f"{shown} ends with code {done.returncode} and says: {told[0]}",
            "lower SPARK_MEMORY (--memory), or set JAVA_HOME to another Java",
        )
    return ok(f"{told[0]} at {java} (from {where}) starts" + (f" with a heap of {memory}" if memory else ""))


def intact(paths: Iterable[Path], locked: Iterable[jars.Jar]) -> Finding:
    """Judge whether the jars at ``paths`` are, to the byte, those of the lock."""
    known = {jar.name: jar for jar in locked}
    names = list(paths)
    wrong = [path for path in names if not known[path.name].is_intact(path)]
    if wrong:
        return problem(
            f"{len(wrong)} of {len(names)} jars of the broker are not those of the lock, the first is {wrong[0]}",
            "run make setup, which downloads them again",
        )
    return ok(f"the {len(names)} jars of the broker are those of the lock")


def heap(memory: str, source: str, limit_mib: int | None, tasks: int | None, cores: int) -> Finding:
    """Judge a heap that fits: ``tasks`` may run at once beside it, of the ``cores`` that there are."""
    machine = "unknown memory" if limit_mib is None else f"{limit_mib:,} MiB of memory"
    if tasks is not None and tasks < cores:
        return warning(
            f"SPARK_MEMORY={memory} ({source}) fits in {machine}, but leaves room for {tasks} tasks at once, "
            f"and there are {cores} cores",
            "lower SPARK_MEMORY (--memory) if a batch takes too long; a heap of 1g does for most",
        )
    return ok(f"SPARK_MEMORY={memory} ({source}) fits in {machine}")


def left_out(environ: Mapping[str, str], kept: Iterable[str], ours: Iterable[str]) -> Iterator[Finding]:
    """Tell which variables of other programs do not reach a JVM: it is started with ``kept`` of ``environ`` alone."""
    names = sorted(environ.keys() - set(kept) - set(ours))
    if names := [name for name in names if not name.startswith((*_LANGUAGE, "PYTHON"))]:
        yield ok(f"{', '.join(names)} in the environment has no effect: it is kept from Spark and the embedded broker")


def memory_of_machine() -> int | None:
    """Return the MiB that this process may use."""
    return memory_limit_mib()
