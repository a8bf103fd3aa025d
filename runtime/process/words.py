"""Format numbers, times and users' text for people."""

from datetime import UTC, datetime

from runtime.process.foreign_text import on_one_line


def number(value: int) -> str:
    """Return a whole number with separators between thousands."""
    return f"{value:,}"


def things(value: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{value:,} {one if value == 1 else many}"


def share(part: int, whole: int) -> str:
    """Return ``part`` of ``whole`` in percent; "0 %" only if ``part`` is 0."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if percent < 10 and part else f"{percent:.0f} %"


def span(seconds: float) -> str:
    """Return a length of time in at most its two largest units; a negative one counts as 0."""
    whole = max(0, int(seconds))
    for size, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            # Seconds after ten minutes, or hours after ten days, are not worth showing.
            return (
                f"{whole // size} {unit} {rest} {small_unit}"
                if rest and whole < 10 * size
                else f"{whole // size} {unit}"
            )
    return f"{whole} s"


def moment(time: datetime, now: datetime) -> str:
    """Return a time in UTC: the time of day, and the date too unless that is today's."""
    local = time.astimezone(UTC)
    same_day = local.date() == now.astimezone(UTC).date()
    return f"{local:%H:%M:%S} UTC" if same_day else f"{local:%Y-%m-%d %H:%M:%S} UTC"


def of_bytes(payload: bytes | None, longest: int) -> str:
    """Return the beginning of a message as one line of text; None stands for a message without a value."""
    if payload is None:
        return "(no value)"
    text = on_one_line(payload.decode("utf-8", "backslashreplace"))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
