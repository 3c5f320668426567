"""/proc: what the simulated kernel tells of itself and of its programs. Nothing of the host's is in it.

    /proc/self -> 12        /proc/12/  exe -> program   cwd, root -> directories   fd/0 -> what descriptor 0 means
                                       maps  cmdline  comm  environ  stat  statm  status  mounts  limits
    meminfo vmstat version                               as the kernel that was booted has them
    cpuinfo mounts stat uptime loadavg filesystems sys/  as today's Linux has them

A text is made when it is read from its start.

Source: fs/proc/array.c, do_task_stat, proc_pid_status; fs/proc/task_mmu.c, show_map_vma; proc(5), of 6.18.
"""

import errno
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rmaplab.cpu.files.directory import DirectoryInode, Name, Viewer
from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.inode import Inode, Mount, SymlinkInode
from rmaplab.cpu.files.lookup import MagicLink, OpenedInode, PathEnd, path_of, path_of_place
from rmaplab.cpu.files.open_file import POLLIN, POLLOUT, SEEK_CUR, SEEK_SET, Descriptors, OpenFile, sought
from rmaplab.cpu.files.proc_text import (
    cpuinfo,
    limits_text,
    loadavg,
    maps,
    stat_text,
    statm,
    status_text,
    system_stat,
    uptime,
)
from rmaplab.cpu.waiting import Sleeper
from rmaplab.errors import SyscallError
from rmaplab.kernels.system import System

PROCFS = Mount(0x15, b"proc", 0x9FA0, read_only=True)
FIRST_OF_A_PROCESS = 1 << 20
"""Inodes of /proc/PID are numbered from pid times this on."""
FD_INO = 4096


class ShownProcess(Viewer, Protocol):
    """A process, as /proc shows it (process.py)."""

    descriptors: Descriptors
    name: bytes
    executable: bytes
    arguments: list[bytes]
    cwd: Any
    root: Any
    space: Any
    threads: Any
    parent: Any
    ended: int | None


class ProcText(Inode):
    """A file whose bytes are made when they are read; what is written to it is lost."""

    kind = stat.S_IFREG
    is_made_anew = True

    def __init__(self, ino: int, text: Callable[[], bytes], mode: int = 0o444) -> None:
        super().__init__(PROCFS, ino, mode)
        self.text = text


class OpenText(OpenFile):
    """An open one."""

    in_pieces = True

    def __init__(self, inode: ProcText, flags: int) -> None:
        super().__init__(flags, inode)
        self._text, self._position, self._data = inode.text, 0, b""

    def read(self, thread: Sleeper, length: int) -> bytes:
        """From its position on."""
        data = self.pread(thread, length, self._position)
        self._position += len(data)
        return data

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """From the start on it is made anew."""
        if not offset:
            self._data = self._text()
        return self._data[offset : offset + length]

    def write(self, thread: Sleeper, data: bytes) -> int:
        """It is lost."""
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """As of a file; it has no end."""
        self._position = sought(offset, whence, {SEEK_SET: 0, SEEK_CUR: self._position})
        return self._position

    def poll(self) -> int:
        """Always ready."""
        return POLLIN | POLLOUT


class FollowedLink(MagicLink):
    """A magic link: `text` is what readlink says, `what` what it leads to."""

    def __init__(self, ino: int, text: bytes, what: Callable[[], PathEnd]) -> None:
        super().__init__(PROCFS, ino, text)
        self._what = what
        self.mode = 0o777

    def follow(self) -> PathEnd:
        """What it leads to."""
        return self._what()


class MadeDirectory(DirectoryInode):
    """A directory of /proc: its names are made when somebody looks."""

    def __init__(self, fs: FileSystem, ino: int, parent: DirectoryInode | None, name: bytes) -> None:
        super().__init__(fs, PROCFS, ino, 0o555)
        self.frozen = True
        self.name = name
        if parent is not None:
            self.parent = parent

    def made(self, viewer: Viewer) -> Sequence[bytes]:
        """Its names."""
        return ()

    def names(self, viewer: Viewer) -> list[Name]:
        """All, in order."""
        found = [(name, self.find(name, viewer)) for name in self.made(viewer)]
        return [Name(name, inode.ino, stat.S_IFMT(inode.stat().mode)) for name, inode in found if inode is not None]


