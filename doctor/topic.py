"""The topic: whether it is there, what its partitions hold, and what of that an output has not read yet."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from doctor.finding import Finding, ok, problem, warning
from processor.lag import lag_of
from processor.lag import total as all_of
from processor.plan import Bounds, within
from processor.topic import Topic
from processor.unread import Unread, compare
from runtime.errors import BrokerError
from runtime.process.words import span, things
from store.manifest import Manifest, Source

LIMIT_S = 8.0
# More lines than these would hide the rest.
_MOST_LINES = 8

T = TypeVar("T")


def examine(name: str, topic: Topic, ledger: Manifest | None, now: datetime) -> Iterator[Finding]:
    """Ask about the topic ``name``, and compare it with the ledger of an output. Raises BrokerError."""
    if ledger is not None and ledger.is_complete and ledger.source.topic == name:
        # The processor does not ask the broker either: the topic may be deleted by now.
        yield ok(f"topic {name} {ledger.window} is published, and nothing more of it is read")
        return
    found, bounds = _within(LIMIT_S, topic.look_up)
    yield from describe(found, bounds)
    # What lies outside of --from and --until is not behind: no processor is to read it.
    bounds = within(ledger.window if ledger else None, bounds)
    try:
        kept = _within(LIMIT_S, topic.settings)
    except BrokerError as error:
        yield warning(f"how long messages are kept is not known: {error}", "let this user describe the topic's configs")
    else:
        unread = all_of(lag_of(ledger.next_offsets if ledger else {}, bounds))
        yield retention(kept, unread, ledger.updated_at if ledger else None, now)
    if ledger is not None:
        yield from lag(found, bounds, ledger)


def _within(limit_s: float, look: Callable[[], T]) -> T:
    """Return what ``look`` returns, or raise what it raises; BrokerError when that takes longer than ``limit_s``."""
    answers: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(look())
        except Exception as error:
            answers.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        answer = answers.get(timeout=limit_s)
    except queue.Empty:
        raise BrokerError(f"the broker did not tell about the topic within {limit_s:.0f} s; see its log") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def describe(found: Source, bounds: Mapping[int, Bounds]) -> Iterator[Finding]:
    """Tell that the topic is there, and the offsets of its partitions."""
    yield ok(
        f"topic {found.topic} is there, {things(len(bounds), 'partition', 'partitions')}, "
        f"id {found.topic_id or 'unknown'}, cluster {found.cluster_id or 'unknown'}"
    )
    for number, place in sorted(bounds.items())[:_MOST_LINES]:
        yield ok(f"partition {number}: oldest offset {place.first:,}, end {place.end:,}")
    if len(bounds) > _MOST_LINES:
        held = sum(place.end - place.first for place in bounds.values())
        yield ok(f"{len(bounds) - _MOST_LINES} partitions more; {held:,} offsets are held in all")


def lag(found: Source, bounds: Mapping[int, Bounds], ledger: Manifest) -> Iterator[Finding]:
    """Compare what the topic holds with what an output has read of it."""
    differences, unread = compare(ledger.source, ledger.next_offsets, found, bounds)
    for difference in differences:
        yield problem(
            f"{difference.where}: {difference.what}",
            "docs/troubleshooting.md, exit code 4, says what works; for messages that were deleted unread that is "
            "--accept-gap, for another topic another --output-path",
        )
    if not unread:
        return
    for each in [one for one in unread if one.unread][:_MOST_LINES]:
        yield ok(
            f"partition {each.partition}: {each.unread:,} unread, from offset {each.next_offset:,} to {each.end:,}"
        )
    yield ok(f"lag: {things(total(unread), 'message is', 'messages are')} unread, in all partitions together")


def total(unread: list[Unread]) -> int:
    """Return how many messages are unread."""
    return sum(each.unread for each in unread)


def retention(settings: Mapping[str, str | None], unread: int, since: datetime | None, now: datetime) -> Finding:
    """Judge how long messages are kept, where ``unread`` of them wait; the last commit was ``since``."""
    if "compact" in (settings.get("cleanup.policy") or ""):
        return warning(
            f"cleanup.policy is {settings['cleanup.policy']}: the broker removes all but the last ticket of a client",
            "set it to delete; tickets that are gone do not come back",
        )
    size = settings.get("retention.bytes") or "-1"
    by_size = "" if int(size) < 0 else f", and at most {int(size):,} bytes of a partition"
    kept_s = int(settings.get("retention.ms") or -1) / 1000
    if kept_s < 0:
        return ok(f"messages are kept for ever{by_size or ''}")
    kept = f"messages are kept for {span(kept_s)}{by_size}"
    behind_s = (now - since).total_seconds() if since else 0.0
    if unread and behind_s > kept_s / 2:
        return warning(
            f"{kept}; {things(unread, 'message is', 'messages are')} unread, and the last commit was {span(behind_s)} "
            "ago",
            "run the processor before they are deleted, or raise retention.ms",
        )
    return ok(kept)
