"""Dates as helpdesks export them. Pure: the same text, order and zone give the same instant."""

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from dateutil import parser

# Day or month first, where a date is written with numbers only and its year last.
ORDERS = ("dmy", "mdy")

_SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]+)?")
_MILLISECONDS = re.compile(r"[0-9]{12,13}")
_NAMED_UTC = re.compile(r"(?<=[0-9]) ?(UTC|GMT)$")
_YEAR_LAST = re.compile(r"\s*([0-9]{1,2})([/.-])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})(?![0-9])")
# What dateutil would fill from today's date: two parses that differ show it.
_FILLS = (datetime(2000, 1, 1), datetime(2003, 12, 29))


def instant(value: object, order: str | None = None, zone: tzinfo = UTC) -> datetime:
    """Return the instant that ``value`` names; one without a zone is in ``zone``.

    Text, a date, a datetime, or the seconds or milliseconds since 1970. Raises ValueError, which says what would work.
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
        # dateutil knows the name of UTC too, but takes fifty times as long.
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
                f"may have its day or its month first, found {text[:60]!r}; say which with --date-order dmy or mdy"
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
    """Take offsets, but no abbreviations: CST is in America, in China or in Cuba."""
    if offset is not None:
        return timezone(timedelta(seconds=offset))
    if name is not None:
        raise ValueError(name)
    return None
