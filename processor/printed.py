"""Reports on standard output, for a person or a program."""

import os
import sys

from runtime.errors import OutputUnavailable


def write(text: str) -> None:
    """Write to standard output in UTF-8, whatever the locale. Raises OutputUnavailable."""
    try:
        sys.stdout.flush()
        with open(sys.stdout.fileno(), "wb", closefd=False) as out:
            out.write(text.encode())
    except OSError as error:
        raise OutputUnavailable(
            f"cannot write the report to standard output: {os.strerror(error.errno or 0)}; run it again with its "
            "output redirected to a file on a disk with room"
        ) from None
