"""Events of every service."""

import logging
from dataclasses import dataclass

from runtime.process.logs import Event


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The process ends with ``exit_code``, because of ``problem``."""

    name = "failed"
    level = logging.ERROR
    exit_code: int
    problem: str

    def __str__(self) -> str:
        """Return the problem, as its error says it."""
        return self.problem


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """Something does not work, and is tried again in ``seconds``."""

    name = "retry"
    level = logging.WARNING
    problem: str
    seconds: float

    def __str__(self) -> str:
        """Return the problem, and when it is tried again."""
        return f"{self.problem}; trying again in {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class WaitingForBroker(Event):
    """The broker cannot be used at the start, and is tried again and again for up to ``seconds``."""

    name = "waiting_for_broker"
    level = logging.WARNING
    problem: str
    seconds: float

    def __str__(self) -> str:
        """Return the problem, and how long it may last."""
        return f"{self.problem}; trying again for up to {self.seconds:.0f} s"
