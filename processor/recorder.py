"""Who is told what the processor does, in numbers. Nobody, unless metrics are asked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, Protocol

from processor.lag import Lag
from processor.receipt import Receipt
from runtime.process.shutdown import StopAsked


class Recorder(Protocol):
    """Counts what happens."""

    def lag(self, lag: Mapping[int, Lag]) -> None:
        """Learn where each partition stands: after each look at the topic, and after each commit."""

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        """Learn of a batch that is published, in so many seconds."""

    def not_published(self, result: Literal["failed", "stopped"]) -> None:
        """Learn of a batch that was given up: for an error, or because somebody asked to stop."""

    def succeeded(self, at: datetime) -> None:
        """Learn when the output was known to be up to date, or was changed last."""


class NoRecorder:
    """Counts nothing."""

    def lag(self, lag: Mapping[int, Lag]) -> None:
        """Forget it."""

    def published(self, receipts: Sequence[Receipt], seconds: float, at: datetime) -> None:
        """Forget it."""

    def not_published(self, result: Literal["failed", "stopped"]) -> None:
        """Forget it."""

    def succeeded(self, at: datetime) -> None:
        """Forget it."""


@contextmanager
def batch_of(recorder: Recorder) -> Iterator[None]:
    """Tell ``recorder`` when the batch inside is given up."""
    try:
        yield
    except StopAsked:
        recorder.not_published("stopped")
        raise
    except Exception:
        recorder.not_published("failed")
        raise
