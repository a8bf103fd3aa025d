"""The class-data archive of a JVM: loaded classes in a file, which the JVM maps at its start instead of loading them.

An archive fits one Java, one class path and one set of flags. The JVM checks that, and silently ignores an archive that
does not fit. The file name depends on the three, so a new Java or new jars get an archive of their own.
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

# Otherwise the JVM's warnings about an archive that does not fit would be in our logs.
_SILENT = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")

# An archive takes some 60 MB. Older ones than these are of jars or Javas that are no longer used.
_KEPT = 4
_PATTERN = "classes-*.jsa"
_UNFINISHED = ".unfinished-"


def archive_path(
    java: Path, class_path: Sequence[Path], flags: Sequence[str], environ: Mapping[str, str] = os.environ
) -> Path:
    """Return where the archive of this ``java`` with these jars and flags belongs, whether or not it is there."""
    key = hashlib.sha256(identity(java).encode())
    # System properties do not change the archived classes.
    key.update("\n".join(flag for flag in flags if not flag.startswith("-D")).encode())
    for jar in class_path:
        found = jar.stat()
        # Whole seconds: an image keeps only these, and the JVM compares only these.
        key.update(f"\n{jar} {found.st_size} {int(found.st_mtime)}".encode())
    return cache_folder(environ).parent / f"classes-{key.hexdigest()[:16]}.jsa"


def use(archive: Path) -> tuple[str, ...]:
    """Return the flags that let a JVM use ``archive``. None if the file does not exist; then the JVM starts slower.

    None either if another user could replace the file: it holds code that the JVM does not verify.
    """
    if not archive.is_file():
        return ()
    try:
        require_trusted(archive)
    except SettingError as error:
        _log.warning("Spark starts more slowly: %s", error)
        return ()
    # The time of the last use decides which archives are deleted. In an image the file is read-only.
    with suppress(OSError):
        archive.touch()
    # auto: an archive that does not fit is ignored, not an error.
    return (f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", *_SILENT)


def record(archive: Path) -> tuple[str, ...]:
    """Return the flags that let a JVM write ``archive`` when it exits; a JVM that is killed writes nothing."""
    return (f"-XX:ArchiveClassesAtExit={archive}", *_SILENT)


def make(archive: Path, run: Callable[[Path], None]) -> None:
    """Make ``archive``: ``run`` lets a JVM write one to the path that it gets. An older file is replaced as a whole.

    Raises PipelineError if the JVM wrote none, and OSError.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the rename at the end stays in one file system.
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
