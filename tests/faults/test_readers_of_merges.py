"""Readers that loop over the datasets while small files are merged all the time. Neither broker nor JVM takes part."""

import signal
import time
from pathlib import Path

from contract.ticket import encode
from runtime.settings.location import OutputLocation
from store.compact import compact, plan
from store.manifest import Manifest
from store.output import Output
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.processes import Processes, Running
from tests.support.reader import GONE, LIBRARIES
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

# Seven tickets in each batch, three of them urgent: a reader that misses a file gets a count that no batch has.
TICKETS = 7
READS = 40
MERGES = 40
DEADLINE_S = 240


def batch(number: int) -> list[bytes]:
    return [
        encode(ticket(TICKETS * number + n, client_id=f"CLIENT_{n}", priority=("low", "high")[n % 2]))
        for n in range(TICKETS)
    ]


def counts(reader: Running) -> list[int]:
    """Return the number of tickets of each successful read of a reader."""
    return [int(line) for line in reader.stdout.splitlines() if line.isdigit()]


def test_no_reader_ever_counts_wrong_while_small_files_are_merged(processes: Processes, tmp_path: Path) -> None:
    output = Output(OutputLocation(tmp_path / "output"), QuickDisk())
    manifest = publish_batch(output, None, "parquet", [[messages(batch(0))]])
    readers = {name: processes.start("-m", "tests.support.reader", name, output.root) for name in LIBRARIES}
    batches = merges = 0
    until = time.monotonic() + DEADLINE_S
    while merges < MERGES or min(len(counts(reader)) for reader in readers.values()) < READS:
        assert time.monotonic() < until, {name: len(counts(reader)) for name, reader in readers.items()}
        for name, reader in readers.items():
            assert reader.process.poll() is None, f"{name}\n{reader.output}"
        batches += 1
        read = [[messages(batch(batches), first_offset=TICKETS * batches)]]
        manifest = publish_batch(output, manifest, "parquet", read)
        if merging := plan(manifest.contents, 3):
            merged = compact(output, manifest, merging, UPDATED_AT)
            assert isinstance(merged, Manifest)
            manifest, merges = merged, merges + 1
    found = {}
    for name, reader in readers.items():
        reader.send(signal.SIGTERM)
        assert reader.wait() == 0, f"{name}\n{reader.output}"
        assert [count for count in counts(reader) if count % TICKETS] == []
        found[name] = (len(counts(reader)), reader.stdout.count(GONE))
    print(f"{merges} merges in {batches} batches; reads and files gone: {found}")  # noqa: T201 - the frequency
    published = Published(output.root)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == TICKETS * (batches + 1)
