"""Compaction: merge small neighbouring files into larger ones, so that many batches do not leave as many files.

Files are merged by tiers. The files of a batch are of tier 0; files merged from tier n are of tier n + 1. Tier 3 is the
last, so a row is written again at most three times. With 64 files a tier, 274,625 batches end up in one file. Rows
keep their order, because only neighbours are merged.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from store.datasets import BY_NAME, DATASETS
from store.files import writing
from store.formats import ROW_GROUP_ROWS
from store.manifest import Manifest, PublishedFile
from store.output import Output
from store.states import carry_states

_log = logging.getLogger(__name__)

LAST_TIER = 3
# A file that reaches either of these is large enough. It is not merged again.
LARGE_ROWS = ROW_GROUP_ROWS
LARGE_BYTES = 16 << 20
# One commit merges at most this much, so that the next batch does not wait long for it.
MOST_BYTES = 64 << 20
MOST_FILES = 1000
# When a user asks for it, fewer files are enough. Merging only two or three would gain too little for one of the three
# times that a row may be written again.
BY_HAND = 7


class Merge(NamedTuple):
    """Files of a dataset that become one: neighbours of one tier."""

    dataset: str
    names: list[str]


class Refused(NamedTuple):
    """Nothing was merged, because folders cannot be exchanged here: without that, readers could count wrong."""

    reason: str


def plan(contents: Mapping[str, Mapping[str, PublishedFile]], more_than: int) -> list[Merge]:
    """Return what the next commit merges: in each dataset the first run of more than ``more_than`` small neighbours.

    To plan what comes after that commit, call it again with the contents that the commit leaves.
    """
    merges = []
    budget = MOST_BYTES
    for dataset in (d.name for d in DATASETS if d.appended):
        files = contents[dataset]
        # Lower tiers first: they have the smallest files.
        for run in sorted(_runs(files), key=lambda names: files[names[0]].rewrites):
            names = _within(files, run, budget) if len(run) > more_than else []
            if len(names) > 1:
                merges.append(Merge(dataset, names))
                budget -= sum(files[name].bytes for name in names)
                break
    return merges


def _runs(files: Mapping[str, PublishedFile]) -> Iterator[list[str]]:
    """Yield the longest runs of small neighbours of one tier that can be merged."""
    run: list[str] = []
    for name, file in files.items():
        small = file.rows < LARGE_ROWS and file.bytes < LARGE_BYTES and file.rewrites < LAST_TIER
        if run and (not small or file.rewrites != files[run[0]].rewrites):
            yield run
            run = []
        if small:
            run.append(name)
    if run:
        yield run


def _within(files: Mapping[str, PublishedFile], run: Sequence[str], budget: int) -> list[str]:
    """Return as many of the first files of ``run`` as one commit may merge."""
    names: list[str] = []
    for name in run[:MOST_FILES]:
        budget -= files[name].bytes
        if budget < 0:
            break
        names.append(name)
    return names


def compact(
    output: Output,
    manifest: Manifest,
    merges: Sequence[Merge],
    now: datetime,
    between: Callable[[], None] = lambda: None,
    readers_stopped: bool = False,
) -> Manifest | Refused:
    """Publish ``merges`` in one commit and return the new manifest; rows and their order stay the same.

    If folders cannot be exchanged here, readers could count wrong, so nothing is done unless ``readers_stopped``.
    ``between`` is called now and then: it may report progress, or abort by raising. Raises DataConflict when a
    published file was changed, OutputUnavailable when one cannot be read or written.
    """
    if not readers_stopped and (reason := output.exchange_refusal()):
        return Refused(reason)
    reader = output.reader(manifest)
    change = output.begin(manifest, "compaction", manifest.format)
    staging = change.staging
    for merge in merges:
        dataset, files = BY_NAME[merge.dataset], manifest.contents[merge.dataset]
        with writing(staging.folder), staging.writer(dataset, f"{dataset.name}-merged") as writer:
            for name in merge.names:
                reader.require_intact(dataset, name)
                for table in reader.tables_of(dataset, name):
                    writer.write(table)
                between()
            staged = writer.finish()
        change.rewrite(dataset, merge.names, staged, files[merge.names[0]].rewrites + 1)
    with writing(staging.folder):
        reason = change.exchange_folders()
    if reason and not readers_stopped:
        output.discard_staging()
        return Refused(reason)
    record = change.record(now)
    carry_states(output, manifest, change)
    output.commit(record)
    return record.manifest


def describe(merges: Sequence[Merge]) -> str:
    """Return a text on how many files of each dataset are merged."""
    return ", ".join(f"{len(merge.names):,} files of {merge.dataset}" for merge in merges)
