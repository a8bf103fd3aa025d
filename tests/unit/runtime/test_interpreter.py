"""A Python that our services cannot run on is told what to do instead."""

import ast
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
