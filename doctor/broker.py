"""The broker, one step after the other, by the preflight that the services run."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from doctor.finding import Finding, ok, problem, warning
from runtime.broker.conversation import StepFailed
from runtime.broker.preflight import take_steps
from runtime.broker.security import KafkaSecurity

LIMIT_S = 5.0

Looks = dict[str, tuple[list[str], StepFailed | None]]


def look(brokers: str, security: KafkaSecurity, limit_s: float = LIMIT_S) -> Looks:
    """Take the steps with each of ``brokers`` at the same time; return what came of it, by address."""
    addresses = list(dict.fromkeys(brokers.split(",")))
    with ThreadPoolExecutor(len(addresses)) as pool:
        taken = pool.map(lambda address: take_steps(address, security, limit_s), addresses)
        return dict(zip(addresses, taken, strict=True))


def can_be_used(looks: Looks) -> bool:
    """Whether one of the brokers passed every step: clients need no more."""
    return any(failed is None for _, failed in looks.values())


def judge(looks: Looks) -> Iterator[Finding]:
    """Tell the steps of each broker. One that fails beside one that can be used is a warning."""
    usable = can_be_used(looks)
    for address, (passed, failed) in looks.items():
        for step in passed:
            yield ok(f"broker {address}: {step}")
        if failed is None:
            continue
        what = f"broker {address}: {failed.problem}"
        remedy = failed.remedy or "see that it is up, and its log"
        yield warning(what, remedy) if usable else problem(what, remedy)


def addresses(looks: Looks) -> Sequence[str]:
    """Return the brokers that can be used."""
    return [address for address, (_, failed) in looks.items() if failed is None]
