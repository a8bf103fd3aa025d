"""A table or query of MySQL or MariaDB, read in the order of a column that increases with each change of a row."""

import base64
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy
from sqlalchemy import and_, column, func, or_, select, table, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError

from producer.ticket import Place, Row
from runtime.errors import SettingError, SourceUnreachable
from runtime.process.words import things

_log = logging.getLogger(__name__)

# Pages of this many rows are read at once, so that no query stays open while its rows wait to be sent.
_PAGE = 5_000
_TIMEOUT_S = 60

# How many rows of the overlap are remembered. If there are more, the rest is sent again.
_REMEMBERED = 100_000

# MySQL errors that are not transient: login, rights, database, table, column, syntax, user not allowed from this host.
_PERMANENT = {1044, 1045, 1046, 1049, 1054, 1064, 1130, 1142, 1143, 1146, 1251, 1370, 1698}

_ZERO_DATE = re.compile(r"(0000-[0-9]{2}-[0-9]{2}|[0-9]{4}-00-[0-9]{2}|[0-9]{4}-[0-9]{2}-00)( .*)?")

_KINDS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "int": int,
    "Decimal": Decimal,
    "str": str,
}


def bound(watermark: Any, overlap_s: float) -> Any:
    """Return the watermark from which to read again: ``overlap_s`` earlier if it is a time, otherwise unchanged."""
    if isinstance(watermark, datetime):
        return watermark - timedelta(seconds=overlap_s)
    if isinstance(watermark, date):
        return watermark - timedelta(days=-(-overlap_s // 86_400))
    return watermark


def is_not_a_time(watermark: Any) -> bool:
    """Whether a watermark is one of MySQL's dates that no calendar has, such as 0000-00-00; PyMySQL returns a text."""
    return isinstance(watermark, str) and _ZERO_DATE.fullmatch(watermark) is not None


def written(watermark: Any) -> dict[str, str]:
    """Return a watermark as JSON. Raises SettingError for a type that cannot be a watermark."""
    kind = type(watermark).__name__
    if kind == "bytes":
        return {"bytes": base64.b64encode(watermark).decode()}
    if kind not in _KINDS:
        raise SettingError(f"--watermark must be a column of times, whole numbers, decimals or text, found {kind}")
    return {kind: watermark.isoformat() if isinstance(watermark, date) else str(watermark)}


def read_back(kept: dict[str, str]) -> Any:
    """Return the watermark that was passed to ``written``."""
    ((kind, text_),) = kept.items()
    return base64.b64decode(text_) if kind == "bytes" else _KINDS[kind](text_)


class SqlSource:
    """The rows of a database. A place is a watermark: rows are read again from ``overlap_s`` before it.

    Rows that this object has yielded before, and that have not changed since, are left out.
    """

    def __init__(
        self,
        url: str,
        password: str | None,
        content: str,
        is_query: bool,
        watermark: str,
        key: str,
        overlap_s: float,
    ) -> None:
        self._watermark = watermark
        self._key = key
        self._overlap_s = overlap_s
        self._engine = _engine(url, password)
        where = self._engine.url
        self._shown = URL.create("mysql", host=where.host, port=where.port, database=where.database).render_as_string()
        self._content = _content(content, is_query)
        self._recent: dict[Any, int] = {}
        self._order = deque[tuple[Any, Any]]()
        self._number = 0
        self._unmarked = 0

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        """Yield the rows from the overlap on. Raises SourceUnreachable, and SettingError if a flag is wrong."""
        try:
            yield from self._read(_watermark_of(after))
        except DBAPIError as error:
            raise self._explained(error) from error

    def keep(self, place: Place) -> Place:
        """Return ``place`` as JSON."""
        return {"watermark": written(place["watermark"])}

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _read(self, reached: Any) -> Iterator[Sequence[Row]]:
        with self._connect() as connection:
            if reached is None:
                self._require_columns(connection)
        low = None if reached is None else bound(reached, self._overlap_s)
        last: tuple[Any, Any] | None = None
        while True:
            # Connect for each page: at a low rate, the next page may be hours away.
            with self._connect() as connection:
                found = connection.execute(self._page(low, last)).mappings().all()
            rows = []
            for values in found:
                mark, key = values[self._watermark], values[self._key]
                if is_not_a_time(mark):
                    self._unmarked += 1
                    continue
                reached = mark if reached is None else max(reached, mark)
                self._number += 1
                if self._is_new(mark, key, values):
                    rows.append(Row(self._number, {"watermark": reached}, dict(values)))
            if rows:
                yield rows
            if len(found) < _PAGE:
                self._warn_of_unmarked()
                return
            last = found[-1][self._watermark], found[-1][self._key]

    def _connect(self) -> sqlalchemy.Connection:
        try:
            return self._engine.connect()
        except (TypeError, ValueError, OSError) as error:
            # PyMySQL gets the options of the URL as arguments. Errors of the network are DBAPIErrors.
            raise SettingError(
                f"the options after '?' in --source cannot be used ({error}); correct them, "
                "e.g. ?ssl_ca=/path/to/ca.pem"
            ) from error

    def _page(self, low: Any, last: tuple[Any, Any] | None) -> Any:
        mark: Any = column(self._watermark)
        key: Any = column(self._key)
        query = select(text("*")).select_from(self._content).where(mark.is_not(None))
        if last is not None:
            query = query.where(and_(mark >= last[0], or_(mark > last[0], key > last[1])))
        elif low is not None:
            query = query.where(mark >= low)
        return query.order_by(mark, key).limit(_PAGE)

    def _require_columns(self, connection: Any) -> None:
        """Raise SettingError if a column is missing, and count the rows that will never be read."""
        found = list(connection.execute(select(text("*")).select_from(self._content).limit(0)).keys())
        for flag, name in (("--watermark", self._watermark), ("--map ticket_id", self._key)):
            if name not in found:
                raise SettingError(f"{flag} must name a column, found {name!r}; the columns are {', '.join(found)}")
        unmarked = select(func.count()).select_from(self._content).where(column(self._watermark).is_(None))
        self._unmarked = connection.execute(unmarked).scalar() or 0

    def _warn_of_unmarked(self) -> None:
        if self._unmarked:
            no_mark = f"no {self._watermark}"
            _log.warning(
                things(self._unmarked, f"row has {no_mark} and is not read", f"rows have {no_mark} and are not read")
            )
            self._unmarked = 0

    def _is_new(self, mark: Any, key: Any, values: Any) -> bool:
        """Whether a row was not yielded before in its present state."""
        content = hash(tuple(values.values()))
        if self._recent.get(key) == content:
            return False
        self._recent[key] = content
        self._order.append((mark, key))
        low = bound(mark, self._overlap_s)
        while self._order and (len(self._order) > _REMEMBERED or self._order[0][0] < low):
            _, old = self._order.popleft()
            if old != key:
                self._recent.pop(old, None)
        return True

    def _explained(self, error: DBAPIError) -> Exception:
        # PyMySQL gives MySQL's error number and text; errors on this side have neither.
        arguments = error.orig.args if error.orig else ()
        number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        said = f"{self._shown} says: {arguments[-1] if arguments else type(error.orig).__name__} (error {number})"
        if number in _PERMANENT or (isinstance(error, ProgrammingError) and number):
            return SettingError(f"{said}; correct the source, its login, --table, --query, --watermark or --map")
        return SourceUnreachable(f"{said}; check that the database runs and can be reached from here")


def _watermark_of(after: Place | None) -> Any:
    if after is None:
        return None
    kept = after["watermark"]
    return read_back(kept) if isinstance(kept, dict) else kept


def _engine(url: str, password: str | None) -> sqlalchemy.Engine:
    try:
        parsed: URL = make_url(url).set(drivername="mysql+pymysql")
    except (ArgumentError, ValueError):
        raise SettingError("--source must be a URL such as mysql://user@host:3306/database") from None
    if password is not None:
        parsed = parsed.set(password=password)
    if not parsed.database:
        raise SettingError("--source must name a database, such as mysql://user@host:3306/database")
    # Read columns of type TIMESTAMP in UTC, whatever the server's time zone.
    options = {
        "charset": "utf8mb4",
        "connect_timeout": 10,
        "read_timeout": _TIMEOUT_S,
        "init_command": "SET time_zone = '+00:00'",
    }
    return sqlalchemy.create_engine(parsed, pool_pre_ping=True, pool_size=1, connect_args=options)


def _content(content: str, is_query: bool) -> Any:
    if is_query:
        # Escape colons: SQLAlchemy would take them for parameters.
        query = content.strip().rstrip(";").replace(":", r"\:")
        return text(f"({query}) AS source")
    schema, _, name = content.rpartition(".")
    return table(name, schema=schema or None)
