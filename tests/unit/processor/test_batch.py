"""From messages to published datasets: tasks, assembly and commit together, without Spark."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from contract.routing import DEFAULT, Routing, Rule
from contract.ticket import PRIORITIES, REQUEST_TYPES, encode
from processor.batch import Batch, account, assemble
from processor.outcome import RangeRead
from processor.plan import OffsetRange
from processor.receipt import Receipt
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from store.clients import open_clients
from store.datasets import BY_HOUR, BY_TEAM, DATASETS
from store.files import Disk, make_folders
from store.manifest import CommitRecord, Gap, Manifest, Partition, RuleSet, read_manifest
from store.output import Output
from store.staging import Change
from tests.support import golden
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import (
    NIGHT_SHIFT,
    SOURCE,
    UPDATED_AT,
    messages,
    prepare_batch,
    publish_batch,
    stage,
    ticket,
)

FORMATS = ("parquet", "json")


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def many(first: int, count: int) -> list[bytes]:
    """Return tickets of every type and priority, of seven clients and several hours."""
    start = datetime(2026, 1, 31, 22, 10, tzinfo=UTC)
    return [
        encode(
            ticket(
                number,
                client_id=f"CLIENT_{number % 7}",
                created_at=start + timedelta(minutes=7 * number),
                request_type=REQUEST_TYPES[number % 3],
                priority=PRIORITIES[number // 3 % 4],
            )
        )
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_after_each_batch_every_dataset_agrees_with_the_tickets(output: Output, file_format: str) -> None:
    first = publish_batch(
        output,
        None,
        file_format,
        [
            [messages([*many(0, 30), b"bad"], first_offset=0), messages(many(30, 9), first_offset=31)],
            [messages([None, *many(39, 1)], first_offset=40)],
            [],
        ],
    )
    published = Published(output.root)
    published.require_agreement()
    assert published.rows("SELECT total_tickets, unique_clients, rejected_messages, batch_id FROM metrics") == [
        (40, 7, 2, 1)
    ]
    assert published.rows('SELECT partition, "offset" FROM rejected_messages ORDER BY ALL') == [(0, 30), (0, 40)]

    new_client = encode(ticket(40, client_id="CLIENT_7", created_at=datetime(1, 1, 1, tzinfo=UTC)))
    second = publish_batch(output, first, file_format, [[messages([*many(41, 5), new_client], first_offset=42)]])
    published = Published(output.root)
    published.require_agreement()
    assert published.rows("SELECT total_tickets, unique_clients, rejected_messages, batch_id FROM metrics") == [
        (46, 8, 2, 2)
    ]
    assert published.rows("SELECT request_type, count FROM tickets_by_type") == [
        ("account", 16),
        ("billing", 15),
        ("technical", 15),
        ("general", 0),
    ]
    assert output.recover() == second
    assert second.partitions == {0: Partition(0, 48, tickets=46, rejected=2)}


@pytest.mark.parametrize("file_format", FORMATS)
def test_all_golden_messages_are_published(output: Output, file_format: str) -> None:
    valid, bad = golden.tickets(), [entry.message for entry in golden.rejected()]
    publish_batch(output, None, file_format, [[messages([*valid, *bad])]])
    published = Published(output.root)
    assert published.count("tickets_with_assignment") == len(valid)
    assert published.count("rejected_messages") == len(bad)


def test_appended_files_carry_the_batch_and_replaced_ones_do_not(output: Output) -> None:
    first = publish_batch(
        output, None, "parquet", [[messages(many(0, 2), first_offset=0)], [messages(many(2, 2), first_offset=2)]]
    )
    second = publish_batch(output, first, "parquet", [[messages([*many(4, 1), b"bad"], first_offset=4)]])
    assert second.files == {
        "tickets_with_assignment": [
            "batch-000001-0000.parquet",
            "batch-000001-0001.parquet",
            "batch-000002-0000.parquet",
        ],
        "high_priority_tickets": ["batch-000001-0000.parquet"],
        "metrics": ["metrics.parquet"],
        "tickets_by_type": ["tickets_by_type.parquet"],
        "tickets_by_priority": ["tickets_by_priority.parquet"],
        "tickets_by_team": ["tickets_by_team.parquet"],
        "tickets_by_hour": ["tickets_by_hour.parquet"],
        "rejected_messages": ["batch-000001-0000.parquet", "batch-000002-0000.parquet"],
    }
    for dataset, names in second.files.items():
        assert sorted(path.name for path in (output.root / dataset).iterdir()) == names


def test_the_ledger_keeps_the_rules_from_the_batch_on_in_which_they_began(output: Output) -> None:
    values = [encode(ticket(n, request_type="technical", priority="high")) for n in range(4)]
    manifest: Manifest | None = None
    reworded = Routing((*reversed(DEFAULT.rules[1:]), Rule("Account Management")))
    for number, routing in enumerate([DEFAULT, reworded, NIGHT_SHIFT, DEFAULT]):
        tasks = [[messages([values[number]], first_offset=number)]]
        manifest = publish_batch(output, manifest, "parquet", tasks, routing=routing)
    assert manifest is not None
    assert manifest.routing == [
        RuleSet(1, list(DEFAULT.rules)),
        RuleSet(3, list(NIGHT_SHIFT.rules)),
        RuleSet(4, list(DEFAULT.rules)),
    ]
    assert read_manifest(Disk(), output.root) == manifest
    assert manifest.totals.by_team == {"Technical Support": 3, "Night Shift": 1}
    rows = output.reader(manifest).rows(BY_TEAM)
    assert [(row["assigned_team"], row["count"]) for row in rows][:2] == [("Technical Support", 3), ("Night Shift", 1)]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("routing", "starts"),
    [
        (DEFAULT, [RuleSet(1, list(DEFAULT.rules))]),
        (NIGHT_SHIFT, [RuleSet(1, list(DEFAULT.rules)), RuleSet(2, list(NIGHT_SHIFT.rules))]),
    ],
)
def test_a_ledger_of_an_earlier_release_had_the_default_rules(
    output: Output, routing: Routing, starts: list[RuleSet]
) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 1))]])
    earlier = msgspec.structs.replace(first, routing=[])
    second = prepare_batch(output, earlier, "parquet", [[messages(many(1, 1), first_offset=1)]], routing=routing)
    assert second.manifest.routing == starts


def test_teams_of_other_rules_are_listed_only_while_they_have_tickets(output: Output) -> None:
    desk = Routing((Rule("Desk"),))
    first = publish_batch(output, None, "parquet", [[messages(many(0, 1))]])
    (team,) = first.totals.by_team
    second = publish_batch(output, first, "parquet", [], routing=desk)
    assert output.reader(second).rows(BY_TEAM) == [
        {"assigned_team": team, "count": 1},
        {"assigned_team": "Desk", "count": 0},
    ]


def require_empty(output: Output, manifest: Manifest) -> None:
    reader = output.reader(manifest)
    for dataset in DATASETS:
        (name,) = manifest.files[dataset.name]
        assert reader.path(dataset, name).is_file()
        counts = [row.get("count", 0) for row in reader.rows(dataset)]
        assert sum(counts) == 0
        expected = {"metrics": 1, "tickets_by_type": 4, "tickets_by_priority": 4, "tickets_by_team": 4}
        assert len(counts) == expected.get(dataset.name, 0)


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_empty_topic_makes_every_dataset_with_its_schema(output: Output, file_format: str) -> None:
    manifest = publish_batch(output, None, file_format, [])
    require_empty(output, manifest)
    assert read_manifest(Disk(), output.root) == manifest


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_empty_files_of_the_first_batch_do_not_disturb_the_second(output: Output, file_format: str) -> None:
    first = publish_batch(output, None, file_format, [])
    publish_batch(output, first, file_format, [[messages([*many(0, 12), b"bad"])]])
    Published(output.root).require_agreement()


def test_a_batch_of_bad_messages_only_leaves_valid_empty_ticket_datasets(output: Output) -> None:
    publish_batch(output, None, "parquet", [[messages([b"bad", b"worse"])]])
    published = Published(output.root)
    published.require_agreement()
    assert published.rows("SELECT total_tickets, rejected_messages FROM metrics") == [(0, 2)]
    assert published.count("high_priority_tickets") == 0


def test_clients_stay_exact_when_their_file_is_lost(output: Output) -> None:
    first = publish_batch(output, None, "json", [[messages(many(0, 5))]])
    (output.state / "clients.sqlite").unlink()
    publish_batch(output, first, "json", [[messages(many(5, 20), first_offset=5)]])
    assert Published(output.root).value("SELECT unique_clients FROM metrics") == 7


def begin(output: Output, before: Manifest | None) -> Change:
    make_folders(output.disk, output.state)
    return output.begin(before, "batch", "parquet")


def assembled(
    output: Output, change: Change, before: Manifest | None, batch: Batch, receipts: Sequence[Receipt]
) -> CommitRecord:
    with closing(open_clients(output, before)) as clients:
        return assemble(output, change, before, batch, receipts, clients, DEFAULT, UPDATED_AT)


def test_messages_that_no_receipt_accounts_for_stop_the_batch_and_what_is_published_stays(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 5))]])
    change = begin(output, first)
    receipt = stage(change.staging, [messages(many(5, 5), first_offset=5)])
    receipt.reads[0] = msgspec.structs.replace(receipt.reads[0], end=11, reached=11, messages=6)
    with pytest.raises(DataConflict, match="the batch does not add up"):
        assembled(output, change, first, Batch(2, SOURCE, {0: 5}, [OffsetRange(0, 5, 11)], []), [receipt])
    assert output.recover() == first
    Published(output.root).require_agreement()


def test_a_batch_that_failed_after_its_clients_were_added_counts_them_at_the_next_attempt(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 3))]])
    lost = prepare_batch(output, first, "parquet", [[messages(many(3, 20), first_offset=3)]])
    assert lost.manifest.totals.unique_clients == 7
    assert output.recover() == first
    publish_batch(output, first, "parquet", [[messages(many(3, 20), first_offset=3)]])
    Published(output.root).require_agreement()


def test_a_staging_folder_that_vanished_is_reported_as_not_writable(output: Output) -> None:
    change = begin(output, None)
    change.staging.folder.rmdir()
    with pytest.raises(OutputUnavailable, match=rf"cannot write {change.staging.folder}/.*: No such file or directory"):
        assembled(output, change, None, Batch(1, SOURCE, {0: 0}, [], []), [])


def test_accepted_gaps_are_kept_from_batch_to_batch(output: Output) -> None:
    manifest = publish_batch(output, None, "parquet", [])
    for batch_id, gap in ((2, Gap(0, 0, 10, 2)), (3, Gap(0, 12, 20, 3))):
        # Both messages of the range were compacted away.
        batch = Batch(batch_id, SOURCE, {0: gap.end}, [OffsetRange(0, gap.end, gap.end + 2)], [gap])
        record = assembled(
            output,
            begin(output, manifest),
            manifest,
            batch,
            [Receipt(reads=[RangeRead(0, gap.end, gap.end + 2, gap.end + 2, 0)])],
        )
        output.commit(record)
        manifest = record.manifest
    assert manifest.gaps == [Gap(0, 0, 10, 2), Gap(0, 12, 20, 3)]
    assert manifest.partitions == {0: Partition(0, 22, empty=4, gaps=18)}
    assert output.recover() == manifest


def test_a_read_outside_of_the_plan_is_refused(output: Output) -> None:
    receipts = [read((0, 0, 0, 1, 0))]
    with pytest.raises(DataConflict, match="partition 0 was read, but not planned"):
        assembled(output, begin(output, None), None, Batch(1, SOURCE, {0: 0}, [], []), receipts)


def read(*partitions: tuple[int, int, int, int, int]) -> Receipt:
    """Return the receipt for ranges: partition, first and last offset, tickets, rejected messages."""
    return Receipt(
        reads=[RangeRead(p, first, last + 1, last + 1, tickets + bad) for p, first, last, tickets, bad in partitions],
        rejected={p: bad for p, _, _, _, bad in partitions if bad},
    )


@pytest.mark.parametrize(
    ("before", "batch", "receipts", "after"),
    [
        pytest.param(
            {},
            Batch(1, SOURCE, {0: 0, 1: 7}, [OffsetRange(0, 0, 10), OffsetRange(1, 7, 9)], []),
            [read((0, 0, 9, 8, 2), (1, 7, 8, 2, 0))],
            {0: Partition(0, 10, tickets=8, rejected=2), 1: Partition(7, 9, tickets=2)},
            id="a new output",
        ),
        pytest.param(
            {0: Partition(3, 10, tickets=5, rejected=1, empty=1)},
            Batch(2, SOURCE, {0: 10}, [OffsetRange(0, 10, 20)], []),
            [read((0, 10, 19, 9, 1))],
            {0: Partition(3, 20, tickets=14, rejected=2, empty=1)},
            id="a known partition",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10)},
            Batch(2, SOURCE, {0: 10}, [OffsetRange(0, 10, 20)], []),
            # Compacted: the first offset, two in the middle and the last are without a message.
            [read((0, 11, 18, 5, 1))],
            {0: Partition(0, 20, tickets=15, rejected=1, empty=4)},
            id="compacted offsets",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10)},
            Batch(2, SOURCE, {0: 10}, [OffsetRange(0, 10, 13)], []),
            [Receipt()],
            {0: Partition(0, 13, tickets=10, empty=3)},
            id="nothing but empty offsets",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10), 1: Partition(0, 5, tickets=5)},
            Batch(4, SOURCE, {0: 30, 1: 5}, [OffsetRange(0, 30, 32)], [Gap(0, 10, 30, 4)]),
            [read((0, 30, 31, 1, 1))],
            {0: Partition(0, 32, tickets=11, rejected=1, gaps=20), 1: Partition(0, 5, tickets=5)},
            id="an accepted gap",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10)},
            Batch(2, SOURCE, {0: 30}, [], [Gap(0, 10, 30, 2)]),
            [],
            {0: Partition(0, 30, tickets=10, gaps=20)},
            id="a gap with nothing behind it",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10)},
            Batch(2, SOURCE, {0: 10, 1: 6, 2: 0}, [OffsetRange(1, 6, 8)], []),
            [read((1, 6, 7, 2, 0))],
            {0: Partition(0, 10, tickets=10), 1: Partition(6, 8, tickets=2), 2: Partition(0, 0)},
            id="new partitions, one of them empty",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=10)},
            Batch(2, SOURCE, {0: 10, 1: 0}, [OffsetRange(0, 10, 20), OffsetRange(1, 0, 4)], []),
            [
                read((0, 10, 13, 3, 1)),
                read((0, 14, 16, 2, 0), (1, 0, 1, 0, 2)),
                Receipt(),
                read((1, 2, 3, 2, 0), (0, 17, 19, 3, 0)),
            ],
            {0: Partition(0, 20, tickets=18, rejected=1, empty=1), 1: Partition(0, 4, tickets=2, rejected=2)},
            id="several receipts for one partition",
        ),
        pytest.param(
            {0: Partition(0, 10, tickets=4, rejected=1, duplicates=3, forgotten=2, unknown={"colour": "red"})},
            Batch(2, SOURCE, {0: 10}, [OffsetRange(0, 10, 11)], []),
            [read((0, 10, 10, 1, 0))],
            {0: Partition(0, 11, tickets=5, rejected=1, duplicates=3, forgotten=2, unknown={"colour": "red"})},
            id="what others have counted",
        ),
    ],
)
def test_each_offset_that_a_batch_passes_is_accounted_for(
    before: dict[int, Partition], batch: Batch, receipts: list[Receipt], after: dict[int, Partition]
) -> None:
    assert account(before, batch, receipts) == after
    for partition in after.values():
        assert partition.accounted == partition.next_offset - partition.first_offset


def test_what_a_batch_is_added_to_stays_as_it_was() -> None:
    before = {0: Partition(0, 10, tickets=10)}
    account(before, Batch(2, SOURCE, {0: 10}, [OffsetRange(0, 10, 11)], []), [read((0, 10, 10, 1, 0))])
    assert before == {0: Partition(0, 10, tickets=10)}


def test_each_commit_names_the_one_that_it_follows(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 2))]])
    second = publish_batch(output, first, "parquet", [[messages(many(2, 2), first_offset=2)]])
    assert [(m.kind, m.commit, m.batch_id) for m in (first, second)] == [("batch", 1, 1), ("batch", 2, 2)]
    assert first.follows is None
    assert second.follows == first.commit_id != second.commit_id
    assert second.output_id == first.output_id
    assert (second.source, second.updated_at) == (SOURCE, UPDATED_AT)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_ledger_tells_the_size_of_each_file_and_which_batches_and_commit_it_comes_from(
    output: Output, file_format: str
) -> None:
    first = publish_batch(output, None, file_format, [[messages([*many(0, 8), b"bad"])]])
    second = publish_batch(output, first, file_format, [[messages(many(8, 4), first_offset=9)]])
    told = {
        f"{dataset}/{name.partition('.')[0]}": (file.rows, file.first_batch, file.last_batch, file.commit)
        for dataset, files in second.contents.items()
        for name, file in files.items()
    }
    assert told == {
        "tickets_with_assignment/batch-000001-0000": (8, 1, 1, 1),
        "tickets_with_assignment/batch-000002-0000": (4, 2, 2, 2),
        "high_priority_tickets/batch-000001-0000": (2, 1, 1, 1),
        "high_priority_tickets/batch-000002-0000": (4, 2, 2, 2),
        "metrics/metrics": (1, 1, 2, 2),
        "tickets_by_type/tickets_by_type": (4, 1, 2, 2),
        "tickets_by_priority/tickets_by_priority": (4, 1, 2, 2),
        "tickets_by_team/tickets_by_team": (4, 1, 2, 2),
        "tickets_by_hour/tickets_by_hour": (12, 1, 2, 2),
        "rejected_messages/batch-000001-0000": (1, 1, 1, 1),
    }
    for dataset, files in second.contents.items():
        for name, file in files.items():
            content = (output.root / dataset / name).read_bytes()
            assert (file.bytes, file.checksum) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    for appended in ("tickets_with_assignment", "high_priority_tickets", "rejected_messages"):
        assert first.contents[appended].items() <= second.contents[appended].items()


@pytest.mark.parametrize("change", ["altered", "gone"])
def test_hours_that_are_not_those_that_were_published_are_refused(output: Output, change: str) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 5))]])
    hours = output.root / "tickets_by_hour" / "tickets_by_hour.parquet"
    content = hours.read_bytes()
    if change == "altered":
        # A valid file of the same dataset, with other counts.
        other = begin(output, first).staging
        other.write(BY_HOUR, "forged", output.reader(first).table(BY_HOUR).slice(1))
        (other.folder / "forged.parquet").replace(hours)
    else:
        hours.unlink()
    said = {"altered": "is not the file that was published: its checksum differs", "gone": "was published and is gone"}
    with pytest.raises(DataConflict, match=rf"tickets_by_hour\.parquet {said[change]}; nothing was changed"):
        publish_batch(output, first, "parquet", [[messages(many(5, 5), first_offset=5)]])
    assert read_manifest(Disk(), output.root) == first
    hours.write_bytes(content)
    assert output.recover() == first


def test_an_appended_dataset_with_files_gets_no_empty_one(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [])
    second = publish_batch(output, first, "parquet", [[messages(many(0, 1))]])
    assert second.files["rejected_messages"] == ["batch-000001-0000.parquet"]
    assert second.files["tickets_with_assignment"] == ["batch-000001-0000.parquet", "batch-000002-0000.parquet"]
