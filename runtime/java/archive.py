"""The class-data archive of a JVM: classes as they lie in its memory, to be mapped at a start instead of loaded.

An archive belongs to one Java, one class path and one set of flags. The JVM checks that, and ignores any other without
a word. The name says it too, so that a new Java or new jars look for an archive of their own.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.errors import PipelineError, SettingError
from runtime.java.jars import cache_folder
from runtime.java.jdk import identity
from runtime.process.scratch import Scratch
from runtime.process.trusted import require_trusted

_log = logging.getLogger(__name__)

# What a JVM has to say about an archive that does not fit would stand in our logs.
_SILENT = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")

# An archive takes some 60 MB; more than these are left from jars or Javas that are gone.
_KEPT = 4
_PATTERN = "classes-*.jsa"
_UNFINISHED = ".unfinished-"


def archive_path(
    java: Path, class_path: Sequence[Path], flags: Sequence[str], environ: Mapping[str, str] = os.environ
) -> Path:
    """Return where the archive of this ``java`` with these jars and flags belongs, whether or not it is there."""
    key = hashlib.sha256(identity(java).encode())
    # System properties change nothing in how classes lie in memory.
    key.update("\n".join(flag for flag in flags if not flag.startswith("-D")).encode())
    for jar in class_path:
        found = jar.stat()
        # Whole seconds: an image keeps no more, and the JVM compares no more.
        key.update(f"\n{jar} {found.st_size} {int(found.st_mtime)}".encode())
    return cache_folder(environ).parent / f"classes-{key.hexdigest()[:16]}.jsa"


def use(archive: Path) -> tuple[str, ...]:
    """Return the flags that let a JVM use ``archive``; none when there is no such file, which only makes it slower.

    None either when another user could exchange it: it holds code that the JVM does not check.
    """
    if not archive.is_file():
        return ()
    try:
        require_trusted(archive)
    except SettingError as error:
        _log.warning("Spark starts more slowly: %s", error)
        return ()
    # Those that were not used for the longest time are deleted. One that belongs to an image is read-only.
    with suppress(OSError):
        archive.touch()
    # auto: one that does not fit is ignored.
    return (f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", *_SILENT)


def record(archive: Path) -> tuple[str, ...]:
    """Return the flags that let a JVM write ``archive`` when it exits; one that is killed writes nothing."""
    return (f"-XX:ArchiveClassesAtExit={archive}", *_SILENT)


def make(archive: Path, run: Callable[[Path], None]) -> None:
    """Make ``archive``: ``run`` has a JVM write one to the path that it is given. What is there is replaced as a whole.

    Raises PipelineError when there is none afterwards, and OSError.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    # Beside the archive, so that the move at the end stays in one file system.
    with Scratch(_UNFINISHED, archive.parent) as scratch:
        unfinished = scratch.path / archive.name
        run(unfinished)
        if not unfinished.is_file():
            raise PipelineError("the JVM wrote no archive")
        # A power loss after the rename must not leave half an archive under the name: a JVM would crash on it.
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(archive)
    others = sorted(archive.parent.glob(_PATTERN), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_KEPT:]:
        old.unlink(missing_ok=True)
