"""Check that the broker can be used, step by step, with a message of its own for each step that fails.

name → TCP → TLS → Kafka → login → the addresses that the broker advertises. Kafka clients report a failure of any of
these as the same time-out, so the steps are made here on a plain socket.
"""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from runtime.broker.conversation import Conversation, StepFailed, connect
from runtime.broker.security import KafkaSecurity
from runtime.errors import BrokerError
from runtime.process.events import WaitingForBroker
from runtime.process.logs import tell

_log = logging.getLogger(__name__)

RETRY_S = 0.5


class Stop(Protocol):
    """Says whether somebody asked to stop, such as runtime.process.shutdown.Shutdown."""

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""


_Outcomes = queue.SimpleQueue[tuple[str, Exception | None]]


def check_broker(brokers: str, security: KafkaSecurity, timeout_s: float = 20, stop: Stop | None = None) -> None:
    """Return once one of ``brokers`` (``host:port``, several with commas) can be used, or once asked to stop.

    Transient problems, such as a broker that is starting, are retried for ``timeout_s``. Raises BrokerError with the
    step that failed.
    """
    deadline = time.monotonic() + timeout_s
    warned = False
    while True:
        problems = _try_all(brokers.split(","), security, deadline, timeout_s, stop)
        if not problems or (stop and stop.asked):
            return
        message = _message(problems)
        hopeless = not any(problem.transient for problem in problems.values())
        if hopeless or time.monotonic() + RETRY_S >= deadline:
            raise BrokerError(message)
        if not warned:
            tell(_log, WaitingForBroker(message, deadline - time.monotonic()))
            warned = True
        time.sleep(RETRY_S)


def try_broker(brokers: str, security: KafkaSecurity, timeout_s: float, stop: Stop | None = None) -> str:
    """Return what is wrong with the broker now, after one try of at most ``timeout_s``; an empty text for nothing."""
    problems = _try_all(brokers.split(","), security, time.monotonic() + timeout_s, timeout_s, stop)
    return _message(problems)


def _message(problems: Mapping[str, StepFailed]) -> str:
    return "; ".join(f"broker {address}: {problem}" for address, problem in problems.items())


def _try_all(
    addresses: list[str], security: KafkaSecurity, deadline: float, timeout_s: float, stop: Stop | None
) -> dict[str, StepFailed]:
    """Try all addresses at once; return the problem of each, nothing if one of them can be used.

    In threads, because the look-up of a name has no time-out; a thread that is late is not waited for.
    """
    outcomes: _Outcomes = queue.SimpleQueue()
    late = StepFailed(f"its name took more than {timeout_s:.0f} s to look up", "check the DNS of this machine")
    problems = dict.fromkeys(addresses, late)
    for address in problems:
        threading.Thread(target=_try_one, args=(address, security, deadline, outcomes), daemon=True).start()
    pending = len(problems)
    while pending and time.monotonic() < deadline + RETRY_S and not (stop and stop.asked):
        try:
            address, problem = outcomes.get(timeout=0.1)
        except queue.Empty:
            continue
        if problem is None:
            return {}
        if not isinstance(problem, StepFailed):
            raise problem
        problems[address] = problem
        pending -= 1
    return problems


def _try_one(address: str, security: KafkaSecurity, deadline: float, outcomes: _Outcomes) -> None:
    try:
        _converse(address, security, deadline)
    except Exception as problem:
        outcomes.put((address, problem))
    else:
        outcomes.put((address, None))


def _converse(address: str, security: KafkaSecurity, deadline: float) -> None:
    with connect(address, security, deadline) as connection:
        conversation = Conversation(connection, security, deadline)
        conversation.identify()
        if security.uses_sasl:
            conversation.log_in()
        advertised = conversation.advertised()
    if address not in advertised:
        _check_advertised(advertised, security, deadline)


def _check_advertised(advertised: list[str], security: KafkaSecurity, deadline: float) -> None:
    """Raise StepFailed if no advertised address can be reached: clients use these after the first contact."""
    problems = []
    for position, address in enumerate(advertised):
        share = (deadline - time.monotonic()) / (len(advertised) - position)
        try:
            connect(address, security, time.monotonic() + max(0.1, share)).close()
        except StepFailed as problem:
            problems.append(f"{address} ({problem.problem})")
        else:
            return
    raise StepFailed(
        f"it answers, but advertises {' and '.join(problems)}",
        "use the listener that is meant for clients on this machine, or set the broker's advertised listener to an "
        "address that this machine reaches",
    )
