"""The ledger: what has been published, and which offsets it covers, in one file beside the datasets."""

from datetime import datetime
from pathlib import Path

import msgspec

from runtime.errors import DataConflict

MANIFEST_NAME = "_manifest.json"
VERSION = 1


class Source(msgspec.Struct, frozen=True):
    """Which topic of which cluster was read. An id is None where the broker tells none."""

    topic: str
    cluster_id: str | None
    topic_id: str | None

    def require_same(self, ledger: "Source") -> None:
        """Raise DataConflict when the ledger was written from another topic or cluster."""
        for what, found, recorded in (
            ("topic", self.topic, ledger.topic),
            ("cluster", self.cluster_id, ledger.cluster_id),
            ("topic id", self.topic_id, ledger.topic_id),
        ):
            if found and recorded and found != recorded:
                raise DataConflict(
                    f"the output was written from {what} {recorded}, but the broker now offers {found}: going on would "
                    "mix two sources; read the old one, or choose another --output-path for the new one"
                )


class Gap(msgspec.Struct, frozen=True):
    """Messages that were deleted from the topic before they were read, and that the user agreed to do without."""

    partition: int
    start: int
    end: int
    batch_id: int


class Totals(msgspec.Struct, frozen=True):
    """Counts since the output began."""

    tickets: int = 0
    rejected: int = 0
    unique_clients: int = 0
    by_type: dict[str, int] = {}
    by_priority: dict[str, int] = {}
    by_team: dict[str, int] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of an output after ``batch_id``: how far the source is read, totals, the files of each dataset."""

    format: str
    batch_id: int
    updated_at: datetime
    source: Source
    next_offsets: dict[int, int]
    totals: Totals
    files: dict[str, list[str]]
    gaps: list[Gap] = []
    version: int = VERSION


class _Versioned(msgspec.Struct):
    version: int


class Rename(msgspec.Struct, frozen=True):
    """A staged file and the name under which it is published; both relative to the output folder."""

    staged: str
    published: str


class CommitRecord(msgspec.Struct, frozen=True):
    """A decided batch: once this is on the disk, the batch counts, and whoever comes next must finish it."""

    manifest: Manifest
    renames: list[Rename]
    removals: list[str]


def encode(value: Manifest | CommitRecord) -> bytes:
    """Return JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def read_manifest(output: Path) -> Manifest | None:
    """Return the manifest of ``output``, None when there is none. Raises DataConflict when it cannot be understood."""
    path = output / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        # First of all: what else is in the file of another version, nobody knows.
        version = msgspec.json.decode(content, type=_Versioned).version
        if version != VERSION:
            raise DataConflict(f"{path} has version {version}, this program writes {VERSION}; run the matching release")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataConflict(
            f"{path} is damaged ({len(content):,} bytes: {error}): without it nobody knows which messages are in the "
            "datasets; restore it from a backup, or choose another --output-path to read the topic again from its start"
        ) from None


def read_record(path: Path) -> CommitRecord:
    """Return the commit record in the file ``path``. Raises DataConflict when it cannot be understood."""
    content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=CommitRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataConflict(
            f"{path} is damaged ({len(content):,} bytes: {error}): it decides a batch that is published in part; "
            "restore it from a backup, or choose another --output-path to read the topic again from its start"
        ) from None
