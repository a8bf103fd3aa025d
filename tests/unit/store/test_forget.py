"""Erasure: the rows of the clients are removed, the counts are corrected, and their ids are nowhere any more."""

import errno
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.routing import Routing, Rule
from contract.ticket import encode
from runtime.errors import DataConflict, OutputUnavailable
from runtime.process.clock import Clock
from runtime.settings.location import OutputLocation
from store.convert import convert
from store.datasets import BY_TEAM
from store.files import Disk
from store.forget import Forgotten, forget
from store.manifest import Manifest, Partition, RuleSet, read_manifest
from store.output import Output
from store.verify import verify
from tests.support.datasets import Published
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, publish_batch, ticket

NOW = datetime(2026, 2, 1, 8, 0, tzinfo=UTC)

ANN = "CLIENT_417"
BOB = "CLIENT_41"

# By batch. Ann has 4 tickets, 2 of them of high priority, and 3 of the 5 rejected messages are about her.
BATCHES = (
    (
        encode(ticket(0, client_id=ANN)),
        encode(ticket(1, client_id=BOB, priority="high", request_type="account")),
        b"bad",
        b"CLIENT_417 complains",
    ),
    (encode(ticket(2, client_id=ANN, priority="critical")), encode(ticket(3, client_id=ANN, priority="high"))),
    (
        encode(ticket(4, client_id=BOB, request="CLIENT_417 sent me")),
        b'{"client_id": "CLIENT_417"}',
        b'{"client_id": "\\u0043LIENT_417"}',
        b"CLIENT_4171",
        encode(ticket(5, client_id=ANN, request_type="general")),
    ),
)
END = 11


@dataclass
class HandSet(Clock):
    """A clock that the test sets."""

    passed: float = 0.0
    start: datetime = field(default=NOW)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed)

    def seconds(self) -> float:
        return self.passed


@pytest.fixture
def clock() -> HandSet:
    return HandSet()


@pytest.fixture(params=["parquet", "json"])
def file_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def output(tmp_path: Path, clock: HandSet) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk(), clock)


def published(output: Output, file_format: str = "parquet") -> Manifest:
    manifest, offset = None, 0
    for values in BATCHES:
        manifest = publish_batch(output, manifest, file_format, [[messages(values, first_offset=offset)]])
        offset += len(values)
    assert manifest is not None
    return manifest


def places_of(output: Output, text: str) -> set[str]:
    """Return which folders have files that contain a text, as bytes."""
    found = (path for path in output.root.rglob("*") if path.is_file() and text.encode() in path.read_bytes())
    return {str(path.relative_to(output.root).parent) for path in found}


def erase(output: Output, manifest: Manifest, *client_ids: str, end: int = END) -> Forgotten:
    return forget(output, manifest, client_ids, {0: end}, NOW)


def test_every_row_of_the_client_leaves_and_the_counts_follow(output: Output, file_format: str) -> None:
    manifest = published(output, file_format)
    done = erase(output, manifest, ANN)
    assert (done.clients, done.tickets, done.rejected, done.to_come) == (1, 4, 3, {})
    datasets = Published(output.root)
    datasets.require_agreement()
    assert datasets.rows("SELECT ticket_id, client_id FROM tickets_with_assignment") == [
        ("3e476c38-2a7f-4d89-a08f-000000000001", BOB),
        ("3e476c38-2a7f-4d89-a08f-000000000004", BOB),
    ]
    assert datasets.rows("SELECT client_id FROM high_priority_tickets") == [(BOB,)]
    assert datasets.rows('SELECT "offset", payload FROM rejected_messages') == [(2, b"bad"), (9, b"CLIENT_4171")]
    assert datasets.rows("SELECT total_tickets, unique_clients, rejected_messages, updated_at FROM metrics") == [
        (2, 1, 2, NOW)
    ]
    assert output.recover() == done.manifest == read_manifest(Disk(), output.root)


