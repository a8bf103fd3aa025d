"""What the processor is doing, or that it has stopped, according to its status. Functions on values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from runtime.process.words import span, things
from store.manifest import Manifest
from store.status import Status

Level = Literal["good", "busy", "bad"]

# How old the status may be in each state, besides the interval of the batches, before the processor counts as gone.
# While it publishes a batch of millions, or converts, it does not write the status until that ends.
_PATIENCE_S = 60.0
_LONG_PATIENCE_S = 900.0
_SILENT_STATES = ("publishing", "converting", "compacting", "erasing", "retrying", "indexing")

_WORDS = {
    "waiting for broker": "Waiting for the broker",
    "reading": "Reading a batch",
    "publishing": "Publishing a batch",
    "converting": "Converting to another format",
    "compacting": "Merging small files",
    "erasing": "Erasing clients",
    "retrying": "Retrying rejected messages",
    "indexing": "Looking for known ticket ids",
    "idle": "Waiting for the next batch",
    "done": "Everything published",
}


@dataclass(frozen=True)
class Condition:
    """``words``: three or four words; ``detail``: a sentence; ``fresh``: False if the figures may be old."""

    level: Level
    words: str
    detail: str = ""


def condition(
    status: Status | None, now: datetime, manifest: Manifest | None = None, beat_s: float | None = None
) -> Condition:
    """Return the condition of the processor that wrote ``status`` and the ledger ``manifest``.

    ``beat_s`` is the age of its heartbeat in seconds if that can be seen: a sign of life like the status.
    """
    if status is None:
        return Condition("bad", "Processor unknown", "The output has no readable status file. Start the processor.")
    if status.state in ("idle", "done", "stopped") and manifest is not None and manifest.is_complete:
        return Condition(
            "good", _WORDS["done"], f"This output holds the topic {manifest.window}, and needs no processor."
        )
    silent = (now - status.updated_at).total_seconds()
    if status.state == "stopped":
        if status.interval_s:
            return Condition(
                "bad", "Processor stopped", f"It was stopped {span(silent)} ago. Start it for newer tickets."
            )
        return Condition(
            "good", "Single run, ended", f"It ended {span(silent)} ago. Run the processor again for newer tickets."
        )
    if beat_s is not None:
        silent = min(silent, max(0.0, beat_s))
    if silent > status.interval_s + (_LONG_PATIENCE_S if status.state in _SILENT_STATES else _PATIENCE_S):
        did = _WORDS.get(status.state, status.state)
        return Condition(
            "bad",
            "Processor gone",
            f"No status from it for {span(silent)}. The last one was: {did.lower()}. Start it again.",
        )
    return _at_work(status, now)


def _at_work(status: Status, now: datetime) -> Condition:
    since = span((now - status.since).total_seconds())
    words = _WORDS.get(status.state, status.state)
    if status.state == "waiting for broker":
        return Condition("busy", words, f"For {since}. It goes on by itself once the broker answers.")
    if status.progress is not None and status.state in ("reading", "publishing"):
        done = status.progress
        return Condition(
            "good",
            words,
            f"Batch {done.batch_id:,}: {done.messages:,} of {things(done.of, 'message', 'messages')} read.",
        )
    if status.state == "idle":
        return Condition("good", words, f"A batch every {status.interval_s:g} s." if status.interval_s else "")
    return Condition("busy", words, f"For {since}. Until it ends, the figures are those of the last batch.")


def unread(manifest: Manifest, status: Status | None) -> int | None:
    """Return how many messages of the topic were unread when the processor last queried it; None if it never did."""
    if status is None or not status.end_offsets:
        return None
    known = manifest.next_offsets
    return sum(max(0, end - known.get(partition, 0)) for partition, end in status.end_offsets.items())


def known_up_to(manifest: Manifest, status: Status | None) -> datetime:
    """Return the time up to which the output holds what was sent.

    That is the last commit. If the processor has queried the topic since and found nothing new, it is that time.
    """
    if status is not None and status.state == "idle" and unread(manifest, status) == 0:
        return max(manifest.updated_at, status.updated_at)
    return manifest.updated_at
