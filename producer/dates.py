"""Dates as helpdesks export them. Pure: the same text, order and zone give the same instant."""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from dateutil import parser

# Day or month first, in dates that are written with numbers only and their year last.
ORDERS = ("dmy", "mdy")

_SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
# Twelve digits are a date and a time, such as 202601310930; as milliseconds they would be before 2001-09-09.
_MILLISECONDS = re.compile(r"[0-9]{13}")
_NAMED_UTC = re.compile(r"(?<=[0-9]) ?(UTC|GMT)$")
_YEAR_LAST = re.compile(r"\s*([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(?![0-9])")
# dateutil fills missing parts from a default date. If two defaults give different results, a part was missing.
_FILLS = (datetime(2000, 1, 1), datetime(2003, 12, 29))


def instant(value: object, order: str | None = None, zone: tzinfo = UTC) -> datetime:
    """Return the instant that ``value`` names: a text, a date, a datetime, or seconds or milliseconds since 1970.

    If it has no zone, it is taken to be in ``zone``. Raises ValueError, which says what would work.
    """
    if isinstance(value, datetime):
        return _in_zone(value, zone)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone)
    text = str(value).strip()
    if _SECONDS.fullmatch(text):
        return datetime.fromtimestamp(float(text), UTC)
    if _MILLISECONDS.fullmatch(text):
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(text))
    try:
        # dateutil understands "UTC" too, but takes fifty times as long.
        return _in_zone(datetime.fromisoformat(_NAMED_UTC.sub("+00:00", text)), zone)
    except ValueError:
        return _in_zone(_parsed(text, order), zone)


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _parsed(text: str, order: str | None) -> datetime:
    if not re.search("[0-9]", text):
        raise ValueError(f"is not a date, found {text[:60]!r}")
    day_first = order == "dmy"
    if match := _YEAR_LAST.match(text):
        first, second = int(match[1]), int(match[3])
        if order is None and max(first, second) <= 12 and first != second:
            raise ValueError(
                f"may have its day or its month first, found {text[:60]!r}; set --date-order to dmy or mdy"
            )
        if (second > 12 and day_first) or (first > 12 and order == "mdy"):
            raise ValueError(f"does not fit --date-order {order}, found {text[:60]!r}")
        day_first = day_first or first > 12
    try:
        filled: list[datetime] = [
            parser.parse(text, dayfirst=day_first, tzinfos=_zone, default=fill) for fill in _FILLS
        ]
    except (ValueError, OverflowError, TypeError):
        raise ValueError(
            f"is not a date with its zone as an offset (such as +01:00) or without one, found {text[:60]!r}"
        ) from None
    if filled[0] != filled[1]:
        raise ValueError(f"must name day, month and year, found {text[:60]!r}")
    return filled[0]


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    """Accept offsets but refuse abbreviations, which are ambiguous: CST may be in America, China or Cuba."""
    if offset is not None:
        return timezone(timedelta(seconds=offset))
    if name is not None:
        raise ValueError(name)
    return None
