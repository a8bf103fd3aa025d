"""Count published rows a second time. Functions on tables: no I/O.

No code is shared with what counted them the first time (``store.counts``), so that both do not have the same mistake.
Arrow only gives columns and their distinct words; all counting is done with NumPy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contract.ticket import PRIORITIES, REQUEST_TYPES, URGENT

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

HOUR_US = 3_600_000_000

_UUID_WIDTH = 36
_UUID_DASHES = [8, 13, 18, 23]
_UUID_DIGITS = [place for place in range(_UUID_WIDTH) if place not in _UUID_DASHES]
_NO_DIGIT = 255
_DIGITS = np.full(256, _NO_DIGIT, np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _DIGITS[np.frombuffer(_digits, np.uint8)] = np.arange(16)

# Stands for every unknown word; its number comes after those of the known words.
OTHER = "(another)"
_TYPE_NAMES = (*REQUEST_TYPES, OTHER)
_PRIORITY_NAMES = (*PRIORITIES, OTHER)
_TYPES = len(_TYPE_NAMES)
_PRIORITIES = len(_PRIORITY_NAMES)

# Repeated ids are searched for in this many parts, one after the other, so that only one part is copied and sorted.
_PARTS = 16
# How many numbers are processed at a time, so that they stay in the processor's cache.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Tally:
    """How often each number occurs; ``numbers`` are distinct and ascending."""

    numbers: Integers
    counts: Integers

    @classmethod
    def of(cls, numbers: Integers, counts: Integers | None = None) -> "Tally":
        """Count ``numbers``, each once, or as often as ``counts`` says."""
        if counts is None:
            return cls(*np.unique_counts(numbers))
        distinct, places = np.unique(numbers, return_inverse=True)
        sums = np.zeros(len(distinct), np.int64)
        np.add.at(sums, places, counts)
        return cls(distinct, sums)

    @classmethod
    def sum(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Return the sum of several tallies."""
        parts = [cls(_NO_INTEGERS, _NO_INTEGERS), *tallies]
        return cls.of(np.concatenate([t.numbers for t in parts]), np.concatenate([t.counts for t in parts]))


_NO_INTEGERS = np.empty(0, np.int64)
_NO_HASHES = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class TicketRows:
    """What is kept of the rows of one file of tickets: 16 bytes a row, 8 more if it is urgent, 8 a client.

    ``kinds`` counts combinations of hour, type and priority (``kind_of``), ``teams`` those of type, priority and team.
    ``urgent`` holds a hash of each row of high or critical priority, in the order of the file. ``wrong`` counts invalid
    values by column.
    """

    rows: int = 0
    ids: Hashes = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    clients: Hashes = field(default_factory=lambda: _NO_HASHES)
    kinds: Tally = field(default_factory=lambda: Tally(_NO_INTEGERS, _NO_INTEGERS))
    teams: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    urgent: Hashes = field(default_factory=lambda: _NO_HASHES)
    wrong: Counter[str] = field(default_factory=Counter)


def count_tickets(tables: Iterable[pa.Table]) -> TicketRows:
    """Return what is kept of the rows of a file of tickets_with_assignment."""
    rows = 0
    ids, clients, kinds, urgent = [np.empty((0, 2), np.uint64)], [_NO_HASHES], [], [_NO_HASHES]
    teams: Counter[tuple[str, str, str]] = Counter()
    wrong: Counter[str] = Counter()
    for table in tables:
        rows += table.num_rows
        of_table, bad = uuids(table["ticket_id"])
        ids.append(of_table)
        types, priorities = _numbers(table["request_type"], _TYPE_NAMES), _numbers(table["priority"], _PRIORITY_NAMES)
        wrong["ticket_id"] += bad
        wrong["request_type"] += int((types == len(REQUEST_TYPES)).sum())
        wrong["priority"] += int((priorities == len(PRIORITIES)).sum())
        clients.append(_distinct_texts(table["client_id"]))
        hours = _instants(table["created_at"]) // HOUR_US
        kinds.append(Tally.of((hours * _TYPES + types) * _PRIORITIES + priorities))
        teams.update(_count_teams(types, priorities, table["assigned_team"]))
        is_urgent = np.isin(priorities, [PRIORITIES.index(priority) for priority in URGENT])
        urgent.append(row_hashes(table.filter(pa.array(is_urgent))))
    return TicketRows(
        rows,
        np.concatenate(ids),
        np.unique(np.concatenate(clients)),
        Tally.sum(kinds),
        teams,
        np.concatenate(urgent),
        +wrong,
    )


