"""The ticket, what gives tickets to the producer, and what every source of real tickets has to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from contract.ticket import Ticket

__all__ = ["Message", "Place", "Row", "RowSource", "Ticket", "TicketSource"]


class Message(NamedTuple):
    """A record for the topic."""

    key: bytes
    value: bytes


class TicketSource(Protocol):
    """What ``ProductionManager`` takes messages from."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more messages."""

    def take(self, number: int) -> Iterable[Message]:
        """Return up to ``number`` messages, none when there is none at the moment; never wait for them."""

    def confirm(self, acknowledged: int) -> None:
        """Learn that the first ``acknowledged`` messages that were taken are all in the topic."""


# Where a source goes on reading: behind a row. It is kept as JSON.
Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: column → value, numbered from 1; ``problem`` says why it cannot be read.

    ``place`` is where reading goes on when everything up to this row is in the topic.
    """

    number: int
    place: Place
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


class RowSource(Protocol):
    """A file, a database or an API that holds tickets in its own words.

    CONTRIBUTING.md shows how to add one.
    """

    def read(self, after: Place | None) -> Iterator[Sequence[Row]]:
        """Yield the rows behind ``after`` (None: all), the oldest first, and end when there are no more for now.

        It may be called again, with the place of the last row that it gave. Raises SourceUnreachable for what may pass,
        another PipelineError for what will not.
        """

    def keep(self, place: Place) -> Place:
        """Return ``place`` with what another process needs to recognize it."""

    def close(self) -> None:
        """Let go of files and connections."""
