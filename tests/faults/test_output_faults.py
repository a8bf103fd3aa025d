"""The output folder that cannot be written, was damaged, lies on two disks, is full, or belongs to another processor.

What is refused before the broker is asked runs without one: the outputs are made without Spark, as a batch makes them.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contract.ticket import encode as encode_ticket
from embedded.broker import EmbeddedBroker
from processor.consume import Piece
from runtime.errors import OutputUnavailable
from runtime.process.failpoint import VARIABLE
from runtime.settings.location import OutputLocation
from store.manifest import Manifest, encode
from store.output import Output
from tests.support import golden, topics
from tests.support.datasets import Published
from tests.support.listeners import server
from tests.support.pipeline import processor, produce, read_manifest
from tests.support.processes import Processes, Running
from tests.support.shim import shim
from tests.support.staging import messages, prepare_batch, publish_batch, ticket

pytestmark = pytest.mark.integration

PROCESSOR = "processor/spark_processor.py"
MIB = 1 << 20
USER = 45678
# A mount that every Linux has, besides the root.
OTHER_FILE_SYSTEM = Path("/dev/shm")


@pytest.fixture
def no_broker() -> Iterator[str]:
    """The address of a port where something other than a broker answers: a processor that asks it exits with 3."""
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        yield address


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this machine lacks the right to mount a file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        # A lazy unmount, so that a process that still runs cannot prevent it.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk up to ``leave`` bytes; return the file that can be removed to free it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(4096)):
                pass
        file.truncate(file.tell() - leave)
    return filler


def run(processes: Processes, no_broker: str, output: Path, expect: int) -> Running:
    running = processes.start_command(command(no_broker, output))
    assert running.wait(60) == expect, running.output
    assert "Traceback" not in running.stderr
    return running


def three_tickets(first: int) -> list[list[Piece]]:
    """Return what one task reads for a batch of three tickets."""
    return [[messages([encode_ticket(ticket(first + n)) for n in range(3)], first_offset=first)]]


def published_output(root: Path) -> tuple[Output, Manifest]:
    """Make an output of one batch of three tickets."""
    output = Output(OutputLocation(root))
    return output, publish_batch(output, None, "parquet", three_tickets(0))


def prepared_output(root: Path) -> None:
    """Make an output of one batch of three tickets, and a decided one of three more that is not published yet."""
    output, first = published_output(root)
    record = prepare_batch(output, first, "parquet", three_tickets(3))
    (root / ".pipeline" / "commit.json").write_bytes(encode(record))


def require_completed(
    processes: Processes, no_broker: str, root: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Check that the next run publishes what was decided."""
    completed = processes.start_command(command(no_broker, root), env=environment)
    assert completed.wait(60) == 3, completed.output
    assert "finishing batch 2" in completed.stderr
    published = Published(root)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 6


def another_user() -> list[str]:
    """Return a command prefix that changes root to a user who may read everything, but not write it."""
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("this machine lacks setpriv")
    rights = "+dac_read_search"
    become = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    return [*become, f"--inh-caps={rights}", f"--ambient-caps={rights}"]


def command(no_broker: str, output: Path) -> list[str]:
    return [sys.executable, PROCESSOR, "--broker", no_broker, "--output-path", str(output), "--memory", "1g"]


