"""Check that the master of a cluster can be reached: Spark itself tries for a minute and then fails elsewhere."""

import socket
import time

from runtime.errors import SettingError

_CONNECT_S = 5.0
_AGAIN_S = 0.5


def require_master(master: str, patience_s: float = 15.0) -> None:
    """Return once something listens at ``spark://host:port``, or at one of several with commas.

    Raises SettingError when nothing does after ``patience_s`` seconds.
    """
    deadline = time.monotonic() + patience_s
    while problems := _problems(master.removeprefix("spark://").split(",")):
        if time.monotonic() > deadline:
            raise SettingError(
                f"no Spark master can be reached at {master} ({'; '.join(problems)}); start it, or correct SPARK_MASTER"
            )
        time.sleep(_AGAIN_S)


def _problems(addresses: list[str]) -> list[str]:
    """Return what is wrong with each address; nothing if one of them can be reached."""
    problems = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
            return []
        except OSError as error:
            problems.append(f"{address}: {error.strerror or error}")
    return problems