class DescriptorDirectory(MadeDirectory):
    """/proc/PID/fd."""

    def __init__(self, fs: FileSystem, ino: int, parent: "ProcessDirectory", process: ShownProcess) -> None:
        super().__init__(fs, ino, parent, b"fd")
        self._process = process

    def made(self, viewer: Viewer) -> Sequence[bytes]:
        """One for each descriptor."""
        return [b"%d" % fd for fd in sorted(self._process.descriptors.files)]

    def find(self, name: bytes, viewer: Viewer) -> Inode | None:
        """What a descriptor means."""
        number = number_of(name)
        file = None if number is None else self._process.descriptors.files.get(number)
        if number is None or file is None:
            return None
        return FollowedLink(
            self.ino + 1 + number, path_of_file(file, self._process.root), lambda: place_of_file(file, self)
        )


def number_of(name: bytes) -> int | None:
    """A decimal number as Linux writes it."""
    return int(name) if len(name) <= 10 and name.isdigit() and (name[:1] != b"0" or name == b"0") else None


def inode_of_file(file: OpenFile) -> Inode:
    """What open(2) of /proc/PID/fd/N opens."""
    return file.inode if file.inode is not None else OpenedInode(file)


def place_of_file(file: OpenFile, nowhere: DirectoryInode) -> PathEnd:
    """Where it was opened."""
    inode = inode_of_file(file)
    if file.place is not None and isinstance(file.place[0], DirectoryInode):
        return PathEnd(file.place[0], file.place[1], inode)
    return PathEnd(inode if isinstance(inode, DirectoryInode) else nowhere, b"", inode)


def path_of_file(file: OpenFile, root: DirectoryInode) -> bytes:
    """What readlink of /proc/PID/fd/N says."""
    if isinstance(file.inode, DirectoryInode):
        return path_of(file.inode, root) or b"/"
    if file.label or file.place is None:
        return file.label or b"/"
    return path_of_place(file.place, file.inode, root)


class ProcessDirectory(MadeDirectory):
    """/proc/PID."""

    def __init__(self, proc: "ProcDirectory", process: ShownProcess) -> None:
        super().__init__(proc.fs, process.pid * FIRST_OF_A_PROCESS, proc, b"%d" % process.pid)
        self._proc, self._process = proc, process
        self._texts: dict[bytes, Callable[[], bytes]] = {
            b"cmdline": lambda: b"".join(word + b"\0" for word in process.arguments),
            b"comm": lambda: process.name + b"\n",
            b"environ": lambda: b"",
            b"limits": lambda: limits_text(process.descriptors.limit),
            b"maps": lambda: maps(process, proc.fs, proc.path_of_mapping),
            b"mounts": proc.mounts,
            b"stat": lambda: stat_text(process, proc.system),
            b"statm": lambda: statm(process),
            b"status": lambda: status_text(process),
        }
        self._made = sorted([*self._texts, b"cwd", b"exe", b"fd", b"root"])

    def made(self, viewer: Viewer) -> Sequence[bytes]:
        """Its names."""
        return self._made

    def find(self, name: bytes, viewer: Viewer) -> Inode | None:
        """One of them."""
        process = self._process
        if name not in self._made:
            return None
        ino = self.ino + 1 + self._made.index(name)
        if name in self._texts:
            return ProcText(ino, self._texts[name])
        if name == b"fd":
            return DescriptorDirectory(self.fs, self.ino + FD_INO, self, process)
        if name == b"exe":
            return FollowedLink(ino, process.executable, lambda: self._proc.program(process))
        directory = process.cwd if name == b"cwd" else process.root
        return FollowedLink(ino, path_of(directory, process.root) or b"/", lambda: PathEnd(directory, b"", directory))