def everything(output: Path) -> dict[str, bytes]:
    """Return every file of an output but the lock, with its content."""
    files = (path for path in output.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.mark.parametrize("in_the_way", ["data", "data/output", "data/output/.pipeline"])
def test_an_output_that_cannot_be_written_is_refused_before_the_broker_is_asked(
    in_the_way: str, no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    # A file in the place of a folder, because permissions do not stop root.
    file = tmp_path / in_the_way
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    refused = run(processes, no_broker, tmp_path / "data" / "output", expect=5)
    assert f"cannot write {file}: File exists; a file is in the place of a folder" in refused.stderr


@pytest.mark.parametrize("name", ["data", "data/output", "data/output/.pipeline"])
def test_an_output_that_this_user_may_not_write_is_refused_before_the_broker_is_asked(
    name: str, no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "data" / "output"
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name).chmod(0o555)
    refused = processes.start_command([*another_user(), *command(no_broker, output)])
    assert refused.wait(60) == 5, refused.output
    assert f"cannot write {tmp_path / name}" in refused.stderr
    assert "Permission denied; give this user the right to write there" in refused.stderr


def test_a_dataset_that_this_user_may_not_write_is_published_once_the_right_is_given(
    no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "output"
    prepared_output(root)
    if os.getuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, USER, USER)
    (root / "metrics").chmod(0o555)
    refused = processes.start_command([*another_user(), *command(no_broker, root)])
    assert refused.wait(60) == 5, refused.output
    assert f"cannot write {root}/metrics/metrics.parquet" in refused.stderr
    assert "Permission denied; give this user the right to write there" in refused.stderr
    (root / "metrics").chmod(0o755)
    require_completed(processes, no_broker, root)


def test_an_output_on_a_file_system_that_is_read_only_is_refused_before_the_broker_is_asked(
    no_broker: str, processes: Processes, small_disk: Path
) -> None:
    root = small_disk / "output"
    published_output(root)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused = run(processes, no_broker, root, expect=5)
    assert "Read-only file system; the file system is read-only; choose another --output-path" in refused.stderr


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("SHIM_FLOCK", errno.ENOLCK, "its file system does not support locks (flock)"),
        ("SHIM_FLOCK", errno.EOPNOTSUPP, "its file system does not support locks (flock)"),
        ("SHIM_FSYNC_FOLDER", errno.EIO, "Input/output error; the disk reports an error; look into the system's log"),
        ("SHIM_RENAME", errno.EXDEV, "it lies on another file system; mount or link the output folder as a whole"),
    ],
)
def test_a_file_system_that_does_not_support_a_call_is_reported_with_its_cause_and_the_next_run_is_exact(
    call: str, error: int, said: str, no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "output"
    prepared_output(root)
    # Renames fail in one dataset only, as if it were on another file system that stat does not show.
    under = root / "metrics" if call == "SHIM_RENAME" else root
    unusual = shim(tmp_path) | {call: str(error), "SHIM_UNDER": str(under)}
    refused = processes.start_command(command(no_broker, root), env=unusual)
    assert refused.wait(60) == 5, refused.output
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    require_completed(processes, no_broker, root)


def test_a_file_system_that_refuses_to_force_a_folder_to_the_disk_holds_an_output(
    no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "output"
    prepared_output(root)
    unusual = shim(tmp_path) | {"SHIM_FSYNC_FOLDER": str(errno.EINVAL), "SHIM_UNDER": str(root)}
    require_completed(processes, no_broker, root, unusual)


def cut(manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes()[:100])


@pytest.mark.parametrize(("harm", "said"), [(cut, "is damaged (100 bytes: "), (Path.unlink, "is missing")])
def test_an_output_without_a_sound_manifest_is_refused_before_the_broker_is_asked(
    harm: Callable[[Path], None], said: str, no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    published_output(tmp_path / "output")
    harm(tmp_path / "output" / "_manifest.json")
    before = everything(tmp_path / "output")
    refused = run(processes, no_broker, tmp_path / "output", expect=4)
    assert f"_manifest.json {said}" in refused.stderr
    assert "choose another --output-path" in refused.stderr
    assert everything(tmp_path / "output") == before


def test_the_processor_goes_on_from_a_whole_backup_in_place_of_a_damaged_output(
    broker: EmbeddedBroker, topic: str, processes: Processes, tmp_path: Path
) -> None:
    output, backup = tmp_path / "output", tmp_path / "backup"
    topics.create(broker.address, topic)
    topics.send(broker.address, topic, golden.tickets()[:2])
    processes.run(*processor(broker, topic, output))
    shutil.copytree(output, backup)
    cut(output / "_manifest.json")
    topics.send(broker.address, topic, golden.tickets()[2:5])
    refused = processes.run(*processor(broker, topic, output), expect=4)
    assert "_manifest.json is damaged" in refused.stderr
    shutil.rmtree(output)
    backup.rename(output)
    processes.run(*processor(broker, topic, output))
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 5


@pytest.mark.parametrize("name", ["metrics", ".pipeline"])
def test_a_folder_that_links_to_another_file_system_is_refused_before_the_broker_is_asked(
    name: str, no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    if not OTHER_FILE_SYSTEM.is_dir() or OTHER_FILE_SYSTEM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine lacks a second file system at /dev/shm")
    output = tmp_path / "output"
    published_output(output)
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as elsewhere:
        shutil.copytree(output / name, elsewhere, dirs_exist_ok=True)
        (output / name).rename(tmp_path / "aside")
        (output / name).symlink_to(elsewhere)
        refused = run(processes, no_broker, output, expect=5)
    assert f"{output / name} lies on another file system than {output}" in refused.stderr


def test_a_disk_that_is_full_while_a_commit_is_published_keeps_what_was_there_and_the_next_run_completes_it(
    no_broker: str, processes: Processes, small_disk: Path
) -> None:
    root = small_disk / "output"
    prepared_output(root)
    # Renames over older files free space, so the disk is filled after them, and only the manifest is missing.
    flags = ("--broker", no_broker, "--output-path", root, "--memory", "1g")
    processes.run(PROCESSOR, *flags, env={VARIABLE: "before-manifest"}, expect=-signal.SIGKILL)
    filler = fill(small_disk, leave=0)
    full = run(processes, no_broker, root, expect=5)
    assert "No space left on device; free space there, then start again" in full.stderr
    manifest = read_manifest(root)
    assert manifest["totals"]["tickets"] == 3
    tickets = root / "tickets_with_assignment"
    assert pq.read_table([tickets / name for name in manifest["files"][tickets.name]]).num_rows == 3
    filler.unlink()
    require_completed(processes, no_broker, root)


def test_a_disk_that_is_full_while_tasks_write_leaves_the_output_as_it_was_and_the_next_run_is_exact(
    broker: EmbeddedBroker, topic: str, processes: Processes, small_disk: Path
) -> None:
    output = small_disk / "output"
    topics.create(broker.address, topic)
    processes.run(*processor(broker, topic, output))
    # More than 1 MiB of Parquet.
    produce(processes, broker, topic, 30_000)
    filler = fill(small_disk, leave=MIB * 3 // 4)
    full = processes.run(*processor(broker, topic, output), expect=5)
    assert "/staging/" in full.stderr
    assert "No space left on device" in full.stderr
    assert Published(output).count("tickets_with_assignment") == 0
    filler.unlink()
    processes.run(*processor(broker, topic, output))
    published = Published(output)
    published.require_agreement()
    assert published.count("tickets_with_assignment") == 30_000


def test_an_output_whose_disk_is_unmounted_under_a_running_processor_is_reported_as_removed(
    small_disk: Path,
) -> None:
    output = Output(OutputLocation(small_disk / "output"))
    with output.locked():
        first = publish_batch(output, None, "parquet", three_tickets(0))
        record = prepare_batch(output, first, "parquet", three_tickets(3))
        # Mounting another file system over it hides it like an unmount, and can be undone.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", small_disk], check=True)
        try:
            with pytest.raises(OutputUnavailable) as caught:
                output.commit(record)
            assert list(small_disk.iterdir()) == []
        finally:
            subprocess.run(["umount", "--lazy", small_disk], check=True)
        assert str(caught.value) == (
            f"{small_disk}/output was removed while this processor worked on it; start again: a new output is filled "
            "from what the topic still holds; if its file system was only unmounted, mount it first"
        )
        output.commit(record)
    assert Published(output.root).count("tickets_with_assignment") == 6


def test_a_paused_processor_keeps_the_lock_and_a_killed_one_releases_it(
    no_broker: str, processes: Processes, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    # It locks the output first, and then waits for the broker.
    first = processes.start(PROCESSOR, "--broker", "127.0.0.1:1", "--output-path", output, "--memory", "1g")
    first.wait_for_stderr("trying again")
    first.send(signal.SIGSTOP)
    refused = run(processes, no_broker, output, expect=5)
    assert f"another processor is writing {output}" in refused.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    run(processes, no_broker, output, expect=3)
