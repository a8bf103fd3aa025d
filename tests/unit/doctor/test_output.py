"""The output folder: real ones, healthy, locked, damaged and interrupted."""

import fcntl
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.ticket import encode as encode_ticket
from doctor import output as doctor
from doctor.finding import Finding, ok, problem
from doctor.holders import Holder
from runtime.settings.location import OutputLocation
from store.manifest import Manifest, Window, encode
from store.output import Output
from store.status import Status
from tests.support.disks import QuickDisk
from tests.support.staging import UPDATED_AT, messages, prepare_batch, publish_batch, ticket

NOW = UPDATED_AT + timedelta(minutes=5)
GOOD = "the files are, by name and size, those of the ledger; --verify reads them, too"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(OutputLocation(tmp_path / "output"), QuickDisk())


def batch(output: Output, before: Manifest | None = None) -> Manifest:
    start = before.next_offsets[0] if before else 0
    values = [encode_ticket(ticket(start + n, priority="high")) for n in range(3)]
    return publish_batch(output, before, "parquet", [[messages(values, first_offset=start)]])


def examined(output: Output, wanted_format: str = "parquet", compact_files: int = 64) -> list[Finding]:
    return list(doctor.examine(output.root, wanted_format, compact_files, NOW))


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "ok"]


def everything(root: Path) -> dict[str, object]:
    return {
        str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in [root, *root.rglob("*")]
    }


def test_an_output_that_is_not_there_stays_so(output: Output) -> None:
    (found,) = examined(output)
    assert found == ok(
        f"{output.root} is not there yet: the first run of the processor makes it, in {output.root.parent}"
    )
    assert not output.root.exists()


def test_a_healthy_output_is_told_and_neither_touched_nor_locked(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with output.locked():
        batch(output, batch(output))
    before = everything(output.root)
    # Whoever takes the lock for a moment, to see who holds it, keeps a processor from starting.
    monkeypatch.delattr(fcntl, "flock")

    found = examined(output)

    assert bad(found) == []
    assert {
        "the lock is free: a processor can start",
        "_status.json is not there: no processor has run yet",
        "ledger of version 3: commit 2, batch 2, 5 min ago",
        "6 tickets from topic client_tickets",
        "format parquet",
        "10 files in 8 datasets: few enough",
        GOOD,
    } <= {finding.what for finding in found}
    assert everything(output.root) == before


def test_another_part_of_the_topic_than_the_output_holds_is_a_problem(output: Output) -> None:
    made, location = batch(output), OutputLocation(output.root)
    none = doctor.Part(location, None, None, "--from", "--until")
    latest = doctor.Part(location, "latest", None, "TOPIC_FROM (from the environment)", "--until")
    assert list(doctor.part(none)) == []
    (found,) = doctor.part(latest)
    assert found == problem(
        f"TOPIC_FROM (from the environment) asks for latest, but the output in {output.root} begins at earliest: that "
        "was decided at its first start",
        "leave it out to go on there, or choose another --output-path for another part of the topic",
    )
    (output.root / "_manifest.json").write_bytes(encode(msgspec.structs.replace(made, window=Window("latest"))))
    assert list(doctor.part(latest)) == [ok("it holds a part of the topic, from latest")]


def test_a_real_lock_is_told_with_its_process(output: Output) -> None:
    batch(output)
    with output.locked():
        found = examined(output)
    assert bad(found) == []
    assert any(finding.what.startswith("the lock is held by process ") for finding in found)
    assert GOOD in {finding.what for finding in found}


def cut(root: Path) -> None:
    (file,) = (root / "tickets_with_assignment").iterdir()
    file.write_bytes(file.read_bytes()[:-1])


def lose(root: Path) -> None:
    (root / "metrics" / "metrics.parquet").unlink()


def add(root: Path) -> None:
    (root / "rejected_messages" / "mine.parquet").write_bytes(b"x")


def edit(root: Path) -> None:
    path = root / "_manifest.json"
    content = json.loads(path.read_bytes())
    content["totals"]["tickets"] += 1
    path.write_text(json.dumps(content))


def truncate(root: Path) -> None:
    path = root / "_manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def newer(root: Path) -> None:
    path = root / "_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "version": 99}))


def no_ledger(root: Path) -> None:
    (root / "_manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "/tickets_with_assignment/batch-000001-0000.parquet was published"),
        (lose, "/metrics/metrics.parquet was published"),
        (add, "the first is mine.parquet"),
        (edit, "/_manifest.json contradicts itself"),
        (truncate, "/_manifest.json is damaged"),
        (newer, "/_manifest.json has version 99"),
        (no_ledger, " holds files"),
    ],
)
def test_a_damaged_output_is_a_problem_with_a_way_out(
    output: Output, damage: Callable[[Path], None], told: str
) -> None:
    batch(output)
    damage(output.root)

    (found,) = bad(examined(output))

    assert found.level == "problem"
    assert told in found.what
    assert found.remedy
    assert "nothing was changed" not in found.remedy.partition(";")[0]


