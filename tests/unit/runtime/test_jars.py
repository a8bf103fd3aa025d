"""The jars: exactly the locked bytes, or one clear line."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.errors import PipelineError, SettingError
from runtime.java import jars
from runtime.java.jars import Jar
from runtime.settings.setting import ROOT
from tests.support.listeners import web_server

CONTENT = b"the bytes of a jar"
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), "org.example:thing_2.13:1.2.3", "bench")
OTHER_JAR = Jar(hashlib.sha256(b"others").hexdigest(), "org.example:other:4", "bench")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Return the file of JAR in a repository in ``tmp_path / "served"``, in Maven's layout."""
    path = tmp_path / "served/org/example/thing_2.13/1.2.3/thing_2.13-1.2.3.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def mirror(served: Path, tmp_path: Path) -> Mapping[str, str]:
    """Return an environment in which jars come from the folder of ``served``."""
    return {"CLIENT_TICKETS_MAVEN_MIRROR": (tmp_path / "served").as_uri()}


@pytest.fixture
def asked(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve that folder over HTTP as the mirror of this process; return the list of the paths that were asked for."""
    monkeypatch.setenv("no_proxy", "*")
    with web_server(tmp_path / "served") as (address, paths):
        monkeypatch.setenv("CLIENT_TICKETS_MAVEN_MIRROR", address)
        yield paths


def test_the_lock_holds_connector_and_broker_with_plain_coordinates() -> None:
    locked = jars.read_lock()
    assert [jar.coordinate for jar in locked if jar.group == "bench"] == [
        "org.apache.commons:commons-pool2:2.13.1",
        "org.apache.kafka:kafka-clients:3.9.2",
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0",
    ]
    assert "org.apache.kafka:kafka_2.13:4.1.1" in {jar.coordinate for jar in locked if jar.group == "broker"}
    assert {jar.group for jar in locked} == {"bench", "broker"}
    assert len({jar.name for jar in locked}) == len(locked)


def test_the_connector_is_of_the_version_of_pyspark() -> None:
    requirements = (Path(jars.__file__).parents[2] / "processor" / "requirements.txt").read_text()
    assert "pyspark==4.2.0\n" in requirements
    assert "spark-sql-kafka-0-10_2.13:4.2.0" in jars.LOCK.read_text()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CLIENT_TICKETS_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c/jars"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/client-tickets/jars"),
        ({"CLIENT_TICKETS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/client-tickets/jars"),
    ],
)
def test_the_cache_is_where_the_environment_says(environ: dict[str, str], folder: str) -> None:
    assert jars.cache_folder(environ) == Path(folder)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}])
def test_without_home_the_cache_is_in_the_home_that_the_system_knows_else_in_the_clone(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {os.getuid(): SimpleNamespace(pw_dir="/home/of-the-system")}
    monkeypatch.setattr("pwd.getpwuid", known.__getitem__)
    assert jars.cache_folder(environ) == Path("/home/of-the-system/.cache/client-tickets/jars")
    known.clear()
    assert jars.cache_folder(environ) == ROOT / ".cache" / "client-tickets" / "jars"


def test_downloads_what_is_missing_and_nothing_twice(asked: list[str], tmp_path: Path) -> None:
    assert jars.download([JAR], tmp_path / "jars") == 1
    assert (tmp_path / "jars" / "thing_2.13-1.2.3.jar").read_bytes() == CONTENT
    assert jars.download([JAR], tmp_path / "jars") == 0
    assert asked == ["/org/example/thing_2.13/1.2.3/thing_2.13-1.2.3.jar"]
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["thing_2.13-1.2.3.jar"]


def test_a_mirror_can_be_a_folder(mirror: Mapping[str, str], tmp_path: Path) -> None:
    assert jars.download([JAR], tmp_path / "jars", mirror) == 1
    assert (tmp_path / "jars" / "thing_2.13-1.2.3.jar").read_bytes() == CONTENT


def test_a_download_that_failed_goes_on_where_it_stopped(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"cannot download other-4\.jar"):
        jars.download([JAR, OTHER_JAR], tmp_path / "jars")
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["thing_2.13-1.2.3.jar"]

    late = tmp_path / "served/org/example/other/4/other-4.jar"
    late.parent.mkdir(parents=True)
    late.write_bytes(b"others")
    asked.clear()
    assert jars.download([JAR, OTHER_JAR], tmp_path / "jars") == 1
    assert asked == ["/org/example/other/4/other-4.jar"]


def test_a_damaged_jar_is_downloaded_again(mirror: Mapping[str, str], tmp_path: Path) -> None:
    damaged = tmp_path / "jars" / JAR.name
    damaged.parent.mkdir()
    damaged.write_bytes(CONTENT[:5])
    assert jars.download([JAR], tmp_path / "jars", mirror) == 1
    assert damaged.read_bytes() == CONTENT


def test_other_bytes_than_the_locked_ones_never_reach_the_cache(
    served: Path, mirror: Mapping[str, str], tmp_path: Path
) -> None:
    served.write_bytes(b"something else")
    with pytest.raises(PipelineError) as caught:
        jars.download([JAR], tmp_path / "jars", mirror)
    assert str(caught.value) == (
        "thing_2.13-1.2.3.jar is not the file that jars.lock names: "
        "its sha256 is f41f3fa625ff120ddca7ef456bf66371ecea23c129f4e4c32367101edb516cf8, "
        "not f11b957e45e1fbecd73d93cc1abf4349b1eb13df738f92bf161942bb957203d6; if a second try gives the same, "
        f"CLIENT_TICKETS_MAVEN_MIRROR=file://{tmp_path}/served or something on the way to it replaces files"
    )
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_command_that_cannot_download_says_so_in_one_line(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLIENT_TICKETS_CACHE", str(tmp_path))
    assert jars.main(["bench"]) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("cannot download commons-pool2-2.13.1.jar from CLIENT_TICKETS_MAVEN_MIRROR=")
    assert record.exc_info is None
    assert "\n" not in record.getMessage()


def test_says_which_folder_it_cannot_write(mirror: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"cannot write to .*/file/jars .*set CLIENT_TICKETS_CACHE"):
        jars.download([JAR], tmp_path / "file" / "jars", mirror)


def test_a_process_that_misses_its_jars_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIENT_TICKETS_CACHE", str(tmp_path))
    with pytest.raises(SettingError, match=r"46 of 46 jars of the broker are missing in .*; run make setup"):
        jars.broker_jars()


def test_refuses_an_unknown_group(caplog: pytest.LogCaptureFixture) -> None:
    assert jars.main(["flink"]) == 2
    assert "there are no jars for 'flink'; choose from broker, bench" in caplog.text
