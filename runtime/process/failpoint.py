"""Named points at which a test lets a process die as from kill -9, to prove what a restart makes of it."""

import logging
import os
import signal
from collections.abc import Mapping

_log = logging.getLogger(__name__)

VARIABLE = "CLIENT_TICKETS_FAILPOINT"


def failpoint(name: str) -> None:
    """Kill this process when the environment names this point; otherwise do nothing."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)


def warn_of_failpoint(environ: Mapping[str, str]) -> None:
    """Warn that a failpoint is set: whoever left it behind would see a process die without a word."""
    if name := environ.get(VARIABLE):
        _log.warning("%s=%s is set: this process kills itself there, as tests want it to; unset it", VARIABLE, name)
