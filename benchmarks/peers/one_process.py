"""What a user would write instead: one process, confluent-kafka and pyarrow, the same two datasets and counts.

``python -m benchmarks.peers.one_process BROKER TOPIC FOLDER [--validate]``. Without the flag it checks no message; with
it each message is checked by the contract's rules in the fastest way that msgspec offers: one by one, with types and
constraints. It writes one file for each dataset, stores no offsets, has no commit, and starts over each time.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from runtime.process.absent import do_without

TEAMS = {
    "account": "Account Management",
    "billing": "Billing Team",
    "technical": "Technical Support",
    "general": "General Support",
}
BATCH = 250_000


def messages(broker: str, topic: str) -> Iterator[list[bytes]]:
    """Yield all values of a topic, in lists of about BATCH."""
    options = {
        "bootstrap.servers": broker,
        "group.id": "peer",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        # With the defaults, fetching pauses for a second whenever the queue was full.
        "queued.min.messages": 1_000_000,
        "fetch.queue.backoff.ms": 5,
    }
    with Consumer(options) as consumer:
        partitions = consumer.list_topics(topic).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        unread = len(partitions)
        values: list[bytes] = []
        while unread:
            for message in consumer.consume(10_000, 0.1):
                if message.error():
                    unread -= 1
                else:
                    values.append(message.value() or b"")
            if len(values) >= BATCH:
                yield values
                values = []
        yield values


def believe(values: list[bytes]) -> pa.Table:
    """Return the tickets of a batch without checking them."""
    return pj.read_json(pa.py_buffer(b"\n".join(values)), pj.ReadOptions(block_size=64 << 20))


def validate(values: list[bytes]) -> pa.Table:
    """Return the tickets of a batch that the contract accepts."""
    from contract.columns import TICKET_SCHEMA
    from contract.ticket import FIELDS, InvalidTicket, decode

    tickets = []
    for value in values:
        try:
            tickets.append(decode(value))
        except InvalidTicket:
            continue
    columns = [[getattr(ticket, name) for ticket in tickets] for name in FIELDS]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, TICKET_SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=TICKET_SCHEMA)


def main(broker: str, topic: str, folder: Path, read: Callable[[list[bytes]], pa.Table]) -> None:
    """Read the topic to its end, write the datasets, print the counts."""
    types, teams = pa.array(TEAMS.keys()), pa.array(TEAMS.values())
    folder.mkdir(parents=True)
    writers: dict[str, pq.ParquetWriter] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for values in messages(broker, topic):
        if not values:
            continue
        tickets = read(values)
        tickets = tickets.append_column("assigned_team", teams.take(pc.index_in(tickets["request_type"], types)))
        urgent = tickets.filter(pc.is_in(tickets["priority"], pa.array(["high", "critical"])))
        for name, table in (("tickets_with_assignment", tickets), ("high_priority_tickets", urgent)):
            if name not in writers:
                (folder / name).mkdir()
                path = folder / name / "part-0.parquet"
                writers[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
            writers[name].write_table(table)
        for row in tickets.group_by(["request_type", "priority"]).aggregate([([], "count_all")]).to_pylist():
            counts[row["request_type"], row["priority"]] += row["count_all"]
    for writer in writers.values():
        writer.close()
    print(dict(counts))


if __name__ == "__main__":
    # Like our processor: pyarrow would import pandas, which is not used.
    do_without("pandas")
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), validate if "--validate" in sys.argv else believe)
