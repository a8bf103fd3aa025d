"""Where jars come from, and what is said when they do not come."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runtime.errors import PipelineError, SettingError
from runtime.java import maven
from runtime.settings.setting import ROOT
from tests.support.listeners import free_ports, server, web_server

JAR = "org/example/thing_2.13/1.2.3/thing_2.13-1.2.3.jar"
RESOLVER = "org/apache/ivy/plugins/resolver/IBiblioResolver.class"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def failure(mirror: str) -> str:
    """Return the message of a download from ``mirror`` that fails."""
    with pytest.raises(PipelineError) as caught:
        maven.repository({"CLIENT_TICKETS_MAVEN_MIRROR": mirror}).fetch(JAR)
    return str(caught.value)


def test_without_a_mirror_jars_come_from_where_spark_itself_fetches_them() -> None:
    repository = maven.repository({})
    assert repository.address.startswith("https://")
    assert repository.address.endswith("/maven2/")
    assert repository.address == repository.origin
    assert repository.what_works == "check the network and run the command again"


@pytest.mark.parametrize("mirror", ["http://127.0.0.1:8081/m2", "file:///srv/m2"])
def test_a_mirror_may_end_with_a_slash(mirror: str) -> None:
    for given in (mirror, f"{mirror}/"):
        assert maven.repository({"CLIENT_TICKETS_MAVEN_MIRROR": given}).address == f"{mirror}/"


@pytest.mark.parametrize(
    "mirror", ["/srv/m2", "mirror.example/m2", "ftp://h/m2", "https://", "http://h:x/", "http://["]
)
def test_a_mirror_that_is_not_an_address_is_refused(mirror: str) -> None:
    with pytest.raises(SettingError) as caught:
        maven.repository({"CLIENT_TICKETS_MAVEN_MIRROR": mirror})
    assert str(caught.value) == (
        f"CLIENT_TICKETS_MAVEN_MIRROR={mirror} is not the address of a repository; "
        "it begins with https://, http:// or file://"
    )


def test_a_mirror_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingError) as caught:
        maven.repository({"CLIENT_TICKETS_MAVEN_MIRROR": "https://me:secret@mirror.example/m2"})
    assert str(caught.value) == (
        "CLIENT_TICKETS_MAVEN_MIRROR holds a user name, and logins are not supported; "
        "set it to a repository without a login"
    )


def test_names_the_http_status(tmp_path: Path) -> None:
    with web_server(tmp_path) as (address, _):
        assert failure(address) == (
            f"cannot download thing_2.13-1.2.3.jar from CLIENT_TICKETS_MAVEN_MIRROR={address} (HTTP 404); "
            "check that variable and the network, then run the command again"
        )


def test_names_a_refused_connection() -> None:
    (port,) = free_ports(1)
    message = failure(f"http://127.0.0.1:{port}")
    assert f"from CLIENT_TICKETS_MAVEN_MIRROR=http://127.0.0.1:{port} ([Errno " in message
    assert "] Connection refused); check that variable and the network, then run the command again" in message


def test_names_a_file_that_is_missing_in_a_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}/org/example/thing_2.13/1.2.3/thing_2.13-1.2.3.jar" in failure(tmp_path.as_uri())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\nthe by", "(IncompleteRead(6 bytes read, 12 more expected)); "),
        (b"", "(Remote end closed connection without response); "),
        (b"SSH-2.0-other\r\n\r\n", "(SSH-2.0-other); "),
    ],
)
def test_a_server_that_hangs_up_early_gives_no_jar(answer: bytes, reason: str) -> None:
    with server(answer) as address:
        assert reason in failure(f"http://{address}")


def test_a_server_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maven, "_TIMEOUT_S", 0.1)
    with server(None) as address:
        assert " (timed out); " in failure(f"http://{address}")


def test_an_address_that_http_cannot_carry_is_an_error_in_words() -> None:
    assert "cannot download thing_2.13-1.2.3.jar" in failure("http://127.0.0.1/a b")


def test_a_bare_python_is_enough_and_without_pyspark_names_the_variable(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from runtime.java import jars; sys.exit(jars.main([]))"
    # -S hides installed packages, -I the current folder and Python's environment variables.
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env={"CLIENT_TICKETS_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert bare.returncode == 2
    assert bare.stderr == (
        "ERROR no address to download jars from: pyspark is missing, or its Apache Ivy names no default repository; "
        "install the Python packages (make setup), or set CLIENT_TICKETS_MAVEN_MIRROR to the address of a Maven "
        "repository\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"no address",
        b"\x01\x00\x18http://h.example/maven3/",
        b"\x01\x00\x1dhttps://h.example/maven3/more",
        b"\x01\x00\x19https://h.example/maven3/\x01\x00\x19https://i.example/maven3/",
    ],
)
def test_an_ivy_without_the_one_address_names_the_variable(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(ivy_of_another_pyspark(tmp_path, monkeypatch), "w") as archive:
        archive.writestr(RESOLVER, content)
    with pytest.raises(SettingError, match="set CLIENT_TICKETS_MAVEN_MIRROR to"):
        maven.repository({})


def test_the_address_is_the_whole_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(ivy_of_another_pyspark(tmp_path, monkeypatch), "w") as archive:
        archive.writestr(RESOLVER, b"before\x01\x00\x19https://h.example/maven3/\x01\x00\x05after")
    assert maven.repository({}).address == "https://h.example/maven3/"


def test_a_damaged_ivy_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ivy_of_another_pyspark(tmp_path, monkeypatch).write_bytes(b"no archive")
    with pytest.raises(SettingError, match="set CLIENT_TICKETS_MAVEN_MIRROR to"):
        maven.repository({})


def ivy_of_another_pyspark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty pyspark before the installed one; return where its Ivy belongs."""
    (folder / "pyspark" / "jars").mkdir(parents=True)
    (folder / "pyspark" / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    # Another test may have imported the real one.
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    return folder / "pyspark" / "jars" / "ivy-9.jar"
