"""What truncate does to nonlinear VMAs, where it knows of them: each is looked at whole, for pages of the part that goes.

    before   |[9]|[2]|[7]|f 8|     truncate to 5 pages     |f 9|[2]|f 7|f 8|      a file entry stays where page->index is not the linear one

So a touch of such a place finds the file entry, and is SIGBUS as long as the file does not reach so far. Where only linear places are looked at (up to 2.6.5)
the pages stay mapped instead, and are nobody's.

Source: 2.6.7 mm/memory.c, unmap_mapping_range, zap_pte_range (details->nonlinear_vma); files.md D1.
"""

from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.objects.mm_types import Range, VmArea


def unmap_nonlinear(k: Kernel, vma: VmArea, first: int, last: int, within: Range | None = None) -> None:
    """`vma` maps no page of [first, last] of its file any more, or none `within` a part of it. Whoever truncates has the file's lock."""
    k.lock_entries(vma.mm)
    address, end = within or (vma.start, vma.end)
    with MmuGather(k, vma.mm) as tlb:
        while address < end:
            stop = k.burst_end(address, end)
            _unmap_burst(k, tlb, vma, address, stop, first, last)
            address = stop
    k.unlock_entries(vma.mm)


def _unmap_burst(k: Kernel, tlb: MmuGather, vma: VmArea, start: int, end: int, first: int, last: int) -> None:
    machine, frames = k.machine, k.machine.frames
    with k.batch() as batch:
        batch.runs, batch.nr, _ = read_range(
            *machine.geometry, vma.mm.pgd, machine.mapped, start, end, batch.columns, batch.others
        )
        index = frames.index[batch.pfns]
        gone = batch.select((index >= first) & (index <= last))
    if not gone.nr:
        return
    k.rmap.leave_file_entries(gone, vma)
    k.page_cache.take_dirty(gone)
    k.rmap.remove(gone)
    vma.mm.rss -= gone.nr
    machine.charge("pte_zap", gone.nr)
    tlb.remove_pages(gone)  # which may cut it
    machine.end_burst()
