"""What the processor reports of its batches, for metrics. Without metrics nothing keeps it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, Protocol

from processor.lag import Lag
from processor.receipt import Receipt
from runtime.process.shutdown import StopAsked


class Recorder(Protocol):
    """Keeps what is reported."""

    def lag(self, lag: Mapping[int, Lag]) -> None:
        """Take where each partition stands: after each look at the topic, and after each commit."""

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        """Take what a published batch has read, how long it took and when it ended."""

    def not_published(self, result: Literal["failed", "stopped"]) -> None:
        """Take that a batch was abandoned: because of an error, or because of a stop."""

    def succeeded(self, at: datetime) -> None:
        """Take when the output was last changed or found up to date."""


class NoRecorder:
    """Keeps nothing."""

    def lag(self, lag: Mapping[int, Lag]) -> None:
        """Do nothing."""

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        """Do nothing."""

    def not_published(self, result: Literal["failed", "stopped"]) -> None:
        """Do nothing."""

    def succeeded(self, at: datetime) -> None:
        """Do nothing."""


@contextmanager
def batch_of(recorder: Recorder) -> Iterator[None]:
    """Report to ``recorder`` if the batch that runs in the block is abandoned."""
    try:
        yield
    except StopAsked:
        recorder.not_published("stopped")
        raise
    except Exception:
        recorder.not_published("failed")
        raise
