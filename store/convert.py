"""Conversion: write everything that is published again in another format, and publish that in one commit."""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import PurePath

from store.datasets import DATASETS
from store.files import writing
from store.manifest import Manifest
from store.output import Output
from store.states import carry_states

_log = logging.getLogger(__name__)


def convert(
    output: Output, manifest: Manifest, file_format: str, now: datetime, between: Callable[[], None] = lambda: None
) -> Manifest:
    """Publish all datasets of ``manifest`` in ``file_format`` and return the new manifest; the rows stay the same.

    ``between`` is called now and then: it may report progress, or abort by raising. Raises DataConflict when a
    published file was changed, OutputUnavailable when one cannot be read or written.
    """
    files = sum(map(len, manifest.contents.values()))
    _log.info("converting %d files from %s to %s", files, manifest.format, file_format)
    reader = output.reader(manifest)
    change = output.begin(manifest, "conversion", file_format)
    for dataset in DATASETS:
        for name, file in reader.files(dataset).items():
            reader.require_intact(dataset, name)
            stem = PurePath(name).stem
            staging = change.staging
            with writing(staging.folder), staging.writer(dataset, f"{dataset.name}-{stem}") as writer:
                for table in reader.tables_of(dataset, name):
                    writer.write(table)
                    between()
                staged = writer.finish()
            change.remove(dataset, name)
            change.publish(staged, stem, (file.first_batch, file.last_batch))
            between()
    record = change.record(now)
    carry_states(output, manifest, change)
    output.commit(record)
    return record.manifest
