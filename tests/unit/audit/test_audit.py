"""What `make audit` makes of what its tools say; the tools themselves need services on the network."""

import json
import zipfile
from pathlib import Path

import pytest

from audit import jars, packages
from audit.advisories import Advisory, Excepted, Looked, read_exceptions, report
from runtime.errors import SettingError
from runtime.settings.setting import ROOT

JINJA = Advisory("jinja2", "3.0.0", frozenset({"PYSEC-2026-1", "CVE-2026-0001"}), ("3.1.6",))
NETTY = Advisory("io.netty:netty-codec", "4.2.13", frozenset({"GHSA-x"}))
CLEAN = Looked("jars", 400)

# As pip-audit 2.10 prints it.
PIP_AUDIT = {
    "dependencies": [
        {"name": "rich", "version": "15.0.0", "vulns": []},
        {
            "name": "jinja2",
            "version": "3.0.0",
            "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["3.1.6"], "aliases": ["CVE-2026-0001"]}],
        },
        {"name": "faker", "skip_reason": "Dependency not found on PyPI and could not be audited: faker (40.63.0)"},
    ],
    "fixes": [],
}
# As osv-scanner 2 prints it.
OSV = {
    "results": [
        {
            "source": {"path": "jars.cdx.json", "type": "sbom"},
            "packages": [
                {
                    "package": {"name": "io.netty:netty-codec", "version": "4.2.13", "ecosystem": "Maven"},
                    "vulnerabilities": [{"id": "GHSA-x"}],
                }
            ],
        }
    ]
}


def test_nothing_open_is_0() -> None:
    assert report([Looked("Python packages", 60), CLEAN], []) == (
        0,
        ["Python packages: 60 of 60 looked up, 0 advisories", "jars: 400 of 400 looked up, 0 advisories"],
    )


def test_an_open_advisory_is_1_and_names_what_fixes_it() -> None:
    code, lines = report([Looked("Python packages", 60, (JINJA,)), CLEAN], [])
    assert code == 1
    assert lines[-1] == "VULNERABLE     jinja2 3.0.0: CVE-2026-0001, PYSEC-2026-1; fixed in 3.1.6"


def test_an_exception_covers_one_advisory_of_one_package_by_any_of_its_names() -> None:
    looks = [Looked("Python packages", 60, (JINJA,)), CLEAN]
    covered = report(looks, [Excepted("CVE-2026-0001", "jinja2", "no templates of others")])
    assert covered[0] == 0
    assert covered[1][-1] == "excepted       jinja2: CVE-2026-0001; no templates of others"
    for other in (Excepted("CVE-2026-0002", "jinja2", "x"), Excepted("CVE-2026-0001", "rich", "x")):
        assert report(looks, [other])[0] == 1


def test_an_exception_that_applies_no_more_is_reported() -> None:
    code, lines = report([Looked("Python packages", 60), CLEAN], [Excepted("GHSA-x", "io.netty:netty-codec", "x")])
    assert code == 1
    assert lines[-1] == "STALE          io.netty:netty-codec: GHSA-x is not found any more; remove the exception"


def test_where_something_was_not_looked_up_no_exception_is_called_stale() -> None:
    looks = [Looked("Python packages", 60), Looked("jars", 400, failed="osv-scanner is not installed")]
    code, lines = report(looks, [Excepted("GHSA-x", "io.netty:netty-codec", "x")])
    assert code == 3
    assert lines[-1] == "NOT LOOKED UP  jars: osv-scanner is not installed"


def test_a_service_that_knows_no_package_is_none() -> None:
    code, lines = report([Looked("Python packages", 2, unknown=("rich", "faker")), CLEAN], [])
    assert code == 3
    assert lines[0].startswith("NOT LOOKED UP  Python packages: the advisory service knows none of all 2, as an index ")


def test_a_package_that_the_service_does_not_know_is_named() -> None:
    code, lines = report([Looked("Python packages", 60, unknown=("faker",)), CLEAN], [])
    assert code == 3
    assert lines[:2] == [
        "Python packages: 59 of 60 looked up, 0 advisories",
        "NOT LOOKED UP  faker: the advisory service does not know it",
    ]


def test_the_answer_of_pip_audit() -> None:
    told = packages.read(json.dumps(PIP_AUDIT), "Found 1 known vulnerability in 1 package\n")
    assert told == Looked("Python packages", 3, (JINJA,), unknown=("faker",))


def test_pip_audit_that_reaches_no_service_failed() -> None:
    told = packages.read("", "Traceback\nConnectionError: Failed to resolve\n")
    assert told.failed == "pip-audit could not ask its advisory service (ConnectionError: Failed to resolve)"
    assert report([told, CLEAN], [])[0] == 3


def test_the_answer_of_osv_scanner() -> None:
    told = jars.read(1, json.dumps(OSV), "", 400, ("scala-library",))
    assert told == Looked("jars", 400, (NETTY,), unnamed=("scala-library",))
    assert jars.read(0, '{"results": []}', "", 400, ()) == CLEAN
    failed = jars.read(127, "", "first\nno network\n", 400, ())
    assert failed.failed == "osv-scanner ended with code 127 (no network)"


def test_every_exception_states_its_reason(tmp_path: Path) -> None:
    read_exceptions()
    file = tmp_path / "exceptions.toml"
    file.write_text('[[exception]]\nid = "GHSA-x"\npackage = "a"\nreason = "b"\n', encoding="utf-8")
    assert read_exceptions(file) == [Excepted("GHSA-x", "a", "b")]
    file.write_text('[[exception]]\nid = "GHSA-x"\npackage = "a"\nreason = ""\n', encoding="utf-8")
    with pytest.raises(SettingError, match="must give each exception an id, a package and a reason"):
        read_exceptions(file)


def test_a_jar_tells_what_it_is_and_what_is_packed_into_it(tmp_path: Path) -> None:
    jar = tmp_path / "shaded-1.2.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for group, artifact, version in (("org.a", "shaded", "1.2"), ("io.netty", "netty-codec", "4.2.13.Final")):
            told = f"#comment\nartifactId={artifact}\r\ngroupId={group}\nversion={version}\n"
            archive.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", told)
    assert jars.in_jar(jar) == {("org.a", "shaded", "1.2"), ("io.netty", "netty-codec", "4.2.13.Final")}
    silent = tmp_path / "scala-library-2.13.18.jar"
    with zipfile.ZipFile(silent, "w"):
        pass
    assert jars.in_jar(silent) == {("", "scala-library", "2.13.18")}


def test_the_list_of_jars_holds_ours_and_those_of_pyspark() -> None:
    found = jars.coordinates()
    assert ("org.apache.kafka", "kafka_2.13", "4.1.1") in found
    assert ("org.apache.spark", "spark-core_2.13", "4.2.0") in found
    bill = jars.bill_of_materials([("io.netty", "netty-codec", "4.2.13"), ("", "scala-library", "2.13.18")])
    assert bill["components"] == [
        {
            "type": "library",
            "name": "netty-codec",
            "version": "4.2.13",
            "group": "io.netty",
            "purl": "pkg:maven/io.netty/netty-codec@4.2.13",
        },
        {"type": "library", "name": "scala-library", "version": "2.13.18"},
    ]


def test_every_lock_is_looked_up() -> None:
    assert {str(lock.relative_to(ROOT)) for lock in packages.locks()} == {
        "dashboard/requirements.lock",
        "processor/requirements.lock",
        "producer/requirements.lock",
        "producer/sources/requirements.lock",
        "requirements-audit.lock",
        "requirements-build.lock",
        "requirements-dev.lock",
        "tests/browser/requirements.lock",
    }
