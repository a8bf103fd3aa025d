"""What the Spark session is told, as far as that needs no JVM."""

import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import FrameType

import pytest

from processor.archive import _Small
from processor.config import tasks_that_fit
from processor.session import _pack_code, _same_handler, configure, local_master
from runtime.settings.setting import ROOT


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
def test_a_local_master_retries_failed_tasks_unless_it_sets_the_retries(master: str, told: str) -> None:
    assert local_master(master, cores=2, most=None) == told
    assert local_master(master, cores=2, most=2) == told


@pytest.mark.parametrize(
    ("master", "told"),
    [
        ("local", "local[1,4]"),
        ("local[*]", "local[3,4]"),
        ("local[4]", "local[3,4]"),
        ("local[3]", "local[3,4]"),
        ("local[8,1]", "local[8,1]"),
        ("spark://one:7077", "spark://one:7077"),
    ],
)
def test_where_memory_is_short_fewer_tasks_run_at_once(master: str, told: str) -> None:
    assert local_master(master, cores=16, most=3) == told


@pytest.mark.parametrize(
    ("memory", "limit", "tasks"),
    [("2g", 2816, 1), ("2g", 3199, 1), ("2g", 3200, 2), ("1g", 16_384, 39), ("512m", 1280, 1), ("2g", None, None)],
)
def test_each_further_task_needs_384_mib_beside_the_heap(memory: str, limit: int | None, tasks: int | None) -> None:
    assert tasks_that_fit(memory, limit) == tasks


def test_the_code_that_is_shipped_to_workers_is_whole_and_only_ours(tmp_path: Path) -> None:
    with zipfile.ZipFile(_pack_code(tmp_path / "code.zip")) as archive:
        names = archive.namelist()
    assert {"contract/__init__.py", "contract/ticket.py", "processor/task.py", "runtime/process/failpoint.py"} <= set(
        names
    )
    assert {name.split("/")[0] for name in names} == {"contract", "processor", "runtime", "store"}
    assert {name.rsplit(".", 1)[1] for name in names} == {"py"}


def test_a_local_master_stays_on_this_machine_and_forks_its_workers_from_our_daemon() -> None:
    told = dict(configure(_Small(master="local[*]", memory="3g")).getAll())
    assert told["spark.driver.memory"] == "3g"
    assert told["spark.driver.host"] == told["spark.driver.bindAddress"] == "127.0.0.1"
    assert told["spark.authenticate"] == "true"
    assert told["spark.python.daemon.module"] == "processor.daemon"
    assert told["spark.executorEnv.PYTHONPATH"] == str(ROOT)


def test_a_cluster_gets_no_property_that_is_for_this_machine_only() -> None:
    told = dict(configure(_Small(master="spark://one:7077")).getAll())
    assert told["spark.executorEnv.PYTHONSAFEPATH"] == "1"
    assert not {"spark.driver.host", "spark.python.daemon.module", "spark.executorEnv.PYTHONPATH"} & told.keys()


def test_every_sub_package_reaches_a_worker(tmp_path: Path) -> None:
    code = _pack_code(tmp_path / "code.zip")
    script = f"""
import sys
sys.path.insert(0, {str(code)!r})
import runtime.process.failpoint, runtime.settings.location, store.staging, processor.task
print(all(module.__file__.startswith({str(code)!r}) for name, module in sys.modules.items()
          if name.partition(".")[0] in ("contract", "processor", "runtime", "store")))
"""
    # -P: do not import from the current folder, which is the root of the repository.
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_signal_that_comes_while_another_handler_is_in_place_waits_for_ours() -> None:
    heard = []

    def ours(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    def of_pyspark(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ours)
    try:
        with _same_handler(signal.SIGINT):
            signal.signal(signal.SIGINT, of_pyspark)
            signal.raise_signal(signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is ours
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT, signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
