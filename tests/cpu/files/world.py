"""A tree over a directory of the host, somebody who looks at it, and a sum over all that the host has there."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import rmaplab
from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.filesystem import PLENTY, FileLimits
from rmaplab.cpu.files.inode import ROOT, Who
from rmaplab.cpu.files.lookup import View
from rmaplab.cpu.files.open_file import OpenFile, get, put
from rmaplab.cpu.files.tree import FileTree
from rmaplab.cpu.waiting import WaitQueue
from rmaplab.errors import SyscallError
from rmaplab.kernels.system import System

READ, WRITE, BOTH = 0, 1, 2


class Caller:
    """A thread, as far as files know one. When it would sleep, `meanwhile` happens; it must wake it."""

    def __init__(self, meanwhile: Callable[[], None] | None = None) -> None:
        self.pid = 1
        self.meanwhile = meanwhile
        self.woken = False
        self.wake_bits = 0
        self.signals = list[int]()

    def sleep(self, *queues: WaitQueue, until_ns: int | None = None) -> bool:
        assert self.meanwhile is not None, "it sleeps, and nobody would wake it"
        self.woken = False
        for queue in queues:
            queue.sleepers[self] = None
        self.meanwhile()
        for queue in queues:
            queue.sleepers.pop(self, None)
        assert self.woken
        return True

    def wake(self) -> None:
        self.woken = True

    def waits_for_host(self, fd: int) -> None:
        pass

    def stands_in(self, queue: WaitQueue) -> None:
        raise NotImplementedError

    def send_self(self, signal: int) -> None:
        self.signals.append(signal)


class World:
    """A system, a tree, and calls by path."""

    def __init__(self, root: Path, *, kernel: str = "6.18", limits: FileLimits = PLENTY, small: bool = False) -> None:
        self.system: System = (
            rmaplab.boot(kernel, ram="8M", boot_use="4M", reclaim=True) if small else rmaplab.boot(kernel, ram="64M")
        )
        self.tree = FileTree(self.system, root, limits=limits)
        self.caller = Caller()
        self.who: Who = ROOT
        self.cwd: DirectoryInode = self.tree.root

    @property
    def view(self) -> View:
        return View(self.tree.root, self.cwd, self.caller, self.who)

    def open(self, path: bytes, flags: int = READ, mode: int = 0o644) -> OpenFile:
        return get(self.tree.open(self.caller, self.view, path, flags, mode))

    def read(self, path: bytes) -> bytes:
        file = self.open(path)
        try:
            return file.read(self.caller, 1 << 20)
        finally:
            put(file)

    def write(self, path: bytes, data: bytes, flags: int = 0) -> int:
        file = self.open(path, WRITE | os.O_CREAT | flags)
        try:
            return file.write(self.caller, data)
        finally:
            put(file)

    def close(self) -> None:
        """Everything adds up, and nothing is left open."""
        self.system.check()
        self.tree.close()
        self.system.close()


def errno_of(act: Callable[[], object]) -> int:
    """The errno that a call ends with; 0: it does not fail."""
    try:
        act()
    except SyscallError as failure:
        return failure.errno or -1
    return 0


def fingerprint(*directories: Path) -> str:
    """Of all names, modes, times, links and bytes below."""
    digest = hashlib.sha256()
    for directory in directories:
        for above, below, names in os.walk(directory):
            below.sort()
            for name in sorted([*below, *names]):
                path = Path(above, name)
                found = path.lstat()
                digest.update(
                    f"{path} {found.st_mode} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_nlink} {found.st_ino}".encode(
                        errors="surrogateescape"
                    )
                )
                if stat.S_ISLNK(found.st_mode):
                    digest.update(os.readlink(os.fsencode(path)))  # noqa: PTH115
                elif stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK):
                    digest.update(path.read_bytes())
    return digest.hexdigest()
