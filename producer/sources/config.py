"""The settings of a source of real tickets: one frozen value, checked when it is built."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contract.ticket import FIELDS
from producer.dates import ORDERS
from producer.mapping import CHOICES, Rules
from runtime.errors import SettingError
from runtime.settings import parsers
from runtime.settings.setting import ROOT, Setting

RANDOM = "random"
STDIN = "-"
SQL_SCHEMES = ("mysql", "mariadb")
HTTP_SCHEMES = ("http", "https")
NAME_EXAMPLE = "helpdesk"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_FORBIDDEN_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def _source(text: str, base: Path) -> str:
    if text in (RANDOM, STDIN):
        return text
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        parts = urlsplit(text)
        if parts.scheme not in SQL_SCHEMES + HTTP_SCHEMES or not parts.hostname:
            raise ValueError("must begin with mysql://, mariadb://, http:// or https:// and name a host")
        return text
    try:
        return str(parsers.readable_file(text, base))
    except ValueError:
        raise ValueError(
            "must be random, - for standard input, a file that can be read, or the URL of a database or an API"
        ) from None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"must be 1 to 100 letters, digits, '.', '_' or '-', e.g. {NAME_EXAMPLE}")
    return text


def _column(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if field not in FIELDS or not equals or not column:
        raise ValueError(f"must be FIELD=COLUMN with a field of {', '.join(FIELDS)}, e.g. ticket_id=Id")
    return field, column


def _default(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if field not in FIELDS or field == "ticket_id" or not equals or not value:
        raise ValueError(f"must be FIELD=VALUE with a field of {', '.join(FIELDS[1:])}, e.g. priority=low")
    _require_choice(field, value)
    return field, value


def _value(text: str) -> tuple[tuple[str, str], str]:
    field, colon, rest = text.partition(":")
    found, equals, value = rest.rpartition("=")
    if field not in FIELDS[1:] or not (colon and equals and value):
        raise ValueError("must be FIELD:FOUND=VALUE, e.g. request_type:Facturation=billing")
    _require_choice(field, value)
    return (field, found.strip().casefold()), value


def _require_choice(field: str, value: str) -> None:
    if field in CHOICES and value not in CHOICES[field]:
        raise ValueError(f"must set {field} to one of {', '.join(CHOICES[field])}")


def _zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be the name of a time zone, e.g. Europe/Paris") from None


def _encoding(text: str) -> str:
    try:
        "x".encode(text)
    except (LookupError, ValueError):
        raise ValueError("must be an encoding that Python knows, e.g. cp1252") from None
    # The name that Python gives it: utf16 is utf-16.
    return codecs.lookup(text).name


def _delimiter(text: str) -> str:
    character = _DELIMITERS.get(text.lower(), text)
    if len(character) != 1 or character in '"\r\n ':
        raise ValueError("must be one character or tab, e.g. ';'")
    return character


def _words(example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text.strip():
            raise ValueError(f"must not be empty, e.g. {example}")
        return text

    return parse


SOURCE = Setting(
    None, RANDOM, _source, "random, a CSV or JSON-lines file, - for stdin, or a URL", "--source", anchored=True
)

# --help shows them in these groups.
EVERY_SOURCE = {
    "name": Setting(None, None, _name, "name for state and ids; without it, the file's name", "--source-name"),
    "columns": Setting(None, (), _column, "FIELD=COLUMN: which column is a field of the ticket", "--map", several=True),
    "values": Setting(None, (), _value, "FIELD:FOUND=VALUE: what a value of the source means", "--value", several=True),
    "defaults": Setting(None, (), _default, "FIELD=VALUE: used if a row has no such field", "--default", several=True),
    "date_order": Setting(
        None, None, parsers.choice(*ORDERS), "dmy or mdy, for dates such as 03/04/2026", "--date-order"
    ),
    "zone": Setting(None, UTC, _zone, "time zone of dates that name none", "--timezone"),
    "follow": Setting(None, False, bool, "at the end, go on polling for new tickets", "--follow", switch=True),
    "poll_s": Setting(None, 5.0, parsers.number(0, "30", above=True), "seconds between two polls", "--poll"),
    "state": Setting(None, "data/sources", parsers.path, "folder of the state files", "--source-state", anchored=True),
}
FILES = {
    "encoding": Setting(
        None, None, _encoding, "encoding; without it UTF-8, or that of a byte order mark", "--encoding"
    ),
    "delimiter": Setting(None, None, _delimiter, "between CSV fields; without it taken from the header", "--delimiter"),
}
DATABASES = {
    "table": Setting(None, None, _words("tickets"), "table to read", "--table"),
    "query": Setting(None, None, _words("'SELECT * FROM tickets'"), "query to read, instead of a table", "--query"),
    "watermark": Setting(
        None, None, _words("updated_at"), "column that increases with each change of a row", "--watermark"
    ),
    "overlap_s": Setting(None, 60.0, parsers.number(0, "60"), "seconds to read again before the last row", "--overlap"),
}
APIS = {
    "items": Setting(None, None, _words("tickets"), "path of the array of tickets in a response", "--items"),
    "next_link": Setting(
        None, None, _words("links.next"), "path of the URL of the next page in a response", "--next-link"
    ),
    "cursor": Setting(
        None, None, _words("meta.after_cursor"), "path of the cursor of the next page in a response", "--cursor"
    ),
    "cursor_parameter": Setting(
        None, "cursor", _words("cursor"), "request parameter for the cursor", "--cursor-parameter"
    ),
}
SECRETS = {
    "secret_file": Setting(
        None,
        None,
        parsers.readable_file,
        "file with the token of an API or the password of a database",
        "--secret-file",
        anchored=True,
    ),
}
GROUPS = {
    "tickets of any source but random": EVERY_SOURCE,
    "tickets from a file": FILES,
    "tickets from a database": DATABASES,
    "tickets from an HTTP API": APIS,
    "tickets from a database or an API": SECRETS,
}
SETTINGS: dict[str, Setting] = {
    "source": SOURCE,
    **{field: one for group in GROUPS.values() for field, one in group.items()},
}


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where tickets come from, and how they are read. Raises SettingError when the parts do not fit together.

    ``source`` is a word, the absolute path of a file, or a URL.
    """

    source: str = RANDOM
    name: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[tuple[str, str], str], ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    date_order: str | None = None
    zone: tzinfo = UTC
    follow: bool = False
    poll_s: float = 5.0
    state: Path = ROOT / "data/sources"
    encoding: str | None = None
    delimiter: str | None = None
    table: str | None = None
    query: str | None = None
    watermark: str | None = None
    overlap_s: float = 60.0
    items: str | None = None
    next_link: str | None = None
    cursor: str | None = None
    cursor_parameter: str = "cursor"
    secret_file: Path | None = None

    def __post_init__(self) -> None:
        for group, fits in (
            (EVERY_SOURCE, not self.is_random),
            (FILES, self.is_file or self.source == STDIN),
            (DATABASES, self.is_sql),
            (APIS, self.is_http),
            (SECRETS, self.is_remote),
        ):
            for field, setting in group.items():
                if not fits and field != "state" and getattr(self, field) != setting.default:
                    raise SettingError(f"{setting.flag} has no effect with --source {self.shown}; leave it out")
        if self.follow and self.source == STDIN:
            raise SettingError("--follow has no effect with --source -: standard input is read until it ends anyway")
        if self.follow and self.is_file and self.source.endswith(".gz"):
            raise SettingError(f"--follow cannot follow {self.source}, which is compressed; follow the plain file")
        if self.is_remote and self.name is None:
            raise SettingError(f"--source {self.shown} needs a --source-name, e.g. --source-name {NAME_EXAMPLE}")
        if self.is_remote and "ticket_id" not in dict(self.columns):
            raise SettingError(
                "tickets of a database or an API need an id that never changes; name its column, e.g. "
                "--map ticket_id=id"
            )
        if self.is_sql:
            self._check_sql()
        if self.next_link and self.cursor:
            raise SettingError("--next-link and --cursor exclude each other; give the one that the API uses")

    def _check_sql(self) -> None:
        if (self.table is None) == (self.query is None):
            raise SettingError("a database needs either --table or --query, e.g. --table tickets")
        if self.watermark is None:
            raise SettingError(
                "a database needs --watermark: a column that increases with each change, e.g. updated_at"
            )

    @property
    def is_random(self) -> bool:
        """Whether tickets are random."""
        return self.source == RANDOM

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and not standard input."""
        return self.source not in (RANDOM, STDIN) and "://" not in self.source

    @property
    def is_sql(self) -> bool:
        """Whether it is a database."""
        return self.source.startswith(tuple(f"{scheme}://" for scheme in SQL_SCHEMES))

    @property
    def is_http(self) -> bool:
        """Whether it is an API."""
        return self.source.startswith(tuple(f"{scheme}://" for scheme in HTTP_SCHEMES))

    @property
    def is_remote(self) -> bool:
        """Whether it is a database or an API."""
        return self.is_sql or self.is_http

    @property
    def shown(self) -> str:
        """The source for logs: a URL without its login and query, which may hold secrets."""
        if not self.is_remote:
            return self.source
        parts = urlsplit(self.source)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"

    @property
    def known_as(self) -> str:
        """The name of the state and the namespace of ids."""
        if self.name is not None:
            return self.name
        return "stdin" if self.source == STDIN else name_of(Path(self.source))

    @property
    def rules(self) -> Rules:
        """The rules that turn a row into a ticket."""
        return Rules(
            self.known_as,
            dict(self.columns),
            dict(self.values),
            dict(self.defaults),
            self.date_order,
            self.zone,
            numbered=not self.is_remote,
        )


def name_of(file: Path) -> str:
    """Return the base name of a file, with characters replaced that a --source-name may not have."""
    name = _FORBIDDEN_IN_NAMES.sub("-", file.name)[:100]
    return name if _NAME.fullmatch(name) else f"_{name}"[:100]
