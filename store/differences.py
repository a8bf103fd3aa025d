"""What differs between a ledger, the files that it names, and what their rows add up to. Functions on values: no I/O.

None of them raises: each difference becomes a sentence, together with the place where it was found.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from contract.routing import KINDS
from contract.ticket import PRIORITIES, REQUEST_TYPES
from store.datasets import (
    BY_HOUR,
    BY_NAME,
    BY_PRIORITY,
    BY_TEAM,
    BY_TYPE,
    HIGH_PRIORITY,
    METRICS,
    REJECTED,
    TICKETS,
    Dataset,
)
from store.manifest import MANIFEST_NAME, Manifest, PublishedFile, Window
from store.recount import HOUR_US, Hashes, Integers, Tally, kind_from, kind_of, unmatched

# Of each kind, at most this many differences are listed one by one.
TOLD = 5


class Difference(msgspec.Struct, frozen=True):
    """Where something is not what it should be, and what is wrong."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What is at the place of a published file. If it could not be decoded, ``rows`` is None; ``damage`` says why."""

    is_file: bool = True
    bytes: int = 0
    checksum: str = ""
    rows: int | None = None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of tickets_with_assignment and rejected_messages add up to."""

    tickets: int = 0
    clients: int = 0
    rejected: int = 0
    by_type: Mapping[str, int] = field(default_factory=dict)
    by_priority: Mapping[str, int] = field(default_factory=dict)
    by_team: Mapping[str, int] = field(default_factory=dict)


def of_file(published: PublishedFile, found: FoundFile | None) -> str | None:
    """Return how a file differs from the one that was published, the plainest reason only; None if it does not."""
    if found is None:
        return "was published and is gone"
    if not found.is_file:
        return "was published as a file and is something else now, perhaps a link"
    if found.bytes != published.bytes:
        return f"has {found.bytes:,} bytes, was published with {published.bytes:,}"
    if found.checksum != published.checksum:
        return "is not the file that was published: its checksum differs"
    if found.rows is None:
        return f"cannot be decoded ({found.damage})"
    if found.rows != published.rows:
        return f"holds {found.rows:,} rows, the ledger says {published.rows:,}"
    return None


def of_folder(present: Iterable[str], named: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    """Return the names in a folder that the ledger does not have; those that readers would count come first."""
    strangers = sorted(set(present) - set(named))
    return sorted(strangers, key=lambda name: not name.endswith(tuple(suffixes)))


def of_ledger(manifest: Manifest) -> Iterator[Difference]:
    """Yield where the ledger contradicts itself in what it says of files, batches and offsets."""
    if missing := sorted(set(BY_NAME) ^ set(manifest.contents)):
        yield _of_ledger(f"names other datasets than those of an output: {', '.join(missing)}")
    for dataset, files in manifest.contents.items():
        if dataset in BY_NAME and not BY_NAME[dataset].appended and len(files) != 1:
            yield _of_ledger(f"{dataset} is a dataset of one file, and {len(files)} are named")
        for name, file in files.items():
            if "/" in name or not name.endswith(f".{manifest.format}"):
                yield _of_ledger(f"{dataset} has a file {name!r}, which is not the name of a {manifest.format} file")
            if not 1 <= file.first_batch <= file.last_batch <= manifest.batch_id or file.commit > manifest.commit:
                yield _of_ledger(
                    f"{dataset}/{name} holds batches {file.first_batch} to {file.last_batch} of commit {file.commit}, "
                    f"but the output ends with batch {manifest.batch_id} and commit {manifest.commit}"
                )
    if not 1 <= (manifest.deduped_from or 1) <= manifest.batch_id:
        yield _of_ledger(
            f"says that no batch since batch {manifest.deduped_from} has duplicates, but the output ends with batch "
            f"{manifest.batch_id}"
        )
    starts = [rules.from_batch for rules in manifest.rule_sets]
    if starts[0] != 1 or any(later <= earlier for earlier, later in pairwise([*starts, manifest.batch_id + 1])):
        yield _of_ledger(
            f"has rules for teams that apply from batch {', '.join(map(str, starts))} on, but its batches are 1 to "
            f"{manifest.batch_id}"
        )
    yield from _of_partitions(manifest)
    if manifest.window is not None and manifest.window.until is not None:
        yield from _of_window(manifest, manifest.window)


def _of_window(manifest: Manifest, window: Window) -> Iterator[Difference]:
    for number in sorted({*manifest.partitions, *window.ends}):
        partition, end = manifest.partitions.get(number), window.ends.get(number)
        if partition is None or end is None:
            yield _of_partition(number, "stands in only one of `partitions` and `window`")
        elif partition.next_offset > end:
            yield _of_partition(
                number, f"was read up to offset {partition.next_offset:,}, but was to be read up to {end:,} only"
            )


def _of_partitions(manifest: Manifest) -> Iterator[Difference]:
    for number, partition in sorted(manifest.partitions.items()):
        passed = partition.next_offset - partition.first_offset
        if passed != partition.accounted or passed < 0:
            yield _of_partition(
                number,
                f"passed {passed:,} offsets ({partition.first_offset:,} to {partition.next_offset:,}), but its counts "
                f"explain {partition.accounted:,}",
            )
        # Earlier gaps are from a ledger of version 1, which did not count by partition.
        gaps = sum(
            g.end - g.start for g in manifest.gaps if g.partition == number and g.start >= partition.first_offset
        )
        if gaps != partition.gaps:
            yield _of_partition(number, f"counts {partition.gaps:,} offsets in gaps, the list of gaps has {gaps:,}")


def of_totals(manifest: Manifest, rows: Rows) -> Iterator[Difference]:
    """Yield where the totals of the ledger, and its sums over partitions, are not those of the rows."""
    totals, earlier, erased = manifest.totals, manifest.upgrade, manifest.erased_tickets
    read = manifest.partitions.values()
    tickets = sum(p.tickets for p in read) + (earlier.tickets if earlier else 0)
    less = f" (less {erased:,} that were erased)" if erased else ""
    rejected = sum(p.rejected + p.duplicates for p in read) + (earlier.rejected if earlier else 0)
    for what, said, found in (
        ("tickets in total", totals.tickets, rows.tickets),
        ("rejected messages in total", totals.rejected, rows.rejected),
        ("unique clients", totals.unique_clients, rows.clients),
        (f"tickets of all partitions together{less}", tickets - erased, rows.tickets),
        ("rejected messages of all partitions together", rejected, rows.rejected),
    ):
        if said != found:
            yield _of_ledger(f"says {said:,} {what}, the files hold {found:,}")
    for what, said_each, found_each in (
        ("request_type", totals.by_type, rows.by_type),
        ("priority", totals.by_priority, rows.by_priority),
        ("assigned_team", totals.by_team, rows.by_team),
    ):
        for name, said, found in _unequal(said_each, found_each):
            yield _of_ledger(f"says {said:,} tickets of {what} {name}, the files hold {found:,}")


def of_teams(
    manifest: Manifest, found: Mapping[str, Mapping[tuple[str, str, str], int]]
) -> tuple[list[Difference], list[str]]:
    """Return tickets whose team is not the one that the rules of their batch say, and a note on merged files.

    ``found`` counts combinations of type, priority and team by the name of the file. If the batches of a file had
    different rules, the file does not say which ticket is of which batch; then the team of any of these rules is right.
    """
    wrong: Counter[tuple[str, str, str, str]] = Counter()
    mixed = 0
    teams: dict[int, dict[tuple[str, str], str]] = {
        rules.from_batch: {(kind, priority): team for (kind, priority), team in rules.routing.assignments().items()}
        for rules in manifest.rule_sets
    }
    for name, counts in found.items():
        file = manifest.contents[TICKETS.name][name]
        tables = [teams[start] for start in _starts_within(list(teams), file.first_batch, file.last_batch)]
        mixed += len(tables) > 1
        for (request_type, priority, team), count in counts.items():
            right = [table[request_type, priority] for table in tables if (request_type, priority) in table]
            if team not in right and (request_type, priority) in KINDS:
                wrong[request_type, priority, team, " or ".join(dict.fromkeys(right)) or "nothing"] += count
    differences = [
        Difference(
            TICKETS.name,
            f"{count:,} tickets of {request_type} with {priority} priority are assigned to {team}, but the rules of "
            f"their batches say {right}",
        )
        for (request_type, priority, team, right), count in sorted(wrong.items())
    ]
    note = (
        f"{mixed:,} files of {TICKETS.name} hold batches from before and after a change of the rules, so the team of "
        "either was accepted for each ticket in them"
    )
    return differences, [note] if mixed else []


def _starts_within(starts: Sequence[int], first: int, last: int) -> list[int]:
    """Return which of the rules that apply from ``starts`` on were in force in the batches ``first`` to ``last``."""
    ends = [*starts[1:], last + 1]
    return [start for start, end in zip(starts, ends, strict=True) if start <= last and end > first]


def of_values(wrong: Mapping[str, int]) -> Iterator[Difference]:
    """Yield how many rows of tickets hold an invalid value; ``wrong`` counts them by column."""
    for column, count in sorted(wrong.items()):
        yield Difference(TICKETS.name, f"{count:,} rows hold an invalid {column}")


def of_metrics(found: Sequence[Mapping[str, Any]], manifest: Manifest, rows: Rows) -> Iterator[Difference]:
    """Yield where the one row of metrics is not what the rows of the other datasets add up to."""
    if len(found) != 1:
        yield Difference(METRICS.name, f"has {len(found):,} rows instead of one")
        return
    expected: dict[str, Any] = {
        "total_tickets": rows.tickets,
        **{f"{name}_count": rows.by_type.get(name, 0) for name in REQUEST_TYPES},
        **{f"{name}_priority_count": rows.by_priority.get(name, 0) for name in PRIORITIES},
        "unique_clients": rows.clients,
        "rejected_messages": rows.rejected,
        "batch_id": manifest.batch_id,
    }
    for column, count in expected.items():
        if found[0][column] != count:
            yield Difference(METRICS.name, f"{column} is {found[0][column]:,}, it should be {count:,}")
    # Commits of other kinds change no count, so they leave metrics as it was.
    if manifest.kind in ("batch", "erasure", "retry") and found[0]["updated_at"] != manifest.updated_at:
        yield Difference(METRICS.name, f"updated_at is {found[0]['updated_at']}, the ledger says {manifest.updated_at}")


def of_summaries(found: Mapping[Dataset, Sequence[tuple[str, int]]], rows: Rows) -> Iterator[Difference]:
    """Yield where tickets_by_type, tickets_by_priority or tickets_by_team is not what the tickets add up to."""
    for dataset, expected, always in (
        (BY_TYPE, rows.by_type, REQUEST_TYPES),
        (BY_PRIORITY, rows.by_priority, PRIORITIES),
        # Which teams have a row without a ticket depends on the routing at the time of the batch.
        (BY_TEAM, rows.by_team, ()),
    ):
        published = found[dataset]
        column = dataset.schema.names[0]
        counts = [count for _, count in published]
        names = Counter(name for name, _ in published)
        for name, said, counted in _unequal(dict(published), expected):
            yield Difference(dataset.name, f"{column} {name} has {said:,}, there are {counted:,} tickets")
        if missing := [name for name in always if name not in names]:
            yield Difference(dataset.name, f"has no row for {', '.join(missing)}")
        if again := [name for name, count in names.items() if count > 1]:
            yield Difference(dataset.name, f"has more than one row for {', '.join(again)}")
        if counts != sorted(counts, reverse=True):
            yield Difference(dataset.name, "is not in the order of its counts, largest first")


def of_hours(published: pa.Table, kinds: Tally) -> Iterator[Difference]:
    """Yield where tickets_by_hour is not what the tickets add up to (``TicketRows.kinds``)."""
    instants = published["hour"].combine_chunks().view(pa.int64()).to_numpy()
    if odd := int((instants % HOUR_US != 0).sum()):
        yield Difference(BY_HOUR.name, f"{odd:,} rows have a time that is not the start of an hour")
    words = zip(published["request_type"].to_pylist(), published["priority"].to_pylist(), strict=True)
    numbers = np.array(
        [kind_of(hour, *word) for hour, word in zip((instants // HOUR_US).tolist(), words, strict=True)], np.int64
    )
    said = Tally.of(numbers, published["count"].to_numpy())
    if len(said.numbers) != len(numbers):
        yield Difference(
            BY_HOUR.name,
            f"has {len(numbers) - len(said.numbers):,} rows that repeat the hour, type and priority of another one",
        )
    difference = Tally.sum([said, Tally(kinds.numbers, -kinds.counts)])
    unequal = np.flatnonzero(difference.counts)
    for place in unequal[:TOLD].tolist():
        number = int(difference.numbers[place])
        hour, request_type, priority = kind_from(number)
        there = int(kinds.counts[kinds.numbers == number].sum())
        yield Difference(
            BY_HOUR.name,
            f"{_hour(hour)}, {request_type}, {priority} has {there + int(difference.counts[place]):,}, there are "
            f"{there:,} tickets",
        )
    if len(unequal) > TOLD:
        yield Difference(BY_HOUR.name, f"{len(unequal) - TOLD:,} more of its counts are wrong")


def _hour(hour: int) -> str:
    # The year may be one that datetime cannot hold; NumPy can.
    return f"{np.datetime64(hour, 'h')}:00Z"


def of_urgent(tickets: Mapping[str, Hashes], urgent: Mapping[str, Hashes]) -> Iterator[Difference]:
    """Yield which rows of high and critical priority are in only one of the two datasets.

    Both arguments map the name of a file to the hashes of its rows, in their order.
    """
    for dataset, place, some, others in (
        (TICKETS, f"are not in {HIGH_PRIORITY.name}", tickets, urgent),
        (HIGH_PRIORITY, f"are not in {TICKETS.name}, or not with high or critical priority", urgent, tickets),
    ):
        alone = unmatched(_together(some.values()), _together(others.values()))
        if len(alone):
            name, row = _locate(int(alone[0]), some)
            kind = "urgent row" if dataset is TICKETS else "row"
            yield Difference(dataset.name, f"{len(alone):,} {kind}s {place}; the first is {kind} {row + 1:,} of {name}")


def _together(hashes: Iterable[Hashes]) -> Hashes:
    return np.concatenate([np.empty(0, np.uint64), *hashes])


def _locate(place: int, files: Mapping[str, Hashes]) -> tuple[str, int]:
    for name, hashes in files.items():
        if place < len(hashes):
            return name, place
        place -= len(hashes)
    raise IndexError(place)


def of_rejected(manifest: Manifest, partitions: Integers, offsets: Integers) -> Iterator[Difference]:
    """Yield where the rejected messages, given by partition and offset, are not those that the ledger counts."""
    order = np.lexsort((offsets, partitions))
    partitions, offsets = partitions[order], offsets[order]
    again = np.flatnonzero((partitions[1:] == partitions[:-1]) & (offsets[1:] == offsets[:-1]))
    if len(again):
        first = again[0]
        yield Difference(
            REJECTED.name,
            f"{len(again):,} rows repeat another one, the first is partition {partitions[first]}, offset "
            f"{offsets[first]:,}",
        )
    earlier = 0
    for number in sorted({*manifest.partitions, *np.unique(partitions).tolist()}):
        of_partition = offsets[partitions == number]
        if number not in manifest.partitions:
            yield Difference(
                REJECTED.name, f"{len(of_partition):,} rows are of partition {number}, which the ledger does not have"
            )
            continue
        known = manifest.partitions[number]
        inside = int(((of_partition >= known.first_offset) & (of_partition < known.next_offset)).sum())
        before = int((of_partition < known.first_offset).sum())
        earlier += before
        said = known.rejected + known.duplicates
        if inside != said:
            yield _of_partition(number, f"says {said:,} rejected messages, {REJECTED.name} holds {inside:,} of them")
        if outside := len(of_partition) - inside - (before if manifest.upgrade else 0):
            yield Difference(REJECTED.name, f"{outside:,} rows are of offsets of partition {number} that were not read")
    if manifest.upgrade and earlier != manifest.upgrade.rejected:
        yield _of_ledger(
            f"says {manifest.upgrade.rejected:,} rejected messages before the upgrade, {REJECTED.name} holds "
            f"{earlier:,} of them"
        )


@dataclass(frozen=True, slots=True)
class FoundClients:
    """At which commit the set of clients stands, and the hashes of those that it had after the ledger's commit."""

    commit_id: str
    follows: str
    clients: Hashes


