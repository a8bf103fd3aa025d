"""The result of an offset range in a task: read to its end, or why not. Imports no Kafka client."""

from enum import StrEnum

import msgspec

from store.manifest import Record


class RangeRead(msgspec.Struct, frozen=True):
    """A range that was read to its end: ``reached`` is an offset at or beyond ``end`` that was seen, as the proof.

    ``last`` is the last message of the range; None if the range has no message.
    """

    partition: int
    start: int
    end: int
    reached: int
    messages: int
    last: Record | None = None


class FailureKind(StrEnum):
    """Why a range could not be read or written: the causes that the driver can explain to a user."""

    OFFSET_GONE = "offset gone"
    TOPIC_GONE = "topic gone"
    LOGIN_REFUSED = "login refused"
    ACCESS_REFUSED = "access refused"
    NO_PROGRESS = "no progress"
    DISK = "disk"


class Failure(msgspec.Struct, frozen=True):
    """Why a task failed, for its receipt. ``detail`` names partition and offset if known, and never a secret."""

    kind: FailureKind
    detail: str


class TasksLost(Exception):
    """Spark's JVM ended while tasks were running; the message says how. A new one can be started."""


class ConsumeFailed(Exception):
    """Carries a Failure to the task, which returns it in its receipt, because a retry at once would not help."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.detail}")
        self.failure = failure
