"""The message for the topic, and the protocols of ticket sources."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Message(NamedTuple):
    """A ticket as a record for the topic."""

    key: bytes
    value: bytes


class TicketSource(Protocol):
    """What ``ProductionManager`` takes messages from."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more messages."""

    def take(self, number: int) -> Iterable[Message]:
        """Return up to ``number`` messages without waiting: none if none is ready."""

    def confirm(self, acknowledged: int) -> None:
        """Take note that the first ``acknowledged`` messages that were taken are all in the topic."""


# A position in a source, right after a row. It is stored as JSON.
Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: column → value, numbered from 1; ``problem`` says why it cannot be read.

    ``place`` is where reading resumes once everything up to this row is in the topic.
    """

    number: int
    place: Place
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class RowSource(Protocol):
    """A file, a database or an API that holds tickets with its own field names and values.

    CONTRIBUTING.md shows how to add one.
    """

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        """Yield the rows after the place ``after`` (None: all), oldest first, and end when there are no more for now.

        It may be called again with the place of the last row. Raises SourceUnreachable if the error is transient,
        another PipelineError if not.
        """

    def keep(self, place: Place) -> Place:
        """Return ``place`` with what another process needs to find it again."""

    def close(self) -> None:
        """Close files and connections."""
