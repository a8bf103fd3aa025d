"""Topics filled with tickets like the producer's, but faster; their content is known exactly."""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Producer
from kafka import KafkaAdminClient

from contract.ticket import URGENT, encode
from producer.delivery import client_settings
from producer.sources.random import RandomTickets

PARTITIONS = 4
# Different tickets; a topic repeats them under other ids.
_DRAFTS = 200_000
# The first digits of an id are replaced by a counter, so that no id repeats.
_ID = slice(len('{"ticket_id":"'), len('{"ticket_id":"') + 8)


@dataclass(frozen=True, slots=True)
class Tickets:
    """How many tickets a topic holds, and how many of these are of high or critical priority."""

    count: int
    urgent: int


@contextmanager
def fresh_topic(address: str) -> Iterator[str]:
    """Create a topic of PARTITIONS partitions, and delete it at the end."""
    name = f"benchmark-{time.time_ns()}"
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        admin.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1}}, wait_for_metadata=True)
        try:
            yield name
        finally:
            admin.delete_topics([name])


class Filler:
    """Creates topics on one broker and fills them with messages of the producer's size and compression."""

    def __init__(self, address: str) -> None:
        source = RandomTickets(seed=1)
        drafts = [source.draw(datetime.now(UTC)) for _ in range(_DRAFTS)]
        self.address = address
        self._messages = [(draft.client_id.encode(), encode(draft)) for draft in drafts]
        self._urgent = list(itertools.accumulate((draft.priority in URGENT for draft in drafts), initial=0))
        self._round = itertools.count()

    @contextmanager
    def topic(self, count: int) -> Iterator[tuple[str, Tickets]]:
        """Make a topic with ``count`` tickets; it is deleted at the end."""
        with fresh_topic(self.address) as name:
            yield name, self.send(name, count)

    def send(self, topic: str, count: int) -> Tickets:
        """Send ``count`` tickets with new ids, by their clients' partitions, and return once all are acknowledged."""
        like = client_settings()
        options: dict[str, str | int] = {
            "bootstrap.servers": self.address,
            "compression.type": like["compression_type"],
            "linger.ms": like["linger_ms"],
            "batch.size": like["batch_size"],
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 0,
        }
        client = Producer(options)
        urgent = 0
        for sent in range(0, count, _DRAFTS):
            part = min(_DRAFTS, count - sent)
            urgent += self._urgent[part]
            number = f"{next(self._round):08x}".encode()
            for key, message in self._messages[:part]:
                while True:
                    try:
                        client.produce(topic, message[: _ID.start] + number + message[_ID.stop :], key)
                        break
                    except BufferError:
                        client.poll(0.1)
            client.poll(0)
        client.flush()
        return Tickets(count, urgent)