def of_clients(found: FoundClients, manifest: Manifest, published: Hashes) -> tuple[list[Difference], list[str]]:
    """Return where the set of clients differs from the clients of the published tickets, and notes.

    If the set stands at another commit, the next start fills it again, so that is only a note.
    """
    if manifest.commit_id not in (found.commit_id, found.follows):
        return [], ["clients.sqlite stands at another commit: the next start fills it again"]
    missing, more = len(unmatched(published, found.clients)), len(unmatched(found.clients, published))
    if not missing and not more:
        return [], []
    what = (
        f"has {len(found.clients):,} clients, the tickets {len(published):,}: {missing:,} are missing, {more:,} have "
        "no ticket; stop the processor and delete this file: the next start fills it again"
    )
    return [Difference("clients.sqlite", what)], []


@dataclass(frozen=True, slots=True)
class FoundIds:
    """How many ids a set has, and their fingerprint (``recount.fingerprint``)."""

    ids: int
    fingerprint: int


def of_ids(found: FoundIds, published: FoundIds) -> Iterator[Difference]:
    """Yield that the set of known ids differs from the ids of the published tickets."""
    if found != published:
        numbers = "as many" if found.ids == published.ids else f"{found.ids:,}"
        yield Difference(
            "ids",
            f"the set of known ticket ids has {numbers} ids for {published.ids:,} tickets, and not the same; stop the "
            "processor and delete the folder: the next batch makes it again",
        )


def of_repeats(manifest: Manifest, repeated: int, example: str) -> Iterator[Difference]:
    """Yield that tickets repeat the id of another one, if every batch was checked for that (``deduped_from`` is 1)."""
    if repeated and manifest.deduped_from == 1:
        yield Difference(
            TICKETS.name,
            f"{repeated:,} tickets repeat the id of another one, such as {example}, but the ledger says that every "
            "batch was published without such tickets",
        )


def _unequal(said: Mapping[str, int], found: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    for name in sorted({*said, *found}):
        if said.get(name, 0) != found.get(name, 0):
            yield name, said.get(name, 0), found.get(name, 0)


def _of_ledger(what: str) -> Difference:
    return Difference(MANIFEST_NAME, what)


def _of_partition(number: int, what: str) -> Difference:
    return _of_ledger(f"partition {number} {what}")
