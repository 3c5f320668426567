"""A page of a file, by its place in the page cache, whoever maps it: by a path, or through a VMA that maps the file.

    a path             open(2)
    a VMA              /proc/PID/map_files/START-END, which also opens what has no name any more, or never had: deleted, memfd, System V
    is it there?       cachestat(2), else mincore(2): neither reads anything in. Shared memory that is swapped out is known to its page
                       cache alone, as an entry in the page's place: no page table says anything of it
    which frame?       the page is mapped by ourselves for a moment, if it is there and PFNs are shown

Sources: mm/filemap.c (filemap_cachestat), mm/shmem.c (shmem_writeout), fs/proc/base.c (proc_map_files_get_link).
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import stat
import struct
from typing import NamedTuple

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host import procfs
from rmaplab.host.pagemap import PM_PFN, PM_PRESENT, Pagemap, can_see_pfns
from rmaplab.host.procfs import PAGE_BYTES, HostVma, Unread

_SYS_CACHESTAT = 451  # on every architecture, Linux 6.5
_TMPFS = 0x01021994  # include/uapi/linux/magic.h
_libc = ctypes.CDLL(None)


class FilePage(NamedTuple):
    """A page of a file as maps names the file. `pfn` is None where it is not in the page cache, or PFNs are hidden.

    `size` in bytes; `swapped`: its content is in swap, which befalls shared memory only.
    """

    name: str
    file: tuple[str, int]
    pgoff: int
    cached: bool
    pfn: int | None
    size: int
    swapped: bool = False
    is_shared_memory: bool = False

    @property
    def is_beyond_the_end(self) -> bool:
        """To touch it there is SIGBUS."""
        return self.pgoff * PAGE_BYTES >= self.size


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
        page = _map_for_a_moment(fd, offset // PAGE_BYTES, found.st_size)
    finally:
        os.close(fd)
    if page is None:
        raise UsageError(
            f"{path} cannot be mapped page by page, or /proc/self/maps cannot be read: ask by PID and address"
        )
    return page


def page_behind(pid: int, vma: HostVma, index: int) -> FilePage | None:
    """Page `index` of the file that a VMA maps; None where we may not open what it maps, or it has no pages of this size."""
    name = f"{pid}/map_files/{vma.start:x}-{vma.end:x}"
    try:
        if vma.file is None or not stat.S_ISREG(os.stat(f"/proc/{name}").st_mode):  # noqa: PTH116 - to open a device may do anything
            return None
        fd = procfs.open_proc(name)
    except OSError:
        return None
    try:
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NOATIME)
        size = os.fstat(fd).st_size
        if index * PAGE_BYTES >= size:
            return FilePage(vma.name, vma.file, index, cached=False, pfn=None, size=size)
        page = _map_for_a_moment(fd, index, size)
        return page and page._replace(name=vma.name, file=vma.file)
    finally:
        os.close(fd)


def _map_for_a_moment(fd: int, index: int, size: int) -> FilePage | None:
    magic = _file_system(fd)
    length = min(PAGE_BYTES, size - index * PAGE_BYTES)
    try:
        mapping = mmap.mmap(fd, length, prot=mmap.PROT_READ, offset=index * PAGE_BYTES)
    except (OSError, ValueError):  # hugetlbfs has no pages of this size
        return None
    with mapping:
        mapping.madvise(mmap.MADV_RANDOM)  # or our unmapping would count as a use of the page (zap_present_folio_ptes)
        memory = np.frombuffer(mapping, np.uint8)
        address = int(memory.ctypes.data)
        del memory  # the mapping cannot close while it is lent
        cached, swapped = _look_into_cache(fd, index, address, is_shared_memory=magic == _TMPFS)
        vmas = procfs.read_maps(procfs.own_pid())
        vma = None if isinstance(vmas, Unread) else next((v for v in vmas if v.start <= address < v.end), None)
        if vma is None or vma.file is None:
            return None
        pfn = _pfn_of(mapping, address) if cached and can_see_pfns() else None
    return FilePage(vma.name, vma.file, index, cached, pfn, size, swapped, is_shared_memory=magic == _TMPFS)


def _pfn_of(mapping: mmap.mmap, address: int) -> int | None:
    with contextlib.suppress(OSError), Pagemap(procfs.own_pid()) as own:
        _fault_in(mapping)
        entry = own.entry(address) or 0
        return (entry & PM_PFN if entry & PM_PRESENT else 0) or None
    return None


def _fault_in(mapping: mmap.mmap) -> None:
    """Have the kernel read a byte: OSError where a touch of ours would be SIGBUS. MADV_POPULATE_READ would count as a use (FOLL_TOUCH)."""
    reader, writer = os.pipe()
    try:
        with memoryview(mapping) as memory:
            os.write(writer, memory[:1])
    finally:
        os.close(reader)
        os.close(writer)


def _look_into_cache(fd: int, index: int, address: int, *, is_shared_memory: bool) -> tuple[bool, bool]:
    """Whether the page is in the page cache, and whether it is swapped out. mincore says yes to those who may not write the file."""
    span, counts = struct.pack("=QQ", index * PAGE_BYTES, PAGE_BYTES), ctypes.create_string_buffer(5 * 8)
    if _libc.syscall(_SYS_CACHESTAT, fd, span, counts, 0) == 0:
        nr_cached, _, _, nr_evicted, _ = struct.unpack("=5Q", counts.raw)
        return bool(nr_cached), bool(is_shared_memory and nr_evicted)
    resident = ctypes.c_ubyte(0)
    got = _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(1), ctypes.byref(resident))
    cached = got == 0 and bool(resident.value & 1)
    return cached, is_shared_memory and not cached and _holds_data(fd, index)


def _holds_data(fd: int, index: int) -> bool:
    try:
        return os.lseek(fd, index * PAGE_BYTES, os.SEEK_DATA) == index * PAGE_BYTES
    except OSError:  # ENXIO: nothing but a hole up to the end
        return False


def _file_system(fd: int) -> int:
    """Its magic number, the first word of struct statfs; 0 if it cannot be asked."""
    found = ctypes.create_string_buffer(256)
    return int(struct.unpack_from("@l", found)[0]) if _libc.fstatfs(fd, found) == 0 else 0