def kind_of(hour: int, request_type: str, priority: str) -> int:
    """Return the number in ``TicketRows.kinds`` for an hour (since 1970), a type and a priority."""
    return (hour * _TYPES + _place(request_type, _TYPE_NAMES)) * _PRIORITIES + _place(priority, _PRIORITY_NAMES)


def kind_from(number: int) -> tuple[int, str, str]:
    """Return the hour (since 1970), the type and the priority for a number in ``TicketRows.kinds``."""
    rest, priority = divmod(number, _PRIORITIES)
    hour, request_type = divmod(rest, _TYPES)
    return hour, _TYPE_NAMES[request_type], _PRIORITY_NAMES[priority]


def _place(word: str, names: Sequence[str]) -> int:
    return names.index(word if word in names else OTHER)


def by_type(kinds: Tally) -> dict[str, int]:
    """Return how many tickets there are of each type."""
    return _by_word(kinds.numbers // _PRIORITIES % _TYPES, kinds.counts, _TYPE_NAMES)


def by_priority(kinds: Tally) -> dict[str, int]:
    """Return how many tickets there are of each priority."""
    return _by_word(kinds.numbers % _PRIORITIES, kinds.counts, _PRIORITY_NAMES)


def _by_word(numbers: Integers, counts: Integers, words: Sequence[str]) -> dict[str, int]:
    sums = {word: int(counts[numbers == number].sum()) for number, word in enumerate(words)}
    return {word: count for word, count in sums.items() if count}


def uuids(column: pa.ChunkedArray) -> tuple[Hashes, int]:
    """Return the UUIDs as pairs of 64-bit numbers, and how many other values there are, which are left out.

    Upper and lower case letters are the same.
    """
    edges, data = _bytes_of(column)
    starts = edges[:-1][np.diff(edges) == _UUID_WIDTH]
    if len(starts) * _UUID_WIDTH == len(data):
        characters = data.reshape(-1, _UUID_WIDTH)
    else:
        characters = data[starts[:, None] + np.arange(_UUID_WIDTH)]
    digits = _DIGITS[characters[:, _UUID_DIGITS]]
    right = (digits != _NO_DIGIT).all(axis=1) & (characters[:, _UUID_DASHES] == ord("-")).all(axis=1)
    if not right.all():
        digits = digits[right]
    pairs = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2])
    return pairs.view(">u8").astype(np.uint64), len(column) - len(digits)


