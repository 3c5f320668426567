"""The tree of names that programs see: a directory of the host, covered in places, and what programs have changed of it.

/          the root on the host, read when it is asked for; changed in memory only     "disk"
/dev       null zero full random urandom tty, links to /proc/self/fd                   never the host's
/dev/shm /tmp /run     empty at first                                                  memory
/var/tmp   empty at first                                                              "disk"
/proc      what the simulated kernel tells (proc.py)                                   never the host's
/sys       empty                                                                       never the host's
"""

import errno
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmaplab.cpu.files.changes import make
from rmaplab.cpu.files.devices import DEVICES, TTY, OpenDevice
from rmaplab.cpu.files.directory import DirectoryInode, OpenDirectory
from rmaplab.cpu.files.filesystem import EPOCH_NS, PLENTY, FileLimits, FileSystem
from rmaplab.cpu.files.host_root import HostRoot
from rmaplab.cpu.files.inode import MAY_EXEC, MAY_READ, MAY_WRITE, DeviceInode, Inode, Mount, SymlinkInode, Who
from rmaplab.cpu.files.lookup import OpenedInode, PathEnd, View, joined, path_of, path_of_place, resolve
from rmaplab.cpu.files.open_file import (
    O_ACCMODE,
    O_APPEND,
    O_CREAT,
    O_DIRECT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOFOLLOW,
    O_NONBLOCK,
    O_PATH,
    O_RDONLY,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
    OpenFile,
)
from rmaplab.cpu.files.pipes import FifoInode
from rmaplab.cpu.files.proc import OpenText, ProcDirectory, ProcText
from rmaplab.cpu.files.regular import OpenRegular, RegularInode
from rmaplab.cpu.files.write_out import WrittenOut, write_out
from rmaplab.cpu.waiting import Sleeper
from rmaplab.errors import SyscallError
from rmaplab.kernels.system import System
from rmaplab.mm.file_io import LAST
from rmaplab.mm.file_io import write_out as write_pages
from rmaplab.mm.open_file import open_file
from rmaplab.objects.mm_types import File

DISK = Mount(0x801, b"ext4", 0xEF53, on_disk=True)
TMPFS, RUN, SHM = (Mount(dev, b"tmpfs", 0x0102_1994) for dev in (0x1A, 0x1B, 0x1C))
DEVFS = Mount(0x6, b"devtmpfs", 0x0102_1994)
SYSFS = Mount(0x16, b"sysfs", 0x6265_6572, read_only=True)
ANYBODY = 0o1777
DEV_LINKS = {
    b"fd": b"/proc/self/fd",
    b"stdin": b"/proc/self/fd/0",
    b"stdout": b"/proc/self/fd/1",
    b"stderr": b"/proc/self/fd/2",
}
STAY = O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_LARGEFILE | O_PATH | O_DIRECTORY | O_NOFOLLOW
"""Flags of open that fcntl(F_GETFL) tells."""