def test_teams_stay_those_of_the_rules_that_apply(output: Output) -> None:
    desk = Routing((Rule("Desk"),))
    manifest = publish_batch(output, None, "parquet", [[messages(BATCHES[1])]], routing=desk)
    done = erase(output, manifest, ANN, end=2)
    assert done.tickets == 2
    assert output.reader(done.manifest).rows(BY_TEAM) == [{"assigned_team": "Desk", "count": 0}]
    assert done.manifest.routing == [RuleSet(1, list(desk.rules))]
    assert verify(OutputLocation(output.root)).differences == []


def test_the_ledger_says_what_became_of_the_offsets(output: Output) -> None:
    before = published(output)
    after = erase(output, before, ANN).manifest
    assert before.partitions == {0: Partition(0, END, tickets=6, rejected=5)}
    assert after.partitions == {0: Partition(0, END, tickets=6, rejected=2, forgotten=3)}
    assert (after.erased_tickets, after.erasures) == (4, [])
    assert (after.commit, after.kind, after.batch_id, after.follows) == (4, "erasure", 3, before.commit_id)


def test_a_file_that_held_nothing_else_goes_and_the_others_get_names_that_were_never_used(output: Output) -> None:
    before = published(output)
    after = erase(output, before, ANN).manifest
    old, new = before.files, after.files
    assert [len(old[name]) for name in ("tickets_with_assignment", "high_priority_tickets")] == [3, 2]
    assert new["tickets_with_assignment"] == [
        "batch-000001-0000-to-000001-000004.parquet",
        "batch-000003-0000-to-000003-000004.parquet",
    ]
    # Bob had no row in the same file.
    assert new["high_priority_tickets"] == ["batch-000001-0000.parquet"]


def test_a_dataset_that_loses_all_its_rows_keeps_a_file_for_its_schema(output: Output, file_format: str) -> None:
    manifest = erase(output, published(output, file_format), ANN, BOB).manifest
    datasets = Published(output.root)
    datasets.require_agreement()
    assert datasets.count("tickets_with_assignment") == 0
    assert [len(manifest.files[name]) for name in ("tickets_with_assignment", "high_priority_tickets")] == [1, 1]
    assert manifest.totals.unique_clients == 0
    more = [messages([encode(ticket(9, client_id=ANN))], first_offset=END)]
    assert publish_batch(output, manifest, file_format, [more]).totals.unique_clients == 1
    Published(output.root).require_agreement()


def test_the_id_is_nowhere_once_the_readers_have_had_their_ten_minutes(output: Output, clock: HandSet) -> None:
    # In JSON an id is plain text, so it is found wherever it is left.
    manifest = published(output, "json")
    assert places_of(output, ANN) >= {"tickets_with_assignment", "high_priority_tickets", ".pipeline"}
    after = forget(output, manifest, [ANN], {0: END}, NOW).manifest
    assert {place.partition("/")[2].partition("/")[0] for place in places_of(output, ANN)} <= {"replaced", ""}
    clock.passed = 601
    output.replaced.remove_old()
    # Bob's own ticket mentions her.
    assert places_of(output, ANN) == {"tickets_with_assignment"}
    assert places_of(output, f'"{ANN}"') == set()
    assert output.recover() == after


def test_messages_that_are_still_unread_are_left_out_and_later_ones_are_published(output: Output) -> None:
    manifest = published(output)
    done = erase(output, manifest, ANN, end=END + 3)
    assert done.to_come == {0: END + 3}
    (erasure,) = done.manifest.erasures
    assert erasure.below == {0: END + 3}
    assert ANN not in (output.root / "_manifest.json").read_text()
    assert json.loads((output.root / "_manifest.json").read_bytes())["erasures"][0]["lengths"] == [10]
    assert output.recover() == done.manifest
    values = [
        encode(ticket(6, client_id=ANN)),
        b"CLIENT_417 wrote again",
        encode(ticket(7, client_id=BOB)),
        encode(ticket(8, client_id=ANN)),
        b"CLIENT_417 is back",
    ]
    after = publish_batch(output, done.manifest, "parquet", [[messages(values, first_offset=END)]])
    assert after.partitions == {0: Partition(0, END + 5, tickets=8, rejected=3, forgotten=5)}
    assert (after.totals.tickets, after.totals.rejected, after.totals.unique_clients) == (4, 3, 2)
    # No unread message is left, so the ledger no longer has the erasure.
    assert after.erasures == []
    datasets = Published(output.root)
    datasets.require_agreement()
    assert datasets.rows("SELECT ticket_id FROM tickets_with_assignment WHERE client_id = 'CLIENT_417'") == [
        ("3e476c38-2a7f-4d89-a08f-000000000008",)
    ]


