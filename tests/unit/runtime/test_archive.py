"""The class-data archive: its name tells what it fits, and it appears as a whole or not at all."""

import os
from pathlib import Path

import pytest

from runtime.errors import PipelineError
from runtime.java import archive

FLAGS = ("-Xms64m", "--add-modules=jdk.incubator.vector")


@pytest.fixture
def java(tmp_path: Path) -> Path:
    home = tmp_path / "java-17"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    (home / "release").write_text('JAVA_VERSION="17.0.15"\n')
    return home / "bin" / "java"


@pytest.fixture
def jars(tmp_path: Path) -> list[Path]:
    jars = [tmp_path / "spark.jar", tmp_path / "scala.jar"]
    for jar in jars:
        jar.write_text("content")
        os.utime(jar, (1_700_000_000, 1_700_000_000.25))
    return jars


def test_lies_beside_the_jars_in_the_cache(java: Path, jars: list[Path]) -> None:
    path = archive.archive_path(java, jars, FLAGS, {"CLIENT_TICKETS_CACHE": "/cache"})
    assert path.parent == Path("/cache")
    assert path.match("classes-????????????????.jsa")


def test_another_java_other_jars_or_other_flags_have_another_name(java: Path, jars: list[Path]) -> None:
    names = [archive.archive_path(java, jars, FLAGS)]
    names.append(archive.archive_path(java, jars, (*FLAGS, "-XX:+UseSerialGC")))
    names.append(archive.archive_path(java, jars[::-1], FLAGS))
    names.append(archive.archive_path(java, jars[:1], FLAGS))
    (java.parent.parent / "release").write_text('JAVA_VERSION="17.0.16"\n')
    names.append(archive.archive_path(java, jars, FLAGS))
    os.utime(jars[0], (1_700_000_001, 1_700_000_001))
    names.append(archive.archive_path(java, jars, FLAGS))
    jars[0].write_text("more content")
    os.utime(jars[0], (1_700_000_001, 1_700_000_001))
    names.append(archive.archive_path(java, jars, FLAGS))
    assert len(set(names)) == 7


def test_what_does_not_matter_to_the_jvm_keeps_the_name(java: Path, jars: list[Path]) -> None:
    name = archive.archive_path(java, jars, FLAGS)
    # An image keeps whole seconds.
    os.utime(jars[0], (1_700_000_000, 1_700_000_000))
    assert archive.archive_path(java, jars, (*FLAGS, "-Dlog4j2.configurationFile=file:/elsewhere")) == name


def test_without_an_archive_there_are_no_flags(tmp_path: Path) -> None:
    assert archive.use(tmp_path / "classes-0.jsa") == ()


def test_an_archive_is_used_silently_and_only_if_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "classes-0.jsa"
    path.touch()
    assert archive.use(path) == (
        f"-XX:SharedArchiveFile={path}",
        "-Xshare:auto",
        "-Xlog:cds=off",
        "-Xlog:cds+dynamic=off",
        "-Xlog:class+path=off",
    )


def test_appears_under_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new-cache" / "classes-0.jsa"

    def run(unfinished: Path) -> None:
        assert unfinished.is_relative_to(path.parent)
        unfinished.write_bytes(b"classes")
        assert not path.exists()

    archive.make(path, run)
    assert path.read_bytes() == b"classes"
    assert list(path.parent.iterdir()) == [path]


def test_a_jvm_that_writes_none_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="the JVM wrote no archive"):
        archive.make(tmp_path / "classes-0.jsa", lambda unfinished: None)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def run(unfinished: Path) -> None:
        unfinished.write_bytes(b"cla")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        archive.make(tmp_path / "classes-0.jsa", run)
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_archives_are_removed(tmp_path: Path) -> None:
    for number in range(6):
        old = tmp_path / f"classes-{number}.jsa"
        old.touch()
        os.utime(old, (number, number))
    archive.make(tmp_path / "classes-new.jsa", lambda unfinished: unfinished.touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classes-3.jsa",
        "classes-4.jsa",
        "classes-5.jsa",
        "classes-new.jsa",
    ]


def test_the_next_set_up_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = tmp_path / ".unfinished-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (killed / "classes-0.jsa").write_bytes(b"cla")
    archive.make(tmp_path / "classes-0.jsa", lambda unfinished: unfinished.touch())
    assert [path.name for path in tmp_path.iterdir()] == ["classes-0.jsa"]
