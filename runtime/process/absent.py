"""Hide installed packages from this process, because importing them takes time and nothing here uses them."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent(MetaPathFinder):
    """A finder that Python asks first; it refuses to import ``names``."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ModuleNotFoundError for one of the names; leave all others to the next finder."""
        if fullname in self.names:
            raise ModuleNotFoundError(f"{fullname} is not used here", name=fullname)
        return None


def do_without(*names: str) -> None:
    """Let every later import of the packages ``names`` fail, as if they were not installed."""
    sys.meta_path.insert(0, _Absent(names))
