"""The message for every kind of damage, on values."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from contract.routing import DEFAULT, Rule
from store import differences
from store.counts import Totals
from store.datasets import BY_HOUR, BY_NAME, BY_PRIORITY, BY_TEAM, BY_TYPE
from store.differences import Difference, FoundClients, FoundFile, Rows
from store.manifest import Gap, Manifest, Partition, PublishedFile, RuleSet, Source, Upgrade, Window
from store.recount import Hashes, Tally, kind_of
from tests.support.staging import NIGHT_SHIFT

AT = datetime(2026, 1, 31, 11, 0, tzinfo=UTC)
# 2026-01-31T09:00Z, in hours since 1970.
NINE = 491_625

FILE = PublishedFile(rows=10, bytes=2_000, checksum="sha256:aa", first_batch=1, last_batch=2, commit=2)

# Ten tickets and two rejected messages of two partitions; offset 5 of partition 1 was empty, 6 and 7 are a gap.
ROWS = Rows(
    tickets=10,
    clients=3,
    rejected=2,
    by_type={"billing": 6, "account": 4},
    by_priority={"low": 9, "critical": 1},
    by_team={"Billing Team": 6, "Account Management": 4},
)
LEDGER = Manifest(
    output_id="o",
    commit=2,
    commit_id="c2",
    follows="c1",
    kind="batch",
    format="parquet",
    batch_id=2,
    updated_at=AT,
    source=Source("client_tickets", "cluster-1", "topic-1"),
    partitions={
        0: Partition(100, 107, tickets=6, rejected=1),
        1: Partition(0, 8, tickets=4, rejected=1, empty=1, gaps=2),
    },
    totals=Totals(
        tickets=10,
        rejected=2,
        unique_clients=3,
        by_type={"billing": 6, "account": 4},
        by_priority={"low": 9, "critical": 1},
        by_team={"Billing Team": 6, "Account Management": 4},
    ),
    contents={name: {f"{name}.parquet": FILE} for name in BY_NAME},
    gaps=[Gap(1, 6, 8, 2)],
)


# The default for four batches, then three with a night shift, then one desk for all.
RULE_SETS = [
    RuleSet(1, list(DEFAULT.rules)),
    RuleSet(5, list(NIGHT_SHIFT.rules)),
    RuleSet(8, [Rule("Desk")]),
]


def said(found: Iterable[Difference]) -> list[tuple[str, str]]:
    return [(difference.where, difference.what) for difference in found]


def ledger(**changes: Any) -> Manifest:
    return msgspec.structs.replace(LEDGER, **changes)


def totals(**changes: Any) -> Manifest:
    return ledger(totals=msgspec.structs.replace(LEDGER.totals, **changes))


def rows(**changes: Any) -> Rows:
    return Rows(**{name: changes.get(name, getattr(ROWS, name)) for name in Rows.__dataclass_fields__})


def hashes(*numbers: int) -> Hashes:
    return np.array(numbers, np.uint64)


FOUND = FoundFile(is_file=True, bytes=2_000, checksum="sha256:aa", rows=10)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (FOUND, None),
        (None, "was published and is gone"),
        (FoundFile(is_file=False), "was published as a file and is something else now, perhaps a link"),
        (FoundFile(bytes=1_500, checksum="sha256:bb"), "has 1,500 bytes, was published with 2,000"),
        (
            FoundFile(bytes=2_000, checksum="sha256:bb", rows=10),
            "is not the file that was published: its checksum differs",
        ),
        (FoundFile(bytes=2_000, checksum="sha256:aa", damage="no footer"), "cannot be decoded (no footer)"),
        (FoundFile(bytes=2_000, checksum="sha256:aa", rows=11), "holds 11 rows, the ledger says 10"),
    ],
)
def test_a_file_is_compared_with_the_ledger(found: FoundFile | None, problem: str | None) -> None:
    assert differences.of_file(FILE, found) == problem


def test_unknown_files_that_readers_would_count_come_first() -> None:
    present = [".DS_Store", "a.parquet", "b.txt", "c.json", "mine.parquet"]
    assert differences.of_folder(present, ["mine.parquet"], (".parquet", ".json")) == [
        "a.parquet",
        "c.json",
        ".DS_Store",
        "b.txt",
    ]


def test_a_correct_ledger_has_no_differences() -> None:
    assert said(differences.of_ledger(LEDGER)) == []
    assert said(differences.of_totals(LEDGER, ROWS)) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (
            ledger(partitions={**LEDGER.partitions, 0: Partition(100, 107, tickets=5, rejected=1)}),
            "partition 0 passed 7 offsets (100 to 107), but its counts explain 6",
        ),
        (
            ledger(gaps=[]),
            "partition 1 counts 2 offsets in gaps, the list of gaps has 0",
        ),
        (
            ledger(contents={**LEDGER.contents, "metrics": {}}),
            "metrics is a dataset of one file, and 0 are named",
        ),
        (
            ledger(contents={**LEDGER.contents, "metrics": {"../m.parquet": FILE}}),
            "metrics has a file '../m.parquet', which is not the name of a parquet file",
        ),
        (
            ledger(contents={**LEDGER.contents, "metrics": {"m.json": FILE}}),
            "metrics has a file 'm.json', which is not the name of a parquet file",
        ),
        (
            ledger(contents={k: v for k, v in LEDGER.contents.items() if k != "metrics"}),
            "names other datasets than those of an output: metrics",
        ),
        (
            ledger(contents={**LEDGER.contents, "metrics": {"m.parquet": msgspec.structs.replace(FILE, last_batch=3)}}),
            "metrics/m.parquet holds batches 1 to 3 of commit 2, but the output ends with batch 2 and commit 2",
        ),
        (
            ledger(window=Window("latest", "2026-01-31T10:00:00Z", {0: 106, 1: 8})),
            "partition 0 was read up to offset 107, but was to be read up to 106 only",
        ),
        (
            ledger(window=Window("latest", "2026-01-31T10:00:00Z", {0: 107})),
            "partition 1 stands in only one of `partitions` and `window`",
        ),
        (
            ledger(deduped_from=3),
            "says that no batch since batch 3 has duplicates, but the output ends with batch 2",
        ),
    ],
)
def test_a_ledger_that_contradicts_itself(changed: Manifest, what: str) -> None:
    assert said(differences.of_ledger(changed)) == [("_manifest.json", what)]


def test_gaps_of_a_ledger_of_version_1_are_in_no_partition() -> None:
    upgraded = ledger(gaps=[*LEDGER.gaps, Gap(0, 20, 50, 1)], upgrade=Upgrade(1, 0, 0))
    assert said(differences.of_ledger(upgraded)) == []


def test_a_window_that_is_read_to_its_end_or_not_yet_is_in_order() -> None:
    until_ten = Window("latest", "2026-01-31T10:00:00Z", {0: 107, 1: 20})
    assert said(differences.of_ledger(ledger(window=until_ten))) == []
    assert said(differences.of_ledger(ledger(window=Window("latest")))) == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (totals(tickets=11), "says 11 tickets in total, the files hold 10"),
        (totals(rejected=1), "says 1 rejected messages in total, the files hold 2"),
        (totals(unique_clients=4), "says 4 unique clients, the files hold 3"),
        (
            totals(by_type={"billing": 6, "account": 3}),
            "says 3 tickets of request_type account, the files hold 4",
        ),
        (totals(by_priority={"low": 9}), "says 0 tickets of priority critical, the files hold 1"),
        (
            totals(by_team={"Billing Team": 6, "Account Management": 4, "Sales": 2}),
            "says 2 tickets of assigned_team Sales, the files hold 0",
        ),
        (
            ledger(partitions={**LEDGER.partitions, 0: Partition(100, 107, tickets=5, rejected=1, empty=1)}),
            "says 9 tickets of all partitions together, the files hold 10",
        ),
        (
            ledger(partitions={**LEDGER.partitions, 0: Partition(100, 108, tickets=6, rejected=2)}),
            "says 3 rejected messages of all partitions together, the files hold 2",
        ),
        (
            ledger(upgrade=Upgrade(1, 1, 0)),
            "says 11 tickets of all partitions together, the files hold 10",
        ),
    ],
)
def test_totals_that_are_not_those_of_the_rows(changed: Manifest, what: str) -> None:
    assert said(differences.of_totals(changed, ROWS)) == [("_manifest.json", what)]


def test_a_row_that_was_removed_shows_in_every_total() -> None:
    fewer = rows(tickets=9, by_type={"billing": 5, "account": 4}, by_team={**ROWS.by_team, "Billing Team": 5})
    assert [what for _, what in said(differences.of_totals(LEDGER, fewer))] == [
        "says 10 tickets in total, the files hold 9",
        "says 10 tickets of all partitions together, the files hold 9",
        "says 6 tickets of request_type billing, the files hold 5",
        "says 6 tickets of assigned_team Billing Team, the files hold 5",
    ]


def test_what_was_read_before_an_upgrade_belongs_to_the_sums() -> None:
    upgraded = ledger(
        partitions={0: Partition(100, 107, tickets=6, rejected=1), 1: Partition(8, 8)},
        upgrade=Upgrade(1, 4, 1),
        gaps=[],
    )
    assert said(differences.of_totals(upgraded, ROWS)) == []


def of_teams(
    *found: tuple[str, str, str, int], batches: tuple[int, int] = (1, 2), **changes: Any
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what is said of a file of some batches that holds tickets of a type, a priority and a team."""
    published = msgspec.structs.replace(FILE, first_batch=batches[0], last_batch=batches[1])
    manifest = ledger(contents={"tickets_with_assignment": {"one.parquet": published}}, **changes)
    counts = {(request_type, priority, team): count for request_type, priority, team, count in found}
    differing, notes = differences.of_teams(manifest, {"one.parquet": counts})
    return said(differing), notes


