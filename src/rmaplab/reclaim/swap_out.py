"""swap_out of 2.4: no page says who maps it, so address spaces are gone through, a bit at a time, and lose what looks old.

    mmlist   init_mm --> mm 1 --> mm 2 --> mm 3 --> ...           swap_mm: where the last one has stopped
                                   |
             VMA [................]  VMA [......................]
                                          ^ mm->swap_address: where the next one goes on, behind a page-table entry

An entry, in this order:
    VM_LOCKED, or young (old from now on)      the page was used (mark_page_accessed): it stays
    its page is active, or of a zone that is   it stays
    not wanted, or locked
    its page is in the swap cache              the entry becomes a swap entry
    its page is a file's, or was never         the entry goes: it can be had again
    written to
    swap is full                               it stays, old
    else                                       the page gets a slot and comes into the swap cache, dirty and not referenced; a swap entry

32 entries whose page nobody else has are wanted. No page is freed here but who was never written to: shrink_cache finds the others with one reference left.
It ends with success behind that entry; at the end of a VMA that is the last of its mm the cursor says that the mm is done, whatever was wanted. In Linux that is
a program's stack. Here programs have none, as a rule: then it is as if it lay behind the last VMA. (Else an mm whose memory lies in one VMA would be begun anew from its first
entry for each 32, whatever has gone there, as no program's was.)

A page that several map has left one of them, and is in the swap cache; the others lose it when they are come by, as long as they have not used it.

A table full of entries is one loop (`swap_out_range`), and what it has taken is dealt with behind it, under the same page_table_lock. pte_scan counts entries
looked at.

Left out: entries of devices are passed over. Buffers of a page that was written, which count as no reference here.
Who drives from outside, or acts while somebody else stands still, cannot wait for a page_table_lock: he passes the mm over.

Source: 2.4.27 mm/vmscan.c, swap_out, swap_out_mm, swap_out_vma, try_to_swap_out; mm/filemap.c, add_to_page_cache_unique; reclaim.md C.4, C.5.
"""

import numpy as np

from rmaplab.machine.arrays import I32, I64, U32, Words
from rmaplab.machine.batch import Batch, note
from rmaplab.machine.entries import ACCESSED, DIRTY, PFN_MASK
from rmaplab.machine.frames import (
    PG_ACTIVE,
    PG_ANON,
    PG_DIRTY,
    PG_LOCKED,
    PG_LRU,
    PG_REFERENCED,
    PG_RESERVED,
    PG_SWAPCACHE,
    ZERO_PFN,
    put_runs,
)
from rmaplab.machine.jit import kernel
from rmaplab.machine.locks import Lock
from rmaplab.machine.pagetable import leaf, lookup
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.driver import is_device
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mm_struct import mmput
from rmaplab.objects.flags import VM_GROWSDOWN, VM_LOCKED, VM_RESERVED
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.reclaim.page_out import add_all_to_swap
from rmaplab.units import PAGE_SHIFT


