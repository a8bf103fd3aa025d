"""What the Spark session is told, as far as that needs no JVM."""

import zipfile
from pathlib import Path

import pytest

from processor.session import _pack_code, _with_retries


@pytest.mark.parametrize(
    ("master", "told"),
    [
        ("local", "local[1,4]"),
        ("local[*]", "local[*,4]"),
        ("local[2]", "local[2,4]"),
        ("local[2,1]", "local[2,1]"),
        ("spark://one:7077", "spark://one:7077"),
        ("spark://one:7077,two:7077", "spark://one:7077,two:7077"),
    ],
)
def test_a_local_master_retries_failed_tasks_unless_somebody_says_how_often(master: str, told: str) -> None:
    assert _with_retries(master) == told


def test_the_code_that_is_shipped_to_workers_is_whole_and_only_ours(tmp_path: Path) -> None:
    with zipfile.ZipFile(_pack_code(tmp_path / "code.zip")) as archive:
        names = archive.namelist()
    assert {"contract/__init__.py", "contract/ticket.py", "processor/task.py", "runtime/process/failpoint.py"} <= set(
        names
    )
    assert {name.split("/")[0] for name in names} == {"contract", "processor", "runtime", "store"}
    assert {name.rsplit(".", 1)[1] for name in names} == {"py"}
