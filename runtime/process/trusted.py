"""Can another user of this machine exchange what we load from a folder? Then we must not load it.

Standard library only: set-up runs it before any package is installed.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import SettingError

_ROOT_USER = 0


def require_trusted(path: Path) -> None:
    """Raise SettingError when another user could exchange ``path``, a file or a folder."""
    if problem := why_not_trusted(path):
        raise SettingError(
            f"{path} is not used, because other users could exchange what is there: {problem}; correct that, or set "
            "TMPDIR (for temporary files) or CLIENT_TICKETS_CACHE (for jars) to a folder of your own"
        )


def why_not_trusted(path: Path) -> str:
    """Return how another user could exchange ``path`` or a folder above it; nothing when nobody can.

    The owner of a folder, and the group that may write to it, are trusted: whoever set it up chose them.
    """
    problems = []
    for place in (path.absolute(), Path(os.path.realpath(path))):
        found = [(part, part.lstat()) for part in (*reversed(place.parents), place) if os.path.lexists(part)]
        problems.append(exchangeable([(part, told.st_mode, told.st_uid) for part, told in found], os.getuid()))
    return next(filter(None, problems), "")


def exchangeable(parts: Sequence[tuple[Path, int, int]], user: int) -> str:
    """Return how somebody else could exchange what a path leads to; nothing when only ``user`` and root can.

    ``parts`` are the path from the root down: each with its mode and owner, links not followed.
    """
    above = 0
    for part, mode, owner in parts:
        # The mode of a link means nothing.
        open_to_all = bool(mode & stat.S_IWOTH) and not stat.S_ISLNK(mode)
        if open_to_all and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            kind = ", without the sticky bit" if stat.S_ISDIR(mode) else ""
            return f"everybody may write to {part}{kind}"
        if above & stat.S_IWOTH and owner not in (user, _ROOT_USER):
            return f"{part} belongs to another user (uid {owner}), in a folder that everybody may write to"
        above = mode
    return ""
