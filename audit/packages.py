"""The Python packages of all locks, looked up by pip-audit."""

import json
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.advisories import Advisory, Looked
from runtime.errors import SettingError
from runtime.settings.setting import ROOT

WHAT = "Python packages"
_LOCK = ROOT / "requirements-audit.lock"
_TIMEOUT_S = 600


def locks() -> list[Path]:
    """Return the locks of this repository, pip-audit's own among them."""
    return sorted([*ROOT.glob("*.lock"), *ROOT.glob("*/requirements.lock"), *ROOT.glob("*/*/requirements.lock")])


def look_up(folder: Path) -> Looked:
    """Look up all packages; ``folder`` holds the environment of pip-audit, which is made if it is not there."""
    arguments = [part for lock in locks() for part in ("-r", str(lock))]
    # The locks say all there is to know, so nothing is installed or resolved.
    flags = ["--disable-pip", "--require-hashes", "--format=json", "--aliases=on", "--progress-spinner=off"]
    done = subprocess.run(
        [str(_installed(folder)), *flags, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    return read(done.stdout, done.stderr)


def read(printed: str, errors: str) -> Looked:
    """Return what the JSON of pip-audit says. It prints none, but ``errors``, when it cannot ask its service."""
    try:
        dependencies: list[Mapping[str, Any]] = json.loads(printed)["dependencies"]
    except (ValueError, KeyError):
        last = errors.strip().rpartition("\n")[2] or "it printed nothing"
        return Looked(WHAT, 0, failed=f"pip-audit could not ask its advisory service ({last})")
    return Looked(
        WHAT,
        len(dependencies),
        found=tuple(
            Advisory(
                dependency["name"],
                dependency["version"],
                frozenset([told["id"], *told["aliases"]]),
                tuple(told["fix_versions"]),
            )
            for dependency in dependencies
            for told in dependency.get("vulns", [])
        ),
        unknown=tuple(dependency["name"] for dependency in dependencies if "skip_reason" in dependency),
    )


def _installed(folder: Path) -> Path:
    """Return the program, from an environment of its own that holds what the lock says."""
    program, stamp, wanted = folder / "bin" / "pip-audit", folder / ".ready", _LOCK.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return program
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--require-hashes", "-r", str(_LOCK)], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode:
        raise SettingError(f"pip-audit cannot be installed; is there a network? pip says: {done.stderr.strip()[-500:]}")
    stamp.write_text(wanted, encoding="utf-8")
    return program
