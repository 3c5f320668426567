"""swapoff: every page that lies in an area comes back to all who have an entry for it, and then the area is gone.

    slot 1   read, locked --> entries that name it, mm by mm --> nobody names it but the cache: out of the cache, dirty
    slot 2   ...              from the mm on that had one of slot 1, round the mmlist

The kernel goes through the page tables of one mm after another for every single slot, until the slot is used once. Here all tables are read once
a round, by a compiled loop; what the kernel would have looked at is counted from that (`unuse_pte`), and each entry is looked at once more before it is
replaced. What is not found so, because reclaim has put it there since, is looked for again.

A page comes back read-only and old, whoever needs it or not, one by one and with no read-ahead. A page that could not be read is mapped like
others up to 2.6.7 (reclaim.md F.7), and its slot is gone then.

A slot that an object in memory has is looked for at init_mm's place: then all objects are searched (shmem_unuse).

Left out: the rounds of today, which go through each mm once; that 2.6.7 takes mmap_sem; what searching the objects takes; that a chain is allocated
for every mm that is searched (2.6.2), in vain too; signals.

Source: 2.6.2, 2.6.7 mm/swapfile.c, sys_swapoff, try_to_unuse, unuse_process, unuse_pte; reclaim.md F.9.
"""

import errno

import numpy as np

from rmaplab.cache.swap_area import SWAP_MAP_BAD, SWAP_MAP_MAX
from rmaplab.errors import KernelBug, NoMemory, NotModelled, SyscallError
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_DIRTY, PG_WRITEBACK
from rmaplab.machine.pagetable_edit import find_entries
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_swap import shmem_unuse
from rmaplab.mm.swap_in import hold_swapped, map_swapped, put_page, read_swap_cache_async
from rmaplab.objects.mm_types import MmStruct

SECOND = 10**9
INIT_MM = 0
"""In place of its address: no mm_struct is there."""
ENTRY, PTE, ADDRESS, LOOKED_AT = range(4)  # rows of what find_entries finds


def swapoff(k: Kernel, number: int) -> None:
    """sys_swapoff of an area. O(its used slots + all page tables).

    Raises SyscallError: EINVAL, it is not on the list; ENOMEM, overcommit would not promise so much, or there is no memory for a page; EINTR, the OOM killer has
    chosen swapoff. And NoMemory, where a kernel would go on trying. Then the area is back on the list, without what has come back already.
    """
    areas = k.swap.areas
    if number not in list(areas):
        raise SyscallError(errno.EINVAL, "swapoff", f"there is no swap area {number}")
    if k.rules.swapoff_is_charged:
        k.may_promise(areas.areas[number].pages, "swapoff")
    areas.leave(number)
    k.count_swap()
    k.swapoff_runs, k.swapoff_is_killed = True, False
    try:
        _try_to_unuse(k, number)
    except (NoMemory, NotModelled) as failure:
        areas.rejoin(number)
        k.count_swap()
        if k.swapoff_is_killed:
            raise SyscallError(errno.EINTR, "swapoff", str(failure)) from None
        raise failure if isinstance(failure, NotModelled) else failure.or_errno(errno.ENOMEM, "swapoff") from None
    finally:
        k.swapoff_runs = False
        k.machine.end_burst()
    k.swap.release(number)


def _try_to_unuse(k: Kernel, number: int) -> None:
    """Rounds through the area, until no slot is used. Raises NoMemory, NotModelled."""
    area, base = k.swap.areas.areas[number], k.swap.base_of(number)
    start_mm, before = INIT_MM, -1
    while (used := np.flatnonzero((area.users > 0) & (area.users != SWAP_MAP_BAD))).size:
        if (uses := int(area.users[used].sum())) == before:
            raise KernelBug("try_to_unuse", f"slot {used[0]} of area {number} is used, and nobody is found who does")
        before = uses
        search = _Search(k, number)
        for own in used.tolist():
            if area.users[own]:
                start_mm = search.unuse(base + own, start_mm)
                k.machine.end_burst()


