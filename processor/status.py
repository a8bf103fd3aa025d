"""``--status``: where an output stands, without lock and JVM, and without a broker if none answers."""

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from processor.config import StatusConfig
from processor.lag import Lag, lag_of, total
from processor.plan import within
from processor.printed import page, wrapped, write
from processor.unread import compare, look_up
from runtime.errors import BrokerError, SettingError
from runtime.process import heartbeat
from runtime.process.words import moment, span, things
from store.condition import Condition, condition, unread
from store.datasets import DATASETS, METRICS, REJECTED
from store.files import Disk
from store.manifest import Manifest
from store.reader import Reader, read_current
from store.reasons import count_kinds
from store.status import Status, read_status

# A healthy broker answers within milliseconds, and a user waits for this.
_BROKER_S = 3.0


class Published(msgspec.Struct, frozen=True):
    """What an output holds: its ledger, when the batch ``batch_id`` was published, and rejected messages by reason."""

    manifest: Manifest
    batch_id: int
    batch_at: datetime
    reasons: dict[str, int]


class Asked(msgspec.Struct, frozen=True):
    """What the broker said: the lag of each partition, or in ``problem`` why it is not known."""

    lags: Mapping[int, Lag] | None
    problem: str = ""


def run(config: StatusConfig) -> None:
    """Print the status.

    Raises SettingError when there is neither an output nor a status of a processor; DataConflict when the ledger cannot
    be understood; OutputUnavailable when something cannot be read.
    """
    disk, folder = Disk(), config.output.folder
    published, status = read_current(config.output, published_in, disk), read_status(disk, folder)
    if published is None and status is None:
        raise SettingError(f"there is no output in {folder}, and no processor works on one; correct --output-path")
    name = os.environ.get(heartbeat.VARIABLE)
    beat_s = heartbeat.age(Path(name), time.time()) if name else None
    asked = Asked(None, "nothing was read yet") if published is None else _ask(config, published.manifest)
    tell = as_json if config.log_format == "json" else as_text
    write(tell(str(config.output), published, status, beat_s, asked, datetime.now(UTC)))


def published_in(reader: Reader) -> Published:
    """Return what is published as of the commit of ``reader``. Raises PipelineError."""
    (metrics,) = reader.rows(METRICS)
    reasons = count_kinds(reader.tables(REJECTED, ["reason"]))
    return Published(reader.manifest, metrics["batch_id"], metrics["updated_at"], reasons)


def _ask(config: StatusConfig, manifest: Manifest) -> Asked:
    from runtime.broker.preflight import try_broker

    if manifest.is_complete:
        # Everything up to --until was read, and the topic may be deleted by now.
        return Asked({partition: Lag(offset, offset) for partition, offset in manifest.next_offsets.items()})
    if problem := try_broker(config.broker, config.security, _BROKER_S):
        return Asked(None, problem)
    try:
        found, held = look_up(config.broker, config.security, manifest.source.topic, _BROKER_S)
    except BrokerError as error:
        return Asked(None, str(error))
    differences, comparable = compare(manifest.source, manifest.next_offsets, found, held, manifest.window)
    problem = "; ".join(f"{each.where}: {each.what}" for each in differences)
    return Asked(lag_of(manifest.next_offsets, within(manifest.window, held)) if comparable else None, problem)


def as_json(
    output: str, published: Published | None, status: Status | None, beat_s: float | None, asked: Asked, now: datetime
) -> str:
    """Return one JSON object on one line. What is not known is null."""
    found = condition(status, now, published.manifest if published else None, beat_s)
    lags = asked.lags
    told = {
        "output": output,
        "processor": {
            "condition": found.level,
            "says": found.words,
            "detail": found.detail,
            "heartbeat_age_s": None if beat_s is None else round(beat_s, 3),
            **(msgspec.to_builtins(status, str_keys=True) if status else dict.fromkeys(Status.__struct_fields__)),
        },
        **_told_of_output(published, status, now),
        "lag": None if lags is None else total(lags),
        "partitions": None if lags is None else [_partition(number, lag) for number, lag in lags.items()],
        "lag_problem": asked.problem or None,
    }
    return msgspec.json.encode(told).decode() + "\n"