class FileTree:
    """All that programs can name, over `root` of the host. The machine is booted at `epoch_ns` since 1970; `terminal` opens /dev/tty. Raises UsageError: there is no such root."""

    def __init__(
        self,
        system: System,
        root: str | Path,
        *,
        epoch_ns: int = EPOCH_NS,
        limits: FileLimits = PLENTY,
        seed: int = 0,
    ) -> None:
        sched = system.machine.sched
        self.epoch_ns = epoch_ns
        self.fs = FileSystem(system.kernel, lambda: epoch_ns + sched.now_ns, limits, seed)
        self.host = HostRoot(root)
        self.terminal: Callable[[int], OpenFile] | None = None
        found = self.host.stat(())
        assert found is not None
        self.root = DirectoryInode(
            self.fs, DISK, self.fs.ino_of(found.st_dev, found.st_ino), stat.S_IMODE(found.st_mode)
        )
        self.root.shows(self.host, (), found)
        self.proc = ProcDirectory(self.fs, system)
        self.proc.program, self.proc.path_of_mapping = self._program, self._path_of_mapping
        self.covered: list[DirectoryInode] = [self._dev(), self._covered(SYSFS, 0o555), self.proc]
        """Not to be written out."""
        for name, inode in zip((b"dev", b"sys", b"proc"), self.covered, strict=True):
            self.root.mount_at(name, inode)
        self.root.mount_at(b"tmp", self._covered(TMPFS, ANYBODY))
        self.root.mount_at(b"run", self._covered(RUN, 0o755))
        var = self.root.find(b"var", self.proc)
        if isinstance(var, DirectoryInode):
            var.mount_at(b"tmp", self._covered(DISK, ANYBODY))
        self.proc.mounted = [
            (b"/", DISK),
            (b"/dev", DEVFS),
            (b"/dev/shm", SHM),
            (b"/proc", self.proc.mount),
            (b"/run", RUN),
            (b"/sys", SYSFS),
            (b"/tmp", TMPFS),
        ]

    def _covered(self, mount: Mount, mode: int) -> DirectoryInode:
        return DirectoryInode(self.fs, mount, self.fs.new_ino(), mode)

    def _dev(self) -> DirectoryInode:
        dev = self._covered(DEVFS, 0o755)
        for name, device in DEVICES.items():
            dev.mount_at(name, DeviceInode(DEVFS, self.fs.new_ino(), 0o666, device))
        for name, target in DEV_LINKS.items():
            dev.mount_at(name, SymlinkInode(DEVFS, self.fs.new_ino(), target))
        dev.mount_at(b"shm", self._covered(SHM, ANYBODY))
        dev.frozen = True
        return dev

    def open(self, thread: Sleeper, view: View, path: bytes, flags: int, mode: int = 0) -> OpenFile:
        """open(2): an open file that nobody refers to yet. `mode` is without the umask. May sleep.

        Raises SyscallError, Interrupted; UsageError: programs have made too many files.
        """
        if flags & O_PATH:
            flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW
        if flags & O_TMPFILE == O_TMPFILE:
            return self._temporary(view, path, flags, mode)
        if flags & O_CREAT and flags & O_DIRECTORY:
            raise SyscallError(errno.EINVAL, "open")
        place = resolve(view, path, follow=not flags & O_NOFOLLOW and flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL)
        inode = place.inode
        if flags & O_CREAT:
            if place.as_directory and not isinstance(inode, DirectoryInode):
                raise SyscallError(errno.EISDIR, "open")
            if inode is None:
                inode = make(self.fs, view, place, stat.S_IFREG | mode & 0o7777, "open")
                assert isinstance(inode, RegularInode)
                return self._opened(inode, OpenRegular(inode, flags & STAY), place)
            if flags & O_EXCL:
                raise SyscallError(errno.EEXIST, "open")
            if isinstance(inode, DirectoryInode):
                raise SyscallError(errno.EISDIR, "open")
        if inode is None:
            raise SyscallError(errno.ENOENT, "open")
        if flags & O_DIRECTORY and not isinstance(inode, DirectoryInode):
            raise SyscallError(errno.ENOTDIR, "open")
        return self._opened(inode, self.open_inode(thread, view, inode, flags), place)

    def _opened(self, inode: Inode, file: OpenFile, place: PathEnd) -> OpenFile:
        if file.inode is inode and not isinstance(inode, DirectoryInode) and place.is_named:
            file.place = place.directory, place.name
            if isinstance(inode, RegularInode):
                inode.place = file.place
        return file

    def open_inode(self, thread: Sleeper, view: View, inode: Inode, flags: int) -> OpenFile:
        """An inode that was found. Raises SyscallError: EACCES, EISDIR, ELOOP, ENXIO, EROFS; Interrupted."""
        if flags & O_PATH:
            return OpenPath(flags & STAY, inode)
        if isinstance(inode, SymlinkInode):
            raise SyscallError(errno.ELOOP, "open")
        self._may_open(view, inode, flags)
        if isinstance(inode, OpenedInode):
            return inode.file.reopen(flags & STAY)
        if isinstance(inode, DirectoryInode):
            return OpenDirectory(inode, flags & STAY, view.viewer)
        if isinstance(inode, RegularInode):
            opened = OpenRegular(inode, flags & STAY)
            if flags & O_TRUNC and inode.size:
                try:
                    inode.truncate(0)
                except BaseException:
                    opened.close()
                    raise
            return opened
        if isinstance(inode, FifoInode):
            return inode.open(thread, flags & STAY)
        if isinstance(inode, ProcText):
            return OpenText(inode, flags & STAY)
        if isinstance(inode, DeviceInode) and inode.mount is DEVFS:
            if inode.device != TTY:
                return OpenDevice(self.fs, inode, flags & STAY)
            if self.terminal is not None:
                return self.terminal(flags & STAY)
        raise SyscallError(errno.ENXIO, "open")

    def _may_open(self, view: View, inode: Inode, flags: int) -> None:
        access = flags & O_ACCMODE
        wanted = (MAY_READ if access != O_WRONLY else 0) | (MAY_WRITE if access != O_RDONLY or flags & O_TRUNC else 0)
        if wanted & MAY_WRITE and isinstance(inode, DirectoryInode):
            raise SyscallError(errno.EISDIR, "open")
        if not isinstance(inode, OpenedInode) and not inode.allows(view.who, wanted):
            raise SyscallError(errno.EACCES, "open")
        if wanted & MAY_WRITE and inode.mount.read_only and not isinstance(inode, ProcText):
            raise SyscallError(errno.EROFS, "open")

    def _temporary(self, view: View, path: bytes, flags: int, mode: int) -> OpenFile:
        """O_TMPFILE: a file without a name, in that directory's file system."""
        if flags & O_ACCMODE == O_RDONLY:
            raise SyscallError(errno.EINVAL, "open")
        directory = resolve(view, path).inode
        if not isinstance(directory, DirectoryInode):
            raise SyscallError(errno.ENOTDIR if directory is not None else errno.ENOENT, "open")
        directory.may_change()
        inode = RegularInode(self.fs, directory.mount, self.fs.new_ino(), mode, view.who)
        inode.nlink, inode.changed = 0, True
        return OpenRegular(inode, flags & STAY & ~O_DIRECTORY)

    def view(self, process: Any, start: DirectoryInode | None = None) -> View:
        """The tree as `process` sees it; paths begin at `start`, or where it works."""
        task = process.first_task
        uid = 0 if task is None else task.limits.uid
        return View(process.root or self.root, start or process.cwd or self.root, process, Who(uid, uid))

    def open_program(self, process: Any, path: bytes) -> File:
        """What execve is to run: a struct file that nobody refers to yet. Raises SyscallError: EACCES, ENOENT and the like."""
        view = self.view(process)
        place = resolve(view, path, call="execve")
        inode = place.inode
        if inode is None:
            raise SyscallError(errno.ENOENT, "execve")
        if not isinstance(inode, RegularInode) or not inode.allows(view.who, MAY_EXEC):
            raise SyscallError(errno.EACCES, "execve")
        if place.is_named:
            inode.place = place.directory, place.name
        with self.fs.errnos("execve"):
            return open_file(self.fs.kernel, inode.space(), readable=True, writable=False)

    def directory(self, process: Any, path: bytes) -> DirectoryInode:
        """A directory where `process` may work. Raises SyscallError: ENOENT, ENOTDIR, EACCES."""
        view = self.view(process)
        inode = resolve(view, path, call="chdir").inode
        if not isinstance(inode, DirectoryInode):
            raise SyscallError(errno.ENOENT if inode is None else errno.ENOTDIR, "chdir")
        if not inode.allows(view.who, MAY_EXEC):
            raise SyscallError(errno.EACCES, "chdir")
        return inode

    def absolute(self, process: Any, path: bytes) -> bytes:
        """`path` without links, as /proc/self/exe has it."""
        view = self.view(process)
        place = resolve(view, path, call="execve")
        above = path_of(place.directory, view.root) or b""
        return joined(above, place.name) if place.is_named else above

    def _program(self, process: Any) -> PathEnd:
        return resolve(self.view(process), process.executable)

    def _path_of_mapping(self, address: int) -> bytes:
        inode = self.fs.by_mapping.get(address)
        place = inode.place if isinstance(inode, RegularInode) else None
        return b"" if place is None else path_of_place(place, inode, self.root)

    def sync(self) -> None:
        """Every regular file that is open or was opened goes to its disk. Raises SyscallError(EIO). O(those)."""
        with self.fs.errnos("sync"):
            for inode in list(self.fs.by_mapping.values()):
                if isinstance(inode, RegularInode) and inode.mapping is not None:
                    write_pages(self.fs.kernel, inode.mapping, 0, LAST)

    def write_out(self, directory: str | Path) -> WrittenOut:
        """What programs have made and changed, below `directory` of the host. Raises UsageError: it cannot be written."""
        return write_out(self.root, directory, self.covered)

    def close(self) -> None:
        """The host's descriptors are closed. Not to be used after."""
        self.host.close()


class OpenPath(OpenFile):
    """O_PATH: it stands for its inode, and can do nothing else: it is opened neither for reading nor for writing."""

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere."""
        raise SyscallError(errno.EBADF, "lseek")
