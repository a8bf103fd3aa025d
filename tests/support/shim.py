"""Processes whose system calls fail, or lie, as on an unusual machine: ``shim.c`` says how."""

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("shim.c")


def shim(folder: Path) -> dict[str, str]:
    """Return the environment that puts the shim into a process; it is compiled in ``folder``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this machine lacks a C compiler")
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}
