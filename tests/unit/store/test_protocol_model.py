"""Processes work on one output in any order, and everything goes wrong that can go wrong with them and their disk.

A state machine of Hypothesis: at any disk call a step may be killed, lose power, or find the disk full or broken. A
model in plain Python says what must be published. ``CLIENT_TICKETS_EXAMPLES=5000`` tries that many sequences of events,
different ones each time; the suite has time for a few, always the same ones.
"""

import errno
import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from contract.ticket import PRIORITIES, REQUEST_TYPES, Ticket
from runtime.errors import OutputUnavailable
from runtime.settings.location import OutputLocation
from store.verify import verify
from tests.support.model_disk import Killed, ModelDisk, Surface
from tests.support.model_run import Run, left_over, new_surface
from tests.support.staging import ticket

pytestmark = pytest.mark.model

EXAMPLES = os.environ.get("CLIENT_TICKETS_EXAMPLES")

TAKE_SPACE = frozenset({"create", "write", "sync", "make_folder", "replace", "lock", "link"})


@dataclass(frozen=True)
class Fate:
    """What happens to a step at its disk call number ``at``, and, if it is ``lasting``, at each one after that."""

    what: str = "nothing"
    at: int = 0
    lasting: bool = False


@dataclass
class FaultyCalls:
    """Lets calls fail according to ``fate``."""

    fate: Fate = field(default_factory=Fate)
    exchanges: bool = True
    calls: int = 0
    happened: bool = False

    def __call__(self, name: str, path: Path) -> None:
        if name == "exchange" and not self.exchanges:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        self.calls += 1
        if self.calls <= self.fate.at or (self.happened and not self.fate.lasting):
            return
        if self.fate.what in ("killed", "power lost"):
            self.happened = True
            raise Killed
        if self.fate.what == "disk full" and name in TAKE_SPACE:
            self.happened = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if self.fate.what == "disk broken":
            self.happened = True
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


@dataclass(frozen=True)
class Expected:
    """The expected content of an output: its tickets, rejected messages, duplicates among them, and offsets read.

    ``to_come`` are the offsets below which unread messages of ``erased`` are left out, each of one of these clients.
    """

    tickets: tuple[Ticket, ...] = ()
    rejected: int = 0
    file_format: str = "parquet"
    next_offset: int = 0
    to_come: tuple[int, ...] = ()
    duplicates: int = 0
    # Whether the last batch looked for duplicates.
    deduped: bool = False
    # These cannot be seen in the published files.
    erased: tuple[str, ...] = field(default=(), compare=False)
    duplicates_of: tuple[str, ...] = field(default=(), compare=False)
    # Rejected messages that are tickets today.
    refused: tuple[Ticket, ...] = field(default=(), compare=False)

    def read(
        self, tickets: Sequence[Ticket], rejected: int, dedupe: bool, refused: Sequence[Ticket] = ()
    ) -> "Expected":
        """Return the expected content after another batch."""
        kept, duplicates_of = list(self.tickets), list(self.duplicates_of)
        to_retry = list(self.refused)
        first_refused = self.next_offset + len(tickets) + rejected
        next_offset = first_refused + len(refused)
        for offset, made in enumerate(refused, first_refused):
            if not any(offset < end and made.client_id == client for end, client in self._erasures()):
                to_retry.append(made)
                rejected += 1
        for offset, made in enumerate(tickets, self.next_offset):
            if any(offset < end and made.client_id == client for end, client in self._erasures()):
                continue
            if dedupe and made.ticket_id in {known.ticket_id for known in kept}:
                duplicates_of.append(made.client_id)
                rejected += 1
            else:
                kept.append(made)
        left = [(end, client) for end, client in self._erasures() if end > next_offset]
        return replace(
            self,
            tickets=tuple(kept),
            rejected=self.rejected + rejected,
            next_offset=next_offset,
            to_come=tuple(end for end, _ in left),
            erased=tuple(client for _, client in left),
            duplicates=len(duplicates_of),
            duplicates_of=tuple(duplicates_of),
            refused=tuple(to_retry),
            deduped=dedupe,
        )

    def retry(self) -> "Expected":
        """Return the expected content after the rejected messages were retried."""
        kept, duplicates_of = list(self.tickets), list(self.duplicates_of)
        for made in self.refused:
            if self.deduped and made.ticket_id in {known.ticket_id for known in kept}:
                duplicates_of.append(made.client_id)
            else:
                kept.append(made)
        return replace(
            self,
            tickets=tuple(kept),
            rejected=self.rejected - len(kept) + len(self.tickets),
            duplicates=len(duplicates_of),
            duplicates_of=tuple(duplicates_of),
            refused=(),
        )

    def forget(self, client_id: str, unread: int) -> "Expected":
        """Return the expected content after a client was erased."""
        duplicates_of = tuple(client for client in self.duplicates_of if client != client_id)
        refused = tuple(made for made in self.refused if made.client_id != client_id)
        gone = len(self.duplicates_of) - len(duplicates_of) + len(self.refused) - len(refused)
        return replace(
            self,
            tickets=tuple(made for made in self.tickets if made.client_id != client_id),
            rejected=self.rejected - gone,
            refused=refused,
            to_come=(*self.to_come, *[self.next_offset + unread] * (unread > 0)),
            erased=(*self.erased, *[client_id] * (unread > 0)),
            duplicates=len(duplicates_of),
            duplicates_of=duplicates_of,
        )

    def _erasures(self) -> list[tuple[int, str]]:
        return list(zip(self.to_come, self.erased, strict=True))


