"""A disk in memory that can lose its power: it knows what was forced to the disk, and what it may lose.

``Surface`` is the content of the disk: files and folders as programs see them, and which part of that is on the disk
for certain. ``ModelDisk`` is the product's ``Disk`` on a surface. It records each call. So the state after a power loss
at any moment of a run can be computed afterwards with ``Surface.apply``, also as if one call had forced nothing.

A power loss may do this to what was not forced to the disk:

- The content of a file is as it was when it was last forced to the disk, or is cut, or is what was written.
- A name in a folder that was made, moved or removed is as before, or as after; each name independently. But a rename,
  also between folders, is one step, as on journaling file systems: if the old name is gone, the new one is there. The
  new one may be there beside the old one.
- If the name of a folder is lost, its content is lost.
"""

import errno
import io
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from store.files import Disk, Entry

# What is written reaches the disk in pieces of this size, as with a real buffered file.
_BUFFER_BYTES = 4096


class Killed(BaseException):
    """The process was killed in the middle of a call; its later calls do not reach the disk."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file or a folder was created; it has no name yet."""

    inode: int
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Named:
    """A name in a folder now stands for another file or folder, or for none.

    ``only_with`` is the distance to another change that must be on the disk if this one is; 0 if there is none.
    """

    folder: int
    name: str
    inode: int | None
    only_with: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """The new content of a file."""

    inode: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Forced:
    """The content of a file, or the names in a folder, are on the disk for certain."""

    inode: int


Effect = Made | Named | Written | Forced


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the disk, and what it did."""

    name: str
    path: str
    effects: tuple[Effect, ...]

    @property
    def forces(self) -> bool:
        """Whether this call only forces something to the disk, so that only a power loss shows its effect."""
        return self.name in ("sync", "sync_folder")


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    now: bytes = b""


@dataclass(slots=True)
class _Folder:
    durable: dict[str, int] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)


# The content of an unforced file after a power loss, given what was last forced to the disk and what was written.
Content = Callable[[bytes, bytes], bytes]


class Surface:
    """The content of a disk. Files and folders are numbered by inode; the topmost folder is 0."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {0: _Folder()}
        # Changes of names that were not forced to the disk, by number.
        self.unforced: dict[int, Named] = {}
        self._count = 0

    def copy(self) -> "Surface":
        """Return another disk with the same content."""
        other = Surface()
        other._files = {inode: _File(file.durable, file.now) for inode, file in self._files.items()}
        other._folders = {inode: _Folder(dict(f.durable), dict(f.now)) for inode, f in self._folders.items()}
        other.unforced, other._count = dict(self.unforced), self._count
        return other

    def apply(self, call: Call) -> None:
        """Apply the effects of ``call``."""
        for effect in call.effects:
            self._apply(effect)

    def _apply(self, effect: Effect) -> None:
        self._count += 1
        match effect:
            case Made(inode, True):
                self._folders[inode] = _Folder()
            case Made(inode, False):
                self._files[inode] = _File()
            case Written(inode, content):
                self._files[inode].now = content
            case Named(folder, name, inode):
                _put(self._folders[folder].now, name, inode)
                self.unforced[self._count] = effect
            case Forced(inode) if inode in self._files:
                self._files[inode].durable = self._files[inode].now
            case Forced(inode):
                self._force_folder(inode)

    def _force_folder(self, inode: int) -> None:
        changes = {number: change for number, change in self.unforced.items() if change.folder == inode}
        for number in changes:
            self.unforced.pop(number, None)
        for number, change in changes.items():
            self._force_change(number + change.only_with)
        self._folders[inode].durable = dict(self._folders[inode].now)

    def _force_change(self, number: int) -> None:
        change = self.unforced.get(number)
        if change is None:
            return
        # Earlier changes of the same name are settled with it.
        earlier = [n for n, c in self.unforced.items() if n <= number and (c.folder, c.name) == _place(change)]
        for one in earlier:
            del self.unforced[one]
        _put(self._folders[change.folder].durable, change.name, change.inode)

    def written(self) -> bool:
        """Whether there is a file whose content was not forced to the disk."""
        return any(file.durable is not file.now and file.durable != file.now for file in self._files.values())

    def after_power_loss(self, kept: Collection[int], content: Content) -> "Surface":
        """Return the disk after a power loss that keeps, of the unforced changes of names, those in ``kept``."""
        kept = {number for number in kept if number in self.unforced}
        while lonely := {n for n in kept if self._needs(n) in self.unforced and self._needs(n) not in kept}:
            kept -= lonely
        found = Surface()
        found._count = self._count
        found._files = {inode: _as_found(file, content) for inode, file in self._files.items()}
        for inode, folder in self._folders.items():
            names = dict(folder.durable)
            found._folders[inode] = _Folder(names, names)
        for number in sorted(kept):
            change = self.unforced[number]
            _put(found._folders[change.folder].now, change.name, change.inode)
        for folder in found._folders.values():
            folder.now = dict(folder.durable)
        return found

    def _needs(self, number: int) -> int:
        return number + self.unforced[number].only_with

    def force_everything(self) -> None:
        """Force everything to the disk, as the system does after some time."""
        for file in self._files.values():
            file.durable = file.now
        for folder in self._folders.values():
            folder.durable = dict(folder.now)
        self.unforced.clear()

    def tree(self, top: Path) -> dict[str, bytes | None]:
        """Return the tree below a folder, by relative path: the content of each file, None for a folder."""
        inode = self.find(top)
        return {} if inode is None else dict(self._below(inode, ""))

    def _below(self, inode: int, prefix: str) -> Iterator[tuple[str, bytes | None]]:
        for name, child in self._folders[inode].now.items():
            if child in self._files:
                yield prefix + name, self._files[child].now
            else:
                yield prefix + name, None
                yield from self._below(child, f"{prefix}{name}/")

    def find(self, path: Path) -> int | None:
        """Return the inode of a path, None if there is nothing."""
        inode = 0
        for name in path.parts[1:]:
            folder = self._folders.get(inode)
            child = None if folder is None else folder.now.get(name)
            if child is None:
                return None
            inode = child
        return inode

    def is_folder(self, inode: int) -> bool:
        """Whether it is a folder; otherwise it is a file."""
        return inode in self._folders

    def content(self, inode: int) -> bytes:
        """Return what is in a file."""
        return self._files[inode].now

    def names(self, inode: int) -> dict[str, int]:
        """Return the inode of each name in a folder."""
        return self._folders[inode].now

    def new_inode(self) -> int:
        """Return an unused inode."""
        return max(*self._files, *self._folders, 0) + 1


