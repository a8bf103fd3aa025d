"""The disk and the messages for its errors."""

import errno
import hashlib
import os
import pickle
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.errors import OutputUnavailable
from store.files import (
    ChecksummedFile,
    Disk,
    cannot_write,
    checksum,
    make_folders,
    read_if_there,
    reading,
    remove_if_there,
    replace_content,
    writing,
)

DISK = Disk()


def test_a_disk_can_be_sent_to_a_worker() -> None:
    assert isinstance(pickle.loads(pickle.dumps(DISK)), Disk)


def test_a_checksum_is_the_one_that_sha256sum_prints(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"tickets")
    printed = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True).stdout
    assert checksum(DISK, tmp_path / "file") == f"sha256:{printed.split()[0]}"


def test_what_arrow_writes_to_a_checksummed_file_has_its_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    with DISK.create(path) as file:
        sums = ChecksummedFile(file)
        pq.write_table(pa.table({"n": range(10_000)}), sums)
        DISK.sync(file)
    assert pq.read_table(path).num_rows == 10_000
    assert sums.bytes == path.stat().st_size
    assert sums.checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_abandoned_file_on_a_full_disk_is_not_written_again() -> None:
    file = DISK.create(Path("/dev/full"))
    sums = ChecksummedFile(file)
    sums.write(b"what waits in the buffer")
    sums.abandon()
    assert file.closed


