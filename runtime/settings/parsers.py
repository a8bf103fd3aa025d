"""Parsers from the text of a setting to its value. Each raises ValueError with "must be …" and an example."""

import ipaddress
import math
import os
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
# The resolver raises an error of its own for labels of another length. An address of IP version 4 is a name, too.
_NAME = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")

_LONGEST_GROUP = 249
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MEMORY = re.compile(r"[0-9]{1,9}[mg]", re.IGNORECASE)
_MASTER = re.compile(
    r"local|local\[(\*|[1-9][0-9]*)(,[0-9]+)?\]|spark://[A-Za-z0-9_.-]+:[0-9]{1,5}(,[A-Za-z0-9_.-]+:[0-9]{1,5})*"
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")
_ZONE = re.compile(r"[Zz]|[+-][0-9]{2}:[0-9]{2}")
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}

# Spark refuses to start with less than 450 MiB.
LEAST_MEMORY_MIB = 512


def require_printable(text: str) -> None:
    """Raise ValueError for characters that could forge a line of the log or cannot be encoded.

    These are control characters (also a stray carriage return), line separators, and bytes that are not UTF-8, which
    Python passes on as surrogates.
    """
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise ValueError("must be text in UTF-8 without control characters")


def brokers(text: str) -> str:
    """Return ``host:port``, or several separated by commas."""
    for address in text.split(","):
        match = _HOST_PORT.fullmatch(address.strip())
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            raise ValueError("must be host:port with a port from 1 to 65535 (several with commas), e.g. localhost:9092")
    return ",".join(address.strip() for address in text.split(","))


def address(text: str) -> str:
    """Return a name or an IP address to listen on."""
    if not _NAME.fullmatch(text) and not _is_of_version_6(text):
        raise ValueError("must be an address of this machine, e.g. 127.0.0.1")
    return text


def _is_of_version_6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def topic(text: str) -> str:
    """Return a legal Kafka topic name."""
    if not _TOPIC.fullmatch(text) or text in {".", ".."}:
        raise ValueError("must be 1 to 249 letters, digits, '.', '_' or '-', e.g. client_tickets")
    return text


def consumer_group(text: str) -> str:
    """Return the name of a consumer group, nothing for none."""
    if len(text) > _LONGEST_GROUP or text != text.strip():
        raise ValueError(
            f"must be the name of a consumer group, at most {_LONGEST_GROUP} characters without spaces at its ends, or "
            "empty for none"
        )
    return text


def number(lowest: float, example: str, above: bool = False) -> Callable[[str], float]:
    """Return a parser of finite numbers from ``lowest`` up, or only above it if ``above``."""

    def parse(text: str) -> float:
        wanted = f"must be a number {'above' if above else 'from'} {lowest:g}{'' if above else ' up'}, e.g. {example}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not math.isfinite(value) or value < lowest or (above and value == lowest):
            raise ValueError(wanted)
        return value

    return parse


def integer(lowest: int, example: str, highest: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``lowest`` up to ``highest``."""

    def parse(text: str) -> int:
        limits = f"from {lowest} up" if highest is None else f"from {lowest} to {highest}"
        wanted = f"must be a whole number {limits}, e.g. {example}"
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise ValueError(wanted)
        value = int(text)
        if value < lowest or (highest is not None and value > highest):
            raise ValueError(wanted)
        return value

    return parse


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    value = number(0, "0.01")(text)
    if value > 1:
        raise ValueError("must be a number from 0 to 1, e.g. 0.01")
    return value


def choice(*names: str, fold: Callable[[str], str] = str) -> Callable[[str], str]:
    """Return a parser of one of ``names``; ``fold`` converts the text to their case."""

    def parse(text: str) -> str:
        value = fold(text)
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return parse


def memory(text: str) -> str:
    """Return a JVM heap size in Spark's notation, lower case: ``512m``, ``4g``."""
    if not _MEMORY.fullmatch(text) or heap_mib(text.lower()) < LEAST_MEMORY_MIB:
        raise ValueError(f"must be a size in m or g of at least {LEAST_MEMORY_MIB}m, e.g. 4g")
    return text.lower()


def heap_mib(size: str) -> int:
    """Return the MiB of a heap size that ``memory`` returned."""
    return int(size[:-1]) * (1024 if size.endswith("g") else 1)


def moment(text: str) -> datetime:
    """Return the time that an RFC 3339 text with a zone names, in UTC. The seconds may be missing."""
    wanted = "must be a time with its zone, e.g. 2026-01-31T09:30:00Z or 2026-01-31T10:30:00+01:00"
    time = _TIME.match(text)
    zone = text[time.end() :] if time else ""
    if time and not zone:
        raise ValueError(f"must say the zone of its time, e.g. {text}Z for UTC or {text}+01:00")
    if not time or not _ZONE.fullmatch(zone):
        raise ValueError(wanted)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{wanted}, and one that is on the calendar") from None


def place_in_time(text: str) -> str | datetime:
    """Return ``earliest``, ``latest``, or the time in UTC that ``moment`` finds."""
    if text.lower() in ("earliest", "latest"):
        return text.lower()
    if not _TIME.match(text):
        raise ValueError("must be earliest, latest, or a time with its zone, e.g. 2026-01-31T09:30:00Z")
    return moment(text)


def rfc_3339(place: str | datetime) -> str:
    """Return what ``place_in_time`` returned as text again, a time in UTC."""
    return place if isinstance(place, str) else place.isoformat().replace("+00:00", "Z")


def spark_master(text: str) -> str:
    """Return a Spark master URL: local, or a standalone cluster."""
    if not _MASTER.fullmatch(text):
        raise ValueError("must be local[*], local[N] or spark://host:port, e.g. local[2]")
    return text


def path(text: str, base: Path) -> Path:
    """Return an absolute path, ``~`` expanded; a relative one starts at ``base``."""
    if not text:
        raise ValueError("must be a path, e.g. data/output")
    try:
        return base / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("must begin with the home of a user who exists") from None


def readable_file(text: str, base: Path) -> Path:
    """Return the path of a file that can be read."""
    name = path(text, base)
    if not name.is_file() or not os.access(name, os.R_OK):
        raise ValueError("must name a file that can be read")
    return name
