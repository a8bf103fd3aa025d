"""A Python that our services cannot run on is told what to do instead."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.process.interpreter import problem
from runtime.settings.setting import ROOT


def requirements(folder: Path, text: str) -> list[Path]:
    file = folder / "requirements.txt"
    file.write_text(text, encoding="utf-8")
    return [file]


def test_a_python_with_all_packages_will_do() -> None:
    files = [ROOT / "producer/requirements.txt", ROOT / "processor/requirements.txt"]
    assert problem((3, 11), files) == ""


def test_packages_that_are_missing_are_named(tmp_path: Path) -> None:
    text = "# a comment==1\nno-such-package==1.0  # why\npython-dotenv==1.2.4\nanother.one==2\n"
    assert problem((3, 11), requirements(tmp_path, text)) == "lacks another.one, no-such-package"


@pytest.mark.parametrize(("version", "shown"), [((3, 8), "3.8"), ((3, 10), "3.10")])
def test_a_python_that_is_too_old_is_named_before_its_packages(
    version: tuple[int, int], shown: str, tmp_path: Path
) -> None:
    files = requirements(tmp_path, "no-such-package==1.0\n")
    assert problem(version, files) == f"is Python {shown}, and 3.11 or later is needed"


@pytest.mark.parametrize(
    "file",
    [
        *("producer/ticket_producer.py", "processor/spark_processor.py", "embedded/broker.py", "embedded/demo.py"),
        *("runtime/__init__.py", "runtime/process/__init__.py", "runtime/process/interpreter.py"),
    ],
)
def test_what_an_old_python_reads_before_it_is_refused_is_in_its_grammar(file: str) -> None:
    ast.parse((ROOT / file).read_text(encoding="utf-8"), feature_version=(3, 8))


INTERRUPTED = """
import os, signal
from runtime.process.interpreter import prepare
prepare("program")
os.kill(os.getpid(), signal.SIGINT)
print("went on")
"""


@pytest.mark.parametrize(("ignored", "code", "printed"), [(False, -signal.SIGINT, ""), (True, 0, "went on\n")])
def test_ctrl_c_while_modules_are_imported_prints_no_traceback(ignored: bool, code: int, printed: str) -> None:
    handler = "SIG_IGN" if ignored else "default_int_handler"
    script = f"import signal; signal.signal(signal.SIGINT, signal.{handler})"
    done = subprocess.run(
        [sys.executable, "-c", script + INTERRUPTED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, printed, "")