def test_a_file_that_readers_stumble_over_is_a_warning(output: Output) -> None:
    batch(output)
    (output.root / "metrics" / ".DS_Store").touch()
    (found,) = bad(examined(output))
    assert (found.level, found.remedy) == ("warning", "move it away")
    assert found.what.startswith(f"{output.root}/metrics holds .DS_Store, which is not ours")


def test_a_commit_that_was_not_finished_is_told_and_is_no_problem(output: Output) -> None:
    first = batch(output)
    values = [encode_ticket(ticket(7))]
    record = prepare_batch(output, first, "parquet", [[messages(values, first_offset=3)]])
    (output.state / "commit.json").write_bytes(encode(record))

    found = examined(output)

    assert bad(found) == []
    assert (
        ok(
            f"{output.state}/commit.json is a commit that was decided and not published to its end; the next start "
            "finishes it"
        )
        in found
    )


def test_a_commit_that_belongs_to_another_output_is_a_problem(output: Output) -> None:
    first = batch(output)
    record = prepare_batch(output, first, "parquet", [[messages([encode_ticket(ticket(7))], first_offset=3)]])
    content = json.loads(encode(record))
    content["manifest"]["follows"] = "another"
    (output.state / "commit.json").write_text(json.dumps(content))
    (found,) = bad(examined(output))
    assert found.level == "problem"
    assert "does not follow what is there" in found.what


def test_while_a_commit_is_published_files_are_not_compared(output: Output) -> None:
    first = batch(output)
    record = prepare_batch(output, first, "parquet", [[messages([encode_ticket(ticket(7))], first_offset=3)]])
    (output.state / "commit.json").write_bytes(encode(record))
    with output.locked():
        (found,) = bad(examined(output))
    assert found == Finding(
        "warning", "a commit is being published just now, so the files were not compared", "run this again"
    )


def test_what_a_killed_run_left_in_staging_is_told(output: Output) -> None:
    prepare_batch(output, batch(output), "parquet", [[messages([b"bad"], first_offset=3)]])
    found = examined(output)
    assert bad(found) == []
    assert found[-1].what.startswith("a run was killed: 1 folder is left in ")
    with output.locked():
        assert not any(finding.what.startswith("a run was killed") for finding in examined(output))


def test_another_format_than_asked_for_is_a_warning(output: Output) -> None:
    batch(output)
    (found,) = bad(examined(output, wanted_format="json"))
    assert found.what == "format parquet, but OUTPUT_FORMAT asks for json: the next run converts all of it"
    assert found.remedy == "set OUTPUT_FORMAT=parquet to keep the format"


def test_many_small_files_are_a_warning(output: Output) -> None:
    manifest = None
    for _ in range(3):
        manifest = batch(output, manifest)
    assert bad(examined(output, compact_files=3)) == []
    (found,) = bad(examined(output, compact_files=2))
    assert found.what.startswith("tickets_with_assignment has 3 files, many of them small") or found.what.startswith(
        "high_priority_tickets has 3 files, many of them small"
    )


def test_many_rejected_messages_are_a_warning(output: Output) -> None:
    good = [encode_ticket(ticket(n)) for n in range(9)]
    first = publish_batch(output, None, "parquet", [[messages([*good, b"bad"])]])
    assert bad(examined(output)) == []
    publish_batch(output, first, "parquet", [[messages([b"bad"], first_offset=10)]])
    (found,) = bad(examined(output))
    assert found.what == "2 messages were rejected, more than one in ten"