FATES = st.one_of(
    st.just(Fate()),
    st.builds(
        Fate,
        st.sampled_from(["killed", "power lost", "disk full", "disk broken"]),
        st.integers(0, 180),
        st.booleans(),
    ),
)
CLIENTS = st.sampled_from(["CLIENT_1", "CLIENT_2", "Ünlü"])
TICKETS = st.lists(
    st.tuples(CLIENTS, st.sampled_from(REQUEST_TYPES), st.sampled_from(PRIORITIES)),
    max_size=4,
)


class Protocol(RuleBasedStateMachine):
    """One output, at most one process that works on it, and the model of what must be published."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.root = self.folder / "data" / "output"
        self.surface = new_surface(self.root)
        self.faults = FaultyCalls()
        self.run: Run | None = None
        # What may be published now: after a step that did not return, the content before it or after it.
        self.possible: list[Expected | None] = [None]
        self.drawn = 0
        self.sets_of_clients: list[bytes] = [b""]
        self.sets_of_ids: list[dict[str, bytes]] = [{}]
        logging.disable(logging.WARNING)

    def teardown(self) -> None:
        try:
            self.running()
            self.settle()
        finally:
            logging.disable(logging.NOTSET)
            shutil.rmtree(self.folder)

    @property
    def clients(self) -> Path:
        return self.root / ".pipeline" / "clients.sqlite"

    def do(
        self,
        data: st.DataObject,
        fate: Fate,
        work: Callable[[Run], None],
        *becomes: Expected,
        exchanges: bool = True,
    ) -> bool:
        """Let the process do something whose result is ``becomes``; return whether it was done."""
        assert self.run is not None
        self.faults.fate, self.faults.calls, self.faults.happened = fate, 0, False
        self.faults.exchanges = exchanges
        self.possible = [*self.possible, *becomes]
        try:
            work(self.run)
        except Killed:
            self.run = None
            if fate.what == "power lost":
                self.lose_power(data)
            return False
        except OutputUnavailable:
            assert self.faults.happened
            self.faults.fate, self.faults.exchanges = Fate(), True
            goes_on: bool = data.draw(st.booleans(), label="the process goes on")
            if becomes and goes_on:
                self.run.manifest = self.run.output.recover()
                self.settle()
            else:
                self.run.stop()
                self.run = None
            return False
        finally:
            self.faults.fate, self.faults.exchanges = Fate(), True
            self.remember_states()
        if becomes:
            self.possible = [*becomes]
        return True

    @rule(data=st.data(), fate=FATES, exchanges=st.booleans())
    def start(self, data: st.DataObject, fate: Fate, exchanges: bool) -> None:
        if self.run is not None:
            self.run.stop()
        self.run = Run(self.root, self.surface, self.faults)
        if self.do(data, fate, Run.start, exchanges=exchanges):
            self.settle()

    @rule(
        data=st.data(),
        fate=FATES,
        made=TICKETS,
        repeated=st.integers(0, 2),
        rejected=st.integers(0, 2),
        dedupe=st.booleans(),
        refused=TICKETS,
    )
    def batch(
        self,
        data: st.DataObject,
        fate: Fate,
        made: list[tuple[str, Any, Any]],
        repeated: int,
        rejected: int,
        dedupe: bool,
        refused: Sequence[tuple[str, Any, Any]] = (),
    ) -> None:
        before = self.running() or Expected()
        tickets, strange = self.draw(made), self.draw(refused)
        repeats = [*before.tickets[-1:], *tickets][:repeated]
        # Some come again, and some will be retried when they have come before.
        tickets, strange = [*tickets, *repeats], [*strange, *(repeats if strange else [])]
        after = before.read(tickets, rejected, dedupe, strange)
        self.do(data, fate, lambda run: run.batch(tickets, rejected, dedupe, strange), after)

    def draw(self, made: Sequence[tuple[str, Any, Any]]) -> list[Ticket]:
        first, self.drawn = self.drawn, self.drawn + len(made)
        return [
            ticket(first + n, client_id=client, request_type=kind, priority=priority)
            for n, (client, kind, priority) in enumerate(made)
        ]

    @rule(data=st.data(), fate=FATES)
    def convert(self, data: st.DataObject, fate: Fate) -> None:
        before = self.running()
        if before is None:
            self.batch(data, fate, [], 0, 0, dedupe=False)
        else:
            other = "json" if before.file_format == "parquet" else "parquet"
            self.do(data, fate, Run.convert, replace(before, file_format=other))

    @rule(data=st.data(), fate=FATES, exchanges=st.booleans())
    def compact(self, data: st.DataObject, fate: Fate, exchanges: bool) -> None:
        before = self.running()
        if before is None:
            self.batch(data, fate, [], 0, 0, dedupe=True)
        else:
            self.do(data, fate, lambda run: run.compact(not exchanges), before, exchanges=exchanges)

    @rule(data=st.data(), fate=FATES, client=CLIENTS, unread=st.integers(0, 3), readers_stopped=st.booleans())
    def forget(self, data: st.DataObject, fate: Fate, client: str, unread: int, readers_stopped: bool) -> None:
        before = self.running()
        if before is None:
            self.batch(data, fate, [], 0, 0, dedupe=True)
        else:
            after = before.forget(client, unread)
            self.do(data, fate, lambda run: run.forget(client, unread, readers_stopped), after)

    @rule(
        data=st.data(),
        fate=FATES,
        made=TICKETS.filter(bool),
        repeated=st.integers(0, 2),
        dedupe=st.booleans(),
        readers_stopped=st.booleans(),
    )
    def retry(
        self,
        data: st.DataObject,
        fate: Fate,
        made: list[tuple[str, Any, Any]],
        repeated: int,
        dedupe: bool,
        readers_stopped: bool,
    ) -> None:
        before = self.running()
        if before is None or not before.refused:
            self.batch(data, Fate(), [], repeated, 1, dedupe, made)
            before = self.running()
            assert before is not None
        self.do(data, fate, lambda run: run.retry(readers_stopped), before.retry())

    def running(self) -> Expected | None:
        """Start a process if none runs, and return what is published."""
        if self.run is None:
            self.run = Run(self.root, self.surface)
            self.run.start()
            self.run.disk.fault = self.faults
            self.settle()
        (published,) = self.possible
        return published

    @rule(data=st.data(), how=st.sampled_from(["stopped", "killed", "power lost"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if self.run is not None and how == "stopped":
            self.run.stop()
        self.run = None
        if how == "power lost":
            self.lose_power(data)

    def lose_power(self, data: st.DataObject) -> None:
        self.run = None
        unforced = sorted(self.surface.unforced)
        kept = data.draw(
            st.one_of(st.just(set()), st.just(set(unforced)), st.sets(st.sampled_from(unforced)))
            if unforced
            else st.just(set()),
            label="names that are kept",
        )
        contents = st.sampled_from(["old", "cut", "new"])

        def content(old: bytes, new: bytes) -> bytes:
            found = data.draw(contents, label="content")
            return {"old": old, "cut": new[: len(new) // 2], "new": new}[found]

        self.surface = self.surface.after_power_loss(kept, content)

    @rule(data=st.data(), how=st.sampled_from(["older", "cut", "garbage", "gone", "with a journal"]))
    def damage_the_set_of_clients(self, data: st.DataObject, how: str) -> None:
        if how == "gone" or not self.clients.exists():
            self.clients.unlink(missing_ok=True)
        elif how == "older":
            self.clients.write_bytes(data.draw(st.sampled_from(self.sets_of_clients)))
        elif how == "cut":
            content = self.clients.read_bytes()
            self.clients.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        elif how == "garbage":
            self.clients.write_bytes(b"\0garbage" * 1000)
        else:
            self.clients.with_name("clients.sqlite-journal").write_bytes(b"\xd9\xd5\x05\xf9 \xa1c\xd7" * 64)

    @property
    def ids(self) -> Path:
        return self.root / ".pipeline" / "ids"

    @rule(data=st.data(), how=st.sampled_from(["older", "cut", "garbage", "gone"]))
    def damage_the_set_of_ids(self, data: st.DataObject, how: str) -> None:
        disk, files = ModelDisk(self.surface), self.files_of_ids()
        if not files:
            return
        if how in ("older", "gone"):
            disk.remove_folder(self.ids)
        if how == "older":
            files = data.draw(st.sampled_from(self.sets_of_ids))
            disk.make_folder(self.ids)
        elif how != "gone":
            name = data.draw(st.sampled_from(sorted(files)))
            files = {name: files[name][: len(files[name]) // 2] if how == "cut" else b"\0garbage"}
        for name, content in files.items() if how != "gone" else ():
            with disk.create(self.ids / name) as file:
                file.write(content)

    def files_of_ids(self) -> dict[str, bytes]:
        return {name: content for name, content in self.surface.tree(self.ids).items() if content is not None}

    def remember_states(self) -> None:
        if self.clients.exists():
            self.sets_of_clients.append(self.clients.read_bytes())
        self.sets_of_ids.append(self.files_of_ids())

    def settle(self) -> None:
        """After a start, exactly one of the possible contents is published, and nothing is left anywhere else."""
        assert self.run is not None
        self.run.output.replaced.remove_old(readers_stopped=True)
        if self.faults.happened:
            # What a broken disk has kept of it goes at a later start.
            self.run.output.discard_staging()
        found = read_published(self.surface, self.root)
        self.possible = [expected for expected in self.possible if expected == found][:1]
        assert self.possible, found
        assert left_over(self.surface, self.root) == []
        if found is not None:
            report = verify(OutputLocation(self.root), ModelDisk(self.surface), sleep=never)
            assert report.differences == []

    @invariant()
    def what_returned_is_published(self) -> None:
        if self.run is not None:
            assert [read_published(self.surface, self.root)] == self.possible


def never(seconds: float) -> None:
    raise AssertionError("nobody else works here")


def read_published(surface: Surface, root: Path) -> Expected | None:
    """Read an output without the product's code and return its content. Fails if its parts do not agree."""
    tree = {path: content for path, content in surface.tree(root).items() if content is not None}
    if "_manifest.json" not in tree:
        of_readers = [path for path in tree if not path.startswith(".pipeline/")]
        assert [path for path in of_readers if path.endswith((".parquet", ".json"))] == []
        return None
    ledger = json.loads(tree["_manifest.json"])
    rows: dict[str, list[dict[str, Any]]] = {}
    for dataset, names in ledger["files"].items():
        in_folder = {path.partition("/")[2] for path in tree if path.startswith(f"{dataset}/")}
        assert in_folder == set(names)
        rows[dataset] = [row for name in names for row in read_rows(ledger["format"], tree[f"{dataset}/{name}"])]
    tickets = rows["tickets_with_assignment"]
    assert rows["high_priority_tickets"] == [row for row in tickets if row["priority"] in ("high", "critical")]
    (metrics,) = rows["metrics"]
    by_type, by_priority = (Counter(row[column] for row in tickets) for column in ("request_type", "priority"))
    assert {name: value for name, value in metrics.items() if name not in ("batch_id", "updated_at")} == {
        "total_tickets": len(tickets),
        **{f"{name}_count": by_type[name] for name in REQUEST_TYPES},
        **{f"{name}_priority_count": by_priority[name] for name in PRIORITIES},
        "unique_clients": len({row["client_id"] for row in tickets}),
        "rejected_messages": len(rows["rejected_messages"]),
    }
    assert {row["request_type"]: row["count"] for row in rows["tickets_by_type"]} == {
        name: by_type[name] for name in REQUEST_TYPES
    }
    made = [
        ticket(
            int(row["ticket_id"][-12:], 16), **{name: row[name] for name in ("client_id", "request_type", "priority")}
        )
        for row in tickets
    ]
    to_come = tuple(erasure["below"]["0"] for erasure in ledger["erasures"])
    next_offset = ledger["partitions"]["0"]["next_offset"]
    rejected = rows["rejected_messages"]
    duplicates = sum(row["reason"].startswith("duplicate: ") for row in rejected)
    deduped = ledger["deduped_from"] is not None
    return Expected(tuple(made), len(rejected), ledger["format"], next_offset, to_come, duplicates, deduped)


