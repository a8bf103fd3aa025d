"""From the body of a service to its exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from runtime.errors import PipelineError
from runtime.process.interpreter import ROOT

_log = logging.getLogger(__name__)

_NOT_BY_EVERYBODY = 0o002


def run(body: Callable[[], None]) -> int:
    """Run ``body`` and return the exit code that ``runtime.errors`` documents.

    What ``body`` imports comes from the packages that were installed with us, and from PYTHONPATH only what these lack.
    Nothing that it makes can be written by everybody, whatever the umask says.
    """
    os.umask(os.umask(_NOT_BY_EVERYBODY) | _NOT_BY_EVERYBODY)
    sys.path[:] = installed_first(sys.path, os.environ.get("PYTHONPATH", ""))
    try:
        body()
    except PipelineError as error:
        if not logging.getLogger().handlers:
            # A bad setting can come before logging is set up, and must be seen all the same.
            logging.basicConfig(format="%(levelname)s %(message)s")
        _log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        # Ctrl-C where nothing has to be ended in order: a service that is at work has a handler of its own.
        return 128 + signal.SIGINT
    except Exception:
        _log.exception("unexpected error; please report it with the lines above")
        return 1
    return 0


def installed_first(search: list[str], python_path: str) -> list[str]:
    """Return the search path ``search`` of modules with the folders that PYTHONPATH added at its end, except our own.

    They hold what another program needs (spark-submit puts the packages of its Spark there), in versions of its own.
    """
    added = {str(Path(entry).absolute()) for entry in python_path.split(os.pathsep) if entry} - {str(ROOT)}
    return [entry for entry in search if entry not in added] + [entry for entry in search if entry in added]