@pytest.mark.parametrize("version", [1, 2])
def test_ledgers_of_earlier_releases_are_read(tmp_path: Path, version: int) -> None:
    archive = Path(__file__).parents[2] / "golden" / f"outputs-version-{version}.tar.gz"
    shutil.unpack_archive(archive, tmp_path, filter="data")
    root = next(path.parent for path in sorted(tmp_path.rglob("_manifest.json")))
    found = list(doctor.examine(root, "parquet", 64, datetime.now(UTC)))
    assert [finding for finding in found if finding.level == "problem"] == []
    told = (
        "has version 1, which an early release wrote" if version == 1 else "ledger of version 2, which the next commit"
    )
    assert any(told in finding.what for finding in found)


def status(**changes: Any) -> Status:
    plain: dict[str, Any] = {
        "state": "idle",
        "since": NOW,
        "updated_at": NOW,
        "interval_s": 30.0,
        "host": "here",
        "pid": 7,
        **changes,
    }
    return Status(**plain)


@pytest.mark.parametrize(
    ("found", "holder", "level", "told"),
    [
        (None, None, "ok", "_status.json is not there: no processor has run yet"),
        (
            status(),
            Holder(7, "python"),
            "ok",
            "_status.json, written 0 s ago by process 7 on here: waiting for the next batch. A batch every 30 s",
        ),
        (
            status(updated_at=NOW - timedelta(minutes=10)),
            None,
            "warning",
            "_status.json, written 10 min ago by process 7 on here: processor gone.",
        ),
        (
            status(updated_at=NOW - timedelta(minutes=10)),
            Holder(7, "python"),
            "warning",
            "but process 7 (python) still holds the lock",
        ),
        (
            status(updated_at=NOW - timedelta(seconds=2)),
            None,
            "warning",
            "waiting for the next batch. A batch every 30 s; but no process holds the lock: it was killed",
        ),
        # A container tells a name of its own, and the locks in it are not seen from everywhere.
        (status(host="6a7b"), None, "ok", "_status.json, written 0 s ago by process 7 on 6a7b"),
        (status(state="stopped", interval_s=0.0), None, "ok", "on here: single run, ended. It ended 0 s ago"),
    ],
)
def test_the_status_is_judged_by_its_age(found: Status | None, holder: Holder | None, level: str, told: str) -> None:
    judged = doctor.doing(found, holder, NOW, "here")
    assert judged.level == level
    assert told in judged.what


def test_a_service_that_ended_after_its_window_need_not_be_started_again(output: Output) -> None:
    window = Window("earliest", "2026-01-31T10:00:00Z", {0: 3})
    complete = msgspec.structs.replace(batch(output), window=window)
    judged = doctor.doing(status(state="done", updated_at=NOW - timedelta(days=1)), None, NOW, "here", complete)
    assert judged.level == "ok"
    assert judged.what.endswith(
        "everything published. This output holds the topic from earliest until 2026-01-31T10:00:00Z, and needs no "
        "processor"
    )


MOUNTS = [
    "22 1 254:0 / / rw,relatime - ext4 /dev/root rw",
    "30 22 0:5 / /mnt/shared\\040files rw - nfs4 server:/x rw",
    "31 22 0:6 / /mnt rw shared:1 - tmpfs tmpfs rw",
]


@pytest.mark.parametrize(
    ("folder", "kind"), [("/data", "ext4"), ("/mnt/x", "tmpfs"), ("/mnt/shared files/o", "nfs4"), ("/mntx", "ext4")]
)
def test_the_file_system_of_a_folder_is_that_of_the_innermost_mount(folder: str, kind: str) -> None:
    assert doctor.kind_of(MOUNTS, folder) == kind


def test_where_folders_cannot_be_exchanged_a_warning_says_what_works(tmp_path: Path) -> None:
    assert doctor.exchange(tmp_path, "xfs").level == "ok"
    found = doctor.exchange(tmp_path, "nfs4")
    assert found.what.startswith("file system nfs4: perhaps folders cannot be exchanged there")
    assert "--readers-stopped" in found.remedy
    (tmp_path / "metrics").symlink_to(tmp_path)
    assert doctor.exchange(tmp_path, "xfs").what.startswith(f"{tmp_path}/metrics is a link")