def uuid_text(pair: Sequence[int]) -> str:
    """Return the text of a UUID."""
    digits = f"{pair[0]:016x}{pair[1]:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def repeats(ids: Sequence[Hashes], most: int) -> tuple[int, list[tuple[str, int]]]:
    """Return how many rows repeat the id of an earlier one, and up to ``most`` such ids with how often they occur."""
    total, examples, mask = 0, list[tuple[str, int]](), np.uint64(_PARTS - 1)
    for part in range(_PARTS):
        some = np.concatenate([np.empty((0, 2), np.uint64), *(of[of[:, 1] & mask == part] for of in ids)])
        # First sort one mixed number a row: that is several times as fast as two, and rules out nearly all rows.
        mixed = some[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ some[:, 1]
        ordered = np.sort(mixed)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(twice):
            distinct, counts = _count_pairs(some[np.isin(mixed, twice)])
            total += int((counts - 1).sum())
            first = np.flatnonzero(counts > 1)[:most]
            pairs = zip(distinct[first].tolist(), counts[first].tolist(), strict=True)
            examples = sorted([*examples, *((uuid_text(pair), count) for pair, count in pairs)])[:most]
    return total, examples


def fingerprint(high: Hashes, low: Hashes, others: int = 0) -> int:
    """Return a hash of a set of pairs of 64-bit numbers, whatever their order. It is valid in this process only.

    ``others`` is the fingerprint of pairs to add to.
    """
    one, two = (np.uint64(hash(half) & (2**64 - 1) | 1) for half in ("high", "low"))
    total = others
    for start in range(0, len(high), _AT_ONCE):
        mixed = (high[start : start + _AT_ONCE] * one) ^ (low[start : start + _AT_ONCE] * two)
        mixed = (mixed ^ mixed >> np.uint64(29)) * one
        total += int((mixed ^ mixed >> np.uint64(32)).sum(dtype=np.uint64))
    # NumPy's sum has dropped everything above 64 bits, so drop it here too.
    return total % 2**64


def _count_pairs(pairs: Hashes) -> tuple[Hashes, Integers]:
    """Return the distinct pairs, ascending, and how often each occurs."""
    ordered = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(is_new)
    return ordered[starts], np.diff(starts, append=len(ordered))


def row_hashes(table: pa.Table) -> Hashes:
    """Return a 64-bit hash of each row, over all columns. It is valid in this process only."""
    mixed = np.zeros(table.num_rows, np.uint64)
    for name in table.column_names:
        column = table[name]
        values = _instants(column).view(np.uint64) if pa.types.is_timestamp(column.type) else _text_hashes(column)
        # Mix so that the order of the columns matters, and every bit of each.
        mixed = (mixed ^ values) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def text_hashes(texts: Iterable[str]) -> Hashes:
    """Return a 64-bit hash of each text. It is valid in this process only.

    With 10,000,000 different texts, two share a hash in about one run of 400,000.
    """
    return np.fromiter(map(hash, texts), np.int64).view(np.uint64)


def _text_hashes(column: pa.ChunkedArray) -> Hashes:
    words = column.combine_chunks().dictionary_encode()
    hashes = text_hashes(words.dictionary.to_pylist())
    return hashes[np.asarray(words.indices.to_numpy(), np.int64)]


def _distinct_texts(column: pa.ChunkedArray) -> Hashes:
    return text_hashes(column.combine_chunks().dictionary_encode().dictionary.to_pylist())


def unmatched(some: Hashes, others: Hashes) -> Integers:
    """Return the indexes in ``some`` of values that ``others`` lacks, or has less often; both in any order."""
    order = np.argsort(some, kind="stable")
    ordered = some[order]
    # The n-th of equal values in ``some`` matches the n-th in ``others``.
    nth = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    there = np.sort(others)
    available = np.searchsorted(there, ordered, side="right") - np.searchsorted(there, ordered)
    return np.sort(order[nth >= available])


def _numbers(column: pa.ChunkedArray, names: Sequence[str]) -> Integers:
    """Return the index of each word in ``names``; unknown words get the index after the last."""
    words = column.combine_chunks().dictionary_encode()
    places = np.array([_place(word, names) for word in words.dictionary.to_pylist()], np.int64)
    return places[np.asarray(words.indices.to_numpy(), np.int64)]


def _count_teams(types: Integers, priorities: Integers, column: pa.ChunkedArray) -> dict[tuple[str, str, str], int]:
    teams = column.combine_chunks().dictionary_encode()
    names = teams.dictionary.to_pylist()
    places = np.asarray(teams.indices.to_numpy(), np.int64)
    found = Tally.of((places * _TYPES + types) * _PRIORITIES + priorities)
    counts: dict[tuple[str, str, str], int] = {}
    for number, count in zip(found.numbers.tolist(), found.counts.tolist(), strict=True):
        # The place of the team stands where ``kinds`` has the hour.
        place, request_type, priority = kind_from(number)
        counts[request_type, priority, names[place]] = count
    return counts


def _instants(column: pa.ChunkedArray) -> Integers:
    """Return microseconds since 1970 (UTC)."""
    return np.asarray(column.combine_chunks().view(pa.int64()).to_numpy(), np.int64)


def _bytes_of(column: pa.ChunkedArray) -> tuple[Integers, npt.NDArray[np.uint8]]:
    """Return the offsets at which each text begins and the last one ends, and the bytes of all texts."""
    array = column.combine_chunks()
    if not len(array):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    _, offsets, data = array.buffers()
    edges = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return edges - edges[0], np.frombuffer(data or b"", np.uint8)[edges[0] : edges[-1]]
