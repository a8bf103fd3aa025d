"""``--answers``: compare the output with the faults that the producer injected on purpose."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.compute as pc

from runtime.errors import SettingError
from store.datasets import REJECTED, TICKETS
from store.reader import Reader


class Line(msgspec.Struct):
    """A line of the key, as the producer writes it."""

    injected: str
    reason: str = ""
    sha256: str = ""
    ticket_id: str = ""
    sent: int = 0
    acknowledged: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """How many faults were injected, and what the output holds of them.

    ``rejected_otherwise``: rejected for another reason than the key says. ``invalid_absent``: no rejected message has
    these bytes; they may be unread. ``published_again``: if an id was sent several times, its tickets after the first.
    ``complete``: whether the key has its last line; it is missing if the producer was killed.
    """

    complete: bool
    sent: int
    invalid: int
    rejected: int
    rejected_otherwise: int
    invalid_absent: int
    duplicates: int
    published_again: int
    dropped_or_absent: int


def read_key(path: Path) -> list[Line]:
    """Return the lines of a key, without an unfinished last one. Raises SettingError."""
    decode = msgspec.json.Decoder(Line).decode
    try:
        written = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SettingError(f"--answers {path} cannot be read ({error.strerror})") from None
    try:
        return [decode(line) for line in written[:-1]]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingError(f"--answers {path} must be a key that the producer wrote with --answers ({error})") from None


def judge(reader: Reader, key: list[Line]) -> Outcome:
    """Compare the output with the key."""
    expected = {line.sha256: line.reason for line in key if line.injected == "invalid"}
    rejected = otherwise = 0
    for table in reader.tables(REJECTED, ["reason", "payload"]):
        for row in table.to_pylist():
            reason = expected.get(hashlib.sha256(row["payload"] or b"").hexdigest())
            if reason is not None:
                right = row["reason"].startswith(reason)
                rejected += right
                otherwise += not right
    repeated = Counter(line.ticket_id for line in key if line.injected == "duplicate")
    found: Counter[str] = Counter()
    if repeated:
        for table in reader.tables(TICKETS, ["ticket_id"]):
            ids = table.column("ticket_id")
            ids = ids.filter(pc.is_in(ids, value_set=pc.cast(list(repeated), ids.type)))
            found.update(ids.to_pylist())
    again = sum(count - 1 for count in found.values())
    end = next((line for line in key if line.injected == "end"), None)
    return Outcome(
        complete=end is not None,
        sent=end.sent if end else 0,
        invalid=len(expected),
        rejected=rejected,
        rejected_otherwise=otherwise,
        invalid_absent=len(expected) - rejected - otherwise,
        duplicates=repeated.total(),
        published_again=again,
        dropped_or_absent=repeated.total() - again,
    )


def lines(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of the report for people."""
    key = f"{outcome.sent:,} messages" if outcome.complete else "the producer was killed, so its end is missing"
    yield f"answer key: {key}"
    yield (
        f"  {outcome.invalid:,} invalid: {outcome.rejected:,} rejected for the right reason, "
        f"{outcome.rejected_otherwise:,} for another, {outcome.invalid_absent:,} not rejected (or unread)"
    )
    yield (
        f"  {outcome.duplicates:,} duplicates: {outcome.published_again:,} published again, "
        f"{outcome.dropped_or_absent:,} dropped (or unread)"
    )
