"""From the body of a service to its exit code."""

import logging
from collections.abc import Callable

from runtime.errors import PipelineError

_log = logging.getLogger(__name__)


def run(body: Callable[[], None]) -> int:
    """Run ``body`` and return the exit code that ``runtime.errors`` documents."""
    try:
        body()
    except PipelineError as error:
        if not logging.getLogger().handlers:
            # A bad setting can come before logging is set up, and must be seen all the same.
            logging.basicConfig(format="%(levelname)s %(message)s")
        _log.error("%s", error)
        return error.exit_code
    except Exception:
        _log.exception("unexpected error; please report it with the lines above")
        return 1
    return 0
