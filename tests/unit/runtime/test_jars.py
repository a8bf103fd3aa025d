"""The jars: exactly the locked bytes, or one clear line."""

import hashlib
from pathlib import Path

import pytest
import requests
from jgo.maven import Artifact

from runtime.errors import PipelineError, SettingError
from runtime.java import jars
from runtime.java.jars import Jar

CONTENT = b"the bytes of a jar"
JAR = Jar(hashlib.sha256(CONTENT).hexdigest(), "org.example:thing_2.13:1.2.3", "spark")


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand in for the remote repository: whatever lies in this file is what jgo downloads."""
    served = tmp_path / "served"
    served.write_bytes(CONTENT)

    def resolve(artifact: Artifact) -> Path:
        copy = artifact.context.repo_cache / artifact.filename
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(served.read_bytes())
        return copy

    monkeypatch.setattr(Artifact, "resolve", resolve)
    return served


def test_the_lock_holds_connector_and_broker_with_plain_coordinates() -> None:
    locked = jars.read_lock()
    assert [jar.coordinate for jar in locked if jar.group == "spark"] == [
        "org.apache.commons:commons-pool2:2.13.1",
        "org.apache.kafka:kafka-clients:3.9.2",
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.2.0",
    ]
    assert "org.apache.kafka:kafka_2.13:4.1.1" in {jar.coordinate for jar in locked if jar.group == "broker"}
    assert {jar.group for jar in locked} == {"spark", "broker"}
    assert len({jar.name for jar in locked}) == len(locked)


def test_the_connector_is_of_the_version_of_pyspark() -> None:
    requirements = (Path(jars.__file__).parents[2] / "processor" / "requirements.txt").read_text()
    assert "pyspark==4.2.0 " in requirements
    assert "spark-sql-kafka-0-10_2.13:4.2.0" in jars.LOCK.read_text()


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CLIENT_TICKETS_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c/jars"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/client-tickets/jars"),
        ({"CLIENT_TICKETS_CACHE": "", "XDG_CACHE_HOME": ""}, f"{Path.home()}/.cache/client-tickets/jars"),
    ],
)
def test_the_cache_is_where_the_environment_says(environ: dict[str, str], folder: str) -> None:
    assert jars.cache_folder(environ) == Path(folder)


def test_downloads_what_is_missing_and_nothing_twice(repository: Path, tmp_path: Path) -> None:
    assert jars.download([JAR], tmp_path / "jars") == 1
    assert (tmp_path / "jars" / "thing_2.13-1.2.3.jar").read_bytes() == CONTENT
    assert jars.download([JAR], tmp_path / "jars") == 0
    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["thing_2.13-1.2.3.jar"]


def test_a_damaged_jar_is_downloaded_again(repository: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "jars" / JAR.name
    damaged.parent.mkdir()
    damaged.write_bytes(CONTENT[:5])
    assert jars.download([JAR], tmp_path / "jars") == 1
    assert damaged.read_bytes() == CONTENT


def test_other_bytes_than_the_locked_ones_never_reach_the_cache(repository: Path, tmp_path: Path) -> None:
    repository.write_bytes(b"something else")
    with pytest.raises(PipelineError, match=r"thing_2\.13-1\.2\.3\.jar is not the file that jars\.lock names"):
        jars.download([JAR], tmp_path / "jars")
    assert list((tmp_path / "jars").iterdir()) == []


def test_says_in_one_line_that_there_is_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def resolve(artifact: Artifact) -> Path:
        raise requests.ConnectionError("a long story\nabout sockets")

    monkeypatch.setattr(Artifact, "resolve", resolve)
    with pytest.raises(PipelineError) as caught:
        jars.download([JAR], tmp_path / "jars")
    assert str(caught.value) == (
        "cannot download thing_2.13-1.2.3.jar (ConnectionError); check the network and run the command again"
    )


def test_says_which_folder_it_cannot_write(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"cannot write to .*/file/jars .*set CLIENT_TICKETS_CACHE"):
        jars.download([JAR], tmp_path / "file" / "jars")


def test_a_process_that_misses_its_jars_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIENT_TICKETS_CACHE", str(tmp_path))
    with pytest.raises(SettingError, match=r"4 of 4 spark jars are missing in .*; run make setup"):
        jars.spark_jars()


def test_refuses_an_unknown_group(caplog: pytest.LogCaptureFixture) -> None:
    assert jars.main(["flink"]) == 2
    assert "there are no jars for 'flink'; choose from spark, broker" in caplog.text
