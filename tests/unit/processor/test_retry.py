"""Rejected messages that are tickets by now: published in one commit, and gone from rejected_messages with it."""

import errno
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pytest

from contract.columns import DecodedMessages, decode_columns
from contract.ticket import encode
from processor.duplicates import NO_DUPLICATES
from processor.retried import Moved, account, count_moves, retry_messages
from processor.retry import Done, retry
from runtime.errors import DataConflict, OutputUnavailable
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store.compact import compact, plan
from store.convert import convert
from store.datasets import REJECTED
from store.erasure import erasure_of
from store.files import Disk
from store.forget import forget
from store.ids import IdSet, ids_folder
from store.manifest import Manifest, Partition, Upgrade, read_manifest
from store.output import Output
from store.verify import verify
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.model_run import StoppedClock
from tests.support.older_contract import TOO_LONG, UNKNOWN_PRIORITY, older_contract
from tests.support.staging import NIGHT_SHIFT, RECEIVED_AT, UPDATED_AT, messages, publish_batch, ticket

NOW = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)
LONG = "The invoice is wrong, once more"
NOT_JSON = "not JSON: JSON is malformed: invalid character (byte 0)"

# By batch. An older contract rejects three of the five tickets.
BATCHES: tuple[tuple[bytes | None, ...], ...] = (
    (
        encode(ticket(0)),
        encode(ticket(1, priority="critical", client_id="CLIENT_2")),
        b"bad",
        None,
    ),
    (encode(ticket(2, priority="high")), b"worse"),
    (
        encode(ticket(3, request=LONG, request_type="technical")),
        encode(ticket(4, priority="critical", request_type="account")),
    ),
)


def uuid(number: int) -> str:
    return f"3e476c38-2a7f-4d89-a08f-{number:012x}"


@pytest.fixture(params=["parquet", "json"])
def file_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk(), StoppedClock())


def publish(
    output: Output,
    before: Manifest | None,
    values: Sequence[bytes | None],
    file_format: str = "parquet",
    ids: IdSet | None = None,
) -> Manifest:
    first = before.next_offsets[0] if before else 0
    return publish_batch(output, before, file_format, [[messages(values, first_offset=first)]], ids=ids)


def published(output: Output, file_format: str = "parquet") -> Manifest:
    manifest = None
    with older_contract():
        for values in BATCHES:
            manifest = publish(output, manifest, values, file_format)
    assert manifest is not None
    return manifest


def sql(output: Output, query: str) -> list[tuple[Any, ...]]:
    datasets = Published(output.root)
    datasets.require_agreement()
    return datasets.rows(query)


def rejected(output: Output) -> list[tuple[Any, ...]]:
    return sql(output, 'SELECT "offset", reason FROM rejected_messages')


def tickets(output: Output) -> list[str]:
    return [row[0][-1] for row in sql(output, "SELECT ticket_id FROM tickets_with_assignment")]


def test_what_is_a_ticket_today_is_published_and_the_rest_stays(output: Output, file_format: str) -> None:
    before = published(output, file_format)
    assert rejected(output) == [
        (1, UNKNOWN_PRIORITY),
        (2, NOT_JSON),
        (3, "no value (a tombstone)"),
        (5, NOT_JSON),
        (6, TOO_LONG),
        (7, UNKNOWN_PRIORITY),
    ]
    done = retry(output, before, None, NOW)
    assert (done.asked, done.tickets, done.duplicates, done.forgotten, done.left) == (6, 3, 0, 0, 3)
    assert rejected(output) == [(2, NOT_JSON), (3, "no value (a tombstone)"), (5, NOT_JSON)]
    assert sql(
        output, "SELECT ticket_id, client_id, priority, request, assigned_team FROM tickets_with_assignment OFFSET 2"
    ) == [
        (uuid(1), "CLIENT_2", "critical", "The invoice is wrong", "Billing Team"),
        (uuid(3), "CLIENT_1", "low", LONG, "Technical Support"),
        (uuid(4), "CLIENT_1", "critical", "The invoice is wrong", "Account Management"),
    ]
    assert sql(output, "SELECT ticket_id FROM high_priority_tickets") == [(uuid(2),), (uuid(1),), (uuid(4),)]
    assert sql(
        output,
        "SELECT total_tickets, critical_priority_count, unique_clients, rejected_messages, batch_id, updated_at "
        "FROM metrics",
    ) == [(5, 2, 2, 3, 4, NOW)]
    assert output.recover() == done.manifest == read_manifest(Disk(), output.root)


