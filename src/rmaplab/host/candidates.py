"""The VMAs that the kernel's own walk would visit to find who maps a page, and what it would find there.

The kernel keeps VMAs, not entries: for a page of a file all VMAs of the inode that cover the page's index, by the interval
tree i_mmap. Whoever has not touched the page yet, or has a copy of its own by now, is visited in vain.

    /proc/7/maps   400000-600000 r--p offset 0      index 16 at 410000:  the page
    /proc/8/maps   700000-800000 rw-p offset 10000  index 16 at 700000:  a copy of its own     in vain
    /proc/9/maps   400000-600000 r--p offset 0      index 16 at 410000:  no entry              in vain

Sources: mm/rmap.c (rmap_walk_file), mm/interval_tree.c.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rmaplab.host import procfs
from rmaplab.host.pagemap import PM_FILE, PM_GUARD_REGION, PM_PFN, PM_PRESENT, PM_SWAP, Pagemap
from rmaplab.host.procfs import HostVma, Unread

SLOT_TYPE_BITS = 5
_MARKER = 31  # SWP_PTE_MARKER, include/linux/swap.h
_SWAP_TYPES = 23  # at least so many of the 32 types are areas of swap, the last ones never are (MAX_SWAPFILES)


class Visit(NamedTuple):
    """A place where an entry for the page is, or might have been: `miss` then says what stands there instead."""

    pid: int
    comm: str
    address: int
    vma: HostVma | None
    miss: str = ""

    def as_json(self) -> dict[str, Any]:
        """Addresses are ints."""
        vma = self.vma
        keys = {"start": vma.start, "end": vma.end, "perms": vma.perms, "name": vma.name} if vma else None
        return {"pid": self.pid, "comm": self.comm, "address": self.address, "vma": keys}


def file_of(vma: HostVma) -> tuple[str, int] | None:
    """The file whose pages a VMA may map. Not an anon_inode: perf, eventfd, BPF ... share one inode, and have no page in its cache."""
    return None if vma.name.startswith("anon_inode:") else vma.file


def file_candidates(file: tuple[str, int], index: int, pfn: int | None, prefer: int | None = None) -> list[Visit]:
    """Every VMA of an inode that covers `index`, as rmap_walk_file visits them (i_mmap, an interval tree over vm_pgoff).

    Without a PFN, an entry for a page of a file at the same index of the same file is the same page.
    """
    visits = []
    for pid in procfs.processes():
        text = procfs.read_proc(f"{pid}/maps")
        if isinstance(text, Unread) or b" %d " % file[1] not in text:
            continue
        with_index = [(vma, vma.address_of(index)) for vma in procfs.parse_maps(text) if vma.file == file]
        covering = [(vma, address) for vma, address in with_index if address is not None]
        if covering:
            comm = procfs.read_comm(pid)
            visits += [Visit(pid, comm, address, vma, _miss(pid, address, pfn)) for vma, address in covering]
    return one_per_address_space(visits, prefer)


def _miss(pid: int, address: int, pfn: int | None) -> str:
    """What stands at `address` instead of the page; "" if it is the page."""
    try:
        with Pagemap(pid) as reader:
            entry = reader.entry(address)
    except OSError:
        entry = None
    if entry is None:
        return "ended, or not ours to read"
    if entry & PM_PRESENT and (bool(entry & PM_FILE) if pfn is None else entry & PM_PFN == pfn):
        return ""
    return miss_of(entry)


def miss_of(entry: int) -> str:
    """What an entry is that is not the page, in words."""
    if entry & PM_PRESENT:
        return "a page of the file" if entry & PM_FILE else "a copy of its own"
    if entry & PM_GUARD_REGION:
        return "a guard region"
    return no_page_words(entry & PM_PFN) if entry & PM_SWAP else "no entry"


def no_page_words(slot: int) -> str:
    """What an entry is that is neither empty nor present, by its type: PFNs hidden, that is not known either."""
    kind = slot & (1 << SLOT_TYPE_BITS) - 1
    if kind == _MARKER:
        return "a marker (of userfaultfd, or poison)"
    if kind >= _SWAP_TYPES:
        return "on its way to another frame, or poisoned"
    return "swapped out" if slot else "swapped out, or on its way to another frame"  # slot 0 of an area is its header


def visits_of(found: Iterable[tuple[int, int]]) -> list[Visit]:
    """What stands around entries that were found by (pid, address), in runs of one process."""
    visits, pid_before, comm = [], None, "?"
    vmas: Sequence[HostVma] = []
    for pid, address in found:
        if pid != pid_before:
            pid_before, comm, maps = pid, procfs.read_comm(pid), procfs.read_maps(pid)
            vmas = [] if isinstance(maps, Unread) else maps
        i = bisect.bisect_right(vmas, address, key=lambda vma: vma.start) - 1
        vma = vmas[i] if i >= 0 and address < vmas[i].end else None
        visits.append(Visit(pid, comm, address, vma))
    return visits


def one_per_address_space(visits: list[Visit], prefer: int | None) -> list[Visit]:
    """Processes that share an mm have one entry between them: it is shown with the one asked about, or the first."""
    keep = {}
    for group in procfs.by_address_space({visit.pid for visit in visits}):
        keep[prefer if prefer in group else group[0]] = True
    return [visit for visit in visits if visit.pid in keep]
