"""Tasks that decide as a release did whose contract refused some of what is a ticket today."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from contract.columns import DecodedMessages, decode_columns
from contract.ticket import Ticket, decode

# Returns the reason for which that release rejected a ticket, None for no reason.
Refusal = Callable[[Ticket], str | None]

UNKNOWN_PRIORITY = 'priority: must be one of low, medium, high, found "critical"'
TOO_LONG = "request: must be a string of 1 to 30 characters, found 31 characters"


def no_critical_or_long(ticket: Ticket) -> str | None:
    """Refuse critical tickets, and texts of more than 30 characters."""
    if ticket.priority == "critical":
        return UNKNOWN_PRIORITY
    return TOO_LONG if len(ticket.request) > 30 else None


@contextmanager
def older_contract(refusal: Refusal = no_critical_or_long) -> Iterator[None]:
    """Have the tasks of this process decide like that release meanwhile."""

    def decide(messages: Sequence[bytes | None]) -> DecodedMessages:
        decoded = decode_columns(messages)
        reasons = dict(zip(decoded.rejected, decoded.reasons, strict=True))
        for row, message in enumerate(messages):
            if row not in reasons and (reason := refusal(decode(message))) is not None:
                reasons[row] = reason
        kept = [message for row, message in enumerate(messages) if row not in reasons]
        rejected = sorted(reasons)
        return DecodedMessages(decode_columns(kept).tickets, rejected, [reasons[row] for row in rejected])

    with patch("processor.task.decode_columns", decide):
        yield
