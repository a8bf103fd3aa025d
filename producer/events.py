"""What the producer tells in its log, each event with its values."""

import logging
from dataclasses import dataclass

from runtime.process.logs import Event
from runtime.process.words import things


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A run begins with these settings; the sentence has all of them. Rate, count and duration are 0 for no limit."""

    name = "started"
    _sentence: str
    broker: str
    topic: str
    source: str
    rate: float
    count: int
    duration: float
    workers: int

    def __str__(self) -> str:
        """Return the settings on one line."""
        return self._sentence


@dataclass(frozen=True, slots=True)
class TopicCreated(Event):
    """The topic was missing, and was created."""

    name = "topic_created"
    topic: str
    partitions: int

    def __str__(self) -> str:
        """Return its name and size."""
        return f"created topic {self.topic} with {self.partitions} partitions"


@dataclass(frozen=True, slots=True)
class Sending(Event):
    """Counts of tickets so far, and how many are acknowledged a second: now, and since the start."""

    name = "progress"
    sent: int
    acknowledged: int
    failed: int
    in_flight: int
    rate: float
    rate_overall: float

    def __str__(self) -> str:
        """Return counts and rates."""
        counts = _counts(self.sent, self.acknowledged, self.failed)
        return f"{counts}, {self.rate:,.1f}/s now, {self.rate_overall:,.1f}/s overall"


@dataclass(frozen=True, slots=True)
class Done(Event):
    """The final counts of tickets. ``seconds`` are those from the first count to the last, and so is the rate."""

    name = "done"
    sent: int
    acknowledged: int
    failed: int
    seconds: float
    rate: float

    def __str__(self) -> str:
        """Return counts and rate."""
        return f"done: {_counts(self.sent, self.acknowledged, self.failed)}, {self.rate:,.1f}/s since the start"


def _counts(sent: int, acknowledged: int, failed: int) -> str:
    return f"sent {sent:,}, acknowledged {acknowledged:,}, failed {failed:,}"


@dataclass(frozen=True, slots=True)
class Stalled(Event):
    """The broker has acknowledged nothing for ``seconds``."""

    name = "stalled"
    level = logging.WARNING
    in_flight: int
    seconds: float

    def __str__(self) -> str:
        """Return how much waits for how long."""
        return (
            f"no acknowledgement for {self.seconds:.0f} s, {self.in_flight:,} tickets in flight; the client keeps "
            "trying"
        )


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The broker acknowledges again, after ``seconds`` without."""

    name = "resumed"
    seconds: float

    def __str__(self) -> str:
        """Return how long it was silent."""
        return f"the broker acknowledges again after {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class GoingOn(Event):
    """A source is read on behind the ``tickets`` that its state counts as sent."""

    name = "going_on"
    tickets: int
    state: str

    def __str__(self) -> str:
        """Return how many, and what says so."""
        return f"going on after the {things(self.tickets, 'ticket', 'tickets')} that {self.state} counts as sent"


@dataclass(frozen=True, slots=True)
class BadRowFound(Event):
    """A row of a source is not a ticket."""

    name = "bad_row"
    level = logging.WARNING
    row: int
    problem: str

    def __str__(self) -> str:
        """Return its number and the reason."""
        return f"row {self.row:,}: {self.problem}"


@dataclass(frozen=True, slots=True)
class BadRowsLeftOut(Event):
    """So many rows of a source were left out; ``fields`` counts them by the field that was wrong."""

    name = "bad_rows"
    level = logging.WARNING
    rows: int
    fields: dict[str, int]

    def __str__(self) -> str:
        """Return the counts, and how to send them too."""
        reasons = ", ".join(f"{field} {count:,}" for field, count in self.fields.items())
        return (
            f"{things(self.rows, 'bad row was left out', 'bad rows were left out')}: {reasons}. To send "
            f"{'it' if self.rows == 1 else 'them'} too, correct the flags, remove the state and start again: the ids "
            "stay the same"
        )