def test_a_message_that_stays_keeps_its_bytes_its_key_and_its_time(output: Output, file_format: str) -> None:
    retry(output, published(output, file_format), None, NOW)
    assert sql(output, 'SELECT partition, "offset", received_at, key, payload FROM rejected_messages') == [
        (0, 2, RECEIVED_AT, b"key", b"bad"),
        (0, 3, RECEIVED_AT, b"key", None),
        (0, 5, RECEIVED_AT, b"key", b"worse"),
    ]


def test_the_ledger_says_what_became_of_the_offsets(output: Output) -> None:
    before = published(output)
    after = retry(output, before, None, NOW).manifest
    assert before.partitions == {0: Partition(0, 8, tickets=2, rejected=6)}
    assert after.partitions == {0: Partition(0, 8, tickets=5, rejected=3)}
    assert (after.commit, after.kind, after.batch_id, after.follows) == (4, "retry", 4, before.commit_id)
    assert after.updated_at == NOW
    # The one file that changes for each of the first two batches, none for the third, whose messages are tickets.
    assert after.files["rejected_messages"] == [
        "batch-000001-0000-to-000001-000004.parquet",
        "batch-000002-0000.parquet",
    ]
    assert after.files["tickets_with_assignment"][-1] == "batch-000004-0000.parquet"
    assert after.files["high_priority_tickets"][1:] == ["batch-000002-0000.parquet", "batch-000004-0000.parquet"]


def test_a_retried_ticket_gets_its_team_by_the_newest_rules_of_the_output(output: Output) -> None:
    with older_contract():
        begun = publish(output, None, [encode(ticket(0, priority="critical", request_type="technical"))])
        value = messages([encode(ticket(1, request_type="technical"))], first_offset=1)
        before = publish_batch(output, begun, "parquet", [[value]], routing=NIGHT_SHIFT)
    done = retry(output, before, None, NOW)
    assert done.manifest.routing == before.routing
    datasets = Published(output.root)
    assert datasets.rows("SELECT ticket_id, assigned_team FROM tickets_with_assignment") == [
        (uuid(1), "Technical Support"),
        (uuid(0), "Night Shift"),
    ]
    assert datasets.rows("SELECT assigned_team, count FROM tickets_by_team WHERE count > 0 ORDER BY 1") == [
        ("Night Shift", 1),
        ("Technical Support", 1),
    ]
    assert verify(OutputLocation(output.root)).differences == []


def test_a_second_time_there_is_nothing_to_do(output: Output, file_format: str) -> None:
    first = retry(output, published(output, file_format), None, NOW).manifest
    assert retry(output, first, None, NOW) == Done(first, 3)
    assert read_manifest(Disk(), output.root) == first
    assert not (output.state / "staging").exists()


@pytest.mark.parametrize(
    ("wanted", "asked", "found"),
    [
        (UNKNOWN_PRIORITY, 2, ["1", "4"]),
        ("priority: must be one of low, medium, high", 2, ["1", "4"]),
        ("priority", 2, ["1", "4"]),
        ("request", 1, ["3"]),
        ("not JSON", 2, []),
        ("prio", 0, []),
    ],
)
def test_only_messages_of_one_reason_are_asked_for_where_one_is_named(
    output: Output, wanted: str, asked: int, found: list[str]
) -> None:
    done = retry(output, published(output), wanted, NOW)
    assert (done.asked, done.tickets) == (asked, len(found))
    assert tickets(output)[2:] == found
    # What was not asked for keeps its reason and its place.
    assert [offset for offset, _ in rejected(output)] == [
        offset for offset, number in ((1, "1"), (2, ""), (3, ""), (5, ""), (6, "3"), (7, "4")) if number not in found
    ]


