"""The ledger: what is published, what became of every offset that was read, and which commit follows which.

``_manifest.json`` holds it, in version 3. If a program must understand a new field to stay correct, the field raises
the version. A field that only informs does not, so a program carries over unknown fields unchanged. Version 2 is
version 3 without the fields that have a default here, so it is read as it is, and the next commit writes version 3.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from contract.routing import DEFAULT, Routing, Rule
from runtime.errors import DataConflict
from store.counts import Totals
from store.files import Disk, read_if_there, reading

MANIFEST_NAME = "_manifest.json"
VERSION = 3
# The oldest version that is read without an upgrade step.
READABLE = 2

# The end of each message about a ledger and files that do not belong together: this always helps.
WAY_OUT = (
    "nothing was changed; put a backup of the whole output folder into an empty folder, or choose another "
    "--output-path to read the topic again from its start"
)

Unknown = dict[str, Any]


class Source(msgspec.Struct, frozen=True):
    """Which topic of which cluster was read. An id is None if the broker does not report it."""

    topic: str
    cluster_id: str | None
    topic_id: str | None
    unknown: Unknown = {}

    def differing(self, ledger: "Source") -> list[tuple[str, str, str]]:
        """Return what is known on both sides and differs, as tuples: what it is, here, in ``ledger``."""
        pairs = (
            ("topic", self.topic, ledger.topic),
            ("cluster", self.cluster_id, ledger.cluster_id),
            ("topic id", self.topic_id, ledger.topic_id),
        )
        return [(what, here, there) for what, here, there in pairs if here and there and here != there]

    def require_same(self, ledger: "Source") -> None:
        """Raise DataConflict when the ledger was written from another topic or cluster."""
        for what, found, recorded in self.differing(ledger):
            raise DataConflict(
                f"the output was written from {what} {recorded}, but the broker now offers {found}: going on would mix "
                "the data of two topics; read the old one, or choose another --output-path for the new one"
            )


class Gap(msgspec.Struct, frozen=True):
    """Messages that were deleted from the topic before they were read, which the user accepted (--accept-gap)."""

    partition: int
    start: int
    end: int
    batch_id: int
    unknown: Unknown = {}


class Record(msgspec.Struct, frozen=True):
    """Identifies the message at an offset: its timestamp in ms since 1970, and a checksum of the rest."""

    offset: int
    timestamp: int | None
    checksum: str
    unknown: Unknown = {}


class Partition(msgspec.Struct, frozen=True):
    """What became of each offset of a partition, from ``first_offset`` up to but without ``next_offset``.

    ``empty`` counts offsets without a message: compacted away, of an aborted transaction, or a transaction marker.
    ``last_record`` is the last message that was read. It is kept if the broker does not report a topic id: if another
    message is at that offset later, the topic is another one.
    """

    first_offset: int
    next_offset: int
    tickets: int = 0
    rejected: int = 0
    duplicates: int = 0
    forgotten: int = 0
    empty: int = 0
    gaps: int = 0
    last_record: Record | None = None
    unknown: Unknown = {}

    @property
    def accounted(self) -> int:
        """How many offsets the counts explain: in a sound ledger, all that were read."""
        return self.tickets + self.rejected + self.duplicates + self.forgotten + self.empty + self.gaps


class Window(msgspec.Struct, frozen=True):
    """Which part of the topic an output holds, as it was asked for at the first start.

    ``start`` is ``earliest``, ``latest`` or a time, ``until`` a time or, for no end, None; times are RFC 3339 in UTC.
    Both were resolved to offsets once, at that start: ``start`` to the ``first_offset`` of each partition, ``until`` to
    the offset in ``ends`` up to which, but without it, the partition is read. Messages and partitions that the topic
    got after that start come after both.
    """

    start: str
    until: str | None = None
    ends: dict[int, int] = {}
    unknown: Unknown = {}

    def __str__(self) -> str:
        return f"from {self.start}" + (f" until {self.until}" if self.until else "")


class PublishedFile(msgspec.Struct, frozen=True):
    """A file of a dataset: its size, the batches that its rows come from, and the commit that published it.

    ``rewrites`` is the tier: how often its rows were merged into a larger file, the most if rows differ in that.
    """

    rows: int
    bytes: int
    checksum: str
    first_batch: int
    last_batch: int
    commit: int
    rewrites: int = 0
    unknown: Unknown = {}


class Upgrade(msgspec.Struct, frozen=True):
    """Where an older version ended: its messages are in the totals, but not in the counts of the partitions."""

    version: int
    tickets: int
    rejected: int
    unknown: Unknown = {}


class Erasure(msgspec.Struct, frozen=True):
    """Clients that were erased while the topic still held unread messages of theirs, which must not be published.

    Those are the messages of each partition before the offset in ``below``. The ledger must not keep the ids that were
    to be erased, so it keeps ``digests`` of them (``store.erasure``) and ``lengths``, their lengths in bytes. Once all
    offsets in ``below`` are reached, the entry is removed.
    """

    salt: str
    digests: list[str]
    lengths: list[int]
    below: dict[int, int]
    unknown: Unknown = {}


class RuleSet(msgspec.Struct, frozen=True):
    """The rules that assigned the teams from one batch on, up to the batch of the next set."""

    from_batch: int
    rules: list[Rule]
    unknown: Unknown = {}

    @property
    def routing(self) -> Routing:
        """The rules as a value that assigns teams."""
        return Routing(tuple(self.rules))


class Manifest(msgspec.Struct, frozen=True):
    """The state of an output after one commit.

    ``commit`` counts commits of every kind, ``batch_id`` those that publish messages, of the topic or retried ones.
    ``contents`` holds the files of each dataset; in the JSON file their names are also in ``files``, for readers. From
    the batch ``deduped_from`` on, duplicates were rejected: if it is 1, no two tickets have the same id; if it is None,
    the last batch did not look for duplicates. ``erased_tickets`` were published and then erased; partitions go on
    counting them as tickets, because their offsets are not known. If ``window`` is None, the output holds the whole
    topic, from its first message on and without an end. If ``routing`` is empty, the default rules have applied
    from the first batch on (``rule_sets``).
    """

    output_id: str
    commit: int
    commit_id: str
    follows: str | None
    kind: str
    format: str
    batch_id: int
    updated_at: datetime
    source: Source
    partitions: dict[int, Partition]
    totals: Totals
    contents: dict[str, dict[str, PublishedFile]]
    gaps: list[Gap] = []
    upgrade: Upgrade | None = None
    deduped_from: int | None = None
    erased_tickets: int = 0
    erasures: list[Erasure] = []
    window: Window | None = None
    routing: list[RuleSet] = []
    unknown: Unknown = {}

    @property
    def rule_sets(self) -> list[RuleSet]:
        """All rules that ever assigned teams, in the order of the batches from which they apply."""
        return self.routing or [RuleSet(1, list(DEFAULT.rules))]

    @property
    def files(self) -> dict[str, list[str]]:
        """The names of the files of each dataset."""
        return {dataset: list(files) for dataset, files in self.contents.items()}

    @property
    def next_offsets(self) -> dict[int, int]:
        """The offset from which each partition is read next."""
        return {number: partition.next_offset for number, partition in self.partitions.items()}

    @property
    def is_complete(self) -> bool:
        """Whether everything that the output is to hold is published; without an end it never is."""
        if self.window is None or self.window.until is None:
            return False
        read = self.next_offsets
        return all(read.get(number, -1) >= end for number, end in self.window.ends.items())


# The keys of the JSON file.
KEYS = ("version", "files", *(name for name in Manifest.__struct_fields__ if name != "unknown"))


class Rename(msgspec.Struct, frozen=True):
    """A staged file and the name under which it is published; both relative to the output folder."""

    staged: str
    published: str


class Exchange(msgspec.Struct, frozen=True):
    """A prepared folder, relative to the output, that the commit swaps with the folder of a dataset.

    It holds all files that the dataset has after the commit. ``new`` are files that only the prepared folder has,
    ``old`` those that only the dataset's folder has; the prepared one has placeholders under these names. They show
    whether the exchange was done, because doing it twice would undo it.
    """

    dataset: str
    prepared: str
    new: list[str]
    old: list[str]


class CommitRecord(msgspec.Struct, frozen=True):
    """A decided commit: once this is on the disk, the commit counts, and the next start must finish it."""

    manifest: Manifest
    renames: list[Rename]
    removals: list[str]
    exchanges: list[Exchange] = []


def new_id() -> str:
    """Return a random id for an output or a commit."""
    return uuid.uuid4().hex


def encode(value: Manifest | CommitRecord) -> bytes:
    """Return indented JSON, for people to read."""
    return msgspec.json.format(msgspec.json.encode(_to_json(value)), indent=2) + b"\n"


def _to_json(value: Any) -> Any:
    """Return ``value`` with the unknown fields of each struct merged into the known ones."""
    if isinstance(value, msgspec.Struct):
        fields = {name: _to_json(getattr(value, name)) for name in value.__struct_fields__ if name != "unknown"}
        if isinstance(value, Manifest):
            fields = {"version": VERSION, **fields, "files": value.files}
        return fields | getattr(value, "unknown", {})
    if isinstance(value, dict):
        return {key: _to_json(content) for key, content in value.items()}
    return [_to_json(one) for one in value] if isinstance(value, list) else value


S = TypeVar("S", bound=msgspec.Struct)


def _with_unknown(kind: type[S], raw: Any) -> Any:
    """Move the fields that ``kind`` does not know into its field ``unknown``."""
    if not isinstance(raw, dict):
        return raw
    known = set(kind.__struct_fields__) - {"unknown"}
    unknown = {key: value for key, value in raw.items() if key not in known}
    return {**{key: value for key, value in raw.items() if key in known}, "unknown": unknown}


def _each(kind: type[S], raw: Any) -> Any:
    return {key: _with_unknown(kind, value) for key, value in raw.items()} if isinstance(raw, dict) else raw


def _with_records(raw: Any) -> Any:
    """Move the fields that a ``last_record`` does not know into its field ``unknown``."""
    if not isinstance(raw, dict):
        return raw
    return {
        number: {**partition, "last_record": _with_unknown(Record, partition["last_record"])}
        if isinstance(partition, dict) and "last_record" in partition
        else partition
        for number, partition in raw.items()
    }


def manifest_from_json(raw: Mapping[str, Any]) -> Manifest:
    """Return the manifest in a JSON object of version 2 or 3. Raises msgspec.ValidationError."""
    fields = {key: value for key, value in raw.items() if key not in ("version", "files")}
    fields["source"] = _with_unknown(Source, fields.get("source"))
    fields["totals"] = _with_unknown(Totals, fields.get("totals"))
    fields["partitions"] = _each(Partition, _with_records(fields.get("partitions")))
    fields["gaps"] = [_with_unknown(Gap, gap) for gap in fields.get("gaps") or []]
    fields["erasures"] = [_with_unknown(Erasure, erasure) for erasure in fields.get("erasures") or []]
    fields["routing"] = [_with_unknown(RuleSet, rules) for rules in fields.get("routing") or []]
    if fields.get("upgrade") is not None:
        fields["upgrade"] = _with_unknown(Upgrade, fields["upgrade"])
    if fields.get("window") is not None:
        fields["window"] = _with_unknown(Window, fields["window"])
    contents = fields.get("contents")
    if isinstance(contents, dict):
        fields["contents"] = {name: _each(PublishedFile, files) for name, files in contents.items()}
    manifest = msgspec.convert(_with_unknown(Manifest, fields), Manifest, str_keys=True)
    if raw.get("files") != manifest.files:
        raise msgspec.ValidationError("`files` and `contents` name different files")
    return manifest


class _Versioned(msgspec.Struct):
    version: int


def version_of(path: Path, content: bytes, damage: str) -> int:
    """Return the version of a ledger or a commit record that this program can read.

    Raises DataConflict when it cannot be decoded, in which case ``damage`` says what that means, or when it is newer.
    """
    try:
        version = msgspec.json.decode(content, type=_Versioned).version
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, content, error, damage) from None
    if version < 1:
        raise damaged(path, content, ValueError(f"there is no version {version}"), damage)
    if version > VERSION:
        raise DataConflict(
            f"{path} has version {version}, but this program reads only up to version {VERSION}: a newer release wrote "
            "it; run that release, or choose another --output-path"
        )
    return version


def damaged(path: Path, content: bytes, error: Exception, damage: str) -> DataConflict:
    """Return the error for a ledger or commit record that cannot be decoded."""
    return DataConflict(f"{path} is damaged ({len(content):,} bytes: {error}): {damage}; {WAY_OUT}")


UNREADABLE_MANIFEST = "without it, nothing says which messages are in the datasets"


def decode_manifest(path: Path, content: bytes) -> Manifest:
    """Return the manifest of version 2 or 3 in ``content``, which was read from ``path``. Raises DataConflict."""
    try:
        return manifest_from_json(msgspec.json.decode(content, type=dict))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, content, error, UNREADABLE_MANIFEST) from None


class _Identified(msgspec.Struct):
    commit_id: str


def commit_id_of(path: Path, content: bytes) -> str:
    """Return the commit id of the manifest in ``content``; nothing else in it is checked. Raises DataConflict."""
    try:
        return msgspec.json.decode(content, type=_Identified).commit_id
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(path, content, error, UNREADABLE_MANIFEST) from None


def read_manifest(disk: Disk, output: Path) -> Manifest | None:
    """Return the manifest of ``output``, for readers without the lock; None if there is none.

    Raises DataConflict when it cannot be decoded, or has an older version, which a processor upgrades at its next
    start; OutputUnavailable when it cannot be read.
    """
    path = output / MANIFEST_NAME
    with reading(path):
        content = read_if_there(disk, path)
    if content is None:
        return None
    version = version_of(path, content, UNREADABLE_MANIFEST)
    if version < READABLE:
        raise DataConflict(
            f"{path} has version {version}, which an early release wrote; start the processor once: it "
            f"upgrades the ledger to version {VERSION}"
        )
    return decode_manifest(path, content)
