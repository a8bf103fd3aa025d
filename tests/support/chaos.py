"""Kill producer, processor and broker with kill -9 at random moments, and prove that nothing was lost or doubled.

``python -m tests.support.chaos --minutes 30 --seed 7 FLAGS`` runs it by hand; FLAGS go to the processor. A seed repeats
the kills and the pauses between them; what a kill interrupts depends on the machine.
"""

import argparse
import itertools
import os
import random
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from contract.ticket import decode
from embedded.broker import EmbeddedBroker
from producer.sources.random import RandomTickets
from runtime.errors import BrokerError
from runtime.settings.location import OutputLocation
from store.verify import verify
from tests.support import topics
from tests.support.datasets import Published
from tests.support.pipeline import processor, read_manifest, tickets_published
from tests.support.processes import Processes, Running, wait_for

TOPIC = "chaos"
RATE = 300
# How often each is killed. The processor most often, because it has most to lose.
WEIGHTS = {"processor": 5, "producer": 2, "broker": 2}
LONGEST_PAUSE_S = 5.0
# The share of kills that are aimed at the few milliseconds of a commit, which random seconds would not hit.
AIMED = 0.4
COMMIT_S = 0.03
COMMIT_WITHIN_S = 20.0
# How often the output is verified between a kill and the next start, when a commit may be half done.
VERIFIED = 0.2


@dataclass
class Sender:
    """One run of the producer; its tickets follow from its seed."""

    seed: int
    running: Running

    def require_acknowledged(self, held: set[str]) -> int:
        """Fail unless all acknowledged tickets are in ``held``; return how many were acknowledged at least."""
        told = re.findall(r"acknowledged ([0-9,]+)", self.running.stderr)
        acknowledged = int(told[-1].replace(",", "")) if told else 0
        source, now = RandomTickets(self.seed), datetime.now(UTC)
        ids = (source.draw(now).ticket_id for _ in itertools.count())
        if self.running.process.returncode == BrokerError.exit_code:
            # A producer that gave up also counts acknowledged tickets after ones that were not acknowledged.
            sent = int(re.findall(r"sent ([0-9,]+)", self.running.stderr)[-1].replace(",", "")) if told else 0
            assert sum(ticket in held for ticket in itertools.islice(ids, sent)) >= acknowledged
        else:
            # Acknowledgements are counted in the order of sending.
            lost = [ticket for ticket in itertools.islice(ids, acknowledged) if ticket not in held]
            assert lost == [], f"the producer with seed {self.seed}: {len(lost)} of {acknowledged} tickets are lost"
        return acknowledged


