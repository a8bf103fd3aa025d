"""Start a JVM: its environment, its temporary files, and the reason in its log when it ends.

Standard library only, like all of ``runtime/java``: it runs on a bare Python, before any package is installed.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from runtime.errors import OutputUnavailable
from runtime.java.jars import cache_folder
from runtime.java.jdk import OPTIONS

_FOREIGN = OPTIONS | {"CLASSPATH", "LANG", "LANGUAGE"}
# Our JVMs do not need it, and an environment is copied to every child process and into crash reports.
_SECRETS = frozenset({"KAFKA_SASL_PASSWORD"})
_LOCALE_PREFIX = "LC_"

_PR_SET_PDEATHSIG = 1

_FRAME = re.compile(r"\s+(at |\.\.\. \d+ more)")
# A line of a log or of Java itself that says what went wrong.
_REASON = re.compile(
    r"^(Error\b|Caused by: |Exception in thread |java: |[\w.$]+(Exception|Error)(: |$))|^\S+ (ERROR|FATAL) "
)
_LINES = 15


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` for a JVM: without passwords and foreign options, with a locale in which paths are UTF-8.

    Cron and systemd start programs in the locale C, in which Java cannot open files with names beyond ASCII.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _FOREIGN | _SECRETS and not name.startswith(_LOCALE_PREFIX)
    }
    return kept | {"LC_ALL": "C.UTF-8"}


def properties(temporary: Path) -> list[str]:
    """Return the flags that keep a JVM's files in ``temporary``.

    The home is there too: for a user without a name Java would use the home ``?``, which some libraries refuse.
    """
    return [f"-Djava.io.tmpdir={temporary}", f"-Duser.home={temporary}"]


def library_folder(candidates: Iterable[Path] | None = None) -> Path:
    """Return a folder for temporary files from which libraries can be loaded: compression in Java needs one.

    It is TMPDIR, else ``/var/tmp`` or the cache. Raises OutputUnavailable if all are mounted noexec.
    """
    folders = list(_temporary_folders() if candidates is None else candidates)
    for folder in folders:
        if os.access(folder, os.W_OK | os.X_OK) and not _is_noexec(folder):
            return folder
    raise OutputUnavailable(
        f"Java can load its compression libraries from none of {', '.join(map(str, folders))}: each is mounted noexec "
        "or not writable; set TMPDIR to a folder on another file system"
    )


def _temporary_folders() -> Iterable[Path]:
    with suppress(FileNotFoundError):
        yield Path(tempfile.gettempdir())
    yield Path("/var/tmp")
    cache = cache_folder().parent
    if cache.is_dir():
        yield cache


def _is_noexec(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))


def start(
    command: Sequence[str],
    log: Path,
    environ: Mapping[str, str],
    lock_fd: int,
    folder: Path | None = None,
    has_stdin: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a JVM, whose output goes to ``log``, and return at once. Raises OSError.

    It leads a session of its own, so that Ctrl-C reaches only us and we end it in order. ``lock_fd`` holds the lock of
    the scratch folder; the JVM inherits it, so the folder counts as in use while either process lives.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock_fd],
            preexec_fn=_die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None] | None:
    """Return a function that asks Linux, in the child, to kill it when its parent thread ends; None if it cannot.

    If we are killed by kill -9, nothing else ends the JVM.
    """
    # Not from another thread: Linux would kill the JVM when that thread ends, not when the process does.
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)


def what_it_said(log: Path) -> str:
    """Return the output of a JVM for an error message: all of it if it is short, otherwise the lines that say why.

    Stack frames are left out, because they would hide the cause.
    """
    told = [line for line in _lines(log) if line.strip() and not _FRAME.match(line)]
    if not told:
        return f"{log} is empty"
    if len(told) <= _LINES:
        return "\n".join([f"{log} says:", *told])
    reasons = [line for line in told if _REASON.match(line)] or told
    return "\n".join([f"{log} says, among {len(told):,} lines:", *dict.fromkeys(reasons[-_LINES:])])


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