class SwapOut:
    """The cursors of one kernel are in its mmlist and its mms; here is what goes by them."""

    def __init__(self, k: Kernel) -> None:
        self.k = k

    def swap_out(self, classzone: int) -> bool:
        """Take entries from up to all address spaces, twice each and one more: whether 32 were found. `classzone`: the number of the highest zone wanted."""
        k, goal = self.k, SWAP_CLUSTER_MAX
        counter = 2 * k.mmlist.nr
        while counter >= 0:
            k.machine.locks.pass_through(k.mmlist_lock)
            k.rmap.walk_locks[k.mmlist_lock.type.name] += 1
            mm = self._next_mm()
            if mm is None:
                return False
            mm.users += 1
            goal, is_done = self._swap_out_mm(mm, goal, classzone)
            mmput(k, mm)
            if not goal:
                return True
            counter -= is_done
        return False

    def _next_mm(self) -> MmStruct | None:
        """Whose turn it is. Those who are done begin anew the next time."""
        mmlist, end = self.k.mmlist, self.k.machine.paging.task_size
        mm = mmlist.swap_mm
        while mm is None or mm.swap_address == end:
            if mm is not None:
                mm.swap_address = 0
            after = mmlist.next(mm)
            if after is mm:
                return None
            mm = mmlist.swap_mm = after
        return mm

    def _swap_out_mm(self, mm: MmStruct, goal: int, classzone: int) -> tuple[int, bool]:
        """(What is still wanted, whether that counts as one mm: somebody else may have finished it meanwhile.)"""
        machine, end = self.k.machine, self.k.machine.paging.task_size
        if not self._take(mm.page_table_lock):
            return goal, True
        try:
            if mm.swap_address == end or self.k.mmlist.swap_mm is not mm:
                return goal, False
            machine.charge("swap_out_mm")
            vma = mm.find_vma(mm.swap_address)
            address = max(mm.swap_address, vma.start) if vma is not None else 0
            while vma is not None:
                goal = self._swap_out_vma(vma, address, goal, classzone)
                is_stack = vma.flags & VM_GROWSDOWN
                _, vma = mm.neighbours(vma)
                if not goal and (vma is not None or not is_stack):
                    return goal, True
                if vma is not None:
                    address = vma.start
            mm.swap_address = end
            return goal, True
        finally:
            machine.end_burst()
            machine.locks.drop(mm.page_table_lock)

    def _take(self, lock: Lock) -> bool:
        """Waiting for it, where somebody runs who can give it back."""
        locks = self.k.machine.locks
        taken = True
        if self.k.machine.sched.current is None:
            taken = locks.try_take(lock)
        else:
            locks.take(lock)
        self.k.rmap.walk_locks[lock.type.name] += taken
        return taken

    def _swap_out_vma(self, vma: VmArea, address: int, goal: int, classzone: int) -> int:
        """From `address` to its end, or until nothing is wanted any more: what is."""
        self.k.machine.charge("swap_out_vma")
        if vma.flags & VM_RESERVED or is_device(vma):
            return goal
        while address < vma.end and goal:
            stop = self.k.burst_end(address, vma.end)
            goal = self._swap_out_burst(vma, address, stop, goal, classzone)
            address = stop
        return goal

    def _swap_out_burst(self, vma: VmArea, start: int, end: int, goal: int, classzone: int) -> int:
        """The entries of [start, end): what is wanted now. swap_address is behind the last one looked at."""
        k, machine, mm, frames = self.k, self.k.machine, vma.mm, self.k.machine.frames
        lock = self._page_lock(mm, start)
        is_busy = lock is not None and not machine.locks.try_take(lock)
        used = np.empty((end - start) >> PAGE_SHIFT, np.int64)
        class_end = 0 if is_busy else machine.allocator.zones[classzone].end
        with k.batch() as batch:
            batch.runs, batch.nr, goal, mm.swap_address, scanned, nr_used, refused = swap_out_range(
                *machine.geometry, mm.pgd, machine.mapped, start, end, bool(vma.flags & VM_LOCKED),
                frames.flags, frames.mapping, frames.count, class_end, max(k.swap.nr_free, 0), goal, batch.columns, used,
            )  # fmt: skip
            machine.charge("pte_scan", scanned)
            if nr_used:
                self._activate(used[:nr_used])
            if batch.nr + refused:
                machine.tlb.flush_page(mm, batch.nr + refused)
            if batch.nr:
                goal += self._replace(vma, batch)
        if lock is not None and not is_busy:
            machine.locks.drop(lock)
        return goal

    def _page_lock(self, mm: MmStruct, address: int) -> Lock | None:
        """The bit lock of the page there, where somebody may really hold it: then a burst is one page."""
        machine = self.k.machine
        if not machine.watched:
            return None
        entry, _ = lookup(*machine.geometry, mm.pgd, address)
        return machine.locks.bit("PG_locked", (entry >> PAGE_SHIFT) & PFN_MASK) if entry & machine.mapped else None

    def _activate(self, pages: I64) -> None:
        """Used for the second time, and inactive: mark_page_accessed."""
        flags = self.k.machine.frames.flags
        self.k.machine.allocator.lru.activate(pages)
        flags[pages] &= ~np.uint32(PG_REFERENCED)
        self.k.machine.charge("pgactivate", pages.size)

    def _replace(self, vma: VmArea, batch: Batch) -> int:
        """What has lost its entries gets what is to stand there, and goes: how many goals that was less, as there was no slot after all."""
        k, machine, frames = self.k, self.k.machine, self.k.machine.frames
        pfns, ptes, entries = batch.pfns, batch.ptes, np.zeros(batch.nr, np.int64)
        flags = frames.flags[pfns]
        of_files = (frames.mapping[pfns] != 0) & (flags & PG_ANON == 0)
        swapped = (flags & (PG_SWAPCACHE | PG_DIRTY) != 0) & ~of_files
        self._add_to_swap(pfns[swapped & (flags & PG_SWAPCACHE == 0)])
        back = swapped & (frames.flags[pfns] & PG_SWAPCACHE == 0)
        swapped &= ~back
        slots = frames.private[pfns[swapped]]
        k.swap.use_all(slots)
        entries[swapped], entries[back] = k.swap.entries(slots), batch.entries[back]
        machine.words[ptes // machine.paging.entry_bytes] = entries.astype(machine.words.dtype)
        gone, missed = batch, 0
        if back.any():
            missed = int((frames.count[pfns[back]] == 1).sum())
            gone = batch.select(~back)
        if gone.nr:
            vma.mm.rss -= gone.nr
            k.rmap.remove(gone)
            freed = np.empty(gone.nr, np.int64)
            nr = put_runs(frames.count, gone.columns, gone.runs, freed)
            machine.allocator.free(freed[:nr])
            machine.charge("page_free", nr)
            machine.charge("swap_out", gone.nr)
        return missed

    def _add_to_swap(self, pages: I64) -> None:
        """get_swap_page and add_to_swap_cache of each, in order, as far as there are slots."""
        pages = pages[: add_all_to_swap(self.k, pages)]
        self.k.machine.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)


