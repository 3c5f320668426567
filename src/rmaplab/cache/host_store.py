"""A directory of the host, shown read-only: its files by name, each an inode whose store reads the host's bytes when a page is asked for.

    shown/  a.txt      <--- file("a.txt")             a store over a descriptor of it; what a task writes to a private mapping stays the task's
            sub/b      <--- file("sub/b")
            link -> /etc/passwd                       refused, as every symbolic link: no name leads out of the directory
            fifo, device, socket                      refused, without being opened

A name is looked up part by part below an open directory, and no part of it is followed elsewhere. The file may change under our hands: a page
is what was there when it was read, with zeros where nothing was.
"""

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

from rmaplab.cache.loop_keys import SECTOR
from rmaplab.cache.page_cache import PageCache
from rmaplab.errors import DiskError, UsageError
from rmaplab.harmless import printable
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

_HOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class HostStore(MutableMapping[int, bytes]):
    """The pages of one regular file of the host, whose descriptor it closes when it goes. Nothing is written."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._nr_pages = fd, -(-size // PAGE_SIZE)
        weakref.finalize(self, os.close, fd)

    def __getitem__(self, index: int) -> bytes:
        if index not in self:
            raise KeyError(index)
        try:
            return os.pread(self._fd, PAGE_SIZE, index * PAGE_SIZE).ljust(PAGE_SIZE, b"\0")
        except OSError as failure:
            raise DiskError(f"page {index} of a file of the host: {failure.strerror}") from None

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self._nr_pages

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._nr_pages))

    def __len__(self) -> int:
        return self._nr_pages

    def __setitem__(self, index: int, data: bytes) -> None:
        raise DiskError(f"page {index} of a file of the host: shown read-only")

    def __delitem__(self, index: int) -> None:
        raise DiskError(f"page {index} of a file of the host: shown read-only")


Before = Callable[..., MutableMapping[int, bytes]]
"""What stands before a store, such as LoopCipher.before: of the store, and `size`, the bytes of the file."""


class HostDirectory:
    """One directory, held open. Raises UsageError if there is none at `path`. With `before` its files are shown through that, in whole sectors."""

    def __init__(self, cache: PageCache, path: str | Path, before: Before | None = None) -> None:
        self._cache, self._path, self._before = cache, printable(str(path)), before
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as failure:  # ValueError: a NUL in it
            why = failure.strerror if isinstance(failure, OSError) else "no path"
            raise UsageError(f"{self._path}: {why}: name a directory that can be read") from None
        weakref.finalize(self, os.close, self._fd)
        self._files: dict[tuple[int, int], AddressSpace] = {}

    def file(self, name: str | Path) -> AddressSpace:
        """The file of that name, for Task.open(); the same one for a second name of it. Raises UsageError; as an allocation."""
        fd = self._open(str(name))
        found = os.fstat(fd)
        known = self._files.get((found.st_dev, found.st_ino))
        if known is not None:
            os.close(fd)
            return known
        size = found.st_size if self._before is None else found.st_size // SECTOR * SECTOR
        store = HostStore(fd, size)
        file = self._cache.new_file(size=size)
        file.store, file.read_only = store if self._before is None else self._before(store, size=size), True
        self._files[found.st_dev, found.st_ino] = file
        return file

    def _open(self, name: str) -> int:
        """A descriptor of a regular file, reached without a link and without leaving the directory."""
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise self._refused(name, "name a file below the directory, without . and ..")
        above = os.dup(self._fd)
        try:
            for place, part in enumerate(parts, 1):
                last = place == len(parts)
                mode = os.stat(part, dir_fd=above, follow_symlinks=False).st_mode
                if not (
                    stat.S_ISREG(mode) if last else stat.S_ISDIR(mode)
                ):  # before it is opened: opening a device acts
                    raise self._refused(name, "neither links nor special files are shown: name a regular file")
                below = os.open(part, _HOW | (0 if last else os.O_DIRECTORY), dir_fd=above)
                os.close(above)
                above = below
            if not stat.S_ISREG(os.fstat(above).st_mode):
                raise self._refused(name, "it has changed meanwhile: try again")
        except (OSError, UnicodeEncodeError, UsageError) as failure:
            os.close(above)
            if isinstance(failure, UsageError):
                raise
            if isinstance(failure, UnicodeEncodeError):
                raise self._refused(
                    name, "no name that a file can have: name a regular file that can be read"
                ) from None
            why = "a link" if failure.errno == errno.ELOOP else failure.strerror
            raise self._refused(name, f"{why}: name a regular file that can be read") from None
        return above

    def _refused(self, name: str, why: str) -> UsageError:
        return UsageError(f"{printable(name)} in {self._path}: {why}")
