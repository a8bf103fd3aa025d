"""Count why messages were rejected, by task, and sum it up for the log. Functions on values: no I/O."""

from collections.abc import Iterable, Mapping

import msgspec

from contract.ticket import kind_of
from processor.events import Rejected
from store.datasets import REJECTED

# Keeps a receipt small, whatever is in the topic. Real topics hold a handful of kinds.
MOST_KINDS = 50
OTHER_KINDS = "other reasons"
_TOLD = 3


class Rejections(msgspec.Struct, frozen=True, array_like=True):
    """How many messages were rejected for one kind of reason, and where one of them is."""

    count: int
    partition: int
    offset: int


def count_rejections(known: dict[str, Rejections], rejected: Iterable[tuple[str, int, int]]) -> None:
    """Add messages, each given as (reason, partition, offset), to ``known``, which is by kind of reason."""
    for reason, partition, offset in rejected:
        _add(known, kind_of(reason), Rejections(1, partition, offset))


def _add(known: dict[str, Rejections], kind: str, new: Rejections) -> None:
    if kind not in known and len(known) >= MOST_KINDS:
        kind = OTHER_KINDS
    before = known.get(kind)
    known[kind] = new if before is None else msgspec.structs.replace(before, count=before.count + new.count)


def told(batch_id: int, messages: int, of_tasks: Iterable[Mapping[str, Rejections]]) -> Rejected:
    """Return what the log says of rejected messages: how many of ``messages``, and the commonest reasons."""
    known: dict[str, Rejections] = {}
    for of_task in of_tasks:
        for kind, found in of_task.items():
            _add(known, kind, found)
    rejected = sum(found.count for found in known.values())
    ordered = sorted(known.items(), key=lambda item: -item[1].count)
    commonest = "; ".join(
        f"{found.count:,} times {kind} (as at offset {found.offset} of partition {found.partition})"
        for kind, found in ordered[:_TOLD]
    )
    rest = "; and others" if len(ordered) > _TOLD else ""
    return Rejected(
        f"{rejected:,} of {messages:,} messages were rejected as invalid; {REJECTED.name} holds them with the reason: "
        f"{commonest}{rest}",
        *(batch_id, messages, rejected),
        reasons={kind: found.count for kind, found in ordered},
    )
