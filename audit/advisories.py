"""What was found, and what of it is excepted: decisions on values."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import SettingError

EXCEPTIONS = Path(__file__).with_name("exceptions.toml")


@dataclass(frozen=True, slots=True)
class Advisory:
    """One known vulnerability of one package; ``ids`` are all its names (CVE-…, GHSA-…, PYSEC-…)."""

    package: str
    version: str
    ids: frozenset[str]
    fixed_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Excepted:
    """An advisory that need not be acted on, and why."""

    id: str
    package: str
    reason: str

    def covers(self, advisory: Advisory) -> bool:
        """Whether it is meant for this advisory."""
        return self.id in advisory.ids and self.package == advisory.package


@dataclass(frozen=True, slots=True)
class Looked:
    """What one tool did with so many ``packages``: what it found, what its service did not know, or why it failed.

    ``unnamed`` are packages that state no name under which anybody could look them up.
    """

    what: str
    packages: int
    found: tuple[Advisory, ...] = ()
    unknown: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    failed: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every package that can be looked up was."""
        return not self.failed and not self.unknown


def read_exceptions(path: Path = EXCEPTIONS) -> list[Excepted]:
    """Return the exceptions of the file. Raises SettingError for one that is not whole."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("exception", [])
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{path} must be TOML ({error})") from None
    for entry in entries:
        if entry.keys() != {"id", "package", "reason"} or not all(entry.values()):
            raise SettingError(f"{path} must give each exception an id, a package and a reason, found {entry}")
    return [Excepted(**entry) for entry in entries]


def report(looks: Sequence[Looked], exceptions: Iterable[Excepted]) -> tuple[int, list[str]]:
    """Return the exit code and what to print: 1 for what needs somebody, 3 for what could not be looked up, else 0."""
    lines = [line for look in looks for line in _lines(look)]
    found = [advisory for look in looks for advisory in look.found]
    exceptions = list(exceptions)
    still_open = [a for a in found if not any(e.covers(a) for e in exceptions)]
    used = [e for e in exceptions if any(map(e.covers, found))]
    # Where something was not looked up, nobody knows whether an exception still applies.
    complete = all(look.is_complete for look in looks)
    stale = [e for e in exceptions if complete and e not in used]
    for advisory in still_open:
        ids, versions = ", ".join(sorted(advisory.ids)), " or ".join(advisory.fixed_in)
        remedy = f"fixed in {versions}" if versions else "see there for a fixed version"
        lines.append(f"VULNERABLE     {advisory.package} {advisory.version}: {ids}; {remedy}")
    lines += [f"excepted       {e.package}: {e.id}; {e.reason}" for e in used]
    lines += [f"STALE          {e.package}: {e.id} is not found any more; remove the exception" for e in stale]
    if still_open or stale:
        return 1, lines
    return (0 if complete else 3), lines


def _lines(look: Looked) -> list[str]:
    if look.failed:
        return [f"NOT LOOKED UP  {look.what}: {look.failed}"]
    if len(look.unknown) == look.packages:
        # An index without advisories answers like that, and pip-audit takes it for a clean bill.
        return [
            f"NOT LOOKED UP  {look.what}: the advisory service knows none of all {look.packages}, as an index without "
            "advisories answers; run it where the network reaches the real one"
        ]
    done = look.packages - len(look.unknown) - len(look.unnamed)
    lines = [f"{look.what}: {done} of {look.packages} looked up, {len(look.found)} advisories"]
    if look.unnamed:
        lines.append(f"{look.what}: these state no group, so nobody can look them up: {', '.join(look.unnamed)}")
    return lines + [f"NOT LOOKED UP  {name}: the advisory service does not know it" for name in look.unknown]
