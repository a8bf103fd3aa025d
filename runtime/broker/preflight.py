"""Check that the broker can be used, step by step, with a message of its own for each step that fails.

name → TCP → TLS → Kafka → login → the addresses that the broker advertises. Kafka clients report a failure of any of
these as the same time-out, so the steps are made here on a plain socket.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Protocol

from runtime.broker.conversation import Conversation, StepFailed, connect, connect_tcp, resolve, start_tls
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


def take_steps(address: str, security: KafkaSecurity, timeout_s: float) -> tuple[list[str], StepFailed | None]:
    """Return the steps that succeeded with one broker, in words, and the one that failed, after about ``timeout_s``."""
    passed: list[str] = []
    outcomes: _Outcomes = queue.SimpleQueue()
    task = (address, security, time.monotonic() + timeout_s, outcomes, passed)
    threading.Thread(target=_try_one, args=task, daemon=True).start()
    try:
        _, problem = outcomes.get(timeout=timeout_s + RETRY_S)
    except queue.Empty:
        return list(passed), _late(timeout_s)
    if problem is not None and not isinstance(problem, StepFailed):
        raise problem
    return passed, problem


def _late(timeout_s: float) -> StepFailed:
    return StepFailed(f"its name took more than {timeout_s:.0f} s to look up", "check the DNS of this machine")


def _message(problems: Mapping[str, StepFailed]) -> str:
    return "; ".join(f"broker {address}: {problem}" for address, problem in problems.items())


def _try_all(
    addresses: list[str], security: KafkaSecurity, deadline: float, timeout_s: float, stop: Stop | None
) -> dict[str, StepFailed]:
    """Try all addresses at once; return the problem of each, nothing if one of them can be used.

    In threads, because the look-up of a name has no time-out; a thread that is late is not waited for.
    """
    outcomes: _Outcomes = queue.SimpleQueue()
    problems = dict.fromkeys(addresses, _late(timeout_s))
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


def _try_one(
    address: str, security: KafkaSecurity, deadline: float, outcomes: _Outcomes, passed: list[str] | None = None
) -> None:
    passed = [] if passed is None else passed
    try:
        for step in _steps(address, security, deadline):
            passed.append(step)
    except Exception as problem:
        outcomes.put((address, problem))
    else:
        outcomes.put((address, None))


def _steps(address: str, security: KafkaSecurity, deadline: float) -> Iterator[str]:
    """Take one step after the other and yield each that succeeded, in words to follow the broker's name.

    Raises StepFailed at the first that fails.
    """
    places = resolve(address)
    yield f"its name resolves to {', '.join(dict.fromkeys(place[0] for *_, place in places))}"
    with ExitStack() as open_ones:
        connection = open_ones.enter_context(closing(connect_tcp(places, deadline)))
        yield f"it takes a TCP connection at {connection.getpeername()[0]}"
        if security.uses_tls:
            connection = open_ones.enter_context(closing(start_tls(connection, address, security, deadline)))
            yield "it speaks TLS, with a certificate that is trusted"
        yield from _talk(Conversation(connection, security, deadline), address, security, deadline)


def _talk(conversation: Conversation, address: str, security: KafkaSecurity, deadline: float) -> Iterator[str]:
    conversation.identify()
    yield "it speaks Kafka"
    if security.uses_sasl:
        conversation.log_in()
        yield f"it takes the login of {security.username!r} by {security.mechanism}"
    advertised = conversation.advertised()
    reached = address if address in advertised else _reach_advertised(advertised, security, deadline)
    yield f"it advertises {' and '.join(advertised)}, and this machine reaches {reached}"


def _reach_advertised(advertised: list[str], security: KafkaSecurity, deadline: float) -> str:
    """Return an advertised address that can be reached; StepFailed for none: clients use these after first contact."""
    problems = []
    for position, address in enumerate(advertised):
        share = (deadline - time.monotonic()) / (len(advertised) - position)
        try:
            connect(address, security, time.monotonic() + max(0.1, share)).close()
        except StepFailed as problem:
            problems.append(f"{address} ({problem.problem})")
        else:
            return address
    raise StepFailed(
        f"it answers, but advertises {' and '.join(problems)}",
        "use the listener that is meant for clients on this machine, or set the broker's advertised listener to an "
        "address that this machine reaches",
    )
