"""The events in the log of the processor, each with its values."""

import logging
from dataclasses import dataclass

from runtime.process.logs import Event


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A run begins with these settings; the sentence has all of them."""

    name = "started"
    _sentence: str
    broker: str
    topic: str
    output: str
    output_format: str
    interval: float
    max_messages: int
    dedupe: str

    def __str__(self) -> str:
        """Return the settings on one line."""
        return self._sentence


@dataclass(frozen=True, slots=True)
class Published(Event):
    """A batch is published. ``lag`` is how many offsets of the topic are still to be read."""

    name = "batch"
    _output: str
    batch: int
    read: int
    tickets: int
    rejected: int
    duplicates: int
    forgotten: int
    seconds: float
    lag: int

    def __str__(self) -> str:
        """Return the counts, how long it took, and the lag."""
        others = ((self.duplicates, "duplicates"), (self.forgotten, "of forgotten clients left out"))
        more = "".join(f", {count:,} {what}" for count, what in others if count)
        return (
            f"batch {self.batch}: {self.read:,} messages read, {self.tickets:,} tickets, {self.rejected:,} rejected"
            f"{more}, published in {self.seconds:.1f} s in {self._output}, lag {self.lag:,}"
        )


@dataclass(frozen=True, slots=True)
class Windowed(Event):
    """A new output holds a part of the topic only, in which ``offsets`` are there now."""

    name = "window"
    _part: str
    topic: str
    start: str
    until: str | None
    offsets: int

    def __str__(self) -> str:
        """Return which part it is."""
        return f"topic {self.topic} is read {self._part}: {self.offsets:,} offsets are there now"


@dataclass(frozen=True, slots=True)
class DuplicatesFound(Event):
    """Of ``read`` offsets of a batch, ``duplicates`` repeat a ticket; ``again`` are read once more, without them."""

    name = "duplicates"
    batch: int
    read: int
    duplicates: int
    again: int

    def __str__(self) -> str:
        """Return the three numbers."""
        return (
            f"batch {self.batch}: {self.duplicates:,} duplicates among {self.read:,} messages; {self.again:,} of these "
            "are read once more, without the duplicates"
        )


@dataclass(frozen=True, slots=True)
class RulesChanged(Event):
    """From ``batch`` on other rules assign teams."""

    name = "rules"
    _changes: str
    batch: int

    def __str__(self) -> str:
        """Return which tickets go to which team now."""
        return (
            f"batch {self.batch} is the first with new rules for teams: {self._changes}; what was published before "
            "keeps its teams"
        )


@dataclass(frozen=True, slots=True)
class RejectedRetried(Event):
    """So many rejected messages were ``read`` again; ``rejected`` are those that still are not tickets."""

    name = "retried"
    read: int
    tickets: int
    rejected: int
    duplicates: int
    forgotten: int

    def __str__(self) -> str:
        """Return what became of them."""
        others = (
            (self.duplicates, "repeat the ticket_id of another and are rejected as duplicates"),
            (self.forgotten, "of forgotten clients are left out"),
        )
        more = "".join(f", {count:,} {what}" for count, what in others if count)
        return (
            f"{self.read:,} rejected messages were decoded again: {self.tickets:,} are valid now and were published"
            f"{more}, {self.rejected:,} are still rejected{'; --list-rejected shows why' if self.rejected else ''}"
        )


@dataclass(frozen=True, slots=True)
class ClientsErased(Event):
    """So many ``clients``, tickets and rejected messages were erased."""

    name = "erased"
    clients: int
    tickets: int
    rejected: int

    def __str__(self) -> str:
        """Return the three numbers."""
        return f"erased {self.tickets:,} tickets and {self.rejected:,} rejected messages of {self.clients:,} clients"


@dataclass(frozen=True, slots=True)
class Idle(Event):
    """The topic holds nothing that was not read."""

    name = "idle"
    topic: str
    lag: int

    def __str__(self) -> str:
        """Return that there is nothing new, and the lag."""
        return f"nothing new in topic {self.topic}, lag {self.lag:,}"


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """Some messages of a batch were not tickets; ``reasons`` counts them by kind."""

    name = "rejected"
    level = logging.WARNING
    _sentence: str
    batch: int
    read: int
    rejected: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        """Return the commonest reasons, with an offset each."""
        return self._sentence


@dataclass(frozen=True, slots=True)
class GapAccepted(Event):
    """Messages from ``first_offset`` up to but without ``next_offset`` were deleted before they were read."""

    name = "gap"
    level = logging.WARNING
    partition: int
    first_offset: int
    next_offset: int

    def __str__(self) -> str:
        """Return which offsets are missing."""
        return f"partition {self.partition}: offsets {self.first_offset} to {self.next_offset - 1} were deleted unread"


@dataclass(frozen=True, slots=True)
class Merged(Event):
    """So many small ``files`` became a few large ones."""

    name = "merged"
    _described: str
    files: int
    seconds: float

    def __str__(self) -> str:
        """Return how many files of which dataset were merged."""
        return f"merged {self._described} in {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class SparkLost(Event):
    """What ran the tasks has died, ``times`` times in a row, and is started again."""

    name = "spark_lost"
    level = logging.WARNING
    problem: str
    times: int

    def __str__(self) -> str:
        """Return what died."""
        return f"{self.problem}; starting a new one"


@dataclass(frozen=True, slots=True)
class Interrupted(Event):
    """Somebody asked to stop in the middle of ``what``."""

    name = "interrupted"
    what: str

    def __str__(self) -> str:
        """Return what was interrupted, and that nothing is lost."""
        return f"stopped in the middle of {self.what}: nothing of it was published, the next start does it"


@dataclass(frozen=True, slots=True)
class Done(Event):
    """A single run has read the topic to its end, or any run the window that was asked for."""

    name = "done"
    _sentence: str

    def __str__(self) -> str:
        """Return what is done, or how to go on."""
        return self._sentence


@dataclass(frozen=True, slots=True)
class BrokerAway(Event):
    """The broker went away while tasks read from it."""

    name = "broker_away"
    level = logging.WARNING
    problem: str

    def __str__(self) -> str:
        """Return the problem."""
        return f"{self.problem}; tasks wait for it"


@dataclass(frozen=True, slots=True)
class BrokerBack(Event):
    """The broker is there again."""

    name = "broker_back"

    def __str__(self) -> str:
        """Return that it is back."""
        return "the broker is back"


@dataclass(frozen=True, slots=True)
class GroupLeftAlone(Event):
    """Others use the consumer group, so this run commits no offsets to it."""

    name = "group_left_alone"
    level = logging.WARNING
    group: str
    problem: str

    def __str__(self) -> str:
        """Return what shows that, and what to do."""
        return (
            f"consumer group {self.group} is left alone, because {self.problem}; so its offsets do not show the lag of "
            "this output. Set CONSUMER_GROUP (--consumer-group) to a name that nothing else uses, or to nothing, or "
            f"delete the group if nobody needs it (rpk group delete {self.group})"
        )


@dataclass(frozen=True, slots=True)
class GroupFailed(Event):
    """The offsets of the consumer group were not committed; each batch tries again, and no batch is affected."""

    name = "group_failed"
    level = logging.WARNING
    group: str
    problem: str

    def __str__(self) -> str:
        """Return the problem, and what it means."""
        return (
            f"consumer group {self.group} does not show how far this output is: {self.problem}. Batches are not "
            "affected, and each one tries again"
        )
