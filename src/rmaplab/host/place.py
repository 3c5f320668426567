"""Where a question points: what a person types, turned into a page of a process or of a file, or refused in one line.

rmaplab who 4242 7f3a1c400000       an address, in hex
rmaplab who 4242 [heap]             a name of /proc/4242/maps: the first page of it that is there
rmaplab who 4242 libc.so.6+27000    an offset from where the name begins
rmaplab who --file PATH --offset N  a page of a file, wherever it may be mapped
"""

import contextlib
import ctypes
import mmap
import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host import procfs
from rmaplab.host.pagemap import PM_PFN, PM_PRESENT, Pagemap
from rmaplab.host.procfs import PAGE_BYTES, HostVma, Unread

_HEX = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14: a fault that returns an errno where a touch would raise SIGBUS


class Place(NamedTuple):
    """A page of a process: its address is the page's first byte."""

    pid: int
    comm: str
    address: int
    vma: HostVma


class FilePage(NamedTuple):
    """A page of a file as maps names the file. `pfn` is None where it is not in the page cache, or PFNs are hidden."""

    name: str
    file: tuple[str, int]
    pgoff: int
    cached: bool
    pfn: int | None


def find_place(pid: int, address: str) -> Place:
    """The page of process `pid` that `address` names. Raises UsageError: one line per way to be wrong."""
    status = procfs.read_status(pid)
    if isinstance(status, Unread):
        raise UsageError(f"no process {pid}: ps -e lists those there are")
    pid = status.tgid  # a thread's TID is as good
    if status.is_kernel_thread:
        raise UsageError(f"pid {pid} ({status.comm}) is a kernel thread: it has no address space; ask by --pfn instead")
    vmas = procfs.read_maps(pid)
    if isinstance(vmas, Unread):
        raise UsageError(cannot_read(pid, status.comm, vmas))
    at = _parse(pid, vmas, address)
    for vma in vmas:
        if vma.start <= at < vma.end:
            return Place(pid, status.comm, at & -PAGE_BYTES, vma)
    raise UsageError(f"nothing is mapped at {at:#x} in pid {pid} ({status.comm}): {_nearest(vmas, at)}")


def cannot_read(pid: int, comm: str, why: Unread) -> str:
    """One line on a process that gave no answer."""
    return (
        f"pid {pid} ({comm}) "
        + {
            Unread.ENDED: "ended while it was read: ps -e lists those that run",
            Unread.REFUSED: "is not yours to read: run as root, or ask about a process of your own",
            Unread.NO_MEMORY: "has ended, its memory is gone: it only waits for its parent to notice",
            Unread.MISSING: "cannot be read: this kernel has no /proc/PID/pagemap (CONFIG_PROC_PAGE_MONITOR)",
        }[why]
    )


def _parse(pid: int, vmas: Sequence[HostVma], text: str) -> int:
    if number := _HEX.fullmatch(text):
        return int(number[1], 16)
    name, plus, offset = text.rpartition("+")
    name, offset = (name, offset) if plus and _HEX.fullmatch(offset) else (text, "")
    named = [vma for vma in vmas if vma.name and name in (vma.name, vma.name.rpartition("/")[2])]
    if not named:
        raise UsageError(
            f"{text!r} is no address in pid {pid}: write it in hex, such as {vmas[0].start:x}, or a name of "
            f"/proc/{pid}/maps, such as {next((vma.name for vma in vmas if vma.name.startswith('[')), '[stack]')}"
        )
    if offset:
        return named[0].start + int(offset.lower().removeprefix("0x"), 16)
    with contextlib.suppress(OSError), Pagemap(pid) as pagemap:
        for vma in named:
            for start in pagemap.regions(vma.start, vma.end)[:1, 0].tolist():
                return int(start)
    return named[0].start


def _nearest(vmas: Sequence[HostVma], address: int) -> str:
    below = [vma for vma in vmas if vma.end <= address][-1:]
    above = [vma for vma in vmas if vma.start > address][:1]
    parts = [f"the VMA below is {vma}" for vma in below] + [f"above {vma}" for vma in above]
    return ", ".join(parts)


def find_file_page(path: str, offset: int) -> FilePage:
    """Page `offset` // 4096 of a file, if it is in the page cache. Reads nothing from disk, leaves no trace in its atime.

    To learn its PFN we map it ourselves for a moment. Raises UsageError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME | os.O_NONBLOCK)
    except PermissionError:  # O_NOATIME is for the owner
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise UsageError(f"cannot open {path} ({error.strerror}): ask as somebody who may read it") from None
    except OSError as error:
        raise UsageError(f"cannot open {path} ({error.strerror}): give --file a file that exists") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path} is no regular file: only those have pages that processes share by name")
        if not 0 <= offset < found.st_size:
            raise UsageError(f"offset {offset} is beyond the end of {path}: it has {found.st_size} bytes")
        return _map_for_a_moment(fd, path, offset // PAGE_BYTES, found.st_size)
    finally:
        os.close(fd)


def _map_for_a_moment(fd: int, path: str, index: int, size: int) -> FilePage:
    length = min(PAGE_BYTES, size - index * PAGE_BYTES)
    with mmap.mmap(fd, length, prot=mmap.PROT_READ, offset=index * PAGE_BYTES) as mapping:
        mapping.madvise(mmap.MADV_RANDOM)  # or our unmapping would count as a use of the page (zap_present_folio_ptes)
        memory = np.frombuffer(mapping, np.uint8)
        try:
            return _look_at(mapping, int(memory.ctypes.data), path, index)
        finally:
            del memory  # the mapping cannot close while it is lent


def _look_at(mapping: mmap.mmap, address: int, path: str, index: int) -> FilePage:
    vmas = procfs.read_maps(procfs.own_pid())
    vma = None if isinstance(vmas, Unread) else next((v for v in vmas if v.start <= address < v.end), None)
    if vma is None or vma.file is None:
        raise UsageError(f"cannot read /proc/self/maps, which names {path} as others' maps do: is /proc mounted?")
    resident = ctypes.c_ubyte(0)
    got = ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(1), ctypes.byref(resident))
    cached, pfn = got == 0 and bool(resident.value & 1), None
    if cached:
        with contextlib.suppress(OSError), Pagemap(procfs.own_pid()) as own:
            mapping.madvise(_POPULATE_READ)
            entry = own.entry(address) or 0
            pfn = (entry & PM_PFN if entry & PM_PRESENT else 0) or None
    return FilePage(vma.name, vma.file, index, cached, pfn)
