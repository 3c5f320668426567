"""vmtruncate: a file gets shorter, and nobody may keep a page of what is cut off.

    1  the size            no fault brings such a page from now on
    2  unmapped            through the file's VMAs (i_mmap): every entry beyond the cut, private copies too, of everybody who maps it
    3  the pages           out of the page cache, and free

Source: 2.6.2 mm/memory.c, vmtruncate, invalidate_mmap_range; mm/truncate.c, truncate_inode_pages.
"""

from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.swap_in import put_page
from rmaplab.mm.zap import unmap_page_range
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

LAST = (1 << 52) - 1  # no file has a page behind it


def vmtruncate(k: Kernel, file: AddressSpace, nr_pages: int) -> None:
    """Cut `file` to its first `nr_pages` pages."""
    file.data = file.data[: nr_pages * PAGE_SIZE]
    k.machine.locks.take(file.lock, write=not k.rmap.file_lock_is_shared)
    for vma in k.rmap.showing(file, nr_pages, LAST):
        start = max(vma.start, vma.address_of(nr_pages))
        if start < vma.end:
            k.lock_entries(vma.mm)
            with MmuGather(k, vma.mm) as tlb:
                unmap_page_range(k, tlb, start, vma.end)
            k.unlock_entries(vma.mm)
    k.machine.locks.drop(file.lock)
    for index in [index for index in file.pages if index >= nr_pages]:
        page = file.pages[index]
        k.machine.frames.count[page] += 1
        with k.batch() as batch:
            batch.hold_one(page, 0, 0, 0)
            k.machine.locks.enter_bits("PG_locked", batch.columns, 1)
            if file.pages.get(index) == page:
                k.page_cache.remove(file, index)
            k.machine.locks.leave_bits("PG_locked", batch.columns, 1)
        put_page(k, page)