class _Search:
    """Where the entries are that name slots of an area: all page tables as they are now, and what a search of each mm looks at."""

    def __init__(self, k: Kernel, number: int) -> None:
        self.k, self.number = k, number
        self._look()

    def _look(self) -> None:
        k = self.k
        self.order = [INIT_MM, *(mm.address for mm in k.mmlist)]
        self.at = {address: place for place, address in enumerate(self.order)}
        self.found: dict[int, list[tuple[int, I64]]] = {}
        """By slot: in which mm (its place in `order`), and the column of find_entries."""
        self.lengths: I64 = np.zeros(len(self.order), np.int64)
        """Entries that a search in vain looks at."""
        base = k.swap.base_of(self.number)
        for file in k.page_cache.files.values():
            for index, slot in file.slots.items():
                self.found.setdefault(slot, []).append((INIT_MM, np.array([file.address, 0, index, 0])))
        for place, address in enumerate(self.order[1:], 1):
            columns, self.lengths[place] = _entries_of(k, k.mms[address], self.number)
            slots = k.machine.encoding.swap_slots(columns[ENTRY])[1] + base
            for row, slot in enumerate(slots.tolist()):
                self.found.setdefault(slot, []).append((place, columns[:, row]))

    def unuse(self, slot: int, start_mm: int) -> int:
        """One slot: its page comes in, and to all who have an entry for it. Returns the mm to begin the next search with. Raises NoMemory, NotModelled."""
        k, swap, flags = self.k, self.k.swap, self.k.machine.frames.flags
        pfn = read_swap_cache_async(k, slot)
        if pfn < 0:
            return start_mm
        swap.wait_for(pfn)
        while flags[pfn] & PG_WRITEBACK:
            k.machine.disk.congestion_wait(SECOND)
        lock = k.machine.locks.bit("PG_locked", pfn)
        k.machine.locks.take(lock)
        try:
            if k.rules.swap_in_needs_uptodate and not swap.errors.is_uptodate(slot):
                raise NotModelled(
                    "swapoff of a slot that cannot be read, which leaves a mark today: use 2.6.2 to 2.6.7"
                )
            start_mm = self._go_round(slot, pfn, start_mm)
            if swap.users[slot] > 1 and swap.cached.get(slot) == pfn:
                self._look()
                start_mm = self._go_round(slot, pfn, start_mm)
            if swap.cached.get(slot) == pfn:
                self._leave_cache(slot, pfn)
            flags[pfn] |= np.uint32(PG_DIRTY)
        finally:
            k.machine.locks.drop(lock)
            put_page(k, pfn)
        return start_mm

    def _leave_cache(self, slot: int, pfn: int) -> None:
        """Who still names the slot, however that may be, will find its bytes there."""
        swap = self.k.swap
        if swap.users[slot] == SWAP_MAP_MAX:
            swap.users[slot] = 1
        if swap.users[slot] > 1 and self.k.machine.frames.flags[pfn] & PG_DIRTY:
            swap.write(np.array((pfn,), np.int64))
        swap.delete(pfn)

    def _go_round(self, slot: int, pfn: int, start_mm: int) -> int:
        """The mms from `start_mm` on, until nobody but the cache uses the slot: the first of them that had an entry; behind init_mm, if it came to that."""
        users, nr = self.k.swap.users, len(self.order)
        start = self.at.get(start_mm, 0)
        if users[slot] <= 1:
            return self.order[start]
        found = sorted(self.found.get(slot, ()), key=lambda where: (where[0] - start) % nr)
        first, is_set, behind_init = start, False, start == 0
        looked_at, last = 0, nr - 1
        for place, column in found:
            if place < start and not behind_init:
                behind_init, is_set = True, False
            looked_at += int(column[LOOKED_AT]) - int(self.lengths[place])
            if self._unuse_one(self.order[place], column, pfn, slot) and not is_set:
                first, is_set = place, True
            if users[slot] <= 1:
                last = (place - start) % nr
                break
        round_ = np.roll(self.lengths, -start)
        self.k.machine.charge("unuse_pte", looked_at + int(round_[: last + 1].sum()))
        return self.order[first]

    def _unuse_one(self, mm_address: int, column: I64, pfn: int, slot: int) -> bool:
        """An entry of an mm; at init_mm's place an object's. Raises NoMemory."""
        if mm_address == INIT_MM:
            return shmem_unuse(self.k, int(column[ENTRY]), int(column[ADDRESS]), slot, pfn)
        return self._unuse_pte(mm_address, column, pfn, slot)

    def _unuse_pte(self, mm_address: int, column: I64, pfn: int, slot: int) -> bool:
        """One entry, if it is still there. Raises NoMemory."""
        k = self.k
        mm, address = k.mms.get(mm_address), int(column[ADDRESS])
        vma = None if mm is None else mm.find_vma(address)
        if vma is None or vma.start > address:
            return False
        was = int(column[ENTRY]), int(column[PTE])
        with k.batch() as batch:
            hold_swapped(k, vma, batch, pfn, address, was[1], accessed=0)
            try:
                k.design.reserve(batch)
                return map_swapped(k, vma, batch, was, slot)
            finally:
                k.design.unreserve()


def _entries_of(k: Kernel, mm: MmStruct, number: int) -> tuple[I64, int]:
    """(Columns of the entries of an mm that name the area, in the order of a search; how many entries a search looks at.)"""
    mask, wanted = k.machine.encoding.swap_bits(number)
    room = 64
    while True:
        found: I64 = np.empty((4, room), np.int64)
        nr = looked_at = 0
        for vma in mm.vmas:
            nr, looked_at = find_entries(
                *k.machine.geometry, mm.pgd, vma.start, vma.end, mask, wanted, found, nr, looked_at
            )
        if nr <= room:
            return found[:, :nr], looked_at
        room = nr
