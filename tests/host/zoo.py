"""A zoo of memory: two processes with a page of every kind, known by construction. Run as a program, it prints what it made, and waits.

    keeper      changes settings of the machine, starts A, and undoes them when its stdin ends, whatever became of its starter
      `-- A     makes every kind of memory, forks B, writes on
          `-- B     copies some pages, moves some, touches some

    who maps what           by tables, as in fork_tree.py: a label is a page, and no /proc was read for it
    where there is none     by name of the place: a guard region, a hole, an address beyond the end of the file ...
    missing                 kinds that this kernel or this machine does not offer, and its own word why

Settings: pages of nr_hugepages, KSM's run, THP's enabled (only where it is "never"), and a swap file. One zoo runs at a time
(machine_settings.py), so that what is undone is what was there before.

Usage: python -m tests.host.zoo FOLDER: FOLDER takes the files that are mapped, and the swap file.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from . import fork_tree as tree
from . import machine_settings
from .fork_tree import MAP_PRIVATE, MAP_SHARED, PAGE, libc, ok

HUGE = 512
_NAMES = """
    anonymous moved moved_by_child dontfork wipeonfork guard locked huge small_folio hugetlb hugetlb_shared
    ksm swapped shared_swapped memfd sysv tmpfs deleted dirty clean clean_untouched perf perf_again bpf_map
    zero huge_zero missing untouched no_access past_end uncached unmapped memfd_untouched
"""
KINDS = _NAMES.split()
AT = {name: tree.BASE + i * (16 << 20) for i, name in enumerate(KINDS)}
_COPIED = "anonymous moved moved_by_child guard locked huge small_folio hugetlb ksm bpf_map"
AWAY = 8 << 20
"""Where moved memory goes, from where it was."""

MAP_HUGETLB = 0x40000
MADV_DONTFORK, MADV_WIPEONFORK, MADV_MERGEABLE, MADV_PAGEOUT, MADV_GUARD_INSTALL = 10, 18, 12, 21, 102
SYS_PERF_EVENT_OPEN, SYS_BPF, SYS_USERFAULTFD = 298, 321, 323  # x86-64
PR_SET_CHILD_SUBREAPER = 36


class Keeper(tree.Process):
    """A process of the zoo: what it maps (`table`), and what there is not here (`missing`)."""

    def __init__(self, name: str, table: tree.Table) -> None:
        super().__init__(name, table)
        self.missing: dict[str, str] = {}

    def child(self, name: str) -> Self:
        """It knows what is missing."""
        child = super().child(name)
        child.missing = dict(self.missing)
        return child

    def report(self) -> list[object]:
        return [*super().report(), self.missing]

    def fork_table(self) -> tree.Table:
        """Entries of VMAs with an anon_vma, or of VM_MIXEDMAP, are copied (vma_needs_copy), but not where advice forbids it."""
        spans = [range(AT[name], AT[name] + (16 << 20)) for name in _COPIED.split()]
        return {address: label for address, label in self.table.items() if any(address in span for span in spans)}

    @contextlib.contextmanager
    def may_miss(self, name: str) -> Iterator[None]:
        """What fails in here is missing on this machine: its errno is told."""
        try:
            yield
        except OSError as error:
            self.missing[name] = machine_settings.said(error)

    def grow(self, name: str, nr_pages: int, flags: int, fd: int = -1, *, write: bool = True) -> int:
        """Map memory of this kind, and write all of it."""
        tree.mmap(AT[name], nr_pages, flags, fd)
        if write and flags & MAP_SHARED:
            self.touch(AT[name], name, *range(nr_pages), write=True)
        elif write:
            self.write(AT[name], *range(nr_pages))
        return AT[name]


def as_a(a: Keeper, folder: Path) -> None:
    private_memory(a)
    large_memory(a)
    shared_memory(a)
    files(a, folder)
    what_has_no_reverse_map(a)
    swapped(a)


def private_memory(a: Keeper) -> None:
    a.grow("anonymous", 4, MAP_PRIVATE)
    a.grow("moved", 2, MAP_PRIVATE)
    move(a, "moved")
    a.grow("moved_by_child", 2, MAP_PRIVATE)
    tree.madvise(a.grow("dontfork", 2, MAP_PRIVATE), 2, MADV_DONTFORK)
    tree.madvise(a.grow("wipeonfork", 2, MAP_PRIVATE), 2, MADV_WIPEONFORK)
    with a.may_miss("guard"):
        tree.madvise(a.grow("guard", 3, MAP_PRIVATE) + PAGE, 1, MADV_GUARD_INSTALL)
        a.forget(AT["guard"], 1)
    ok(libc.mlock(ctypes.c_void_p(a.grow("locked", 2, MAP_PRIVATE)), ctypes.c_size_t(2 * PAGE)))
    with a.may_miss("ksm"):
        a.grow("ksm", 2, MAP_PRIVATE, write=False)
        tree.madvise(AT["ksm"], 2, MADV_MERGEABLE)
        for page in range(2):  # no other page on the machine looks like these
            ctypes.memmove(AT["ksm"] + page * PAGE, f"rmaplab's zoo {os.getpid()}".encode() * 64, 64)
            a.table[AT["ksm"] + page * PAGE] = "ksm"
    for name, write in (("zero", False), ("untouched", False), ("missing", False)):
        a.grow(name, 2, MAP_PRIVATE, write=write)
    ctypes.string_at(AT["zero"], 1)
    a.grow("no_access", 2, MAP_PRIVATE, write=False)
    ok(libc.mprotect(ctypes.c_void_p(AT["no_access"]), ctypes.c_size_t(2 * PAGE), 0))
    with a.may_miss("missing"):
        watch(AT["missing"], 2)


def move(process: tree.Process, name: str) -> None:
    """Mremap a kind's two pages: the table goes with them."""
    size, start = ctypes.c_size_t(2 * PAGE), AT[name]
    flags = tree.MREMAP_MAYMOVE | tree.MREMAP_FIXED
    ok(libc.mremap(ctypes.c_void_p(start), size, size, flags, ctypes.c_void_p(start + AWAY)))
    for page in range(2):
        process.table[start + AWAY + page * PAGE] = process.table.pop(start + page * PAGE)


