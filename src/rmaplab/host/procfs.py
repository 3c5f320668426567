"""/proc, read with care: what is true of a process while it runs, ends and comes under other eyes.

    /proc/PID/maps      a line per VMA                     anybody with the right to trace PID
    /proc/PID/status    name, state, kernel thread or not  anybody
    /proc/PID/pagemap   a word per page (pagemap.py)       as maps; PFNs for CAP_SYS_ADMIN only

A process can end between two reads, and most of them are not ours. Neither is an error here: a reader returns `Unread`, which
says why, in place of the answer. Everything is opened by `open_proc`: the one door, which tests close.

Sources: Linux Documentation/filesystems/proc.rst; fs/proc/task_mmu.c (show_map_vma), fs/proc/base.c (proc_mem_open).
"""

import ctypes
import enum
import errno
import functools
import itertools
import mmap
import os
import platform
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = mmap.PAGESIZE
_KCMP_VM = 1
_AT_ONCE = 1 << 16  # files of lines come by the page; more is only allocated, and given back
_SYS_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}  # arch/*/entry/syscalls/*.tbl, asm-generic/unistd.h
_SHARED_MEMORY = ("/dev/zero", "/memfd:", "/SYSV", "/dev/shm/", "[anon_shmem:")  # noqa: S108


class Unread(enum.Enum):
    """Why there is no answer about a process."""

    ENDED = "ended"
    REFUSED = "not ours to read"
    NO_MEMORY = "has no address space (a kernel thread, or a zombie)"
    MISSING = "this kernel does not offer the file"


class HostVma(NamedTuple):
    """A line of /proc/PID/maps. `offset_bytes` is that of a file; the kernel prints 0 for anonymous VMAs, moved or not."""

    start: int
    end: int
    perms: str
    offset_bytes: int
    device: str
    inode: int
    name: str

    @property
    def file(self) -> tuple[str, int] | None:
        """What tells one file from another, as far as maps can: device and inode."""
        return (self.device, self.inode) if self.inode else None

    @property
    def is_shared_memory(self) -> bool:
        """By its name: MAP_SHARED | MAP_ANONYMOUS, memfd, System V, or a file in /dev/shm."""
        return self.name.startswith(_SHARED_MEMORY)

    def index_of(self, address: int) -> int:
        """The page of the file that stands at `address`."""
        return (self.offset_bytes + address - self.start) // PAGE_BYTES

    def address_of(self, index: int) -> int | None:
        """Where page `index` of the file stands; None if this VMA does not cover it (vma_address in mm/internal.h)."""
        address = self.start + index * PAGE_BYTES - self.offset_bytes
        return address if self.start <= address < self.end else None

    def __str__(self) -> str:
        return f"{self.start:x}-{self.end:x} {self.perms} {self.name}".rstrip()


class ProcStatus(NamedTuple):
    """Of /proc/PID/status: the thread group `pid` belongs to, its name, state letter, and whether a kernel thread.

    `has_memory`: of its own; kernel threads and zombies have not.
    """

    tgid: int
    comm: str
    state: str
    is_kernel_thread: bool
    parent: int
    has_memory: bool


def open_proc(name: str) -> int:
    """A file descriptor of /proc/`name`. The only open(2) of /proc in this package. Raises OSError."""
    return os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)


def read_proc(name: str) -> bytes | Unread:
    """All of /proc/`name`."""
    try:
        fd = open_proc(name)
    except OSError as error:
        return why_unread(error)
    try:
        parts = []
        while part := os.read(fd, _AT_ONCE):
            parts.append(part)
        return b"".join(parts)
    except OSError as error:
        return why_unread(error)
    finally:
        os.close(fd)


def why_unread(error: OSError) -> Unread:
    """What a failed open or read of /proc means."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unread.REFUSED
    if error.errno == errno.ENOENT:
        # /proc/PID itself is gone, or the kernel was built without this file
        directory, _, _ = (error.filename or "").rpartition("/")
        return Unread.MISSING if directory and Path(directory).exists() else Unread.ENDED
    return Unread.ENDED if error.errno in (errno.ESRCH, errno.EIO) else Unread.REFUSED


def processes() -> list[int]:
    """All PIDs that we see, ascending: thread groups, not threads. Nobody where there is no /proc."""
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208  (5,000 names: no Path of each)
    except OSError:
        return []


def own_pid() -> int:
    """Our number in this /proc, which may be another PID namespace's."""
    try:
        return int(Path("/proc/self").readlink().name)
    except (OSError, ValueError):
        return os.getpid()


