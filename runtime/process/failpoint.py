"""Named points at which a test lets a process kill itself, as by kill -9, to check the recovery."""

import logging
import os
import signal
from collections.abc import Mapping

_log = logging.getLogger(__name__)

VARIABLE = "CLIENT_TICKETS_FAILPOINT"


def failpoint(name: str) -> None:
    """Kill this process if the environment names this point; otherwise do nothing."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)


def warn_of_failpoint(environ: Mapping[str, str]) -> None:
    """Warn that a failpoint is set: if it was left set by mistake, the process would end without a message."""
    if name := environ.get(VARIABLE):
        _log.warning("%s=%s is set, for tests: this process will kill itself there; unset it", VARIABLE, name)