_OF_OUTPUT = (
    *("batch_id", "batch_at", "batch_age_s", "commit", "format", "tickets", "unique_clients", "rejected", "reasons"),
    *("datasets", "topic", "window", "lag_at_last_look"),
)


def _told_of_output(published: Published | None, status: Status | None, now: datetime) -> dict[str, Any]:
    if published is None:
        return dict.fromkeys(_OF_OUTPUT)
    manifest = published.manifest
    sizes = {name: {"files": files, "rows": rows, "bytes": size} for name, files, rows, size in _sizes(manifest)}
    values = (
        published.batch_id,
        published.batch_at,
        round((now - published.batch_at).total_seconds(), 3),
        manifest.commit,
        manifest.format,
        manifest.totals.tickets,
        manifest.totals.unique_clients,
        manifest.totals.rejected,
        published.reasons,
        sizes,
        manifest.source.topic,
        None if manifest.window is None else {"start": manifest.window.start, "until": manifest.window.until},
        unread(manifest, status),
    )
    return dict(zip(_OF_OUTPUT, values, strict=True))


def _partition(number: int, lag: Lag) -> dict[str, int]:
    return {
        "partition": number,
        "next_offset": lag.next_offset,
        "end_offset": lag.end_offset,
        "lag": lag.messages,
    }


def _sizes(manifest: Manifest) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, files, rows and bytes of each dataset."""
    for dataset in DATASETS:
        files = manifest.contents[dataset.name].values()
        yield dataset.name, len(files), sum(file.rows for file in files), sum(file.bytes for file in files)


def as_text(
    output: str, published: Published | None, status: Status | None, beat_s: float | None, asked: Asked, now: datetime
) -> str:
    """Return a table and what is to be said beside it, in 80 columns."""
    found = condition(status, now, published.manifest if published else None, beat_s)
    lines = [output, *_of_processor(found, beat_s)]
    if published is None:
        lines.append("Nothing is published yet.")
    else:
        lines += _of_output(published, now)
        lines += _of_lag(published.manifest, status, asked, now)
    return page(lines)


def _of_processor(found: Condition, beat_s: float | None) -> Iterator[str]:
    yield from wrapped(f"{found.words}. {found.detail}".rstrip(), "", "  ")
    if beat_s is not None:
        yield f"Its heartbeat is {span(beat_s)} old."


def _of_output(published: Published, now: datetime) -> Iterator[str]:
    manifest = published.manifest
    age = span((now - published.batch_at).total_seconds())
    yield f"Last batch: {published.batch_id:,}, {age} ago ({moment(published.batch_at, now)})."
    yield ""
    yield f"{'dataset':<25}{'files':>8}{'rows':>15}{'bytes':>18}  {manifest.format}"
    for name, files, rows, size in _sizes(manifest):
        yield f"{name:<25}{files:>8,}{rows:>15,}{size:>18,}"
    yield ""
    totals = manifest.totals
    yield (
        f"{things(totals.tickets, 'ticket', 'tickets')} of {things(totals.unique_clients, 'client', 'clients')}, "
        f"{things(totals.rejected, 'rejected message', 'rejected messages')}"
    )
    for reason, count in published.reasons.items():
        yield from wrapped(f"{count:,} × {reason}", "  ", "    ")


def _of_lag(manifest: Manifest, status: Status | None, asked: Asked, now: datetime) -> Iterator[str]:
    yield ""
    if manifest.window is not None:
        yield from wrapped(f"This output holds the topic {manifest.window}.", "", "  ")
    if asked.lags is not None:
        yield f"Lag in topic {manifest.source.topic}: {total(asked.lags):,}"
        yield f"  {'partition':<12}{'next offset':>16}{'end offset':>16}{'lag':>16}"
        for number, lag in asked.lags.items():
            yield f"  {number:<12}{lag.next_offset:>16,}{lag.end_offset:>16,}{lag.messages:>16,}"
    else:
        yield f"Lag in topic {manifest.source.topic}: unknown"
    if asked.problem:
        yield from wrapped(asked.problem, "  ", "    ")
    known = unread(manifest, status)
    if asked.lags is None and known is not None and status is not None:
        yield f"  When the processor looked last, at {moment(status.updated_at, now)} or before, it was {known:,}."
