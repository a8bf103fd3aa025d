"""Small files that follow each other, merged into larger ones: so many batches do not make as many files.

Files are merged by tiers. Those of a batch are of tier 0; what is merged from tier n is of tier n + 1, and tier 3 is
the last, so a row is written again at most three times. With 64 files a tier, 274,625 batches end up in one file. Rows
stay in their order: only neighbours are merged.
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
# A file from either of these on is large enough: as many of them as there is data do no harm.
LARGE_ROWS = ROW_GROUP_ROWS
LARGE_BYTES = 16 << 20
# What one commit merges at most, so that nobody waits long for it.
MOST_BYTES = 64 << 20
MOST_FILES = 1000
# By hand, fewer files are worth it; of two or three, too little would be won for one of three times.
BY_HAND = 7


class Merge(NamedTuple):
    """Files of a dataset that become one: they follow each other, and are of one tier."""

    dataset: str
    names: list[str]


class Refused(NamedTuple):
    """Nothing was merged: folders cannot be exchanged here, and without that, readers could count wrong."""

    reason: str


def plan(contents: Mapping[str, Mapping[str, PublishedFile]], more_than: int) -> list[Merge]:
    """Return what the next commit merges: of each dataset the first ``more_than`` small neighbours and one, or more.

    More is planned by calling it again with what that commit has made.
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
    """Yield the longest rows of small neighbours of one tier that can be merged."""
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

    Where folders cannot be exchanged, nothing is done unless ``readers_stopped`` says that nobody can count wrong.
    ``between`` is called now and then: it may say that there is progress, or give up by raising. Raises DataConflict
    when a published file is not what it was, OutputUnavailable when one cannot be read or written.
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
    """Return how many files of which dataset are merged."""
    return ", ".join(f"{len(merge.names):,} files of {merge.dataset}" for merge in merges)
