"""What is loaded, and where it is put, cannot be exchanged by another user of this machine."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import SettingError
from runtime.java import archive, jars
from runtime.process.scratch import Scratch
from runtime.process.trusted import exchangeable, require_trusted
from runtime.settings.setting import ROOT

ME, OTHER = 1000, 4711
FOLDER, STICKY, FILE, LINK = stat.S_IFDIR, stat.S_IFDIR | stat.S_ISVTX, stat.S_IFREG, stat.S_IFLNK


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this machine lacks the right to become another user: root")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder like /tmp: every user may write there, and rename only what is their own."""
    # Not pytest's folder, because other users cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="shared-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def as_another_user(script: str, *arguments: Path) -> str:
    """Let another user run a shell script; return what it printed, with its errors."""
    become = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
    command = [*become, "sh", "-c", script, "sh", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    return done.stdout + done.stderr


def test_a_folder_of_this_user_below_one_that_is_everybodys() -> None:
    parts = [("/", FOLDER | 0o755, 0), ("/tmp", STICKY | 0o777, 0), ("/tmp/a", FOLDER | 0o775, ME)]
    assert exchangeable([(Path(path), mode, owner) for path, mode, owner in parts], ME) == ""


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (("/tmp/a", FOLDER | 0o755, OTHER), "/tmp/a belongs to another user (uid 4711), in a folder that everybody "),
        (("/tmp/a", LINK | 0o777, OTHER), "/tmp/a belongs to another user (uid 4711), in a folder that everybody "),
        (("/tmp/a", FOLDER | 0o777, ME), "everybody may write to /tmp/a, without the sticky bit"),
        (("/tmp/a", FILE | 0o666, ME), "everybody may write to /tmp/a"),
        (("/tmp/a", FOLDER | 0o755, 0), ""),
        (("/tmp/a", LINK | 0o777, ME), ""),
    ],
)
def test_what_lies_in_a_folder_that_is_everybodys(last: tuple[str, int, int], found: str) -> None:
    parts = [("/tmp", STICKY | 0o777, 0), last]
    told = exchangeable([(Path(path), mode, owner) for path, mode, owner in parts], ME)
    assert told.startswith(found)
    assert bool(told) == bool(found)


def test_the_owner_of_a_folder_that_is_not_everybodys_is_trusted() -> None:
    parts = [("/", FOLDER | 0o755, 0), ("/opt", FOLDER | 0o755, OTHER), ("/opt/jars", FOLDER | 0o775, OTHER)]
    assert exchangeable([(Path(path), mode, owner) for path, mode, owner in parts], ME) == ""


@needs_root
def test_a_folder_that_another_user_made_first_is_not_used(shared: Path) -> None:
    as_another_user('mkdir -m 755 "$1/cache"; ln -s /usr "$1/link"', shared)
    (shared / "mine").symlink_to(shared / "cache")
    for path in (shared / "cache", shared / "link", shared / "mine", shared / "cache" / "jars"):
        with pytest.raises(SettingError, match=r"belongs to another user \(uid 4711\).*; correct that, or set TMPDIR"):
            require_trusted(path)


@needs_root
def test_temporary_files_are_not_put_where_another_user_could_replace_them(shared: Path) -> None:
    with Scratch("ours-", shared) as scratch:
        (scratch.path / "code.zip").write_text("ours")
        answer = as_another_user('cat "$1/code.zip"; mv "$1" "$1.gone"; echo theirs >"$1/code.zip"', scratch.path)
        assert answer.count("ermission") + answer.count("not permitted") == 3, answer
        assert (scratch.path / "code.zip").read_text() == "ours"
        # In a folder of the same mode without the sticky bit it succeeds.
        shared.chmod(0o777)
        assert as_another_user('mv "$1" "$1.gone" && mkdir "$1" && echo done', scratch.path) == "done\n"
        shared.chmod(0o1777)
        scratch.path.rmdir()
        scratch.path.with_name(f"{scratch.path.name}.gone").rename(scratch.path)
    shared.chmod(0o777)
    with pytest.raises(SettingError, match=f"everybody may write to {shared}, without the sticky bit"):
        Scratch("ours-", shared)


def test_where_a_container_mounted_its_tmp_open_to_all_a_warning_is_enough(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared.chmod(0o777)
    monkeypatch.setattr("runtime.process.scratch._OF_THE_MACHINE", (shared,))
    Scratch("ours-", shared).remove()
    assert caplog.messages == [
        "other users of this machine could replace temporary files: "
        f"everybody may write to {shared}, without the sticky bit"
    ]


@needs_root
def test_nothing_that_a_program_of_ours_makes_can_be_changed_by_everybody(shared: Path) -> None:
    script = """
import sys
from pathlib import Path
from runtime.process import entry
place = Path(sys.argv[1])
sys.exit(entry.run(lambda: ((place / "made").mkdir(), (place / "made" / "file").write_text("ours"))))
"""
    run = ["sh", "-c", 'umask "$1"; shift; exec "$@"', "sh"]
    for umask, folder, file in (("000", 0o775, 0o664), ("027", 0o750, 0o640), ("077", 0o700, 0o600)):
        place = shared / umask
        place.mkdir()
        subprocess.run([*run, umask, sys.executable, "-c", script, str(place)], check=True, cwd=ROOT)
        assert (place / "made").stat().st_mode & 0o777 == folder
        assert (place / "made" / "file").stat().st_mode & 0o777 == file
        as_another_user('echo theirs >"$1/file"; rm -f "$1/file"; echo theirs >"$1/new"', place / "made")
        assert [path.read_text() for path in (place / "made").iterdir()] == ["ours"]


def test_jars_that_another_user_could_replace_are_not_run(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_TICKETS_CACHE", str(shared))
    folder = shared / "jars"
    folder.mkdir()
    for jar in jars.read_lock():
        (folder / jar.name).touch()
    assert len(jars.broker_jars()) > 10
    jars.broker_jars()[5].chmod(0o666)
    with pytest.raises(SettingError, match=r"everybody may write to \S+\.jar; correct that, or set TMPDIR"):
        jars.broker_jars()


@needs_root
def test_an_archive_of_classes_that_another_user_could_replace_is_not_used(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = shared / "classes-1.jsa"
    made.touch()
    assert f"-XX:SharedArchiveFile={made}" in archive.use(made)
    os.chown(made, OTHER, OTHER)
    assert archive.use(made) == ()
    assert caplog.messages[0].startswith(f"Spark starts more slowly: {made} is not used")
