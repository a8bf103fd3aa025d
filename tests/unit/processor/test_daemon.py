"""What is imported before workers are forked leaves no thread behind: a fork would copy it half."""

import subprocess
import sys

from runtime.settings.setting import ROOT

SCRIPT = """
import os, sys
from processor.daemon import prepare
prepare()
print(len(os.listdir("/proc/self/task")), "pyarrow" in sys.modules, "pyspark.worker" in sys.modules)
"""


def test_the_daemon_has_everything_imported_and_a_single_thread() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "1 True True\n"


def test_a_failed_import_is_left_to_the_task() -> None:
    script = "import processor.daemon as daemon; daemon.PREPARED = ('no_such_module', 'json'); daemon.prepare()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