def test_an_erasure_is_remembered_until_all_unread_messages_are_read(output: Output) -> None:
    manifest = erase(output, published(output), ANN, end=END + 3).manifest
    value = encode(ticket(6, client_id=ANN))
    for number, left in ((0, 1), (1, 1), (2, 0)):
        more = [messages([value], first_offset=END + number)]
        manifest = publish_batch(output, manifest, "parquet", [more])
        assert len(manifest.erasures) == left
    assert manifest.partitions[0].forgotten == 6
    Published(output.root).require_agreement()


def test_a_client_of_whom_nothing_is_published_is_remembered_for_what_is_unread(output: Output) -> None:
    manifest = published(output)
    done = erase(output, manifest, "CLIENT_9", end=END + 1)
    assert (done.clients, done.tickets, done.rejected, done.to_come) == (0, 0, 0, {0: END + 1})
    assert done.manifest.files == manifest.files
    Published(output.root).require_agreement()


def test_a_client_who_was_never_there_changes_nothing(output: Output) -> None:
    manifest = published(output)
    done = erase(output, manifest, "CLIENT_9")
    assert done == Forgotten(manifest, 0, 0, 0, {})
    assert read_manifest(Disk(), output.root) == manifest
    assert not (output.state / "staging").exists()


def test_erasing_a_client_twice_changes_nothing_more(output: Output) -> None:
    first = erase(output, published(output), ANN).manifest
    assert erase(output, first, ANN) == Forgotten(first, 0, 0, 0, {})


def test_one_erasure_after_another(output: Output) -> None:
    manifest = erase(output, erase(output, published(output), ANN).manifest, BOB).manifest
    assert manifest.erased_tickets == 6
    assert manifest.partitions == {0: Partition(0, END, tickets=6, rejected=2, forgotten=3)}
    Published(output.root).require_agreement()


def test_a_later_conversion_keeps_erased_counts_and_pending_erasures(output: Output) -> None:
    manifest = erase(output, published(output), ANN, end=END + 3).manifest
    converted = convert(output, manifest, "json", UPDATED_AT)
    assert (converted.erased_tickets, converted.erasures) == (4, manifest.erasures)
    Published(output.root).require_agreement()


class WithoutExchange(QuickDisk):
    """A file system that does not exchange folders."""

    def exchange(self, one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument", str(one), None, str(other))


def test_without_exchange_an_erasure_is_refused_until_readers_are_stopped(tmp_path: Path) -> None:
    output = Output(OutputLocation(tmp_path / "output"), WithoutExchange())
    manifest = published(output)
    with pytest.raises(OutputUnavailable, match="run this again with --readers-stopped: nothing was changed"):
        erase(output, manifest, ANN)
    assert output.recover() == manifest
    done = forget(output, manifest, [ANN], {0: END}, NOW, readers_stopped=True)
    assert (done.tickets, done.rejected) == (4, 3)
    assert not (output.state / "replaced").exists()
    Published(output.root).require_agreement()


def test_an_erasure_that_changes_no_published_row_needs_no_exchange(tmp_path: Path) -> None:
    output = Output(OutputLocation(tmp_path / "output"), WithoutExchange())
    done = erase(output, published(output), "CLIENT_9", end=END + 3)
    assert (done.tickets, done.to_come) == (0, {0: END + 3})
    assert output.recover() == done.manifest


def test_a_changed_published_file_stops_the_erasure(output: Output) -> None:
    manifest = published(output, "json")
    path = output.root / "tickets_with_assignment/batch-000002-0000.json"
    path.write_bytes(path.read_bytes().replace(b"invoice", b"invoicE"))
    with pytest.raises(DataConflict, match=r"batch-000002-0000\.json is not the file that was published"):
        erase(output, manifest, ANN)
