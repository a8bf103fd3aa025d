"""How fast the dashboard shows a large output, and whether its memory stays flat.

``python -m benchmarks.dashboard FOLDER`` makes an output of 10,000,000 tickets in each format there, unless it exists
already, starts the dashboard on it, and measures with Chromium: the time until a fresh page shows its headline figures,
and the memory of the server while the pages of four visitors refresh as often as in an hour, only faster, and batches
are published. ``make test-browser`` installs what it needs.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.figures import Figures
from contract.columns import UTC_MICROSECONDS
from contract.routing import DEFAULT, TEAMS
from contract.ticket import PRIORITIES, REQUEST_TYPES, URGENT
from dashboard.config import DashboardConfig
from dashboard.serve import command, environment
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.counts import HourCount, Totals, merge_hours, summaries
from store.datasets import BY_HOUR, HIGH_PRIORITY, REJECTED, TICKETS
from store.files import Disk, make_folders
from store.manifest import Manifest, Partition, Source, read_manifest
from store.output import Output
from store.reader import Reader
from store.status import StatusFile

_TICKETS, _A_BATCH = 10_000_000, 250_000
_DAYS = 30
_CHROMIUM = "/usr/bin/chromium"
_REFRESHES_OF_AN_HOUR = 720
_VISITORS = 4

# The real page, with a refresh that is faster than it offers.
_FAST_PAGE = """
from dashboard import choice
choice.REFRESHES["5 s"] = 0.25
from dashboard import page
page.main()
"""


def random_tickets(count: int, end: datetime, length: timedelta, draw: np.random.Generator) -> pa.Table:
    """Return tickets that were created in the ``length`` before ``end``."""
    size = length // timedelta(microseconds=1)
    times = np.sort(draw.integers(0, size, count)) + int((end - length).timestamp() * 1_000_000)
    types = pa.DictionaryArray.from_arrays(draw.integers(0, 4, count).astype(np.int8), list(REQUEST_TYPES))
    kinds = types.dictionary_decode()
    teams = pa.DictionaryArray.from_arrays(types.indices, [TEAMS[kind] for kind in REQUEST_TYPES])
    weights = (0.42, 0.38, 0.15, 0.05)
    priorities = pa.DictionaryArray.from_arrays(draw.choice(4, count, p=weights).astype(np.int8), list(PRIORITIES))
    ids = [f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}" for raw in _hexadecimal(count, draw)]
    clients = [f"CLIENT_{number:05d}" for number in np.minimum(draw.zipf(1.3, count), 99_999)]
    requests = [
        f"The invoice INV-{number:06d} charges twice what we agreed on; please look into it and tell us when it "
        "is corrected, as our bookkeeping closes on Friday."
        for number in draw.integers(0, 999_999, count)
    ]
    columns = [
        ids,
        clients,
        pa.array(times, pa.int64()).cast(UTC_MICROSECONDS),
        requests,
        kinds,
        priorities.dictionary_decode(),
        teams.dictionary_decode(),
    ]
    by_name = dict(
        zip(
            ("ticket_id", "client_id", "created_at", "request", "request_type", "priority", "assigned_team"),
            columns,
            strict=True,
        )
    )
    return pa.table({name: by_name[name] for name in TICKETS.schema.names}, schema=TICKETS.schema)


def _hexadecimal(count: int, draw: np.random.Generator) -> Iterator[str]:
    raw = draw.bytes(16 * count).hex()
    return (raw[start : start + 32] for start in range(0, len(raw), 32))


def publish(output: Output, before: Manifest | None, file_format: str, tickets: pa.Table, now: datetime) -> Manifest:
    """Publish ``tickets`` as the next batch."""
    make_folders(output.disk, output.state)
    batch_id = before.batch_id + 1 if before else 1
    change = output.begin(before, "batch", file_format)
    urgent = tickets.filter(pc.is_in(tickets["priority"], pa.array(URGENT)))
    for dataset, table in ((TICKETS, tickets), (HIGH_PRIORITY, urgent), (REJECTED, REJECTED.schema.empty_table())):
        staged = change.staging.write(dataset, dataset.name, table)
        change.publish(staged, f"batch-{batch_id:06d}-0000", (batch_id, batch_id))
    hours = _hours(tickets)
    known = Reader(output.root, before, output.disk).table(BY_HOUR) if before else BY_HOUR.schema.empty_table()
    totals = (before.totals if before else Totals()).add(
        hours, 0, 0 if before else len(pc.unique(tickets["client_id"]))
    )
    change.replace(summaries(totals, merge_hours(known, hours), batch_id, now, DEFAULT.teams).items(), batch_id)
    offset = totals.tickets
    record = change.record(
        now,
        batch_id=batch_id,
        source=Source("client_tickets", "cluster", "topic"),
        partitions={0: Partition(0, offset, offset)},
        totals=totals,
    )
    output.commit(record)
    StatusFile(output.root, 30.0, output.disk, lambda: now).set("idle", end_offsets={0: offset})
    return record.manifest


def _hours(tickets: pa.Table) -> list[HourCount]:
    keys = ["hour", "request_type", "priority", "assigned_team"]
    hour = pc.floor_temporal(tickets["created_at"], unit="hour")
    sums = tickets.append_column("hour", hour).group_by(keys).aggregate([("hour", "count")])
    return [
        HourCount(row["hour"], row["request_type"], row["priority"], row["assigned_team"], row["hour_count"])
        for row in sums.to_pylist()
    ]


def make(folder: Path, file_format: str) -> Output:
    """Return the large output in a format; what is missing of it is made now."""
    output = Output(OutputLocation(folder / file_format), Disk())
    manifest = read_manifest(output.disk, output.root)
    draw, batches = np.random.default_rng(7), _TICKETS // _A_BATCH
    step, end = timedelta(days=_DAYS) / batches, datetime.now(UTC)
    for batch in range(manifest.batch_id if manifest else 0, batches):
        until = end - step * (batches - 1 - batch)
        manifest = publish(output, manifest, file_format, random_tickets(_A_BATCH, until, step, draw), until)
    return output


@contextmanager
def served(output: Output, page: Path | None = None) -> Iterator[tuple[str, int]]:
    """Serve the dashboard, or another ``page``; yield its address and the id of its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = DashboardConfig(OutputLocation(output.root), port)
    words = command(config)
    if page is not None:
        words[4] = str(page)
    server = subprocess.Popen(words, env=environment(config, os.environ), cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/", server.pid
    finally:
        server.terminate()
        server.wait()


def fresh_pages(browser: Any, address: str, repeats: int) -> tuple[Figures, Figures]:
    """Return the seconds from the request of a new visitor to the first paint, and to the headline figures."""
    paints, headlines = [], []
    # The first one warms the server.
    for number in range(repeats + 1):
        context = browser.new_context()
        page = context.new_page()
        began = time.monotonic()
        page.goto(address, wait_until="commit")
        page.wait_for_selector(".tickets-tiles", timeout=60_000)
        took = time.monotonic() - began
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        if number:
            headlines.append(took)
            paints.append(paint / 1000)
        context.close()
    return Figures.of(paints), Figures.of(headlines)


def memory_over_an_hour(browser: Any, output: Output) -> list[float]:
    """Return the MiB of the server, ten times while four visitors see as many refreshes as in an hour.

    Meanwhile a batch of 5,000 tickets is published at each sixth refresh, as if one came every 30 seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "fast.py"
        page.write_text(_FAST_PAGE)
        with served(output, page) as (address, server):
            visitors = [browser.new_context().new_page() for _ in range(_VISITORS)]
            for visitor in visitors:
                visitor.goto(address)
                visitor.wait_for_selector(".tickets-tiles", timeout=60_000)
                visitor.evaluate(_COUNT_REFRESHES)
            manifest = read_manifest(output.disk, output.root)
            draw, seen, measured = np.random.default_rng(8), 0, [_resident_mib(server)]
            while seen < _REFRESHES_OF_AN_HOUR:
                now = datetime.now(UTC)
                tickets = random_tickets(5_000, now, timedelta(seconds=30), draw)
                manifest = publish(output, manifest, manifest.format if manifest else "parquet", tickets, now)
                visitors[0].wait_for_function(f"window.refreshes >= {seen + 6}", timeout=120_000)
                seen = visitors[0].evaluate("window.refreshes")
                if seen >= _REFRESHES_OF_AN_HOUR * len(measured) / 9:
                    measured.append(_resident_mib(server))
            for visitor in visitors:
                visitor.context.close()
            return measured


# At each refresh the browser asks for the four fragments of the page.
_COUNT_REFRESHES = """() => {
    window.refreshes = 0;
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (...data) { window.refreshes += 1 / 4; return send.apply(this, data); };
}"""


def _resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the large outputs; made if missing")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="fresh pages for each format (7)")
    parser.add_argument("--hour", action="store_true", help="measure memory too, some minutes for each format")
    parser.add_argument("--only-make", action="store_true", help="make the outputs and exit")
    flags = parser.parse_args(argv)
    outputs = {file_format: make(flags.folder, file_format) for file_format in ("parquet", "json")}
    if flags.only_make:
        return 0
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        for file_format, output in outputs.items():
            with served(output) as (address, server):
                paint, headline = fresh_pages(browser, address, flags.repeats)
                found[file_format] = {
                    "first_paint_s": paint.median,
                    "headline_s": [headline.least, headline.median, headline.most],
                    "server_mib": _resident_mib(server),
                }
            if flags.hour:
                found[file_format]["hour_mib"] = memory_over_an_hour(browser, output)
        browser.close()
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