def _put(names: dict[str, int], name: str, inode: int | None) -> None:
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def _place(change: Named) -> tuple[int, str]:
    return change.folder, change.name


def _as_found(file: _File, content: Content) -> _File:
    found = file.durable if file.durable is file.now else content(file.durable, file.now)
    return _File(found, found)


# Gets the name of a call and its path, and may raise an OSError or Killed for it.
Fault = Callable[[str, Path], None]


class ModelDisk(Disk):
    """The disk of one process, on a surface that outlives the process. It has no symbolic links."""

    def __init__(self, surface: Surface, fault: Fault | None = None, calls: list[Call] | None = None) -> None:
        self.surface = surface
        self.calls = [] if calls is None else calls
        self.fault = fault
        self._dead = False
        self._locked: set[int] = set()

    def _begin(self, name: str, path: Path) -> None:
        if self._dead:
            raise Killed
        try:
            if self.fault is not None:
                self.fault(name, path)
        except Killed:
            self._dead = True
            raise

    def _done(self, name: str, path: Path, *effects: Effect) -> None:
        call = Call(name, str(path), effects)
        self.surface.apply(call)
        self.calls.append(call)

    def _find(self, path: Path) -> int:
        inode = self.surface.find(path)
        if inode is None:
            raise _error(errno.ENOENT, path)
        return inode

    def _at(self, path: Path, *, folder: bool = False) -> int:
        inode = self._find(path)
        if self.surface.is_folder(inode) != folder:
            raise _error(errno.ENOTDIR if folder else errno.EISDIR, path)
        return inode

    def open(self, path: Path) -> BinaryIO:
        self._begin("open", path)
        return io.BytesIO(self.surface.content(self._at(path)))

    def map(self, path: Path) -> bytes:
        """Return the content of a file."""
        self._begin("map", path)
        return self.surface.content(self._at(path))

    def create(self, path: Path) -> BinaryIO:
        self._begin("create", path)
        parent, inode = self._at(path.parent, folder=True), self.surface.find(path)
        if inode is None:
            inode = self.surface.new_inode()
            self._done("create", path, Made(inode, False), Named(parent, path.name, inode))
        else:
            self._done("create", path, Written(self._at(path), b""))
        # The buffer is in the memory of the process, where a kill loses it.
        raw: io.RawIOBase = _RawFile(self, path, inode)
        return io.BufferedWriter(raw, _BUFFER_BYTES)

    def write(self, path: Path, inode: int, content: bytes) -> int:
        """Append to an open file."""
        if self._dead:
            # The process was killed, so ignore what Python writes when it closes the process's files.
            return len(content)
        try:
            self._begin("write", path)
        except OSError:
            # A disk that fills up writes a part before it fails.
            self._done("write", path, Written(inode, self.surface.content(inode) + content[: len(content) // 2]))
            raise
        self._done("write", path, Written(inode, self.surface.content(inode) + content))
        return len(content)

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        raw = file.raw  # type: ignore[attr-defined]
        self._begin("sync", raw.path)
        self._done("sync", raw.path, Forced(raw.inode))

    def sync_folder(self, folder: Path) -> None:
        self._begin("sync_folder", folder)
        self._done("sync_folder", folder, Forced(self._at(folder, folder=True)))

    def replace(self, old: Path, new: Path) -> None:
        self._begin("replace", old)
        try:
            inode = self._find(old)
            parents = [self._at(path.parent, folder=True) for path in (new, old)]
            if self.surface.find(new) is not None:
                # Only a file can replace a file, and only a folder a folder.
                self._at(new, folder=self.surface.is_folder(inode))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(old), None, str(new)) from None
        if self.surface.find(new) == inode:
            # If both names are the same file, POSIX says that a rename does nothing.
            self._done("replace", old)
            return
        self._done("replace", old, Named(parents[0], new.name, inode), Named(parents[1], old.name, None, -1))

    def exchange(self, one: Path, other: Path) -> None:
        """Swap two folders in one step (renameat2 with RENAME_EXCHANGE)."""
        self._begin("exchange", one)
        (a, in_a), (b, in_b) = (
            (self._at(path, folder=True), self._at(path.parent, folder=True)) for path in (one, other)
        )
        self._done("exchange", one, Named(in_a, one.name, b, 1), Named(in_b, other.name, a, -1))

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name."""
        self._begin("link", new)
        inode, parent = self._at(old), self._at(new.parent, folder=True)
        if self.surface.find(new) is not None:
            raise _error(errno.EEXIST, new)
        self._done("link", new, Named(parent, new.name, inode))

    def make_alike(self, folder: Path, model: Path) -> None:
        """Do nothing: folders of the model have no owner and no mode."""
        self._begin("make_alike", folder)
        self._at(folder, folder=True)
        self._at(model, folder=True)

    def unlink(self, path: Path) -> None:
        self._begin("unlink", path)
        self._at(path)
        self._done("unlink", path, Named(self._at(path.parent, folder=True), path.name, None))

    def make_folder(self, path: Path) -> None:
        self._begin("make_folder", path)
        parent = self._at(path.parent, folder=True)
        if self.surface.find(path) is not None:
            raise _error(errno.EEXIST, path)
        inode = self.surface.new_inode()
        self._done("make_folder", path, Made(inode, True), Named(parent, path.name, inode))

    def remove_folder(self, path: Path) -> None:
        for name, inode in sorted(self.surface.names(self._at(path, folder=True)).items()):
            if self.surface.is_folder(inode):
                self.remove_folder(path / name)
            else:
                self.unlink(path / name)
        self._begin("remove_folder", path)
        self._done("remove_folder", path, Named(self._at(path.parent, folder=True), path.name, None))

    def names(self, folder: Path) -> list[str]:
        self._begin("names", folder)
        return sorted(self.surface.names(self._at(folder, folder=True)))

    def look(self, path: Path, follow: bool = False) -> Entry | None:
        self._begin("look", path)
        inode = self.surface.find(path)
        if inode is None:
            return None
        is_folder = self.surface.is_folder(inode)
        return Entry(not is_folder, is_folder, 0 if is_folder else len(self.surface.content(inode)), (0, inode))

    def mount(self, folder: Path) -> str:
        self._begin("mount", folder)
        self._at(folder, folder=True)
        return "the model"

    def lock(self, path: Path) -> BinaryIO:
        self._begin("lock", path)
        parent, inode = self._at(path.parent, folder=True), self.surface.find(path)
        if inode is None:
            inode = self.surface.new_inode()
            self._done("lock", path, Made(inode, False), Named(parent, path.name, inode))
        if inode in self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))
        self._locked.add(inode)
        return _Lock(self._locked, inode)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


class _RawFile(io.RawIOBase):
    """An open file, without a buffer."""

    def __init__(self, disk: ModelDisk, path: Path, inode: int) -> None:
        self._disk = disk
        self.path = path
        self.inode = inode

    def writable(self) -> bool:
        return True

    def truncate(self, size: int | None = None) -> int:
        """Grow to ``size``, keeping the content."""
        assert size is not None
        self.write(bytes(size - len(self._disk.surface.content(self.inode))))
        return size

    def write(self, content: bytes | memoryview) -> int:  # type: ignore[override]
        return self._disk.write(self.path, self.inode, bytes(content))


class _Lock(io.BytesIO):
    """A lock that is held until it is closed or its process ends."""

    def __init__(self, held: set[int], inode: int) -> None:
        super().__init__()
        self._held = held
        self._inode = inode

    def close(self) -> None:
        self._held.discard(self._inode)
        super().close()
