"""Run a service and turn its errors into an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from runtime.errors import PipelineError
from runtime.process.events import Failed
from runtime.process.interpreter import ROOT
from runtime.process.logs import tell

_log = logging.getLogger(__name__)

_NOT_BY_EVERYBODY = 0o002


def run(body: Callable[[], None]) -> int:
    """Run ``body`` and return the exit code that ``runtime.errors`` documents.

    ``body`` imports from the installed packages first, and from PYTHONPATH only what is not among them.
    Files that it makes are never writable by everybody, whatever the umask says.
    """
    os.umask(os.umask(_NOT_BY_EVERYBODY) | _NOT_BY_EVERYBODY)
    sys.path[:] = installed_first(sys.path, os.environ.get("PYTHONPATH", ""))
    try:
        body()
    except PipelineError as error:
        if not logging.getLogger().handlers:
            # A bad setting is found before logging is set up, and must be shown anyway.
            logging.basicConfig(format="%(levelname)s %(message)s")
        tell(_log, Failed(error.exit_code, str(error)))
        return error.exit_code
    except KeyboardInterrupt:
        # Ctrl-C before the service has set its own handler, so there is nothing to clean up.
        return 128 + signal.SIGINT
    except Exception:
        tell(_log, Failed(1, "unexpected error; please report it with the lines above"), traceback=True)
        return 1
    return 0


def installed_first(search: list[str], python_path: str) -> list[str]:
    """Return the module search path with the folders of PYTHONPATH moved to its end, except the root of this project.

    They hold packages of other programs in other versions: spark-submit, for example, adds those of its Spark.
    """
    added = {str(Path(entry).absolute()) for entry in python_path.split(os.pathsep) if entry} - {str(ROOT)}
    return [entry for entry in search if entry not in added] + [entry for entry in search if entry in added]