def test_a_message_that_is_rejected_for_another_reason_today_gets_that_reason(output: Output) -> None:
    with older_contract(lambda made: None):
        first = publish(output, None, [encode(ticket(0))])
    value = encode(ticket(1)).replace(b'"low"', b'"urgent"')
    today = 'priority: must be one of low, medium, high, critical, found "urgent"'
    manifest = publish(output, first, [value])
    assert rejected(output) == [(1, today)]
    # The file as an older release wrote it.
    change = output.begin(manifest, "retry", "parquet")
    rows = output.reader(manifest).table(REJECTED)
    old = rows.set_column(3, REJECTED.schema.field(3), pa.array(["priority: is strange"], pa.string()))
    change.rewrite(REJECTED, ["batch-000002-0000.parquet"], change.staging.write(REJECTED, "old", old), 0)
    record = change.record(manifest.updated_at)
    output.commit(record)
    assert rejected(output) == [(1, "priority: is strange")]

    done = retry(output, record.manifest, "priority", NOW)
    assert (done.asked, done.tickets, done.left) == (1, 0, 1)
    assert rejected(output) == [(1, today)]
    assert done.manifest.partitions == manifest.partitions
    assert retry(output, done.manifest, None, NOW) == Done(done.manifest, 1)


def test_the_dataset_keeps_a_file_for_its_schema_when_no_message_is_rejected_any_more(
    output: Output, file_format: str
) -> None:
    with older_contract():
        manifest = publish(output, None, [encode(ticket(0, priority="critical"))], file_format)
        manifest = publish(output, manifest, [encode(ticket(1, priority="critical"))], file_format)
    after = retry(output, manifest, None, NOW).manifest
    assert tickets(output) == ["0", "1"]
    assert rejected(output) == []
    assert len(after.files["rejected_messages"]) == 1
    assert after.partitions == {0: Partition(0, 2, tickets=2)}


def test_batches_compactions_and_conversions_go_on_from_there(output: Output) -> None:
    manifest = retry(output, published(output), None, NOW).manifest
    manifest = publish(output, manifest, [encode(ticket(5)), b"bad"])
    assert manifest.batch_id == 5
    merged = compact(output, manifest, plan(manifest.contents, 1), UPDATED_AT)
    assert isinstance(merged, Manifest)
    assert [len(merged.files[name]) for name in ("tickets_with_assignment", "rejected_messages")] == [1, 1]
    assert tickets(output) == ["0", "2", "1", "3", "4", "5"]
    assert [offset for offset, _ in rejected(output)] == [2, 3, 5, 9]
    convert(output, merged, "json", UPDATED_AT)
    assert tickets(output) == ["0", "2", "1", "3", "4", "5"]
    assert output.recover() == read_manifest(Disk(), output.root)


def test_what_was_compacted_is_retried_too(output: Output) -> None:
    manifest = published(output)
    merged = compact(output, manifest, plan(manifest.contents, 1), UPDATED_AT)
    assert isinstance(merged, Manifest)
    after = retry(output, merged, "priority", NOW).manifest
    assert tickets(output) == ["0", "2", "1", "4"]
    (file,) = after.contents["rejected_messages"].values()
    assert (file.rows, file.first_batch, file.last_batch, file.rewrites) == (4, 1, 3, 1)


EARLIER = "duplicate: the ticket_id was published earlier"


def deduped(output: Output, *batches: Sequence[bytes | None]) -> Manifest:
    """Publish batches without duplicates, decided by an older contract."""
    ids, manifest = IdSet(ids_folder(output), output.disk), None
    with older_contract():
        for values in batches:
            ids.open(output, manifest)
            manifest = publish(output, manifest, values, ids=ids)
    assert manifest is not None
    return manifest


def test_a_ticket_whose_id_was_published_meanwhile_goes_back_as_a_duplicate(output: Output) -> None:
    manifest = deduped(
        output,
        # 1 is rejected, and sent again as what was a ticket then.
        [encode(ticket(0)), encode(ticket(1, priority="critical"))],
        [encode(ticket(1, priority="high")), encode(ticket(0)), encode(ticket(2, priority="critical"))],
    )
    done = retry(output, manifest, None, NOW)
    assert (done.asked, done.tickets, done.duplicates, done.left) == (2, 1, 1, 0)
    assert tickets(output) == ["0", "1", "2"]
    assert rejected(output) == [(1, EARLIER), (3, EARLIER)]
    assert done.manifest.partitions == {0: Partition(0, 5, tickets=3, duplicates=2)}
    assert done.manifest.deduped_from == 1
    # Neither of the two comes back, whatever reason is named.
    for wanted in (None, "duplicate", EARLIER):
        assert retry(output, done.manifest, wanted, NOW) == Done(done.manifest, 0)