class ProcDirectory(MadeDirectory):
    """/proc. `processes` by pid; the user land says which."""

    pid = 0
    """It looks at the tree itself: as nobody."""

    def __init__(self, fs: FileSystem, system: System) -> None:
        super().__init__(fs, fs.new_ino(), None, b"proc")
        self.system = system
        self.processes: Mapping[int, ShownProcess] = {}
        self.mounted: list[tuple[bytes, Mount]] = []
        self.program: Callable[[ShownProcess], PathEnd] = _gone
        self.path_of_mapping: Callable[[int], bytes] = lambda _: b""
        self.osrelease: Callable[[], str] = lambda: system.uname().release
        self._tree = self._texts()
        self._inos = {path: fs.new_ino() for path in self._paths()}

    def _texts(self) -> dict[bytes, Callable[[], bytes]]:
        system = self.system
        return {
            b"cpuinfo": lambda: cpuinfo(system),
            b"filesystems": lambda: b"nodev\tproc\nnodev\tsysfs\nnodev\ttmpfs\nnodev\tdevtmpfs\n\text4\n",
            b"loadavg": lambda: loadavg(system),
            b"meminfo": lambda: system.proc_meminfo().encode(),
            b"mounts": self.mounts,
            b"stat": lambda: system_stat(system, self.fs.now_ns),
            b"sys/fs/pipe-max-size": lambda: b"1048576\n",
            b"sys/kernel/hostname": lambda: system.uname().nodename.encode() + b"\n",
            b"sys/kernel/osrelease": lambda: self.osrelease().encode() + b"\n",
            b"sys/kernel/ostype": lambda: system.uname().sysname.encode() + b"\n",
            b"sys/kernel/pid_max": lambda: b"32768\n",
            b"sys/vm/overcommit_memory": lambda: b"%d\n" % int(system.box.overcommit),
            b"uptime": lambda: uptime(system),
            b"version": lambda: system.proc_version().encode(),
            b"vmstat": lambda: system.proc_vmstat().encode(),
        }

    def _paths(self) -> list[bytes]:
        found = {b"self", b"thread-self"}
        for path in self._tree:
            parts = path.split(b"/")
            found.update(b"/".join(parts[: i + 1]) for i in range(len(parts)))
        return sorted(found)

    def mounts(self) -> bytes:
        """/proc/mounts."""
        lines = [
            b"%s %s %s %s,relatime 0 0\n"
            % (mount.kind if path != b"/" else b"/dev/root", path, mount.kind, b"ro" if mount.read_only else b"rw")
            for path, mount in self.mounted
        ]
        return b"".join(lines)

    def made(self, viewer: Viewer) -> Sequence[bytes]:
        """Its names, processes first."""
        return [*(b"%d" % pid for pid in sorted(self.processes)), *self.below(b"", viewer)]

    def below(self, prefix: bytes, viewer: Viewer) -> list[bytes]:
        """Names of its directory `prefix`, of files that all processes see."""
        inside = {path[len(prefix) :].split(b"/")[0] for path in self._tree if path.startswith(prefix)}
        if not prefix and viewer.pid in self.processes:
            inside.add(b"self")
        return sorted(inside)

    def find(self, name: bytes, viewer: Viewer) -> Inode | None:
        """A process, or what all see."""
        if name in (b"self", b"thread-self") and viewer.pid in self.processes:
            return SymlinkInode(PROCFS, self._inos[name], b"%d" % viewer.pid)
        number = number_of(name)
        if number is not None:
            process = self.processes.get(number)
            return None if process is None else ProcessDirectory(self, process)
        return self.named(self, b"", name)

    def named(self, parent: DirectoryInode, prefix: bytes, name: bytes) -> Inode | None:
        """`name` in its directory `prefix`."""
        path = prefix + name
        if path in self._tree:
            return ProcText(self._inos[path], self._tree[path])
        if path in self._inos and path not in (b"self", b"thread-self"):
            return SysDirectory(self, parent, self._inos[path], name, path + b"/")
        return None


class SysDirectory(MadeDirectory):
    """A directory below /proc/sys."""

    def __init__(self, proc: ProcDirectory, parent: DirectoryInode, ino: int, name: bytes, prefix: bytes) -> None:
        super().__init__(proc.fs, ino, parent, name)
        self._proc, self._prefix = proc, prefix

    def made(self, viewer: Viewer) -> Sequence[bytes]:
        """Its names."""
        return self._proc.below(self._prefix, viewer)

    def find(self, name: bytes, viewer: Viewer) -> Inode | None:
        """One of them."""
        return self._proc.named(self, self._prefix, name)


def _gone(_: ShownProcess) -> PathEnd:
    raise SyscallError(errno.ENOENT, "readlink")
