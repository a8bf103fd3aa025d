"""The jars, ours and pyspark's: a list in CycloneDX that scanners take, looked up by osv-scanner where there is one."""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from audit.advisories import Advisory, Looked
from processor.jvm import pyspark_folder
from runtime.java import jars

WHAT = "jars"
_TIMEOUT_S = 600
_FILE_NAME = re.compile(r"(?P<artifact>.+?)-(?P<version>\d[\w.+-]*)\.jar")
# group, artifact, version; the group is empty where a jar does not say it.
Coordinate = tuple[str, str, str]


def coordinates() -> list[Coordinate]:
    """Return those of the lock and of pyspark's jars, what is packed into these included."""
    locked = {(group, artifact, version) for group, artifact, version in map(_split, jars.read_lock())}
    packed = {found for jar in (pyspark_folder() / "jars").glob("*.jar") for found in in_jar(jar)}
    return sorted(locked | packed)


def _split(jar: jars.Jar) -> Coordinate:
    group, artifact, version = jar.coordinate.split(":")
    return group, artifact, version


def in_jar(jar: Path) -> set[Coordinate]:
    """Return what Maven wrote into ``jar`` about itself and what is packed into it; else what its name says."""
    found = set()
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith("META-INF/maven/") and name.endswith("/pom.properties"):
                lines = archive.read(name).decode("latin-1").splitlines()
                told = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
                found.add((told["groupId"].strip(), told["artifactId"].strip(), told["version"].strip()))
    match = _FILE_NAME.fullmatch(jar.name)
    if match and not any(artifact == match["artifact"] for _, artifact, _ in found):
        found.add(("", match["artifact"], match["version"]))
    return found


def bill_of_materials(found: Iterable[Coordinate]) -> dict[str, Any]:
    """Return a CycloneDX 1.5 document. A jar whose group is not known has no address in it, and no scanner finds it."""
    components = []
    for group, artifact, version in found:
        component = {"type": "library", "name": artifact, "version": version}
        if group:
            component |= {"group": group, "purl": f"pkg:maven/{group}/{artifact}@{version}"}
        components.append(component)
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def look_up(bill: Path) -> Looked:
    """Write the list to ``bill`` and look it up; ``bill`` ends with ``.cdx.json``, as osv-scanner wants."""
    found = coordinates()
    bill.parent.mkdir(parents=True, exist_ok=True)
    bill.write_text(json.dumps(bill_of_materials(found), indent=1) + "\n", encoding="utf-8")
    unnamed = tuple(artifact for group, artifact, _ in found if not group)
    scanner = shutil.which("osv-scanner")
    if scanner is None:
        return Looked(WHAT, len(found), failed=f"osv-scanner is not installed; {bill} lists all {len(found)} for it")
    command = [scanner, "scan", "source", "--format=json", f"--lockfile={bill}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    return read(done.returncode, done.stdout, done.stderr, len(found), unnamed)


def read(code: int, printed: str, errors: str, packages: int, unnamed: tuple[str, ...]) -> Looked:
    """Return what the JSON of osv-scanner says. Its code is 0 or, with advisories, 1 when it did its work."""
    if code not in (0, 1):
        last = errors.strip().rpartition("\n")[2] or "it printed nothing"
        return Looked(WHAT, packages, failed=f"osv-scanner ended with code {code} ({last})")
    results: list[Mapping[str, Any]] = json.loads(printed)["results"] or []
    found = tuple(
        Advisory(
            entry["package"]["name"],
            entry["package"]["version"],
            frozenset([told["id"], *told.get("aliases", [])]),
        )
        for result in results
        for entry in result["packages"]
        for told in entry.get("vulnerabilities", [])
    )
    return Looked(WHAT, packages, found=found, unnamed=unnamed)