def test_of_two_rejected_tickets_with_one_id_the_first_is_published(output: Output) -> None:
    again = [encode(ticket(1, priority="critical")), encode(ticket(1, priority="critical"))]
    manifest = deduped(output, [encode(ticket(0)), *again], [encode(ticket(1, request=LONG))])
    done = retry(output, manifest, None, NOW)
    assert (done.tickets, done.duplicates) == (1, 2)
    first = "duplicate: the ticket_id is that of an earlier message, found at partition 0, offset 1"
    assert rejected(output) == [(2, first), (3, first)]
    assert tickets(output) == ["0", "1"]
    assert done.manifest.partitions == {0: Partition(0, 4, tickets=2, duplicates=2)}


def test_an_id_that_was_retried_is_known_to_the_next_batch(output: Output) -> None:
    manifest = deduped(output, [encode(ticket(0)), encode(ticket(1, priority="critical"))])
    after = retry(output, manifest, None, NOW).manifest
    ids = IdSet(ids_folder(output), output.disk)
    ids.open(output, after, between=lambda: pytest.fail("the set of ids is not made again"))
    after = publish(output, after, [encode(ticket(1)), encode(ticket(3))], ids=ids)
    assert tickets(output) == ["0", "1", "3"]
    assert rejected(output) == [(2, EARLIER)]
    assert after.deduped_from == 1


def test_without_a_look_for_duplicates_each_message_is_a_ticket(output: Output) -> None:
    with older_contract():
        manifest = publish(output, None, [encode(ticket(0)), *[encode(ticket(0, priority="critical"))] * 2])
    done = retry(output, manifest, None, NOW)
    assert (done.tickets, done.duplicates, done.manifest.deduped_from) == (2, 0, None)
    assert Published(output.root).count("tickets_with_assignment") == 3


def test_a_forgotten_client_does_not_come_back(output: Output) -> None:
    erased = forget(output, published(output), ["CLIENT_2"], {0: 8}, UPDATED_AT)
    assert (erased.tickets, erased.rejected) == (0, 1)
    done = retry(output, erased.manifest, None, NOW)
    assert (done.asked, done.tickets) == (5, 2)
    assert tickets(output) == ["0", "2", "3", "4"]
    assert done.manifest.partitions == {0: Partition(0, 8, tickets=4, rejected=3, forgotten=1)}


def table(*rows: tuple[int, int, str, bytes | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            dict(zip(("partition", "offset", "reason", "payload"), row, strict=True), received_at=None, key=None)
            for row in rows
        ],
        REJECTED.schema,
    )


def test_a_message_is_left_out_if_its_client_was_to_be_forgotten_when_it_was_read(output: Output) -> None:
    # When the client was erased, its id could not be found in these messages.
    of_client = table(*((0, offset, "strange", encode(ticket(offset))) for offset in (4, 5)))
    retried = retry_messages(of_client, None, NO_DUPLICATES, [erasure_of(["CLIENT_1"], {0: 5}), erasure_of(["X"], {})])
    assert (retried.published.offset.tolist(), retried.forgotten.offset.tolist()) == ([5], [4])
    assert retried.left.num_rows == 0
    moves: dict[tuple[int, bool], Moved] = {}
    with older_contract():
        manifest = publish(output, None, [encode(ticket(n, priority="critical")) for n in range(6)])
    count_moves(moves, manifest, retried)
    assert moves == {(0, False): Moved(tickets=1, forgotten=1)}
    assert account(manifest, moves)["partitions"] == {0: Partition(0, 6, tickets=1, rejected=4, forgotten=1)}