def test_every_ticket_has_the_team_of_the_rules() -> None:
    right = ("billing", "low", "Billing Team", 6), ("account", "critical", "Account Management", 4)
    assert of_teams(*right) == ([], [])
    # Words that no ticket has are another difference.
    assert of_teams(("(another)", "low", "Sales", 1), ("billing", "(another)", "Sales", 1)) == ([], [])
    swapped = ("billing", "low", "Technical Support", 1), ("account", "high", "Night Shift", 2)
    assert of_teams(*right, *swapped) == (
        [
            (
                "tickets_with_assignment",
                "2 tickets of account with high priority are assigned to Night Shift, but the rules of their batches "
                "say Account Management",
            ),
            (
                "tickets_with_assignment",
                "1 tickets of billing with low priority are assigned to Technical Support, but the rules of their "
                "batches say Billing Team",
            ),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("batches", "team", "right"),
    [
        ((1, 4), "Technical Support", True),
        ((1, 4), "Night Shift", False),
        ((5, 5), "Night Shift", True),
        ((5, 7), "Night Shift", True),
        ((5, 7), "Technical Support", False),
        ((8, 9), "Desk", True),
        ((8, 9), "Night Shift", False),
    ],
)
def test_each_file_is_held_against_the_rules_of_its_batches(batches: tuple[int, int], team: str, right: bool) -> None:
    found, notes = of_teams(("technical", "high", team, 1), batches=batches, routing=RULE_SETS, batch_id=9)
    assert (found == [], notes) == (right, [])


def test_a_ticket_that_no_rule_of_its_batch_is_for() -> None:
    assert of_teams(("account", "low", "Desk", 1), routing=[RuleSet(1, [Rule("Desk", ("billing",))])]) == (
        [
            (
                "tickets_with_assignment",
                "1 tickets of account with low priority are assigned to Desk, but the rules of their batches say "
                "nothing",
            )
        ],
        [],
    )


def test_where_merged_batches_had_different_rules_the_team_of_any_of_them_is_right() -> None:
    both = ("technical", "high", "Technical Support", 2), ("technical", "high", "Night Shift", 1)
    note = (
        "1 files of tickets_with_assignment hold batches from before and after a change of the rules, so the team of "
        "either was accepted for each ticket in them"
    )
    assert of_teams(*both, batches=(4, 5), routing=RULE_SETS, batch_id=9) == ([], [note])
    assert of_teams(("technical", "high", "Desk", 1), batches=(4, 5), routing=RULE_SETS, batch_id=9) == (
        [
            (
                "tickets_with_assignment",
                "1 tickets of technical with high priority are assigned to Desk, but the rules of their batches say "
                "Technical Support or Night Shift",
            )
        ],
        [note],
    )


@pytest.mark.parametrize(
    ("starts", "right"), [([1], True), ([1, 2], True), ([2], False), ([1, 1], False), ([1, 3], False)]
)
def test_rules_that_apply_from_batches_that_cannot_be(starts: list[int], right: bool) -> None:
    routing = [RuleSet(start, list(DEFAULT.rules)) for start in starts]
    what = f"has rules for teams that apply from batch {', '.join(map(str, starts))} on, but its batches are 1 to 2"
    assert said(differences.of_ledger(ledger(routing=routing))) == ([] if right else [("_manifest.json", what)])


def test_invalid_values_are_counted_by_column() -> None:
    assert said(differences.of_values({"ticket_id": 3})) == [
        ("tickets_with_assignment", "3 rows hold an invalid ticket_id")
    ]
    assert said(differences.of_values({})) == []


METRICS = {
    "total_tickets": 10,
    "account_count": 4,
    "billing_count": 6,
    "technical_count": 0,
    "general_count": 0,
    "low_priority_count": 9,
    "medium_priority_count": 0,
    "high_priority_count": 0,
    "critical_priority_count": 1,
    "unique_clients": 3,
    "rejected_messages": 2,
    "batch_id": 2,
    "updated_at": AT,
}


def test_correct_metrics_have_no_differences() -> None:
    assert said(differences.of_metrics([METRICS], LEDGER, ROWS)) == []


@pytest.mark.parametrize("column", [column for column in METRICS if column != "updated_at"])
def test_every_column_of_metrics_is_counted_again(column: str) -> None:
    wrong = METRICS | {column: 4_711}
    assert said(differences.of_metrics([wrong], LEDGER, ROWS)) == [
        ("metrics", f"{column} is 4,711, it should be {METRICS[column]}")
    ]


def test_metrics_of_another_moment_or_of_more_rows() -> None:
    earlier = METRICS | {"updated_at": datetime(2026, 1, 31, 10, 0, tzinfo=UTC)}
    assert said(differences.of_metrics([earlier], LEDGER, ROWS)) == [
        ("metrics", "updated_at is 2026-01-31 10:00:00+00:00, the ledger says 2026-01-31 11:00:00+00:00")
    ]
    # A conversion writes them again unchanged.
    assert said(differences.of_metrics([earlier], ledger(kind="conversion"), ROWS)) == []
    assert len(said(differences.of_metrics([earlier], ledger(kind="retry"), ROWS))) == 1
    assert said(differences.of_metrics([METRICS, METRICS], LEDGER, ROWS)) == [("metrics", "has 2 rows instead of one")]
    assert said(differences.of_metrics([], LEDGER, ROWS)) == [("metrics", "has 0 rows instead of one")]


SUMMARIES: dict[Any, list[tuple[str, int]]] = {
    BY_TYPE: [("billing", 6), ("account", 4), ("technical", 0), ("general", 0)],
    BY_PRIORITY: [("low", 9), ("critical", 1), ("medium", 0), ("high", 0)],
    BY_TEAM: [("Billing Team", 6), ("Account Management", 4), ("Technical Support", 0), ("General Support", 0)],
}


def test_correct_summaries_have_no_differences() -> None:
    assert said(differences.of_summaries(SUMMARIES, ROWS)) == []


@pytest.mark.parametrize(
    ("dataset", "published", "what"),
    [
        (
            BY_TYPE,
            [("billing", 7), ("account", 4), ("technical", 0), ("general", 0)],
            "request_type billing has 7, there are 6 tickets",
        ),
        (
            BY_TYPE,
            [("account", 4), ("billing", 6), ("technical", 0), ("general", 0)],
            "is not in the order of its counts, largest first",
        ),
        (BY_TYPE, [("billing", 6), ("account", 4), ("technical", 0)], "has no row for general"),
        (BY_TYPE, [*SUMMARIES[BY_TYPE], ("general", 0)], "has more than one row for general"),
        (
            BY_PRIORITY,
            [("low", 9), ("medium", 0), ("high", 0), ("critical", 0)],
            "priority critical has 0, there are 1 tickets",
        ),
        (
            BY_TEAM,
            [("Billing Team", 6), ("Account Management", 3)],
            "assigned_team Account Management has 3, there are 4 tickets",
        ),
        (BY_TEAM, [*SUMMARIES[BY_TEAM][:2], ("Sales", 1)], "assigned_team Sales has 1, there are 0 tickets"),
    ],
)
def test_a_wrong_summary(dataset: Any, published: list[tuple[str, int]], what: str) -> None:
    assert said(differences.of_summaries(SUMMARIES | {dataset: published}, ROWS)) == [(dataset.name, what)]


def test_teams_without_tickets_need_no_row() -> None:
    assert said(differences.of_summaries(SUMMARIES | {BY_TEAM: SUMMARIES[BY_TEAM][:2]}, ROWS)) == []


KINDS = Tally.of(
    np.array([kind_of(NINE, "billing", "low"), kind_of(NINE + 1, "account", "critical")]), np.array([9, 1])
)


def hours(*published: tuple[int, str, str, int], minutes: int = 0) -> pa.Table:
    return pa.table(
        {
            "hour": pa.array([3_600_000_000 * hour + 60_000_000 * minutes for hour, *_ in published], pa.int64()).cast(
                BY_HOUR.schema.field("hour").type
            ),
            "request_type": pa.array([request_type for _, request_type, _, _ in published], pa.string()),
            "priority": pa.array([priority for _, _, priority, _ in published], pa.string()),
            "count": pa.array([count for *_, count in published], pa.int64()),
        },
        schema=BY_HOUR.schema,
    )


RIGHT_HOURS = [(NINE, "billing", "low", 9), (NINE + 1, "account", "critical", 1)]


def test_correct_hours_have_no_differences() -> None:
    assert said(differences.of_hours(hours(*RIGHT_HOURS), KINDS)) == []
    assert said(differences.of_hours(hours(*reversed(RIGHT_HOURS)), KINDS)) == []
    assert said(differences.of_hours(hours(), Tally.sum([]))) == []


@pytest.mark.parametrize(
    ("published", "what"),
    [
        (
            [(NINE, "billing", "low", 8), RIGHT_HOURS[1]],
            ["2026-01-31T09:00Z, billing, low has 8, there are 9 tickets"],
        ),
        (
            RIGHT_HOURS[:1],
            ["2026-01-31T10:00Z, account, critical has 0, there are 1 tickets"],
        ),
        (
            [*RIGHT_HOURS, (NINE, "general", "low", 2)],
            ["2026-01-31T09:00Z, general, low has 2, there are 0 tickets"],
        ),
        (
            [(NINE, "billing", "low", 4), (NINE, "billing", "low", 5), RIGHT_HOURS[1]],
            ["has 1 rows that repeat the hour, type and priority of another one"],
        ),
    ],
)
def test_a_wrong_count_of_an_hour(published: list[tuple[int, str, str, int]], what: list[str]) -> None:
    assert said(differences.of_hours(hours(*published), KINDS)) == [("tickets_by_hour", each) for each in what]


def test_a_time_that_is_not_a_full_hour_and_many_wrong_counts() -> None:
    assert said(differences.of_hours(hours(*RIGHT_HOURS, minutes=1), KINDS)) == [
        ("tickets_by_hour", "2 rows have a time that is not the start of an hour")
    ]
    many = hours(*((NINE + n, "billing", "high", 1) for n in range(20)), *RIGHT_HOURS)
    assert [what for _, what in said(differences.of_hours(many, KINDS))][4:] == [
        "2026-01-31T13:00Z, billing, high has 1, there are 0 tickets",
        "15 more of its counts are wrong",
    ]


def test_urgent_rows_are_the_same_in_both_datasets_in_whatever_order_and_file() -> None:
    assert said(differences.of_urgent({"a": hashes(1, 2), "b": hashes(3)}, {"c": hashes(3, 1), "d": hashes(2)})) == []


def test_an_urgent_row_that_is_missing_changed_or_surplus() -> None:
    tickets = {"a": hashes(1, 2), "b": hashes(3)}
    assert said(differences.of_urgent(tickets, {"c": hashes(1, 2)})) == [
        (
            "tickets_with_assignment",
            "1 urgent rows are not in high_priority_tickets; the first is urgent row 1 of b",
        )
    ]
    assert said(differences.of_urgent(tickets, {"c": hashes(1, 2, 3, 3)})) == [
        (
            "high_priority_tickets",
            "1 rows are not in tickets_with_assignment, or not with high or critical priority; the first is row 4 of c",
        )
    ]
    assert len(list(differences.of_urgent(tickets, {"c": hashes(1, 2, 4)}))) == 2


def rejected(manifest: Manifest, *places: tuple[int, int]) -> list[tuple[str, str]]:
    partitions, offsets = (np.array([place[n] for place in places], np.int64) for n in (0, 1))
    return said(differences.of_rejected(manifest, partitions, offsets))


def test_rejected_messages_are_those_of_the_partitions() -> None:
    assert rejected(LEDGER, (1, 4), (0, 106)) == []
    assert rejected(ledger(partitions={})) == []


@pytest.mark.parametrize(
    ("places", "what"),
    [
        (
            [(0, 106)],
            [("_manifest.json", "partition 1 says 1 rejected messages, rejected_messages holds 0 of them")],
        ),
        (
            [(0, 106), (1, 4), (1, 5)],
            [("_manifest.json", "partition 1 says 1 rejected messages, rejected_messages holds 2 of them")],
        ),
        (
            [(0, 106), (1, 4), (1, 4)],
            [
                ("rejected_messages", "1 rows repeat another one, the first is partition 1, offset 4"),
                ("_manifest.json", "partition 1 says 1 rejected messages, rejected_messages holds 2 of them"),
            ],
        ),
        (
            [(0, 106), (1, 4), (1, 8)],
            [("rejected_messages", "1 rows are of offsets of partition 1 that were not read")],
        ),
        (
            [(0, 106), (0, 99), (1, 4)],
            [("rejected_messages", "1 rows are of offsets of partition 0 that were not read")],
        ),
        (
            [(0, 106), (1, 4), (7, 0)],
            [("rejected_messages", "1 rows are of partition 7, which the ledger does not have")],
        ),
    ],
)
def test_rejected_messages_that_are_not_those_that_were_read(
    places: list[tuple[int, int]], what: list[tuple[str, str]]
) -> None:
    assert rejected(LEDGER, *places) == what


def test_rejected_messages_from_before_an_upgrade() -> None:
    upgraded = ledger(upgrade=Upgrade(1, 0, 1))
    assert rejected(upgraded, (0, 7), (0, 106), (1, 4)) == []
    assert rejected(upgraded, (0, 106), (1, 4)) == [
        ("_manifest.json", "says 1 rejected messages before the upgrade, rejected_messages holds 0 of them")
    ]


def test_the_set_of_clients_is_that_of_the_tickets() -> None:
    for found in (FoundClients("c2", "c1", hashes(1, 2)), FoundClients("c3", "c2", hashes(2, 1))):
        assert differences.of_clients(found, LEDGER, hashes(1, 2)) == ([], [])


def test_a_set_with_a_wrong_client_is_wrong_and_one_of_another_commit_is_not() -> None:
    (difference,), notes = differences.of_clients(FoundClients("c2", "c1", hashes(1, 3, 4)), LEDGER, hashes(1, 2))
    assert difference.where == "clients.sqlite"
    assert difference.what.startswith("has 3 clients, the tickets 2: 1 are missing, 2 have no ticket; stop")
    assert notes == []
    assert differences.of_clients(FoundClients("c1", "", hashes()), LEDGER, hashes(1, 2)) == (
        [],
        ["clients.sqlite stands at another commit: the next start fills it again"],
    )
