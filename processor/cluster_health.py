"""Health of the Spark master and workers of the profile ``cluster``, asked from inside their containers.

``python -m processor.cluster_health master|worker`` exits 0 when the master is ALIVE, or lists this worker as ALIVE.
"""

import json
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

_TIMEOUT_S = 5
_MASTER = "http://spark-master:8080/json/"
_WORKER = "http://localhost:8081/json/"


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line, which ``docker inspect`` shows, and return 0 or 1."""
    role = (sys.argv[1:] if argv is None else argv)[0]
    try:
        healthy, found = worker() if role == "worker" else master()
    except OSError as error:
        healthy, found = False, str(error)
    sys.stdout.write(f"{role}: {found}\n")
    return 0 if healthy else 1


def master() -> tuple[bool, str]:
    """Whether the master accepts applications."""
    status = _ask(_MASTER)["status"]
    return status == "ALIVE", status


def worker() -> tuple[bool, str]:
    """Whether the master lists this worker as alive: a worker that it gave up still runs, but gets no work."""
    own = _ask(_WORKER)["id"]
    state = {known["id"]: known["state"] for known in _ask(_MASTER)["workers"]}.get(own, "unknown to the master")
    return state == "ALIVE", f"{own} {state}"


def _ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