def test_messages_from_before_an_upgrade_are_counted_with_it(output: Output) -> None:
    with older_contract():
        manifest = publish(output, None, [encode(ticket(0))])
    upgraded = msgspec.structs.replace(
        manifest, partitions={0: Partition(10, 20, rejected=10), 1: Partition(4, 4)}, upgrade=Upgrade(1, 100, 10)
    )
    rows = [(0, offset, "strange", encode(ticket(offset))) for offset in (9, 10, 19)]
    retried = retry_messages(table(*rows, (1, 3, "strange", encode(ticket(3)))), None, NO_DUPLICATES, [])
    moves: dict[tuple[int, bool], Moved] = {}
    count_moves(moves, upgraded, retried)
    assert account(upgraded, moves) == {
        "partitions": {0: Partition(10, 20, tickets=2, rejected=8), 1: Partition(4, 4)},
        "upgrade": Upgrade(1, 102, 8),
    }


@pytest.mark.parametrize(
    ("version", "partitions", "upgrade"),
    [
        (1, {0: Partition(13, 13), 1: Partition(6, 6)}, Upgrade(1, 19, 0)),
        (2, {0: Partition(0, 32, tickets=32)}, None),
    ],
)
def test_an_output_of_an_earlier_version_is_retried_too(
    tmp_path: Path, version: int, partitions: dict[int, Partition], upgrade: Upgrade | None
) -> None:
    with tarfile.open(ROOT / f"tests/golden/outputs-version-{version}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / {1: "one", 2: "json"}[version]
    output = Output(OutputLocation(root), QuickDisk(), StoppedClock())
    manifest = output.recover()
    assert manifest is not None

    def lenient(payloads: Sequence[bytes | None]) -> DecodedMessages:
        return decode_columns([encode(ticket(900 + number)) for number in range(len(payloads))])

    with patch("processor.retried.decode_columns", lenient):
        done = retry(output, manifest, None, NOW)
    assert (done.asked, done.tickets, done.left) == (3, 3, 0)
    assert (done.manifest.partitions, done.manifest.upgrade) == (partitions, upgrade)
    assert output.recover() == done.manifest
    assert rejected(output) == []
    after = publish_batch(output, done.manifest, done.manifest.format, [])
    assert after.batch_id == done.manifest.batch_id + 1
    Published(root).require_agreement()


def test_a_table_in_which_nothing_changes_is_the_same_table() -> None:
    same = table((0, 1, NOT_JSON, b"bad"), (0, 2, EARLIER, encode(ticket(0))))
    retried = retry_messages(same, None, NO_DUPLICATES, [])
    assert (retried.asked, retried.changed, retried.left) == (1, False, same)
    assert not retry_messages(same.slice(0, 0), None, NO_DUPLICATES, []).changed


class WithoutExchange(QuickDisk):
    """A file system that does not exchange folders."""

    def exchange(self, one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", str(one), None, str(other))


def test_where_folders_cannot_be_exchanged_it_is_refused_until_readers_are_stopped(tmp_path: Path) -> None:
    output = Output(OutputLocation(tmp_path / "output"), WithoutExchange(), StoppedClock())
    manifest = published(output)
    with pytest.raises(OutputUnavailable, match="run this again with --readers-stopped: nothing was changed"):
        retry(output, manifest, None, NOW)
    assert output.recover() == manifest
    assert retry(output, manifest, None, NOW, readers_stopped=True).tickets == 3
    assert tickets(output) == ["0", "2", "1", "3", "4"]


def test_a_published_file_that_is_not_what_it_was_stops_it(output: Output) -> None:
    manifest = published(output, "json")
    path = output.root / "rejected_messages/batch-000001-0000.json"
    path.write_bytes(path.read_bytes().replace(b"invoice", b"invoicE").replace(b'"offset":1', b'"offset":0'))
    with pytest.raises(DataConflict, match=r"batch-000001-0000\.json is not the file that was published"):
        retry(output, manifest, None, NOW)
    assert read_manifest(Disk(), output.root) == manifest


def test_many_clients_and_ids_are_held_a_part_at_a_time(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.retry._NOTED", 2)
    values = [encode(ticket(n % 7, priority="critical", client_id=f"CLIENT_{n}")) for n in range(10)]
    manifest = deduped(output, values[:5], values[5:])
    done = retry(output, manifest, None, NOW)
    assert (done.tickets, done.duplicates, done.manifest.totals.unique_clients) == (7, 3, 7)
    assert [offset for offset, _ in rejected(output)] == [7, 8, 9]