class Chaos:
    """Keeps the three services running and kills them; ``flags`` are more flags of the processor."""

    def __init__(self, folder: Path, seed: int, flags: Sequence[str], say: Callable[[str], None]) -> None:
        self.output = folder / "output"
        self.kills = Counter[str]()
        self._draw = random.Random(seed)
        self._flags = flags
        self._say = say
        self._broker = EmbeddedBroker(folder / "broker")
        self._processes = Processes(folder / "processes")
        self._senders: list[Sender] = []
        self._service: Running | None = None
        self._published = 0
        say(f"seed {seed}, in {folder}")

    def run(self, seconds: float) -> None:
        """Kill services for ``seconds``, then let everything finish, and fail unless the output is exact."""
        try:
            self._broker.start()
            topics.create(self._broker.address, TOPIC, partitions=4)
            self._start("producer")
            self._start("processor")
            end = time.monotonic() + seconds
            # First kill each once, then at random.
            first = [[victim] for victim in self._shuffled(list(WEIGHTS))]
            while time.monotonic() < end or first:
                time.sleep(self._draw.uniform(0, LONGEST_PAUSE_S))
                self._restart_what_gave_up()
                self._kill(first.pop() if first else self._victims())
            self._come_to_rest()
            self._require_exact()
        finally:
            self._processes.end_all()
            self._broker.stop()

    def _shuffled(self, names: Sequence[str]) -> list[str]:
        return self._draw.sample(names, len(names))

    def _victims(self) -> list[str]:
        drawn = self._draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=self._draw.choice((1, 1, 1, 2, 3)))
        # The processor first: the moment of the kill was chosen for it.
        return sorted(set(drawn), key=lambda victim: victim != "processor")

    def _await_a_commit(self) -> None:
        """Return at a random moment of the next commit, or after a while if there is none."""
        record, deadline = self.output / ".pipeline" / "commit.json", time.monotonic() + COMMIT_WITHIN_S
        while not record.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(self._draw.uniform(0, COMMIT_S))

    def _kill(self, victims: Sequence[str]) -> None:
        if "processor" in victims and self._draw.random() < AIMED:
            self._await_a_commit()
        for victim in victims:
            self.kills[victim] += 1
            if victim == "broker":
                os.kill(self._broker.pid, signal.SIGKILL)
                self._broker.stop()
            else:
                running = self._running(victim)
                running.process.kill()
                running.wait()
        self._judge(thorough="processor" in victims and self._draw.random() < VERIFIED)
        for victim in self._shuffled(victims):
            self._start(victim)
        self._say(f"killed {' and '.join(victims)}; {self._published:,} tickets are published")

    def _judge(self, thorough: bool) -> None:
        """Fail if published tickets are gone, or if the output contradicts itself."""
        before, self._published = self._published, tickets_published(self.output)
        assert self._published >= before
        if thorough and self._published:
            assert verify(OutputLocation(self.output)).differences == []

    def _start(self, name: str) -> None:
        if name == "broker":
            self._broker.start()
        elif name == "producer":
            seed = self._draw.getrandbits(32)
            where = ("--broker", self._broker.address, "--topic", TOPIC)
            flags = ("--rate", str(RATE), "--seed", str(seed))
            self._senders.append(Sender(seed, self._processes.start("producer/ticket_producer.py", *where, *flags)))
        else:
            command = processor(self._broker, TOPIC, self.output, "--interval", "0.1", *self._flags)
            self._service = self._processes.start(*command)

    def _running(self, name: str) -> Running:
        if name == "producer":
            return self._senders[-1].running
        assert self._service is not None
        return self._service

    def _restart_what_gave_up(self) -> None:
        """Restart services that ended because they found no broker, as Docker Compose does; fail for another exit."""
        for name in ("producer", "processor"):
            running = self._running(name)
            code = running.process.poll()
            if code is not None:
                assert code == BrokerError.exit_code, f"the {name} ended with {code}\n{running.output}"
                self._say(f"the {name} ended with exit code {code}: {running.stderr.splitlines()[-1]}")
                self._start(name)

    def _come_to_rest(self) -> None:
        for name in ("producer", "processor"):
            running = self._running(name)
            # Before its first line it does not handle signals yet.
            wait_for(lambda: running.stderr, 60, f"the first line of the {name}")  # noqa: B023
            running.process.terminate()
            assert running.wait(30) == 0, running.output
        once = processor(self._broker, TOPIC, self.output, *self._flags, "--interval", "0")
        self._processes.run(*once, deadline_s=300)

    def _require_exact(self) -> None:
        messages = topics.read(self._broker.address, TOPIC)
        ids = [decode(message.value or b"").ticket_id for message in messages]
        held = set(ids)
        assert len(ids) == len(held)
        acknowledged = sum(sender.require_acknowledged(held) for sender in self._senders)
        published = Published(self.output)
        published.require_agreement()
        assert {ticket for (ticket,) in published.rows("SELECT ticket_id FROM tickets_with_assignment")} == held
        assert published.count("tickets_with_assignment") == len(held)
        kills = ", ".join(f"{number} of the {victim}" for victim, number in sorted(self.kills.items()))
        self._say(
            f"exact after {self.kills.total()} kills ({kills}): {len(held):,} tickets, {acknowledged:,} of them known "
            f"to be acknowledged, in {read_manifest(self.output)['batch_id']:,} batches"
        )


def new_seed() -> int:
    """Return a random seed that is short enough to type."""
    return secrets.randbelow(1_000_000)


def main(argv: Sequence[str] | None = None) -> None:
    """Run it from the command line; the folder is kept if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.chaos", allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int)
    known, flags = parser.parse_known_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="client-tickets-chaos-"))
    seed = new_seed() if known.seed is None else known.seed
    Chaos(folder, seed, flags, partial(print, flush=True)).run(known.minutes * 60)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
