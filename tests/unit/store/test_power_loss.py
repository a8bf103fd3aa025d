"""Power loss at every moment of every operation, and the need for each fsync.

An operation is run once, on a disk that records each call. From the calls follow all states that a power loss may leave
at any moment, also as if one call had forced nothing to the disk. The processor is started on each of these states.
"""

import errno
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import OutputUnavailable, PipelineError
from runtime.settings.setting import ROOT
from tests.support.model_disk import Call, Fault, Killed, ModelDisk, Surface
from tests.support.model_run import Run, left_over, new_surface, published, put
from tests.support.staging import ticket

pytestmark = pytest.mark.model

Published = dict[str, bytes]
# Gets a call and its path; returns whether the process is killed before that call.
KillAt = Callable[[str, Path], bool]

# The datasets of more than one file.
EXCHANGED = ("tickets_with_assignment", "high_priority_tickets", "rejected_messages")


class Scenario:
    """The disk calls of some processes, and what was published after each of their steps."""

    def __init__(self, root: Path, surface: Surface) -> None:
        self.root = root
        self.surface = surface
        self.base = surface.copy()
        self.calls: list[Call] = []
        self.steps: list[tuple[int, Published]] = [(0, published(surface, root))]
        self.examined = range(0)
        self.fault: Fault = nothing_fails
        self.outcomes: dict[frozenset[tuple[str, bytes | None]], Published | str] = {}

    def run(
        self,
        *work: Callable[[Run], None],
        then: Callable[[Run], None] = lambda run: None,
        kill_at: KillAt = lambda call, path: False,
        refuses: Fault | None = None,
    ) -> "Scenario":
        """Start a process that does ``work`` unless it is killed; ``then`` only shows the result.

        The fsyncs of the last process are examined. If ``refuses`` raises for a call, that is the error of the call.
        """
        self.fault = refuses or self.fault

        def fault(name: str, path: Path) -> None:
            if kill_at(name, path):
                raise Killed
            self.fault(name, path)

        began, run = len(self.calls), Run(self.root, self.surface, fault, self.calls)
        for step in (Run.start, *work, then, Run.stop):
            if step is then:
                self.examined = range(began, len(self.calls))
            try:
                step(run)
            except Killed:
                break
            self.steps.append((len(self.calls), published(self.surface, self.root)))
        return self

    def fsyncs(self) -> list[int]:
        """Return the numbers of the calls that force something to the disk."""
        return [number for number in self.examined if self.calls[number].forces]

    def label(self, number: int) -> str:
        """Return a name for a call: what it forces to the disk, and a number if it does so more than once."""
        call = self.calls[number]
        times = sum(1 for earlier in self.calls[: number + 1] if (earlier.name, earlier.path) == (call.name, call.path))
        # Without the random part of the name of a staging folder.
        path = re.sub("-[0-9a-f]{8}(?=/|$)", "", os.path.relpath(call.path, self.root))
        return f"{call.name} {path} #{times}"

    def failures(self, dropped: int | None = None) -> Iterator[str]:
        """Yield the power losses after which the output is neither that of the last step that returned nor the next.

        ``dropped`` is the number of a call that is treated as if it had done nothing.
        """
        surface = self.base.copy()
        for number, call in enumerate(self.calls):
            # Anything that can be lost between two of these moments can also be lost at the later one.
            if call.forces or number in dict(self.steps):
                yield from self._failures_at(surface, number, dropped)
            surface.apply(Call(call.name, call.path, ()) if number == dropped else call)
        yield from self._failures_at(surface, len(self.calls), dropped)

    def _failures_at(self, surface: Surface, number: int, dropped: int | None) -> Iterator[str]:
        if dropped is not None and number <= dropped:
            return
        returned = sum(1 for at, _ in self.steps if at <= number)
        allowed = [what for _, what in self.steps[returned - 1 : returned + 1]]
        for loss, found in losses(surface):
            outcome = self._outcome(found)
            if outcome not in allowed:
                what = outcome if isinstance(outcome, str) else f"{len(outcome)} files are published"
                yield f"before call {number} the power is lost; what is kept: {loss}; {what}"

    def _outcome(self, found: Surface) -> Published | str:
        state = frozenset(found.tree(self.root).items())
        if state not in self.outcomes:
            self.outcomes[state] = restarted(found, self.root, self.fault)
        return self.outcomes[state]