def read_fields(name: str) -> dict[str, str]:
    """The lines "Key: value" of /proc/`name`; nothing if it cannot be read."""
    text = read_proc(name)
    return {} if isinstance(text, Unread) else parse_fields(text)


def parse_fields(text: bytes) -> dict[str, str]:
    """The lines "Key: value" of such a file."""
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {key: value.strip() for key, _, value in pairs}


def read_status(pid: int) -> ProcStatus | Unread:
    """Who a PID (or a thread's TID) is."""
    text = read_proc(f"{pid}/status")
    if isinstance(text, Unread):
        return text
    field = parse_fields(text)
    # Kthread: is newer than our readers; before it, a kernel thread is what has no VmSize and is no zombie
    state = field.get("State", "?")[:1]
    kernel_thread = field["Kthread"] == "1" if "Kthread" in field else "VmSize" not in field and state not in "ZX"
    tgid, parent = int(field.get("Tgid", pid)), int(field.get("PPid", 0))
    return ProcStatus(tgid, field.get("Name", "?"), state, kernel_thread, parent, "VmRSS" in field)


def read_comm(pid: int) -> str:
    """The name of a process; "?" once it has ended."""
    text = read_proc(f"{pid}/comm")
    return "?" if isinstance(text, Unread) else text.decode(errors="replace").rstrip("\n")


def read_maps(pid: int) -> list[HostVma] | Unread:
    """The VMAs of a process, ascending. Unread.NO_MEMORY for a kernel thread and for a zombie."""
    text = read_proc(f"{pid}/maps")
    if isinstance(text, Unread):
        return text
    return parse_maps(text) or Unread.NO_MEMORY


def parse_maps(text: bytes) -> list[HostVma]:
    """The lines of /proc/PID/maps. About 1.5 us each."""
    return [_vma(line) for line in text.decode(errors="replace").splitlines()]


def _vma(line: str) -> HostVma:
    span, perms, offset, device, inode, *name = line.split(maxsplit=5)
    start, _, end = span.partition("-")
    return HostVma(int(start, 16), int(end, 16), perms, int(offset, 16), device, int(inode), name[0] if name else "")


def read_smaps(pid: int, start: int) -> dict[str, int] | Unread:
    """The figures of one VMA in /proc/PID/smaps, in bytes; empty if none starts there. The kernel walks all VMAs for it."""
    text = read_proc(f"{pid}/smaps")
    if isinstance(text, Unread):
        return text
    figures: dict[str, int] = {}
    inside = False
    for line in text.decode(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if line[:1].isupper():
            if inside and value.endswith(" kB"):
                figures[key] = int(value.split()[0]) * 1024
        else:
            inside = line.startswith(f"{start:x}-")
    return figures


def by_address_space(pids: Iterable[int]) -> list[list[int]]:
    """Processes grouped by mm (CLONE_VM without CLONE_THREAD makes two of one), each group ascending.

    kcmp(2) orders mms; a process it will not compare (ended, not ours, no CONFIG_KCMP) stays alone, and so does one without
    an mm: a zombie, a kernel thread. O(n log n) calls.
    """
    ascending = sorted(pids)
    comparable = [pid for pid in ascending if _compare_mm(pid, pid) == 0]
    groups = [[pid] for pid in set(ascending).difference(comparable)]
    key = functools.cmp_to_key(_order)
    for _, equal in itertools.groupby(sorted(comparable, key=key), key):
        group = list(equal)
        without = len(group) > 1 and isinstance(read_maps(group[0]), Unread)  # no mm is no common one
        groups += [[pid] for pid in group] if without else [group]
    return sorted(groups)


def nr_sharing(pids: Collection[int]) -> int:
    """How many other processes have the address space of one of these."""
    groups = by_address_space(processes())
    return sum(len(set(group).difference(pids)) for group in groups if not set(group).isdisjoint(pids))


def _order(pid: int, other: int) -> int:
    order = _compare_mm(pid, other)
    return (pid > other) - (pid < other) if order is None else order  # one has ended meanwhile: they are not the same


def _compare_mm(pid: int, other: int) -> int | None:
    """-1, 0 or 1 in an order of the kernel's own; None where it will not say."""
    number = _SYS_KCMP.get(platform.machine())
    order = -1 if number is None else _libc().syscall(number, pid, other, _KCMP_VM, 0, 0)
    return {0: 0, 1: -1, 2: 1}.get(order)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def is_first_pid_namespace() -> bool:
    """Whether every process of the machine can be seen: the initial namespace has a fixed number (PROC_PID_INIT_INO)."""
    try:
        return Path("/proc/self/ns/pid").readlink().name == "pid:[4026531836]"
    except OSError:
        return False
