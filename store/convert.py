"""The same datasets in another format: everything published is written again, then exchanged in one commit."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from store.datasets import DATASETS, Dataset
from store.formats import WRITERS, FileWriter, read_tables
from store.manifest import CommitRecord, Manifest, Rename
from store.output import Output, writing

_log = logging.getLogger(__name__)


def convert(output: Output, manifest: Manifest, file_format: str) -> Manifest:
    """Publish all datasets of ``manifest`` in ``file_format`` and return the new manifest; the rows stay the same."""
    files = sum(map(len, manifest.files.values()))
    _log.info("converting %d files from %s to %s", files, manifest.format, file_format)
    staging = output.new_staging(manifest.batch_id)
    renames, removals = [], []
    published: dict[str, list[str]] = {}
    for dataset in DATASETS:
        published[dataset.name] = []
        for old_name in manifest.files[dataset.name]:
            new_name = str(Path(old_name).with_suffix(f".{file_format}"))
            old = output.root / dataset.name / old_name
            staged = staging / f"{dataset.name}-{new_name}"
            with writing(staging):
                _rewrite(old, manifest.format, staged, file_format, dataset)
            published[dataset.name].append(new_name)
            renames.append(Rename(str(staged.relative_to(output.root)), f"{dataset.name}/{new_name}"))
            removals.append(f"{dataset.name}/{old_name}")
    converted = msgspec.structs.replace(manifest, format=file_format, files=published, updated_at=datetime.now(UTC))
    output.commit(CommitRecord(converted, renames, removals))
    return converted


def _rewrite(old: Path, old_format: str, new: Path, new_format: str, dataset: Dataset) -> None:
    writer: FileWriter = WRITERS[new_format](new, dataset)
    for table in read_tables(old_format, old, dataset):
        writer.write(table)
    writer.close()
