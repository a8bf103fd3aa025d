"""Find the Java that runs Spark and the embedded broker.

Standard library only, like all of ``runtime/java``: it runs on a bare Python, before any package is installed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import SettingError
from runtime.process import entry

LEAST_VERSION = 17
# Variables from which every JVM takes options, also those meant for other programs.
OPTIONS = frozenset({"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"})
_WHAT_WORKS = (
    f"install Java {LEAST_VERSION} or 21 "
    "(Debian, Ubuntu: openjdk-17-jre-headless; Fedora: java-21-openjdk-headless; macOS: brew install openjdk@21)"
)


def java_executable(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the ``java`` of JAVA_HOME, else of PATH. Raises SettingError if there is none or it is too old."""
    home = environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if not os.access(java, os.X_OK):
            raise SettingError(f"JAVA_HOME={home} holds no bin/java; correct it, or unset it and {_WHAT_WORKS}")
    else:
        found = shutil.which("java", path=environ.get("PATH"))
        if found is None:
            raise SettingError(f"Java is missing; {_WHAT_WORKS}")
        java = Path(found)
    version = _major_version(java)
    if version < LEAST_VERSION:
        raise SettingError(f"Java at {java} is version {version}, too old; {_WHAT_WORKS}, or set JAVA_HOME")
    return java


def identity(java: Path) -> str:
    """Return a text that differs between versions and builds of Java. Raises SettingError when Java does not run.

    It is the file ``release`` beside ``bin``, which Java has since version 9: reading it is much faster than starting a
    JVM. If there is none (a wrapper script, some distributions), it is the output of ``java -version``.
    """
    home = java.resolve().parent.parent
    try:
        release = (home / "release").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        release = ""
    return f"{home}\n{release}" if "JAVA_VERSION=" in release else _told_version(java)


def _told_version(java: Path) -> str:
    try:
        # With such a variable set, the JVM prints its options together with the version.
        plain = {name: value for name, value in os.environ.items() if name not in OPTIONS}
        done = subprocess.run([java, "-version"], capture_output=True, env=plain, timeout=60, check=True)
        return done.stderr.decode(errors="replace")
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingError(f"Java at {java} does not run ({error}); {_WHAT_WORKS}, or set JAVA_HOME") from None


def _major_version(java: Path) -> int:
    """Return 17 for ``JAVA_VERSION="17.0.15"`` or ``openjdk version "17.0.15"``, 8 for ``java version "1.8.0_402"``."""
    told = identity(java)
    match = re.search(r'(?:^JAVA_VERSION=|version )"(?:1\.)?(\d+)', told, re.MULTILINE)
    if match is None:
        raise SettingError(f"Java at {java} does not report a version, it prints {told[:100]!r}; {_WHAT_WORKS}")
    return int(match[1])


def main() -> int:
    """Return 0 if there is a Java that works; otherwise print what to install and return 2."""

    def body() -> None:
        java_executable()

    return entry.run(body)


if __name__ == "__main__":
    raise SystemExit(main())
