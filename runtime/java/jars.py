"""The jars that no Python package brings: locked by checksum, downloaded once, kept outside the repository.

``python -m runtime.java.jars [broker|bench …]`` downloads what is missing; the default group is broker.

Standard library only, like all of ``runtime/java``: it runs on a bare Python, before any package is installed.
"""

import argparse
import hashlib
import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runtime.errors import PipelineError, SettingError
from runtime.java import maven
from runtime.process import entry
from runtime.process.scratch import Scratch
from runtime.process.trusted import require_trusted

LOCK = Path(__file__).with_name("jars.lock")
GROUPS = ("broker", "bench")

_DOWNLOADS_AT_ONCE = 8
_DOWNLOADS = ".download-"
_CLONE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock; ``coordinate`` is group:artifact:version."""

    sha256: str
    coordinate: str
    group: str

    @property
    def path(self) -> str:
        """Path in a repository in Maven's layout: group/with/slashes/artifact/version/artifact-version.jar."""
        group, artifact, version = self.coordinate.split(":")
        return f"{group.replace('.', '/')}/{artifact}/{version}/{self.name}"

    @property
    def name(self) -> str:
        """File name in the cache and in a repository."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"

    def is_intact(self, path: Path) -> bool:
        """Whether ``path`` holds exactly the locked bytes."""
        return path.is_file() and _sha256(path.read_bytes()) == self.sha256


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Return the jars of the lock, in its order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Jar(*line.split()) for line in lines if line and not line.startswith("#")]


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where jars are kept: in CLIENT_TICKETS_CACHE, else the user's cache folder, else one in the clone."""
    if ours := environ.get("CLIENT_TICKETS_CACHE"):
        return Path(ours) / "jars"
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else _home(environ) / ".cache") / "client-tickets" / "jars"


def _home(environ: Mapping[str, str]) -> Path:
    """Return the user's home; for a user id without one, the clone, the only folder known to be theirs."""
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return _CLONE


def broker_jars() -> list[Path]:
    """Return the class path of the embedded broker.

    Raises SettingError when a jar was not downloaded, or when another user could replace one.
    """
    folder = cache_folder()
    paths = [folder / jar.name for jar in read_lock() if jar.group == "broker"]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise SettingError(f"{len(missing)} of {len(paths)} jars of the broker are missing in {folder}; run make setup")
    for path in paths:
        require_trusted(path)
    return paths


def download(jars: Sequence[Jar], folder: Path, environ: Mapping[str, str] = os.environ) -> int:
    """Make sure that ``folder`` holds all of ``jars`` intact; return how many had to be downloaded.

    Raises SettingError when there is no repository to ask, and PipelineError when a jar cannot be downloaded or is not
    the locked one; jars that were downloaded before stay, so the next call goes on from there.
    """
    wanted = [jar for jar in jars if not jar.is_intact(folder / jar.name)]
    if not wanted:
        return 0
    repository = maven.repository(environ)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the folder, so that the rename at the end stays in one file system.
        with Scratch(_DOWNLOADS, folder) as scratch:
            pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE)
            try:
                one = partial(_download_one, repository=repository, folder=folder, scratch=scratch.path)
                for _ in pool.map(one, wanted):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)
    except OSError as error:
        raise PipelineError(f"cannot write to {folder} ({error}); set CLIENT_TICKETS_CACHE to another folder") from None
    return len(wanted)


def _download_one(jar: Jar, repository: maven.Repository, folder: Path, scratch: Path) -> None:
    content = repository.fetch(jar.path)
    found = _sha256(content)
    if found != jar.sha256:
        raise PipelineError(
            f"{jar.name} is not the file that {LOCK.name} names: its sha256 is {found}, not {jar.sha256}; "
            f"if a second try gives the same, {repository.origin} or something on the way to it replaces files"
        )
    # Written elsewhere and then renamed, so that half a jar never has the name of a jar.
    (scratch / jar.name).write_bytes(content)
    (scratch / jar.name).replace(folder / jar.name)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m runtime.java.jars", description=__doc__, allow_abbrev=False)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"one of {', '.join(GROUPS)}; default: {GROUPS[0]}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Download what is missing and print how much that was."""
    groups = build_parser().parse_args(argv).groups or GROUPS[:1]

    def body() -> None:
        for group in groups:
            if group not in GROUPS:
                raise SettingError(f"there are no jars for {group!r}; choose from {', '.join(GROUPS)}")
        jars, folder = [jar for jar in read_lock() if jar.group in groups], cache_folder()
        count = download(jars, folder)
        sys.stdout.write(f"{len(jars)} jars in {folder}, {count} of them downloaded now\n")

    return entry.run(body)


if __name__ == "__main__":
    raise SystemExit(main())
