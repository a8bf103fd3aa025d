"""Which Java is taken, and what is said when none fits."""

from pathlib import Path

import pytest

from runtime.errors import SettingError
from runtime.java.jdk import identity, java_executable


def fake_java(folder: Path, says: str, code: int = 0) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(
    "says",
    ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "21" 2023-09-19', 'java version "25.0.1" 2025-10-21 LTS'],
)
def test_takes_java_17_and_later(tmp_path: Path, says: str) -> None:
    java = fake_java(tmp_path, says)
    assert java_executable({"PATH": str(java.parent)}) == java


def test_java_home_wins_over_path(tmp_path: Path) -> None:
    java = fake_java(tmp_path / "home", 'openjdk version "21.0.1"')
    other = fake_java(tmp_path / "other", 'openjdk version "17.0.1"')
    assert java_executable({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(other.parent)}) == java


@pytest.mark.parametrize(
    ("says", "version"), [('openjdk version "11.0.27" 2025-04-15', "11"), ('java version "1.8.0_402"', "8")]
)
def test_refuses_an_older_java(tmp_path: Path, says: str, version: str) -> None:
    java = fake_java(tmp_path, says)
    with pytest.raises(SettingError, match=rf"Java at {java} is version {version}, too old; install Java 17 or 21"):
        java_executable({"PATH": str(java.parent)})


def test_names_what_to_install_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"Java is missing; install Java 17 or 21 .*openjdk-17-jre-headless"):
        java_executable({"PATH": str(tmp_path)})


def test_refuses_a_java_home_without_java(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=rf"JAVA_HOME={tmp_path} holds no bin/java"):
        java_executable({"JAVA_HOME": str(tmp_path)})


def test_refuses_a_java_that_does_not_run(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "no runtime present", code=1)
    with pytest.raises(SettingError, match=rf"Java at {java} does not run"):
        java_executable({"PATH": str(java.parent)})


def test_refuses_a_java_that_reports_no_version(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "hello")
    with pytest.raises(SettingError, match="does not report a version"):
        java_executable({"PATH": str(java.parent)})


def test_reads_the_version_from_the_file_that_java_brings_instead_of_starting_it(tmp_path: Path) -> None:
    java = fake_java(tmp_path, "must not be started", code=1)
    (tmp_path / "release").write_text('GRAALVM_VERSION="24.1"\nJAVA_VERSION="21.0.4"\n')
    assert java_executable({"PATH": str(java.parent)}) == java
    assert 'JAVA_VERSION="21.0.4"' in identity(java)


def test_a_release_file_that_is_not_of_java_is_ignored(tmp_path: Path) -> None:
    java = fake_java(tmp_path, 'openjdk version "17.0.15" 2025-04-15')
    (tmp_path / "release").write_text("Debian 12\n")
    assert java_executable({"PATH": str(java.parent)}) == java
    assert identity(java) == 'openjdk version "17.0.15" 2025-04-15\n'


def test_options_for_other_javas_do_not_reach_java_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.setenv(name, "-Xmx1x")
    java = fake_java(tmp_path, 'openjdk version "17.0.15"')
    java.write_text(
        '#!/bin/sh\necho "openjdk version \\"17.0.15\\"$JAVA_TOOL_OPTIONS$JDK_JAVA_OPTIONS$_JAVA_OPTIONS" >&2\n'
    )
    assert identity(java) == 'openjdk version "17.0.15"\n'
