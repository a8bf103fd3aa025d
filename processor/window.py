"""The window of an output, the part of the topic that it holds: resolved once, at its first start. No I/O."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from processor.config import ProcessorConfig
from processor.plan import Bounds
from runtime.errors import SettingError
from runtime.settings.location import OutputLocation
from runtime.settings.parsers import rfc_3339
from store.manifest import Window

EARLIEST, LATEST = "earliest", "latest"
_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def is_asked_for(config: ProcessorConfig) -> bool:
    """Whether a new output is to hold less than the whole topic."""
    return config.start not in (None, EARLIEST) or config.until is not None


class Asked(Protocol):
    """Which part of the topic the settings ask for, and where they were set."""

    @property
    def output(self) -> OutputLocation: ...
    @property
    def start(self) -> str | datetime | None: ...
    @property
    def until(self) -> datetime | None: ...
    @property
    def start_source(self) -> str: ...
    @property
    def until_source(self) -> str: ...


def require_same(config: Asked, recorded: Window | None) -> None:
    """Raise SettingError if a setting that was given differs from what the output holds, which ``recorded`` says."""
    window = recorded or Window(EARLIEST)
    for source, asked, decided, so_it in (
        (config.start_source, config.start, window.start, f"begins at {window.start}"),
        (config.until_source, config.until, window.until, f"ends at {window.until}" if window.until else "has no end"),
    ):
        if asked is not None and rfc_3339(asked) != decided:
            raise SettingError(
                f"{source} asks for {rfc_3339(asked)}, but the output in {config.output} {so_it}: that was decided at "
                "its first start; leave it out to go on there, or choose another --output-path for another part of "
                "the topic"
            )


def timestamp(moment: datetime) -> int:
    """Return the first timestamp of a record, in whole ms since 1970, that is not before ``moment``.

    A broker takes negative ones for special offsets, so a time before 1970 counts as 1970.
    """
    return max(0, -((_1970 - moment) // timedelta(milliseconds=1)))


def times_in(config: ProcessorConfig) -> list[int]:
    """Return the timestamps whose offsets the broker must be asked for."""
    return [timestamp(place) for place in (config.start, config.until) if isinstance(place, datetime)]


def resolve(
    config: ProcessorConfig,
    bounds: Mapping[int, Bounds],
    ends: Mapping[int, int],
    found: Mapping[int, Mapping[int, int]],
) -> tuple[Window, dict[int, int]]:
    """Return the window that is asked for, and the offset at which each partition begins.

    ``bounds`` are what can be read now, ``ends`` where the partitions end, which is later while a transaction is open.
    ``found`` holds, by timestamp, the first offset of each partition whose record has that timestamp or a later one. If
    a partition has none, its end is taken. ``bounds`` and ``ends`` must have been looked up before ``found``: then a
    message that came in between is read, not skipped.
    """
    start = config.start or EARLIEST
    if isinstance(start, datetime):
        known = found[timestamp(start)]
        # An offset after an open transaction cannot be read yet, and a batch cannot start there.
        starts = {partition: min(known.get(partition, held.end), held.end) for partition, held in bounds.items()}
    else:
        starts = {partition: held.end if start == LATEST else held.first for partition, held in bounds.items()}
    if config.until is None:
        return Window(rfc_3339(start)), starts
    known = found[timestamp(config.until)]
    limits = {partition: max(known.get(partition, ends[partition]), at) for partition, at in starts.items()}
    return Window(rfc_3339(start), rfc_3339(config.until), limits), starts
