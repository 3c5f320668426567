"""What a process maps, VMA by VMA, counted in pages from its page tables: what is worth asking about.

A page is anonymous or of a file by bit 61 of its entry, shared if bit 56 (mapped exactly once) is clear: nobody needs to see
page frames for that. The zero page counts as no page, as in smaps.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host import pagemap
from rmaplab.host.pagemap import PM_FILE, PM_GUARD_REGION, PM_MMAP_EXCLUSIVE, Pagemap
from rmaplab.host.place import cannot_read, find_process
from rmaplab.host.procfs import PAGE_BYTES, HostVma, Unread
from rmaplab.machine.arrays import I64, U64


class Area(NamedTuple):
    """A VMA and its pages: those in memory, of these the anonymous ones and those that others map too; those swapped out."""

    vma: HostVma
    present: int
    anonymous: int
    shared: int
    swapped: int

    def as_json(self) -> dict[str, Any]:
        """Addresses and offset in bytes, the rest in pages."""
        vma = self.vma
        return {
            "start": vma.start,
            "end": vma.end,
            "perms": vma.perms,
            "offset": vma.offset_bytes,
            "device": vma.device,
            "inode": vma.inode,
            "name": vma.name,
            "present": self.present,
            "anonymous": self.anonymous,
            "shared": self.shared,
            "swapped": self.swapped,
        }


class Areas(NamedTuple):
    """A process and what it maps, ascending."""

    pid: int
    comm: str
    areas: list[Area]

    def as_json(self) -> dict[str, Any]:
        """One object."""
        return {"pid": self.pid, "comm": self.comm, "vmas": [area.as_json() for area in self.areas]}


def areas_of(pid: int) -> Areas:
    """All VMAs of a process. O(pages + VMAs). Raises UsageError where it cannot be read."""
    pid, status, vmas = find_process(pid)
    present, swapped = pagemap.read_present(pid), pagemap.read_present(pid, swapped=True)
    for read in (present, swapped):
        if isinstance(read, Unread):
            raise UsageError(cannot_read(pid, status.comm, read))
    assert not isinstance(present, Unread)
    assert not isinstance(swapped, Unread)
    addresses, words = present
    real = ~_is_zero_page(pid, addresses)
    addresses, words = addresses[real], words[real]
    anonymous = words & np.uint64(PM_FILE) == 0
    shared = words & np.uint64(PM_MMAP_EXCLUSIVE) == 0
    out = swapped[0][swapped[1] & np.uint64(PM_GUARD_REGION) == 0]
    chosen = (addresses, addresses[anonymous], addresses[shared], out)
    counts = zip(*(_count(vmas, which) for which in chosen), strict=True)
    return Areas(pid, status.comm, [Area(vma, *row) for vma, row in zip(vmas, counts, strict=True)])


def _count(vmas: list[HostVma], addresses: U64) -> list[int]:
    """How many of the addresses are in each VMA."""
    starts = np.array([vma.start for vma in vmas], np.uint64)
    ends = np.array([vma.end for vma in vmas], np.uint64)
    low: I64 = np.searchsorted(addresses, starts)
    return [int(nr) for nr in np.searchsorted(addresses, ends) - low]


def _is_zero_page(pid: int, addresses: U64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """By PAGEMAP_SCAN; before Linux 6.7 none is known."""
    inside = np.zeros(len(addresses) + 1, np.int64)
    if len(addresses):
        with contextlib.suppress(OSError), Pagemap(pid) as reader:
            end = int(addresses[-1]) + PAGE_BYTES
            for start, stop, _ in reader.regions(0, end, pagemap.PAGE_IS_PFNZERO):
                inside[np.searchsorted(addresses, start)] += 1
                inside[np.searchsorted(addresses, stop)] -= 1
    return np.cumsum(inside)[:-1] > 0