def watch(start: int, nr_pages: int) -> None:
    """Userfaultfd for pages that are missing: UFFDIO_API, UFFDIO_REGISTER (include/uapi/linux/userfaultfd.h)."""
    fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | 1)  # UFFD_USER_MODE_ONLY
    ok(fd)
    fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("=QQQ", 0xAA, 0, 0)))
    fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("=QQQQ", start, nr_pages * PAGE, 1, 0)))


def large_memory(a: Keeper) -> None:
    """A page of the upper level, a folio of 16 pages, hugetlb of our own and shared, the huge zero page."""
    a.grow("huge", HUGE, MAP_PRIVATE, write=False)
    tree.madvise(AT["huge"], HUGE, tree.MADV_HUGEPAGE)
    a.write(AT["huge"], *range(HUGE))
    a.grow("small_folio", 16, MAP_PRIVATE, write=False)
    tree.madvise(AT["small_folio"], 16, tree.MADV_HUGEPAGE)
    a.write(AT["small_folio"], *range(16))
    if "hugetlb" not in a.missing:
        a.grow("hugetlb", HUGE, MAP_PRIVATE | MAP_HUGETLB)
        a.grow("hugetlb_shared", HUGE, MAP_SHARED | MAP_HUGETLB)
    a.grow("huge_zero", HUGE, MAP_PRIVATE, write=False)
    tree.madvise(AT["huge_zero"], HUGE, tree.MADV_HUGEPAGE)
    ctypes.string_at(AT["huge_zero"], 1)


def shared_memory(a: Keeper) -> None:
    fd = os.memfd_create("zoo")
    os.ftruncate(fd, 4 * PAGE)
    a.grow("memfd", 2, MAP_SHARED, fd)
    segment = libc.shmget(0, ctypes.c_size_t(2 * PAGE), 0o1600)
    ok(segment)
    libc.shmat.restype = ctypes.c_void_p
    ok(libc.shmat(segment, ctypes.c_void_p(AT["sysv"]), 0))
    libc.shmctl(segment, 0, None)  # IPC_RMID: it goes with us
    a.touch(AT["sysv"], "sysv", 0, 1, write=True)
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(2 * PAGE)
        a.grow("tmpfs", 2, MAP_SHARED, file.fileno())
    tree.mmap(AT["memfd_untouched"], 2, MAP_SHARED, fd)  # the first two pages of the memfd, which nobody touches here
    tree.mmap(AT["past_end"], 4, MAP_SHARED, fd)
    os.ftruncate(fd, 2 * PAGE)
    fd = os.memfd_create("zoo unmapped")
    os.write(fd, bytes(2 * PAGE))
    tree.mmap(AT["unmapped"], 2, MAP_SHARED, fd)