def nothing_fails(call: str, path: Path) -> None:
    pass


def no_exchange(call: str, path: Path) -> None:
    if call == "exchange":
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))


def broken_after_an_exchange() -> Fault:
    """Let the first fsync after the exchange of the folder of tickets fail."""
    calls: list[str] = []

    def fault(call: str, path: Path) -> None:
        if call == "sync_folder" and calls == ["tickets_with_assignment"]:
            calls.append(call)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        if call == "exchange" and path.name == "tickets_with_assignment":
            calls.append(path.name)

    return fault


def restarted(surface: Surface, root: Path, fault: Fault) -> Published | str:
    """Return what is published after the next start, or why it is refused."""
    run = Run(root, surface, fault)
    try:
        run.start()
    except PipelineError as error:
        return str(error)
    # Nothing depends on the folders that were swapped out, even if they are removed at once.
    run.output.replaced.remove_old(readers_stopped=True)
    run.stop()
    if left := left_over(surface, root):
        return f"{left} are left"
    return published(surface, root)


def losses(surface: Surface) -> Iterator[tuple[str, Surface]]:
    """Yield states that a power loss may leave, each with a description: those that differ most from each other."""
    names = sorted(surface.unforced)
    everything = {"all names": names}
    single = {f"only the name {tell(surface, n)}": [n] for n in names}
    if surface.written():
        for told, kept in (everything | single).items():
            yield f"{told}, no content", surface.after_power_loss(kept, lambda old, new: old)
        yield "all names, half the content", surface.after_power_loss(names, lambda old, new: new[: len(new) // 2])
    others = {f"all names but {tell(surface, n)}": [m for m in names if m != n] for n in names}
    first = {f"all names up to {tell(surface, n)}": names[:at] for at, n in enumerate(names, 1)}
    for told, kept in ({"no name": []} | everything | single | others | first).items():
        yield f"{told}, all content", surface.after_power_loss(kept, lambda old, new: new)


def tell(surface: Surface, number: int) -> str:
    change = surface.unforced[number]
    return f"{change.name} ({'gone' if change.inode is None else 'new'}, {number})"


def first_batch(run: Run) -> None:
    run.batch([ticket(0), ticket(1, priority="high")], rejected=1)


def next_batch(run: Run) -> None:
    run.batch([ticket(2), ticket(3, priority="high", client_id="CLIENT_2")], rejected=1)


def conversion(run: Run) -> None:
    run.convert()


def compaction(run: Run) -> None:
    run.compact()


def compaction_without_readers(run: Run) -> None:
    run.compact(readers_stopped=True)


def compaction_that_goes_on(run: Run) -> None:
    with pytest.raises(OutputUnavailable):
        run.compact()
    run.manifest = run.output.recover()


def erasure(run: Run) -> None:
    run.forget("CLIENT_1", unread=2)


def erasure_without_readers(run: Run) -> None:
    run.forget("CLIENT_2", readers_stopped=True)


def erasure_of_unread_messages(run: Run) -> None:
    run.forget("CLIENT_3", unread=2)


def refused_batch(run: Run) -> None:
    run.batch([ticket(4)], rejected=1, refused=[ticket(5, priority="high", client_id="CLIENT_4"), ticket(6)])


def retry(run: Run) -> None:
    run.retry()


def retry_without_readers(run: Run) -> None:
    run.retry(readers_stopped=True)


def before(call: str, name: str) -> KillAt:
    """Kill the process before the first such call on a path of this name."""
    return lambda called, path: (called, path.name) == (call, name)


def after_exchange_of(dataset: str) -> KillAt:
    """Kill the process right after the folder of a dataset was exchanged."""
    exchanged: list[str] = []

    def kill_at(call: str, path: Path) -> bool:
        if call == "exchange":
            exchanged.append(path.name)
        return call == "sync_folder" and dataset in exchanged

    return kill_at


def before_dataset_folders_are_forced(root: Path) -> KillAt:
    made: list[str] = []

    def kill_at(call: str, path: Path) -> bool:
        if call == "make_folder":
            made.append(path.name)
        return (call, path) == ("sync_folder", root) and "metrics" in made

    return kill_at


def published_once(root: Path) -> Surface:
    """Return a disk with an output of one batch, all of it forced to the disk."""
    surface = new_surface(root)
    Scenario(root, surface).run(first_batch)
    surface.force_everything()
    return surface


def published_twice(root: Path) -> Surface:
    """Return a disk with an output of two batches, and a file of somebody else in each folder that may be exchanged."""
    surface = new_surface(root)
    Scenario(root, surface).run(first_batch, next_batch)
    for dataset in EXCHANGED:
        with ModelDisk(surface).create(root / dataset / "notes.txt") as file:
            file.write(b"mine")
    surface.force_everything()
    return surface


def with_refused_tickets(root: Path) -> Surface:
    """Return a disk with an output of two batches, of which the second has rejected tickets, and somebody's file."""
    surface = published_once(root)
    Scenario(root, surface).run(refused_batch)
    with ModelDisk(surface).create(root / "rejected_messages" / "notes.txt") as file:
        file.write(b"mine")
    surface.force_everything()
    return surface


def without_state(root: Path) -> Surface:
    surface = published_once(root)
    ModelDisk(surface).remove_folder(root / ".pipeline")
    surface.force_everything()
    return surface


def of_version_1(root: Path, name: str) -> Surface:
    """Return a disk with an output as release 0.1 left it."""
    with tarfile.open(ROOT / "tests/golden/outputs-version-1.tar.gz") as archive:
        archive.extractall(root.parent / "golden", filter="data")
    surface = new_surface(root)
    put(surface, root.parent / "golden" / name, root)
    return surface


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "the first batch": lambda root: Scenario(root, new_surface(root)).run(first_batch),
    "another batch": lambda root: Scenario(root, published_once(root)).run(next_batch),
    "a conversion": lambda root: Scenario(root, published_once(root)).run(conversion),
    "a batch after .pipeline was removed": lambda root: Scenario(root, without_state(root)).run(next_batch),
    "the first batch after a kill that left a folder": lambda root: (
        Scenario(root, new_surface(root))
        .run(kill_at=before("sync_folder", root.parent.parent.name))
        .run(then=first_batch)
    ),
    "a batch finished after a kill that left dataset folders": lambda root: (
        Scenario(root, new_surface(root)).run(first_batch, kill_at=before_dataset_folders_are_forced(root)).run()
    ),
    "a batch finished after a kill between renames": lambda root: (
        Scenario(root, published_once(root)).run(next_batch, kill_at=before("replace", "metrics.parquet")).run()
    ),
    "a conversion finished after a kill between removals": lambda root: (
        Scenario(root, published_once(root)).run(conversion, kill_at=before("unlink", "metrics.parquet")).run()
    ),
    "a compaction": lambda root: Scenario(root, published_twice(root)).run(compaction),
    "a compaction finished after a kill that left an exchange": lambda root: (
        Scenario(root, published_twice(root))
        .run(compaction, kill_at=after_exchange_of("tickets_with_assignment"))
        .run()
    ),
    "a compaction that goes on after an error of the disk": lambda root: Scenario(root, published_twice(root)).run(
        compaction_that_goes_on, refuses=broken_after_an_exchange()
    ),
    "a compaction finished without exchanges after a kill": lambda root: (
        Scenario(root, published_twice(root))
        .run(compaction, kill_at=before("exchange", "tickets_with_assignment"))
        .run(refuses=no_exchange)
    ),
    "a compaction without exchanges": lambda root: Scenario(root, published_twice(root)).run(
        compaction_without_readers, refuses=no_exchange
    ),
    "an erasure": lambda root: Scenario(root, published_twice(root)).run(erasure),
    "an erasure without readers": lambda root: Scenario(root, published_twice(root)).run(erasure_without_readers),
    "an erasure of unread messages": lambda root: Scenario(root, published_twice(root)).run(erasure_of_unread_messages),
    "a retry": lambda root: Scenario(root, with_refused_tickets(root)).run(retry),
    "a retry without exchanges": lambda root: Scenario(root, with_refused_tickets(root)).run(
        retry_without_readers, refuses=no_exchange
    ),
    "an upgrade of version 1 after a kill": lambda root: Scenario(root, of_version_1(root, "second-committed")).run(
        then=next_batch
    ),
}


# Fsyncs that are not needed in one scenario, but in another. A start forces the name of a folder that it finds, because
# a killed run may not have done so; "a kill that left a folder" and "a kill that left dataset folders" need that.
IN_VAIN = {
    # The second is that of .pipeline. It is on the disk with the dataset folders, before anything is renamed into them;
    # "a batch after .pipeline was removed" makes no dataset folder.
    "the first batch": ["sync_folder ../../.. #1", "sync_folder . #1"],
    "another batch": ["sync_folder . #1"],
    "a conversion": ["sync_folder . #1"],
    "a batch after .pipeline was removed": ["sync_folder .. #1"],
    "the first batch after a kill that left a folder": ["sync_folder . #1"],
    "a batch finished after a kill that left dataset folders": [],
    "a batch finished after a kill between renames": ["sync_folder . #2"],
    "a conversion finished after a kill between removals": ["sync_folder . #3"],
    "a compaction": ["sync_folder . #1"],
    # The start has forced the exchange that it finds, with the name of .pipeline. "A compaction that goes on after an
    # error of the disk" has no start.
    "a compaction finished after a kill that left an exchange": ["sync_folder . #2", "sync_folder . #3"],
    "a compaction that goes on after an error of the disk": ["sync_folder . #1"],
    # Those of the datasets are for placeholders that were removed. Without an exchange there were none.
    "a compaction finished without exchanges after a kill": [
        "sync_folder . #2",
        *(f"sync_folder {dataset} #2" for dataset in EXCHANGED),
    ],
    "a compaction without exchanges": ["sync_folder . #1"],
    # What is staged of a file in which nothing changes is not published.
    "a retry": [
        "sync_folder . #1",
        "sync .pipeline/staging/retry-000003/rejected_messages-first-batch-000001-0000.parquet #1",
    ],
    "a retry without exchanges": [
        "sync_folder . #1",
        "sync .pipeline/staging/retry-000003/rejected_messages-first-batch-000001-0000.parquet #1",
    ],
    # A file without rows is not published.
    "an erasure": [
        "sync_folder . #1",
        "sync .pipeline/staging/erasure-000003/tickets_with_assignment-batch-000001-0000.parquet #1",
        "sync .pipeline/staging/erasure-000003/high_priority_tickets-batch-000001-0000.parquet #1",
    ],
    "an erasure without readers": [
        "sync_folder . #1",
        "sync .pipeline/staging/erasure-000003/high_priority_tickets-batch-000002-0000.parquet #1",
    ],
    # No ticket is erased, so these are published again unchanged.
    "an erasure of unread messages": [
        "sync_folder . #1",
        *(f"sync_folder tickets_by_{what} #1" for what in ("hour", "priority", "team", "type")),
    ],
    "an upgrade of version 1 after a kill": ["sync_folder . #1"],
}


@pytest.fixture(scope="module", params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Scenario]:
    return request.param, SCENARIOS[request.param](tmp_path_factory.mktemp("disk") / "data" / "output")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # Thousands of starts would each log what they finish.
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_no_power_loss_at_any_moment_loses_or_mixes_anything(scenario: tuple[str, Scenario]) -> None:
    _, happened = scenario
    assert next(happened.failures(), None) is None
    assert len(happened.outcomes) > 80


def test_each_fsync_is_needed_to_survive_some_power_loss(scenario: tuple[str, Scenario]) -> None:
    name, happened = scenario
    fsyncs = happened.fsyncs()
    assert fsyncs
    in_vain = [number for number in fsyncs if next(happened.failures(dropped=number), None) is None]
    assert list(map(happened.label, in_vain)) == IN_VAIN[name]
