"""Check that no other user of this machine can replace files that we load.

Standard library only: set-up runs it before any package is installed.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import SettingError

_ROOT_USER = 0


def require_trusted(path: Path) -> None:
    """Raise SettingError if another user could replace ``path``, a file or a folder."""
    if problem := why_not_trusted(path):
        raise SettingError(
            f"{path} is not used, because other users could replace what is there: {problem}; correct that, or set "
            "TMPDIR (for temporary files) or CLIENT_TICKETS_CACHE (for jars) to a folder of your own"
        )


def why_not_trusted(path: Path) -> str:
    """Return how another user could replace ``path`` or a folder above it, an empty text if none can.

    A group that may write to a folder is trusted, because the owner chose it.
    """
    problems = []
    for place in (path.absolute(), Path(os.path.realpath(path))):
        found = [(part, part.lstat()) for part in (*reversed(place.parents), place) if os.path.lexists(part)]
        problems.append(exchangeable([(part, told.st_mode, told.st_uid) for part, told in found], os.getuid()))
    return next(filter(None, problems), "")


def exchangeable(parts: Sequence[tuple[Path, int, int]], user: int) -> str:
    """Return how another user could replace what a path leads to, an empty text if only ``user`` and root can.

    ``parts`` are the path from the root down, each with its mode and owner, links not followed.
    """
    above = 0
    for part, mode, owner in parts:
        # The mode of a link has no effect.
        open_to_all = bool(mode & stat.S_IWOTH) and not stat.S_ISLNK(mode)
        if open_to_all and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            kind = ", without the sticky bit" if stat.S_ISDIR(mode) else ""
            return f"everybody may write to {part}{kind}"
        if above & stat.S_IWOTH and owner not in (user, _ROOT_USER):
            return f"{part} belongs to another user (uid {owner}), in a folder that everybody may write to"
        above = mode
    return ""
