"""What became of an offset range in a task: it was read to its end, or why it could not be. Knows no Kafka client."""

from enum import StrEnum

import msgspec

from store.manifest import Record


class RangeRead(msgspec.Struct, frozen=True):
    """A range that was read to its end: ``reached``, at or beyond ``end``, is the offset that proved it.

    ``last`` is its last message; None when it holds none.
    """

    partition: int
    start: int
    end: int
    reached: int
    messages: int
    last: Record | None = None


class FailureKind(StrEnum):
    """Why a range could not be read, as far as somebody can act on it."""

    OFFSET_GONE = "offset gone"
    TOPIC_GONE = "topic gone"
    LOGIN_REFUSED = "login refused"
    ACCESS_REFUSED = "access refused"
    NO_PROGRESS = "no progress"
    DISK = "disk"


class Failure(msgspec.Struct, frozen=True):
    """Fit for a receipt. ``detail`` names partition and offset where they are known, and never a secret."""

    kind: FailureKind
    detail: str


class TasksLost(Exception):
    """What runs the tasks died while they had work to do; the message says how. It can be started again."""


class ConsumeFailed(Exception):
    """Carries a Failure to the task, which returns it: to try the task again at once would not help."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.detail}")
        self.failure = failure
