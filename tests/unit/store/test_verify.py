"""Outputs that are in order, damaged, or change while they are verified."""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.routing import DEFAULT, Routing, Rule
from contract.ticket import encode as encode_ticket
from contract.uuids import Ids
from runtime.errors import DataConflict, OutputUnavailable, SettingError
from runtime.settings.location import OutputLocation
from runtime.settings.setting import ROOT
from store import reread
from store.compact import compact, plan
from store.convert import convert
from store.datasets import BY_HOUR, BY_NAME, BY_PRIORITY, BY_TEAM, BY_TYPE, METRICS, REJECTED
from store.files import Disk
from store.ids import IdSet, ids_folder
from store.manifest import CommitRecord, Manifest, encode, read_manifest
from store.output import Output
from store.staging import Staging
from store.verify import Report, verify
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, prepare_batch, publish_batch, ticket

TICKETS_1 = "tickets_with_assignment/batch-000001-0000"


def batch(number: int) -> list[list[Any]]:
    """Return what one task reads for a batch: four tickets of three clients, and a message that is not a ticket."""
    types = ("billing", "account", "technical", "general")
    made = [
        ticket(10 * number + n, client_id=f"CLIENT_{n % 3}", request_type=types[n], priority=("low", "high")[n % 2])
        for n in range(4)
    ]
    return [[messages([*map(encode_ticket, made), b"bad"], first_offset=5 * (number - 1))]]