@kernel
def swap_out_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, vm_locked: bool,
    flags: U32, mapping: I64, count: I32, class_end: int, slots: int, goal: int, pages: I64, used: I64,
) -> tuple[int, int, int, int, int, int, int]:  # fmt: skip
    """try_to_swap_out for the entries of [start, end), until `goal` of them had a page that nobody else has. Those that go are cleared, and in `pages`.

    Pages below `class_end` may go, and up to `slots` of them into the swap cache. `used`: pages that were used once more, and are inactive.
    Returns (runs, pages, the goal that is left, where it has come to, entries looked at, pages used, entries that stay for want of a slot).
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = scanned = nr_used = refused = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                scanned += 1
                entry = np.int64(words[first + i])
                pfn = (entry >> 12) & PFN_MASK
                if not entry & mapped or pfn == ZERO_PFN or pfn >= flags.size or flags[pfn] & PG_RESERVED:
                    continue
                flag = np.int64(flags[pfn])
                if vm_locked or entry & ACCESSED:
                    if not vm_locked:
                        words[first + i] = entry & ~np.int64(ACCESSED)
                    if not flag & PG_REFERENCED:
                        flags[pfn] = np.uint32(flag | PG_REFERENCED)
                    elif flag & (PG_LRU | PG_ACTIVE) == PG_LRU:
                        used[nr_used] = pfn
                        nr_used += 1
                    continue
                if flag & (PG_ACTIVE | PG_LOCKED) or pfn >= class_end:
                    continue
                if entry & DIRTY:
                    flag |= PG_DIRTY
                    flags[pfn] = np.uint32(flag)
                is_files = mapping[pfn] != 0 and not flag & PG_ANON
                is_new = not is_files and flag & (PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
                if is_new:
                    if not slots:
                        refused += 1
                        continue
                    slots -= 1
                words[first + i] = 0
                runs = note(pages, runs, pfn, (first + i) * size, address + (i << 12), entry, size)
                nr += 1
                if count[pfn] + is_new <= 2:
                    goal -= 1
                    if not goal:
                        return runs, nr, goal, address + ((i + 1) << 12), scanned, nr_used, refused
        address = stop
    return runs, nr, goal, end, scanned, nr_used, refused
