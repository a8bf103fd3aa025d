"""Make system calls of a process fail or return wrong values, as on an unusual machine; ``shim.c`` describes which."""

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("shim.c")


def shim(folder: Path) -> dict[str, str]:
    """Return the environment that loads the shim into a process; the shim is compiled in ``folder``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this machine lacks a C compiler")
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}