class Verified:
    """An output of three batches: 12 tickets, 6 of them of high priority, and 3 rejected messages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = Output(OutputLocation(root), QuickDisk())

    def tell(self, file_format: str) -> None:
        manifest: Manifest | None = None
        for number in (1, 2, 3):
            manifest = publish_batch(self.output, manifest, file_format, batch(number))

    @property
    def manifest(self) -> Manifest:
        manifest = read_manifest(Disk(), self.root)
        assert manifest is not None
        return manifest

    def path(self, name: str) -> Path:
        (path,) = self.root.glob(f"{name}.*")
        return path

    def verify(self, disk: Disk | None = None) -> Report:
        return verify(OutputLocation(self.root), disk, sleep=lambda seconds: None)

    def differences(self) -> list[tuple[str, str]]:
        return [(found.where, found.what) for found in self.verify().differences]

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Edit the ledger by hand."""
        path = self.root / "_manifest.json"
        content = json.loads(path.read_bytes())
        change(content)
        path.write_text(json.dumps(content))

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Rewrite a file with other rows, and change the ledger as if these had been published."""
        path, manifest = self.path(name), self.manifest
        dataset = BY_NAME[path.parent.name]
        table = change(self.output.reader(manifest).table(dataset))
        kept = self.root.parent / "kept"
        kept.mkdir(exist_ok=True)
        staged = Staging(kept, manifest.format, QuickDisk()).write(dataset, "new", table)
        (kept / staged.name).replace(path)
        known = {"rows": staged.rows, "bytes": staged.bytes, "checksum": staged.checksum}
        self.edit(lambda content: content["contents"][dataset.name][path.name].update(known))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    for file_format in ("parquet", "json"):
        Verified(folder / file_format).tell(file_format)
    return folder


@pytest.fixture
def parquet(told: Path, tmp_path: Path) -> Verified:
    shutil.copytree(told / "parquet", tmp_path / "output")
    return Verified(tmp_path / "output")


@pytest.fixture(params=["parquet", "json"])
def verified(request: pytest.FixtureRequest, told: Path, tmp_path: Path) -> Verified:
    shutil.copytree(told / request.param, tmp_path / "output")
    return Verified(tmp_path / "output")


def with_first(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    """Return a function that sets ``column`` of the first row."""

    def change(table: pa.Table) -> pa.Table:
        first, *rest = table.to_pylist()
        return pa.Table.from_pylist([first | {column: value}, *rest], schema=table.schema)

    return change


def test_an_output_that_is_in_order(verified: Verified) -> None:
    before = {path: path.stat().st_mtime_ns for path in verified.root.rglob("*")}
    report = verified.verify()
    assert report.differences == []
    assert report.notes == []
    assert (report.commit, report.batch_id, report.format) == (3, 3, verified.manifest.format)
    assert (report.tickets, report.unique_clients, report.rejected, report.repeated) == (12, 3, 3, 0)
    assert report.next_offsets == {0: 15}
    counted = {each.dataset: (each.files, each.rows, each.differences) for each in report.datasets}
    assert counted == {
        "tickets_with_assignment": (3, 12, 0),
        "high_priority_tickets": (3, 6, 0),
        "metrics": (1, 1, 0),
        "tickets_by_type": (1, 4, 0),
        "tickets_by_priority": (1, 4, 0),
        "tickets_by_team": (1, 4, 0),
        "tickets_by_hour": (1, 4, 0),
        "rejected_messages": (3, 3, 0),
    }
    assert {path: path.stat().st_mtime_ns for path in verified.root.rglob("*")} == before


def test_an_output_of_an_empty_topic_and_a_converted_one(tmp_path: Path, parquet: Verified) -> None:
    empty = Verified(tmp_path / "empty")
    publish_batch(empty.output, None, "parquet", [])
    assert empty.differences() == []
    convert(parquet.output, parquet.manifest, "json", UPDATED_AT)
    assert parquet.verify().differences == []
    assert parquet.verify().format == "json"


def test_a_file_that_is_missing(verified: Verified) -> None:
    gone = verified.path(TICKETS_1)
    gone.unlink()
    assert verified.differences() == [
        (f"{TICKETS_1}{gone.suffix}", "was published and is gone"),
        ("_manifest.json", "says 12 tickets in total, the files hold 8"),
        ("_manifest.json", "says 12 tickets of all partitions together, the files hold 8"),
        *(
            ("_manifest.json", f"says {said} tickets of {what}, the files hold {found}")
            for said, what, found in (
                (3, "request_type account", 2),
                (3, "request_type billing", 2),
                (3, "request_type general", 2),
                (3, "request_type technical", 2),
                (6, "priority high", 4),
                (6, "priority low", 4),
                (3, "assigned_team Account Management", 2),
                (3, "assigned_team Billing Team", 2),
                (3, "assigned_team General Support", 2),
                (3, "assigned_team Technical Support", 2),
            )
        ),
        (
            "high_priority_tickets",
            "2 rows are not in tickets_with_assignment, or not with high or critical priority; the first is row 1 of "
            f"batch-000001-0000{gone.suffix}",
        ),
        ("metrics", "total_tickets is 12, it should be 8"),
        *(("metrics", f"{name}_count is 3, it should be 2") for name in ("account", "billing", "technical", "general")),
        ("metrics", "low_priority_count is 6, it should be 4"),
        ("metrics", "high_priority_count is 6, it should be 4"),
        *(
            ("tickets_by_type", f"request_type {name} has 3, there are 2 tickets")
            for name in ("account", "billing", "general", "technical")
        ),
        ("tickets_by_priority", "priority high has 6, there are 4 tickets"),
        ("tickets_by_priority", "priority low has 6, there are 4 tickets"),
        *(
            ("tickets_by_team", f"assigned_team {name} has 3, there are 2 tickets")
            for name in ("Account Management", "Billing Team", "General Support", "Technical Support")
        ),
        *(
            ("tickets_by_hour", f"2026-01-31T09:00Z, {kind} has 3, there are 2 tickets")
            for kind in ("account, high", "billing, low", "technical, low", "general, high")
        ),
    ]


def first_difference(verified: Verified) -> tuple[str, str]:
    return verified.differences()[0]


def test_a_file_that_was_cut(verified: Verified) -> None:
    path = verified.path(TICKETS_1)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    assert first_difference(verified) == (
        f"{TICKETS_1}{path.suffix}",
        f"has {len(content) - 40:,} bytes, was published with {len(content):,}",
    )


def test_a_file_swapped_for_another_of_the_same_size(parquet: Verified) -> None:
    path = parquet.path(TICKETS_1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert first_difference(parquet) == (
        f"{TICKETS_1}.parquet",
        "is not the file that was published: its checksum differs",
    )


def test_a_file_in_place_of_which_there_is_a_link(verified: Verified) -> None:
    path = verified.path(TICKETS_1)
    path.rename(verified.root / "elsewhere")
    path.symlink_to(verified.root / "elsewhere")
    assert first_difference(verified) == (
        f"{TICKETS_1}{path.suffix}",
        "was published as a file and is something else now, perhaps a link",
    )


def test_bytes_that_are_not_a_file_of_the_format_although_the_ledger_names_them(verified: Verified) -> None:
    path = verified.path("tickets_by_type/tickets_by_type")
    path.write_bytes(b"{}\n")
    ca3d = "sha256:ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
    known = {"rows": 4, "bytes": 3, "checksum": ca3d}
    verified.edit(lambda content: content["contents"]["tickets_by_type"][path.name].update(known))
    where, what = first_difference(verified)
    assert where == f"tickets_by_type/{path.name}"
    assert what.startswith("cannot be decoded (")


def test_a_forbidden_null_is_damage(parquet: Verified) -> None:
    path = parquet.path("tickets_by_type/tickets_by_type")
    pq.write_table(pa.table({"request_type": ["a", None, "b", "c"], "count": [1, 1, 1, 1]}), path)
    content = path.read_bytes()
    known = {"bytes": len(content), "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}"}
    parquet.edit(lambda ledger: ledger["contents"]["tickets_by_type"][path.name].update(known))
    assert first_difference(parquet) == (
        "tickets_by_type/tickets_by_type.parquet",
        "cannot be decoded (Casting field 'request_type' with null values to non-nullable)",
    )


@pytest.mark.parametrize("name", ["mine.parquet", "mine.json"])
def test_a_file_that_readers_of_the_folder_would_count(verified: Verified, name: str) -> None:
    (verified.root / "metrics" / name).write_bytes(b"")
    assert verified.differences() == [
        (
            "metrics",
            f"holds 1 files that the ledger does not name and every reader of the folder counts, the first is {name!r}",
        )
    ]


def test_other_files_in_a_folder_are_a_note(verified: Verified) -> None:
    (verified.root / "metrics" / ".DS_Store").write_bytes(b"")
    report = verified.verify()
    assert report.differences == []
    assert report.notes == ["metrics holds '.DS_Store', which is not part of the output"]


def test_a_file_name_that_is_not_utf_8_is_reported_too(verified: Verified) -> None:
    path = os.fsencode(verified.root / "metrics") + b"/\xff.parquet"
    Path(os.fsdecode(path)).touch()
    ((_, what),) = verified.differences()
    assert what.endswith(r"the first is '\udcff.parquet'")


def test_a_row_that_was_removed(verified: Verified) -> None:
    name = verified.path("rejected_messages/batch-000003-0000").name
    verified.rewrite("rejected_messages/batch-000003-0000", lambda table: table.slice(0, 0))
    assert verified.differences() == [
        ("_manifest.json", "says 3 rejected messages in total, the files hold 2"),
        ("_manifest.json", "says 3 rejected messages of all partitions together, the files hold 2"),
        ("_manifest.json", "partition 0 says 3 rejected messages, rejected_messages holds 2 of them"),
        ("metrics", "rejected_messages is 3, it should be 2"),
    ]
    verified.edit(lambda content: content["contents"]["rejected_messages"][name].update(rows=1))
    assert first_difference(verified) == (f"rejected_messages/{name}", "holds 0 rows, the ledger says 1")


def own_rows(verified: Verified, name: str) -> Callable[[pa.Table], pa.Table]:
    """Return a function that selects, from the rows of a whole dataset, those of one of its files."""
    numbers = sorted(verified.manifest.contents[name.partition("/")[0]])
    place = [number.partition(".")[0] for number in numbers].index(name.partition("/")[2])
    of_file = {"tickets_with_assignment": 4, "high_priority_tickets": 2}[name.partition("/")[0]]
    return lambda table: table.slice(place * of_file, of_file)


def test_a_repeated_row_is_counted_twice_and_its_id_is_reported(verified: Verified) -> None:
    own = own_rows(verified, TICKETS_1)
    verified.rewrite(TICKETS_1, lambda table: pa.concat_tables([own(table), own(table).slice(0, 1)]))
    report = verified.verify()
    assert [(each.where, each.what) for each in report.differences][:3] == [
        ("_manifest.json", "says 12 tickets in total, the files hold 13"),
        ("_manifest.json", "says 12 tickets of all partitions together, the files hold 13"),
        ("_manifest.json", "says 3 tickets of request_type billing, the files hold 4"),
    ]
    assert report.repeated == 1
    assert [(each.ticket_id, each.tickets) for each in report.repeats] == [("3e476c38-2a7f-4d89-a08f-00000000000a", 2)]


def test_an_id_of_two_messages_is_reported_but_is_not_a_difference(tmp_path: Path) -> None:
    verified = Verified(tmp_path / "output")
    first = publish_batch(verified.output, None, "parquet", batch(1))
    again = messages([encode_ticket(ticket(10)), encode_ticket(ticket(11))], first_offset=5)
    publish_batch(verified.output, first, "parquet", [[again]])
    report = verified.verify()
    assert report.differences == []
    assert report.repeated == 2
    assert [each.tickets for each in report.repeats] == [2, 2]


@pytest.mark.parametrize(("deduped_from", "found"), [(None, 0), (2, 0), (1, 1)])
def test_an_id_of_two_messages_is_a_difference_if_every_batch_was_deduplicated(
    tmp_path: Path, deduped_from: int | None, found: int
) -> None:
    verified = Verified(tmp_path / "output")
    first = publish_batch(verified.output, None, "parquet", batch(1))
    capital = ticket(10, ticket_id="3E476C38-2A7F-4D89-A08F-00000000000A")
    again = messages([encode_ticket(capital)], first_offset=5)
    publish_batch(verified.output, first, "parquet", [[again]])
    verified.edit(lambda content: content.update(deduped_from=deduped_from))
    report = verified.verify()
    assert (report.deduped_from, report.repeated) == (deduped_from, 1)
    what = (
        "1 tickets repeat the id of another one, such as 3e476c38-2a7f-4d89-a08f-00000000000a, but the ledger says "
        "that every batch was published without such tickets"
    )
    assert [(each.where, each.what) for each in report.differences] == [("tickets_with_assignment", what)] * found
    assert [each.differences for each in report.datasets] == [found, 0, 0, 0, 0, 0, 0, 0]


def with_ids(verified: Verified, *numbers: int) -> Path:
    """Give the output a set of these ids, as of its commit, and return its folder."""
    known = IdSet(ids_folder(verified.output), Disk())
    known.open(verified.output, verified.manifest)
    low = np.array([0xA08F << 48 | number for number in numbers], np.uint64)
    index = ids_folder(verified.output) / f"{verified.manifest.commit_id}.json"
    run = known.write([Ids(np.full(len(low), 0x3E476C382A7F4D89, np.uint64), low)])
    index.write_bytes(msgspec.json.encode({"runs": [run]}))
    verified.edit(lambda content: content.update(deduped_from=1))
    return ids_folder(verified.output)


ALL_NUMBERS = (10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33)


def test_a_set_of_ids_that_is_that_of_the_tickets(verified: Verified) -> None:
    with_ids(verified, *ALL_NUMBERS)
    report = verified.verify()
    assert (report.differences, report.notes, report.deduped_from) == ([], [], 1)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [((*ALL_NUMBERS[:-1], 34), "as many ids for 12"), (ALL_NUMBERS[1:], "11 ids for 12")],
    ids=["another", "one less"],
)
def test_a_set_of_ids_that_is_not_that_of_the_tickets(verified: Verified, numbers: tuple[int, ...], found: str) -> None:
    with_ids(verified, *numbers)
    ((where, what),) = verified.differences()
    assert where == "ids"
    assert what == (
        f"the set of known ticket ids has {found} tickets, and not the same; stop the processor and delete the folder: "
        "the next batch makes it again"
    )


def test_a_set_of_ids_that_can_be_made_again_is_a_note(parquet: Verified) -> None:
    folder = with_ids(parquet, *ALL_NUMBERS)
    note = ["the set of known ticket ids is missing or damaged: the next batch makes it again"]
    for damage in (
        lambda: max(folder.glob("*.low"), key=lambda path: path.stat().st_mtime_ns).write_bytes(b"\0" * 96),
        lambda: next(folder.glob("*.json")).write_bytes(b"{"),
        lambda: shutil.rmtree(folder),
    ):
        damage()
        report = parquet.verify()
        assert (report.differences, report.notes) == ([], note)
    # Without --dedupe all, no set is needed.
    parquet.edit(lambda content: content.update(deduped_from=None))
    assert parquet.verify().notes == []


def test_an_id_that_is_not_a_uuid(verified: Verified) -> None:
    own = own_rows(verified, TICKETS_1)
    verified.rewrite(TICKETS_1, lambda table: with_first("ticket_id", "ticket 7")(own(table)))
    assert verified.differences() == [("tickets_with_assignment", "1 rows hold an invalid ticket_id")]


def test_a_ticket_with_the_team_of_another_type(verified: Verified) -> None:
    own = own_rows(verified, TICKETS_1)
    verified.rewrite(TICKETS_1, lambda table: with_first("assigned_team", "General Support")(own(table)))
    assert verified.differences() == [
        ("_manifest.json", "says 3 tickets of assigned_team Billing Team, the files hold 2"),
        ("_manifest.json", "says 3 tickets of assigned_team General Support, the files hold 4"),
        (
            "tickets_with_assignment",
            "1 tickets of billing with low priority are assigned to General Support, but the rules of their batches "
            "say Billing Team",
        ),
        ("tickets_by_team", "assigned_team Billing Team has 3, there are 2 tickets"),
        ("tickets_by_team", "assigned_team General Support has 3, there are 4 tickets"),
    ]


@pytest.mark.parametrize("file_format", ["parquet", "json"])
def test_after_a_change_of_rules_every_batch_is_held_against_its_own(tmp_path: Path, file_format: str) -> None:
    desk = Routing((Rule("Desk", ("technical",)), *DEFAULT.rules))
    changed = Verified(tmp_path / "output")
    manifest: Manifest | None = None
    for number, routing in ((1, DEFAULT), (2, desk), (3, desk)):
        manifest = publish_batch(changed.output, manifest, file_format, batch(number), routing=routing)
    assert manifest is not None
    assert (changed.differences(), changed.verify().notes) == ([], [])

    compact(changed.output, manifest, plan(manifest.contents, 2), UPDATED_AT)
    merged = changed.verify()
    note = "1 files of tickets_with_assignment hold batches from before and after a change of the rules, so the team"
    assert [text[: len(note)] for text in merged.notes] == [note]
    assert merged.differences == []

    changed.edit(lambda content: content.update(routing=content["routing"][:1]))
    assert changed.differences() == [
        (
            "tickets_with_assignment",
            "2 tickets of technical with low priority are assigned to Desk, but the rules of their batches say "
            "Technical Support",
        )
    ]


def test_a_row_of_high_priority_that_is_missing(verified: Verified) -> None:
    name = "high_priority_tickets/batch-000002-0000"
    own, file = own_rows(verified, name), verified.path(name).name
    verified.rewrite(name, lambda table: own(table).slice(1))
    lacks = "1 urgent rows are not in high_priority_tickets; the first is urgent row 1 of"
    assert verified.differences() == [
        ("tickets_with_assignment", f"{lacks} {file}"),
    ]


def test_a_row_of_high_priority_that_was_altered(verified: Verified) -> None:
    name = "high_priority_tickets/batch-000002-0000"
    own, file = own_rows(verified, name), verified.path(name).name
    verified.rewrite(name, lambda table: with_first("request", "The invoice is right")(own(table)))
    assert [where for where, _ in verified.differences()] == ["tickets_with_assignment", "high_priority_tickets"]
    assert verified.differences()[1][1].endswith(f"the first is row 1 of {file}")


@pytest.mark.parametrize(
    ("dataset", "column", "value", "what"),
    [
        (METRICS, "total_tickets", 11, "total_tickets is 11, it should be 12"),
        (METRICS, "unique_clients", 4, "unique_clients is 4, it should be 3"),
        (METRICS, "rejected_messages", 2, "rejected_messages is 2, it should be 3"),
        (METRICS, "critical_priority_count", 1, "critical_priority_count is 1, it should be 0"),
        (BY_TYPE, "count", 4, "request_type account has 4, there are 3 tickets"),
        (BY_PRIORITY, "count", 7, "priority low has 7, there are 6 tickets"),
        (BY_TEAM, "count", 9, "assigned_team Account Management has 9, there are 3 tickets"),
        (BY_HOUR, "count", 2, "2026-01-31T09:00Z, account, high has 2, there are 3 tickets"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_wrong_count_in_a_dataset_of_one_file(
    verified: Verified, dataset: Any, column: str, value: int, what: str
) -> None:
    verified.rewrite(f"{dataset.name}/{dataset.name}", with_first(column, value))
    assert verified.differences() == [(dataset.name, what)]


def test_wrong_totals_and_sums_in_the_ledger(verified: Verified) -> None:
    def change(content: dict[str, Any]) -> None:
        content["totals"]["unique_clients"] += 1
        content["partitions"]["0"]["tickets"] -= 1
        content["partitions"]["0"]["rejected"] += 1

    verified.edit(change)
    assert verified.differences() == [
        ("_manifest.json", "says 4 unique clients, the files hold 3"),
        ("_manifest.json", "says 11 tickets of all partitions together, the files hold 12"),
        ("_manifest.json", "says 4 rejected messages of all partitions together, the files hold 3"),
        ("_manifest.json", "partition 0 says 4 rejected messages, rejected_messages holds 3 of them"),
    ]


def test_offsets_that_the_ledger_does_not_explain(verified: Verified) -> None:
    verified.edit(lambda content: content["partitions"]["0"].update(next_offset=16))
    assert verified.differences() == [
        ("_manifest.json", "partition 0 passed 16 offsets (0 to 16), but its counts explain 15")
    ]


def clients(verified: Verified, *statements: str) -> None:
    with closing(sqlite3.connect(verified.root / ".pipeline/clients.sqlite")) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "DELETE FROM clients WHERE client_id = 'CLIENT_1'",
            "has 2 clients, the tickets 3: 1 are missing, 0 have no ticket",
        ),
        ("INSERT INTO clients VALUES ('CLIENT_9', 1)", "has 4 clients, the tickets 3: 0 are missing, 1 have no ticket"),
        (
            "UPDATE clients SET client_id = 'x' WHERE client_id = 'CLIENT_1'",
            "has 3 clients, the tickets 3: 1 are missing",
        ),
    ],
)
def test_a_set_of_clients_that_is_not_that_of_the_tickets(parquet: Verified, statement: str, what: str) -> None:
    clients(parquet, statement)
    ((where, found),) = parquet.differences()
    assert where == "clients.sqlite"
    assert found.startswith(what)


def test_clients_of_a_commit_that_is_being_prepared_do_not_count(parquet: Verified) -> None:
    new = messages([encode_ticket(ticket(99, client_id="CLIENT_NEW"))], first_offset=15)
    prepare_batch(parquet.output, parquet.manifest, "parquet", [[new]])
    assert parquet.verify().differences == []
    assert parquet.verify().notes == []


def test_a_set_of_clients_that_can_be_filled_again_is_a_note(parquet: Verified) -> None:
    clients(parquet, "UPDATE standing SET commit_id = 'another', follows = ''")
    assert parquet.verify().notes == ["clients.sqlite stands at another commit: the next start fills it again"]
    path = parquet.root / ".pipeline/clients.sqlite"
    for content in (b"", b"no database at all"):
        path.write_bytes(content)
        in_use = "clients.sqlite was in use or cannot be read; a processor fills it again if needed"
        assert parquet.verify().notes == [in_use]
    path.unlink()
    assert parquet.verify().notes == ["clients.sqlite is not there: the next start fills it from the tickets"]
    assert parquet.verify().differences == []


def test_a_set_of_clients_within_a_transaction_is_not_used(parquet: Verified) -> None:
    # As after a transaction that SQLite rolls back when it opens the file.
    clients(parquet, "DELETE FROM clients")
    (parquet.root / ".pipeline/clients.sqlite-journal").touch()
    report = parquet.verify()
    assert report.differences == []
    assert report.notes == ["clients.sqlite was in use or cannot be read; a processor fills it again if needed"]


def test_a_transaction_that_ends_while_the_clients_are_read_is_noticed(
    parquet: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet.root / ".pipeline/clients.sqlite"
    journal = path.with_name("clients.sqlite-journal")
    journal.touch()
    standing = reread._standing

    def end_the_transaction(file: Path) -> tuple[str, str]:
        journal.unlink(missing_ok=True)
        return standing(file)

    monkeypatch.setattr(reread, "_standing", end_the_transaction)
    assert reread.read_clients(path, 3) is None
    journal.unlink()
    assert reread.read_clients(path, 3) is not None


def test_a_missing_output_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingError, match=f"there is no output in {folder} to verify"):
            Verified(folder).verify()


def test_datasets_without_a_ledger_and_a_ledger_that_cannot_be_read(parquet: Verified) -> None:
    ledger = parquet.root / "_manifest.json"
    content = ledger.read_bytes()
    ledger.write_bytes(content[:100])
    with pytest.raises(DataConflict, match="is damaged"):
        parquet.verify()
    ledger.unlink()
    with pytest.raises(DataConflict, match="is missing: without it, nothing says which messages they cover"):
        parquet.verify()
    ledger.mkdir()
    with pytest.raises(OutputUnavailable, match="cannot read"):
        parquet.verify()


def test_outputs_of_version_1_before_and_after_their_upgrade(tmp_path: Path) -> None:
    with tarfile.open(ROOT / "tests/golden/outputs-version-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("one", "parquet", "json"):
        upgraded = Verified(tmp_path / name)
        with pytest.raises(DataConflict, match="start the processor once: it upgrades the ledger"):
            upgraded.verify()
        upgraded.output.recover()
        report = upgraded.verify()
        assert report.differences == []
        # The set of clients of that release is filled again by the first batch.
        assert len(report.notes) == 1
    read = upgraded.output.reader(upgraded.manifest).table(REJECTED)
    assert read.num_rows == 3
    upgraded.edit(lambda content: content["upgrade"].update(rejected=2))
    assert ("_manifest.json", "says 2 rejected messages before the upgrade, rejected_messages holds 3 of them") in (
        upgraded.differences()
    )


def test_an_output_with_a_gap(parquet: Verified) -> None:
    def with_gap(content: dict[str, Any]) -> None:
        content["partitions"]["0"].update(next_offset=20, gaps=5)
        content["gaps"] = [{"partition": 0, "start": 15, "end": 20, "batch_id": 3}]

    parquet.edit(with_gap)
    assert parquet.differences() == []
    parquet.edit(lambda content: content.update(gaps=[]))
    assert parquet.differences() == [("_manifest.json", "partition 0 counts 5 offsets in gaps, the list of gaps has 0")]


class BusyDisk(Disk):
    """A disk that calls a function when a file of that name is opened for the n-th time."""

    def __init__(self, events: dict[tuple[str, int], Callable[[], object]]) -> None:
        self._events = events
        self._opened: dict[str, int] = {}

    def open(self, path: Path) -> Any:
        self._opened[path.name] = self._opened.get(path.name, 0) + 1
        event = self._events.pop((path.name, self._opened[path.name]), None)
        if event is not None:
            event()
        return super().open(path)


def test_a_batch_published_while_it_reads_is_verified_as_well(verified: Verified) -> None:
    file = verified.path("tickets_with_assignment/batch-000002-0000").name
    format_ = verified.manifest.format

    def publish() -> None:
        publish_batch(verified.output, verified.manifest, format_, batch(4))

    report = verified.verify(BusyDisk({(file, 1): publish}))
    assert (report.commit, report.tickets, report.differences) == (4, 16, [])


def test_a_conversion_while_it_reads_makes_files_vanish_and_it_goes_on_with_the_new_ones(parquet: Verified) -> None:
    report = parquet.verify(
        BusyDisk(
            {("batch-000002-0000.parquet", 2): lambda: convert(parquet.output, parquet.manifest, "json", UPDATED_AT)}
        )
    )
    assert (report.format, report.tickets, report.differences) == ("json", 12, [])


def test_a_published_file_is_read_once_however_often_the_ledger_changes(parquet: Verified) -> None:
    opened: list[str] = []

    class CountingDisk(BusyDisk):
        def open(self, path: Path) -> Any:
            opened.append(f"{path.parent.name}/{path.name}")
            return super().open(path)

    def publish() -> None:
        publish_batch(parquet.output, parquet.manifest, "parquet", batch(parquet.manifest.batch_id + 1))

    parquet.verify(CountingDisk({("metrics.parquet", 1): publish, ("metrics.parquet", 2): publish}))
    assert opened.count(f"{TICKETS_1}.parquet") == 1
    assert opened.count("metrics/metrics.parquet") == 3


def test_an_output_that_changes_all_the_time(parquet: Verified) -> None:
    def publish() -> None:
        publish_batch(parquet.output, parquet.manifest, "parquet", batch(parquet.manifest.batch_id + 1))

    # After each pass, whose ledger was read before it.
    report = parquet.verify(BusyDisk({("_manifest.json", 2 * look): publish for look in range(1, 30)}))
    assert (report.commit, report.tickets, report.differences) == (12, 48, [])
    assert parquet.manifest.commit == 13

    # In the middle of each pass.
    with pytest.raises(OutputUnavailable, match="changed 10 times while it was read"):
        parquet.verify(BusyDisk({("metrics.parquet", look): publish for look in range(1, 30)}))


def prepared(verified: Verified) -> Any:
    return prepare_batch(verified.output, verified.manifest, verified.manifest.format, batch(4))


def test_a_commit_that_was_interrupted_is_verified_as_the_next_start_finishes_it(verified: Verified) -> None:
    record = prepared(verified)
    (verified.root / ".pipeline/commit.json").write_bytes(encode(record))
    note = "commit 4 is decided, but not all of it is published"
    report = verified.verify()
    assert (report.commit, report.differences, report.notes[0][: len(note)]) == (3, [], note)
    for rename in record.renames[:4]:
        (verified.root / rename.staged).rename(verified.root / rename.published)
        report = verified.verify()
        assert (report.commit, report.tickets, report.differences) == (4, 16, [])
        assert report.notes[0].startswith(note)
    (verified.root / record.renames[0].published).unlink()
    assert (record.renames[0].published, "was published and is gone") in verified.differences()


def test_a_conversion_that_was_interrupted_is_verified_in_the_new_format(
    parquet: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[CommitRecord] = []
    monkeypatch.setattr(parquet.output, "commit", decided.append)
    convert(parquet.output, parquet.manifest, "json", UPDATED_AT)
    (parquet.root / ".pipeline/commit.json").write_bytes(encode(decided[0]))
    for rename in decided[0].renames[:5]:
        (parquet.root / rename.staged).rename(parquet.root / rename.published)
    report = parquet.verify()
    assert (report.commit, report.format, report.tickets, report.differences) == (4, "json", 12, [])


def test_a_commit_under_way_is_waited_for(parquet: Verified) -> None:
    record = prepared(parquet)
    (parquet.root / ".pipeline/commit.json").write_bytes(encode(record))
    (parquet.root / record.renames[0].staged).rename(parquet.root / record.renames[0].published)
    waited: list[float] = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 5:
            parquet.output.recover()

    report = verify(OutputLocation(parquet.root), sleep=finish)
    assert len(waited) == 5
    assert (report.commit, report.tickets, report.differences, report.notes) == (4, 16, [], [])


def test_a_commit_that_only_had_to_remove_old_files(parquet: Verified) -> None:
    before = parquet.root.parent / "before"
    shutil.copytree(parquet.root, before)
    parquet_names = [f"metrics/{name}" for name in parquet.manifest.files["metrics"]]
    convert(parquet.output, parquet.manifest, "json", UPDATED_AT)
    shutil.copy(before / parquet_names[0], parquet.root / "metrics")
    assert len(parquet.differences()) == 1
    raw = {
        "manifest": json.loads((parquet.root / "_manifest.json").read_bytes()),
        "renames": [],
        "removals": parquet_names,
    }
    (parquet.root / ".pipeline/commit.json").write_bytes(msgspec.json.encode(raw))
    report = parquet.verify()
    assert report.differences == []
    assert report.notes[0] == "commit 4 is made, but old files are still to be removed"


def test_a_commit_record_of_another_moment_or_a_damaged_one(parquet: Verified) -> None:
    record = prepared(parquet)
    path = parquet.root / ".pipeline/commit.json"
    path.write_bytes(encode(record)[:50])
    with pytest.raises(DataConflict, match="is damaged"):
        parquet.verify()
    stale = msgspec.structs.replace(record, manifest=msgspec.structs.replace(record.manifest, follows="another"))
    path.write_bytes(encode(stale))
    with pytest.raises(DataConflict, match="does not follow what is there"):
        parquet.verify()


def test_verify_takes_no_lock_and_runs_beside_a_processor(parquet: Verified) -> None:
    with parquet.output.locked():
        assert parquet.verify().differences == []


def test_verify_does_not_use_the_code_that_it_checks() -> None:
    used = set()
    for name in ("verify", "recount", "reread", "differences"):
        code = (ROOT / f"store/{name}.py").read_text(encoding="utf-8")
        used |= {line.split()[1] for line in code.splitlines() if line.startswith("from ")}
    ours = {module for module in used if module.partition(".")[0] in {"contract", "processor", "store"}}
    schemas_and_readers = {
        *("contract.routing", "contract.ticket", "store.datasets"),
        *("store.files", "store.formats", "store.manifest"),
    }
    assert ours - {"store", "store.differences", "store.recount", "store.reread", "store.view"} == schemas_and_readers
