"""Named points at which a test lets a process die as from kill -9, to prove what a restart makes of it."""

import os
import signal

VARIABLE = "CLIENT_TICKETS_FAILPOINT"


def failpoint(name: str) -> None:
    """Kill this process when the environment names this point; otherwise do nothing."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
