"""What all files of one run have in common: the kernel whose page cache has their bytes, the clock, numbers of inodes, and limits."""

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rmaplab.cpu.files.host_root import DiskSpace
from rmaplab.cpu.files.inode import Inode
from rmaplab.errors import BoundReached, DiskError, NoMemory, NoSpace, SyscallError
from rmaplab.mm.kernel import Kernel

EPOCH_NS = 1_079_568_000 * 10**9
"""When a simulated machine is booted: 18 March 2004, 00:00 UTC."""


@dataclass(frozen=True)
class FileLimits:
    """How much programs may make: `made` files, directories and links; `seen` names of the host; bytes on the simulated disk."""

    made: int = 100_000
    seen: int = 4_000_000
    disk_bytes: int = 4 << 30


PLENTY = FileLimits()


class Goes(Protocol):
    """A file that goes once nobody uses it."""

    def goes_if_unused(self) -> None:
        """If so, it does."""


class FileSystem:
    """`clock` tells nanoseconds since 1970; `seed` is that of /dev/urandom."""

    def __init__(self, kernel: Kernel, clock: Callable[[], int], limits: FileLimits = PLENTY, seed: int = 0) -> None:
        self.kernel, self.clock, self.limits = kernel, clock, limits
        self.random = random.Random(seed)  # noqa: S311  (two runs are to be equal)
        self.space = DiskSpace(limits.disk_bytes)
        self.nr_made = 0
        self._last_ino = 1
        self._numbers: dict[tuple[int, int], int] = {}
        self.linked: dict[int, Inode] = {}
        """Files of the host with several names, by number."""
        self.by_mapping: dict[int, Inode] = {}
        """Who has which address space, by its address."""
        self.nameless: dict[Goes, None] = {}
        """Files without a name that somebody still had open or mapped."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds since 1970, of simulated time."""
        return self.clock()

    def new_ino(self) -> int:
        """A number that no other inode has."""
        self._last_ino += 1
        return self._last_ino

    def ino_of(self, dev: int, ino: int) -> int:
        """Ours for one of the host's. Raises UsageError: there are too many."""
        number = self._numbers.get((dev, ino))
        if number is None:
            if len(self._numbers) >= self.limits.seen:
                raise BoundReached(
                    f"the programs have seen more than {self.limits.seen} files of the root: show them a smaller one with --root"
                )
            number = self._numbers[dev, ino] = self.new_ino()
        return number

    def count_made(self) -> None:
        """Programs make one more file. Raises UsageError: too many."""
        self.nr_made += 1
        if self.nr_made > self.limits.made:
            raise BoundReached(
                f"the program has made more than {self.limits.made} files, links and directories: run one that makes fewer"
            )

    def count_gone(self) -> None:
        """One of those is no more."""
        self.nr_made -= 1

    def sweep(self) -> None:
        """Those of them that nobody has any more go. O(files that programs have unlinked and still use)."""
        for inode in list(self.nameless):
            inode.goes_if_unused()

    @contextmanager
    def errnos(self, call: str) -> Iterator[None]:
        """What the kernel's parts raise is an errno of `call`. Raises SyscallError: ENOMEM, ENOSPC, EIO; NoMemory where the kernel would not return."""
        try:
            yield
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, call) from None
        except NoSpace as failure:
            raise SyscallError(errno.ENOSPC, call, str(failure)) from None
        except DiskError as failure:
            raise SyscallError(errno.EIO, call, str(failure)) from None