def files(a: Keeper, folder: Path) -> None:
    """Each of 2 pages: deleted, dirty, clean and mapped again where nobody touches it; and one that holds nothing but a hole."""
    for name in ("deleted", "dirty", "clean"):
        path = folder / name
        path.write_bytes(b"zoo" * PAGE)
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        a.grow(name, 2, MAP_SHARED, fd, write=name != "clean")
    (folder / "deleted").unlink()
    a.touch(AT["clean"], "clean", 0, 1)
    tree.mmap(AT["clean_untouched"], 2, MAP_PRIVATE, fd)
    fd = os.open(folder / "hole", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 * PAGE)
    tree.mmap(AT["uncached"], 2, MAP_SHARED, fd)


def what_has_no_reverse_map(a: Keeper) -> None:
    """Two rings of perf and a map of BPF: their files are all one anon_inode, their pages in no file."""
    for name in ("perf", "perf_again"):
        with a.may_miss(name):
            attributes = bytearray(128)
            struct.pack_into("=IIQ", attributes, 0, 1, 128, 9)  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY
            c_attributes = (ctypes.c_char * 128).from_buffer(attributes)
            fd = libc.syscall(SYS_PERF_EVENT_OPEN, c_attributes, 0, -1, -1, 0)
            ok(fd)
            tree.mmap(AT[name], 3, MAP_SHARED, fd)
            ctypes.string_at(AT[name], 1)
    with a.may_miss("bpf_map"):
        array = (ctypes.c_char * 128).from_buffer(bytearray(struct.pack("=5I", 2, 4, PAGE, 2, 1 << 10) + bytes(108)))
        fd = libc.syscall(SYS_BPF, 0, array, 128)  # BPF_MAP_CREATE of an array that may be mapped
        ok(fd)
        tree.mmap(AT["bpf_map"], 2, MAP_SHARED, fd)
        a.touch(AT["bpf_map"], "bpf_map", 0, 1, write=True)


def swapped(a: Keeper) -> None:
    """The last before the fork: pages that are mapped twice are not paged out."""
    for name, flags in (("swapped", MAP_PRIVATE), ("shared_swapped", MAP_SHARED)):
        if name in a.missing:
            continue
        a.grow(name, 2, flags)
        for _ in range(3):  # a page that is not on its LRU list yet is passed over
            tree.madvise(AT[name], 2, MADV_PAGEOUT)
        a.forget(AT[name], 0, 1)


def as_b(b: Keeper) -> None:
    b.write(AT["anonymous"], 1, 3)
    move(b, "moved_by_child")
    b.write(AT["wipeonfork"], 1)
    if "ksm" not in b.missing:
        b.write(AT["ksm"], 1)
    for name in ("memfd", "tmpfs", "bpf_map"):
        if name not in b.missing:
            b.touch(AT[name], name, 0, write=True)
    b.touch(AT["dirty"], "dirty", 0, 1, write=True)  # both: they may be one folio, of which a fault may map all
    if "hugetlb" not in b.missing:
        b.touch(AT["hugetlb_shared"], "hugetlb_shared", *range(HUGE))
    if "swapped" not in b.missing:
        b.touch(AT["swapped"], "swapped", 1)


def with_b(a: Keeper) -> tree.Family:
    family = tree.fork("B", a, as_b, then=lambda _: [])
    a.write(AT["anonymous"], 2, 3)
    return family


def main() -> None:
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what was changed is undone first
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        machine_settings.alone(stack)
        folder = Path(sys.argv[1])
        keeper = Keeper("keeper", {})
        keeper.missing = machine_settings.change(stack, folder)
        family = tree.fork("A", keeper, lambda a: as_a(a, folder), with_b)
        stack.callback(bury, [int(str(pid)) for _, pid, *_ in family])
        sys.stdout.write(json.dumps(family) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def bury(pids: list[int]) -> None:
    """End the two, and wait until their memory is gone."""
    for pid in reversed(pids):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
