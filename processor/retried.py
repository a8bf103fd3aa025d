"""What becomes of rejected messages by the contract of this release. Functions on tables and values: no I/O."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.arrays import Integers, Mask
from contract.columns import decode_columns
from contract.ticket import kind_of
from processor.duplicates import Duplicates
from processor.forgotten import of_erased_clients
from store.datasets import DUPLICATE, REJECTED
from store.manifest import Erasure, Manifest

_REASON = REJECTED.schema.get_field_index("reason")


class Places(NamedTuple):
    """Where in the topic some messages are; columns of equal length."""

    partition: Integers
    offset: Integers

    def at(self, rows: Mask) -> "Places":
        """Return some of them."""
        return Places(self.partition[rows], self.offset[rows])


class Retried(NamedTuple):
    """What became of a table of rejected messages, of which ``asked`` were decoded again.

    ``tickets`` (TICKET_SCHEMA) are to be published; they were at ``published``. ``duplicates`` are tickets whose id is
    published, ``forgotten`` those of forgotten clients. ``left`` are the messages that stay, in their order; if none
    left and none got another reason, they are not ``changed``.
    """

    asked: int
    tickets: pa.Table
    published: Places
    duplicates: Places
    forgotten: Places
    left: pa.Table
    changed: bool


def is_asked_for(reasons: pa.ChunkedArray, wanted: str | None) -> Mask:
    """Say which of ``reasons`` are to be decoded again: all, or those that ``wanted`` names.

    That is a whole reason, one without what was found, or only what stands before the colon, such as a field. A
    duplicate is never asked for: its ticket is published.
    """
    asked = [reason for reason in pc.unique(reasons).to_pylist() if _names(wanted, reason)]
    mask: Mask = pc.is_in(reasons, pa.array(asked, pa.string())).to_numpy()
    return mask


def _names(wanted: str | None, reason: str) -> bool:
    if reason.startswith(DUPLICATE):
        return False
    kind = kind_of(reason)
    return wanted is None or wanted in (reason, kind, kind.partition(":")[0])


def retry_messages(
    rejected: pa.Table, wanted: str | None, duplicates: Duplicates, erasures: Sequence[Erasure]
) -> Retried:
    """Decode those of ``rejected`` (in the schema of rejected_messages) that ``wanted`` names, and say what they are.

    ``duplicates`` are the known ones among them; ``erasures`` name clients whose messages are left out.
    """
    rows = np.flatnonzero(is_asked_for(rejected["reason"], wanted))
    some = rejected if len(rows) == rejected.num_rows else rejected.take(pa.array(rows))
    decoded = decode_columns(some["payload"].to_pylist())
    valid = np.delete(np.arange(len(rows)), decoded.rejected)
    places = Places(some["partition"].to_numpy().astype(np.int64)[valid], some["offset"].to_numpy()[valid])
    forgotten = of_erased_clients(erasures, decoded.tickets["client_id"], *places)
    known = duplicates.places(*places)
    repeated = (known >= 0) & ~forgotten
    published = ~forgotten & ~repeated

    before = rejected["reason"].to_pylist()
    reasons = list(before)
    again = [*zip(rows[decoded.rejected].tolist(), decoded.reasons, strict=True)]
    again += zip(rows[valid[repeated]].tolist(), map(duplicates.reason, known[repeated].tolist()), strict=True)
    for row, reason in again:
        reasons[row] = reason
    stays = np.ones(rejected.num_rows, bool)
    stays[rows[valid[~repeated]]] = False
    left = rejected.set_column(_REASON, REJECTED.schema.field(_REASON), pa.array(reasons, pa.string()))
    return Retried(
        len(rows),
        decoded.tickets.filter(pa.array(published)),
        places.at(published),
        places.at(repeated),
        places.at(forgotten),
        left.filter(pa.array(stays)),
        changed=reasons != before or not stays.all(),
    )


class Moved(msgspec.Struct):
    """How many rejected messages of a partition became something else."""

    tickets: int = 0
    duplicates: int = 0
    forgotten: int = 0


# By partition, and whether the message was read before the upgrade of the ledger, when partitions were not counted.
Moves = dict[tuple[int, bool], Moved]


def count_moves(moves: Moves, manifest: Manifest, retried: Retried) -> None:
    """Add what became of some messages to ``moves``."""
    for name, places in (
        ("tickets", retried.published),
        ("duplicates", retried.duplicates),
        ("forgotten", retried.forgotten),
    ):
        for number in np.unique(places.partition).tolist():
            offsets = places.offset[places.partition == number]
            early = int((offsets < manifest.partitions[number].first_offset).sum())
            for is_early, count in ((True, early), (False, len(offsets) - early)):
                if count:
                    moved = moves.setdefault((number, is_early), Moved())
                    setattr(moved, name, getattr(moved, name) + count)


def account(manifest: Manifest, moves: Mapping[tuple[int, bool], Moved]) -> dict[str, object]:
    """Return the fields of the ledger that say what became of offsets, after ``moves``."""
    partitions, upgrade = dict(manifest.partitions), manifest.upgrade
    for (number, is_early), moved in moves.items():
        if is_early and upgrade is not None:
            # The totals of the earlier version do not tell duplicates from other rejected messages.
            upgrade = msgspec.structs.replace(
                upgrade,
                tickets=upgrade.tickets + moved.tickets,
                rejected=upgrade.rejected - moved.tickets - moved.forgotten,
            )
            continue
        known = partitions[number]
        partitions[number] = msgspec.structs.replace(
            known,
            tickets=known.tickets + moved.tickets,
            duplicates=known.duplicates + moved.duplicates,
            forgotten=known.forgotten + moved.forgotten,
            rejected=known.rejected - moved.tickets - moved.duplicates - moved.forgotten,
        )
    return {"partitions": partitions, "upgrade": upgrade}
