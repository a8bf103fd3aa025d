"""From messages to published datasets: tasks, assembly and commit together, without Spark."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.ticket import PRIORITIES, REQUEST_TYPES, encode
from processor.batch import Assembly, Batch, published_clients
from processor.plan import OffsetRange
from processor.receipt import PartitionRead, Receipt
from runtime.errors import DataConflict, OutputUnavailable
from store.clients import ClientSet
from store.datasets import DATASETS
from store.formats import read_tables
from store.manifest import Gap, Manifest, read_manifest
from store.output import Output
from tests.support import golden
from tests.support.datasets import Published
from tests.support.staging import SOURCE, messages, publish_batch, stage, ticket

FORMATS = ("parquet", "json")


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "output")


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
    assert second.next_offsets == {0: 48}


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


def require_empty(output: Output, manifest: Manifest) -> None:
    for dataset in DATASETS:
        (name,) = manifest.files[dataset.name]
        tables = list(read_tables(manifest.format, output.root / dataset.name / name, dataset))
        counts = [row.get("count", 0) for table in tables for row in table.to_pylist()]
        assert sum(counts) == 0
        expected = {"metrics": 1, "tickets_by_type": 4, "tickets_by_priority": 4, "tickets_by_team": 4}
        assert len(counts) == expected.get(dataset.name, 0)


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_empty_topic_makes_every_dataset_with_its_schema(output: Output, file_format: str) -> None:
    manifest = publish_batch(output, None, file_format, [])
    require_empty(output, manifest)
    assert read_manifest(output.root) == manifest


def test_the_empty_files_of_the_first_batch_do_not_disturb_the_second(output: Output) -> None:
    for file_format in FORMATS:
        mine = Output(output.root / file_format)
        first = publish_batch(mine, None, file_format, [])
        publish_batch(mine, first, file_format, [[messages([*many(0, 12), b"bad"])]])
        Published(mine.root).require_agreement()


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


def test_messages_that_no_receipt_accounts_for_stop_the_batch_and_what_is_published_stays(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 5))]])
    staging = output.new_staging(2)
    receipt = stage(staging, "parquet", [messages(many(5, 5), first_offset=5)])
    receipt.partitions[0].tickets += 1
    with closing(ClientSet(output.state / "clients.sqlite", 1, list)) as clients:
        assembly = Assembly(output, staging, "parquet", first, clients)
        with pytest.raises(DataConflict, match="the batch does not add up"):
            assembly.assemble(Batch(2, SOURCE, [OffsetRange(0, 5, 11)], {0: 11}, []), [receipt])
    assert output.recover() == first
    Published(output.root).require_agreement()


def test_a_batch_that_failed_after_its_clients_were_added_counts_them_at_the_next_attempt(output: Output) -> None:
    first = publish_batch(output, None, "parquet", [[messages(many(0, 3))]])
    lost = output.new_staging(2)
    receipt = stage(lost, "parquet", [messages(many(3, 20), first_offset=3)])
    with closing(ClientSet(output.state / "clients.sqlite", 1, lambda: published_clients(output, first))) as clients:
        Assembly(output, lost, "parquet", first, clients).assemble(
            Batch(2, SOURCE, [OffsetRange(0, 3, 23)], {0: 23}, []), [receipt]
        )
    assert output.recover() == first
    publish_batch(output, first, "parquet", [[messages(many(3, 20), first_offset=3)]])
    Published(output.root).require_agreement()


def test_a_staging_folder_that_vanished_is_reported_as_not_writable(output: Output) -> None:
    output.state.mkdir(parents=True)
    gone = output.state / "staging" / "gone"
    with (
        closing(ClientSet(output.state / "clients.sqlite", 0, list)) as clients,
        pytest.raises(OutputUnavailable, match=r"cannot write .*/gone"),
    ):
        Assembly(output, gone, "parquet", None, clients).assemble(Batch(1, SOURCE, [], {0: 0}, []), [])


def test_accepted_gaps_are_kept_from_batch_to_batch(output: Output) -> None:
    manifest: Manifest | None = None
    for batch_id, gap in ((1, Gap(0, 0, 10, 1)), (2, Gap(0, 12, 20, 2))):
        output.state.mkdir(parents=True, exist_ok=True)
        staging = output.new_staging(batch_id)
        with closing(ClientSet(output.state / "clients.sqlite", batch_id - 1, list)) as clients:
            batch = Batch(batch_id, SOURCE, [OffsetRange(0, gap.end, gap.end + 2)], {0: gap.end + 2}, [gap])
            # Both messages of the range were compacted away.
            record = Assembly(output, staging, "parquet", manifest, clients).assemble(batch, [Receipt()])
        output.commit(record)
        manifest = record.manifest
    assert manifest is not None
    assert manifest.gaps == [Gap(0, 0, 10, 1), Gap(0, 12, 20, 2)]
    assert manifest.next_offsets == {0: 22}


def test_a_read_outside_of_the_plan_is_refused(output: Output) -> None:
    output.state.mkdir(parents=True)
    with closing(ClientSet(output.state / "clients.sqlite", 0, list)) as clients:
        assembly = Assembly(output, output.new_staging(1), "parquet", None, clients)
        with pytest.raises(DataConflict, match="lies outside of the planned None"):
            assembly.assemble(Batch(1, SOURCE, [], {0: 0}, []), [Receipt(partitions=[PartitionRead(0, 0, 0, 1)])])