def read_rows(file_format: str, content: bytes) -> list[dict[str, Any]]:
    if file_format == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(BytesIO(content)).to_pylist()
        return rows
    return list(map(json.loads, content.splitlines()))


def test_after_any_sequence_of_events_every_commit_is_published_as_a_whole() -> None:
    run_state_machine_as_test(
        Protocol,
        settings=settings(
            max_examples=int(EXAMPLES or 40),
            derandomize=EXAMPLES is None,
            database=None,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@dataclass(frozen=True)
class Before:
    """An output of three batches, and everything on its disk."""

    root: Path
    surface: Surface
    clients: bytes
    published: Expected


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Before:
    root = tmp_path_factory.mktemp("disk") / "data" / "output"
    surface = new_surface(root)
    run = Run(root, surface)
    run.start()
    run.batch([ticket(0), ticket(1, priority="high")], rejected=1, dedupe=True)
    refused = (ticket(4, client_id="CLIENT_3"), ticket(0))
    run.batch([ticket(1, client_id="CLIENT_2")], dedupe=True, refused=refused)
    run.batch([ticket(2, client_id="CLIENT_2")], dedupe=True)
    run.stop()
    published = read_published(surface, root)
    assert published == Expected(
        (ticket(0), ticket(1, priority="high"), ticket(2, client_id="CLIENT_2")),
        4,
        "parquet",
        7,
        duplicates=1,
        deduped=True,
    )
    # What the messages are today, nobody reads in what is published.
    published = replace(published, duplicates_of=("CLIENT_2",), refused=refused)
    return Before(root, surface, (root / ".pipeline" / "clients.sqlite").read_bytes(), published)


NEXT = [ticket(3, client_id="CLIENT_2"), ticket(2)]
# What is done, and what is published then.
WORKS: dict[str, tuple[Callable[[Run], None], Callable[[Expected], Expected]]] = {
    "batch": (
        lambda run: run.batch(NEXT, rejected=1, dedupe=True),
        lambda before: before.read(NEXT, rejected=1, dedupe=True),
    ),
    "conversion": (Run.convert, lambda before: replace(before, file_format="json")),
    "compaction": (Run.compact, lambda before: before),
    "retry": (Run.retry, Expected.retry),
    "erasure": (
        lambda run: run.forget("CLIENT_2", unread=1),
        lambda before: replace(before, tickets=before.tickets[:2], rejected=3, to_come=(8,), duplicates=0),
    ),
}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("batch", "disk full"),
        ("batch", "disk broken"),
        ("conversion", "disk full"),
        ("conversion", "disk broken"),
        ("compaction", "disk broken"),
        ("erasure", "disk broken"),
        ("retry", "disk broken"),
    ],
)
def test_if_any_disk_call_fails_the_output_is_as_before_or_as_after(before: Before, name: str, what: str) -> None:
    work, becomes = WORKS[name]
    after = becomes(before.published)
    refused = 0
    for at in range(1000):
        (before.root / ".pipeline" / "clients.sqlite").write_bytes(before.clients)
        faults = FaultyCalls(Fate(what, at, lasting=True))
        run = Run(before.root, before.surface.copy(), faults)
        try:
            run.start()
            work(run)
        except OutputUnavailable:
            refused += 1
        if not faults.happened:
            break
        run.stop()
        again = Run(before.root, run.disk.surface)
        again.start()
        again.output.replaced.remove_old(readers_stopped=True)
        again.stop()
        assert read_published(run.disk.surface, before.root) in (before.published, after)
        assert left_over(run.disk.surface, before.root) == []
    assert not faults.happened
    assert refused > 40