def test_a_replaced_content_leaves_no_other_file(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        replace_content(DISK, tmp_path / "file", content)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_folders_are_made_with_those_above_them_and_each_name_is_forced_to_the_disk(tmp_path: Path) -> None:
    class Noting(Disk):
        def __init__(self) -> None:
            self.synced: list[Path] = []

        def sync_folder(self, folder: Path) -> None:
            self.synced.append(folder)

    disk = Noting()
    make_folders(disk, tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    # The first one, because the process that made ``tmp_path`` may have been killed before it forced its name.
    assert disk.synced == [tmp_path.parent, tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folders(disk, tmp_path / "a" / "b")
    assert disk.synced[4:] == [tmp_path / "a"]
    make_folders(disk, tmp_path / "a" / "b" / "d", safe=tmp_path / "a" / "b")
    assert disk.synced[5:] == [tmp_path / "a" / "b"]


def test_a_folder_below_one_that_cannot_be_opened_is_accepted(tmp_path: Path) -> None:
    class Closed(Disk):
        def sync_folder(self, folder: Path) -> None:
            if folder == tmp_path:
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    (tmp_path / "a").mkdir()
    make_folders(Closed(), tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(PermissionError):
        make_folders(Closed(), tmp_path / "c")


def test_a_link_to_a_folder_is_accepted_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make_folders(DISK, tmp_path / "link")
    make_folders(DISK, tmp_path / "link" / "below")
    assert (tmp_path / "real" / "below").is_dir()


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileExistsError):
            make_folders(DISK, folder)


def test_look_does_not_follow_a_link_by_default(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nothing")
    file, link = DISK.look(tmp_path / "file"), DISK.look(tmp_path / "link")
    assert file is not None
    assert (file.is_file, file.is_folder, file.bytes) == (True, False, 4)
    assert link is not None
    assert (link.is_file, link.is_folder) == (False, False)
    assert DISK.look(tmp_path / "link", follow=True) == file
    assert DISK.look(tmp_path / "broken", follow=True) is None
    assert DISK.look(tmp_path / "nothing") is None
    assert DISK.look(tmp_path / "file" / "below") is None


def test_a_missing_file_reads_as_none_and_can_be_removed(tmp_path: Path) -> None:
    assert read_if_there(DISK, tmp_path / "nothing") is None
    remove_if_there(DISK, tmp_path / "nothing")


def test_folders_of_one_mount_have_the_same_mark_and_another_file_system_has_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert DISK.mount(tmp_path) == DISK.mount(tmp_path / "a")
    assert DISK.mount(tmp_path) != DISK.mount(Path("/proc"))


WRITTEN = {
    errno.ENOSPC: "No space left on device; free space there",
    errno.EDQUOT: "Disk quota exceeded; free space there, or raise the quota",
    errno.EFBIG: "File too large; the file would exceed a limit of this user (ulimit -f) or of the file system; "
    "raise the limit",
    errno.EACCES: "Permission denied; give this user the right to write there",
    errno.EROFS: "Read-only file system; the file system is read-only; choose another --output-path",
    errno.EXDEV: "Invalid cross-device link; it lies on another file system; mount or link the output folder as "
    "a whole",
    errno.ENOENT: "No such file or directory; it, or a folder above it, is missing; check whether it was removed, or "
    "its file system not mounted",
    errno.ENOTDIR: "Not a directory; a file is in the place of this folder, or of one above it; move it away",
    errno.EIO: "Input/output error; the disk reports an error; look into the system's log",
    errno.ESTALE: "Stale file handle; the file system went away; mount it again",
    errno.ENOTCONN: "Transport endpoint is not connected; the file system went away; mount it again",
    errno.EINVAL: "Invalid argument; the file system does not support a call that the output needs; choose another "
    "--output-path",
    errno.EMFILE: "Too many open files; raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "File name too long; choose a shorter --output-path",
}


@pytest.mark.parametrize("number", WRITTEN, ids=errno.errorcode.get)
def test_a_write_error_is_reported_with_its_cause_and_a_remedy(number: int) -> None:
    with pytest.raises(OutputUnavailable) as caught, writing(Path("/output")):
        raise OSError(number, os.strerror(number), "/output/file")
    assert str(caught.value) == (
        f"cannot write /output/file: {WRITTEN[number]}, then start again: what is published stays as it is"
    )


def test_an_unknown_error_is_reported_without_a_misleading_remedy() -> None:
    with pytest.raises(OutputUnavailable) as caught, writing(Path("/output")):
        raise OSError(errno.EPIPE, "Broken pipe")
    assert str(caught.value) == (
        "cannot write /output: Broken pipe; fix that and start again: what is published stays as it is"
    )


def test_an_error_of_a_rename_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "staged").touch()
    with pytest.raises(OutputUnavailable) as caught, writing(tmp_path):
        DISK.replace(tmp_path / "staged", tmp_path / "metrics" / "file")
    assert str(caught.value).startswith(
        f"cannot write {tmp_path}/metrics/file (from {tmp_path}/staged): No such file or directory; it, or a"
    )


def test_freeing_space_is_advised_only_if_there_is_none() -> None:
    asked = {n for n in errno.errorcode if "free space" in cannot_write(OSError(n, os.strerror(n)), Path("/output"))}
    assert asked == {errno.ENOSPC, errno.EDQUOT}


def test_a_write_error_of_sqlite_is_reported_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(OutputUnavailable) as caught, writing(tmp_path / "missing" / "clients.sqlite"):
        sqlite3.connect(tmp_path / "missing" / "clients.sqlite")
    assert str(caught.value) == (
        f"cannot write {tmp_path}/missing/clients.sqlite: unable to open database file; check that its folder is "
        "there, and that this user may write there, then start again: what is published stays as it is"
    )
    full = "database or disk is full; free space there, then start again"
    with closing(sqlite3.connect(tmp_path / "clients.sqlite")) as database:
        database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(OutputUnavailable, match=full), writing(tmp_path / "clients.sqlite"):
            database.execute("CREATE TABLE clients (client_id TEXT)")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "Permission denied; give this user the right to read it"),
        (errno.EIO, "Input/output error; the disk reports an error; look into the system's log"),
        (errno.ESTALE, "Stale file handle; the file system went away; mount it again"),
    ],
)
def test_a_read_error_is_not_reported_as_a_write_error(number: int, said: str) -> None:
    with pytest.raises(OutputUnavailable) as caught, reading(Path("/output/_manifest.json")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == (f"cannot read /output/_manifest.json: {said}, then start again: nothing was changed")


def test_an_fsync_of_a_folder_that_the_file_system_does_not_support_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def fsync(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("store.files.os.fsync", fsync)

    for number in (errno.EINVAL, errno.EBADF):
        refuse(number)
        DISK.sync_folder(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        DISK.sync_folder(tmp_path)
