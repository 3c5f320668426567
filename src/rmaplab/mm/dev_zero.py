"""/dev/zero: mapped shared it is shared memory (mm/shmem.py), mapped private anonymous memory that keeps the open file it was made of.

    private, up to 2.6.33   every entry shows the zero page at once, with all page tables; what is written to is copied
    today                   nothing happens before the first fault

So VMAs merge if they come of one open file and continue at its offsets. (Nobody looks for pages through that file: its VMAs are on no index here.)

Source: 2.4.27, 2.6.2, 2.6.7 and 6.18 drivers/char/mem.c, mmap_zero; 2.6.2 mm/memory.c, zeromap_page_range; files.md B2, G1.
"""

import errno

import numpy as np

from rmaplab.errors import NoMemory
from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import PRESENT, READABLE
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.pagetable import count_tables
from rmaplab.machine.pagetable_fault import map_pages
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_ACCESS
from rmaplab.objects.mm_types import AddressSpace, File, MmStruct
from rmaplab.units import PAGE_SHIFT


def dev_zero(k: Kernel) -> AddressSpace:
    """The inode of the device, which is made when it is first asked for. Raises as an allocation."""
    if k.dev_zero is None:
        k.dev_zero = k.page_cache.new_file()
    return k.dev_zero


def is_dev_zero(k: Kernel, file: File | None) -> bool:
    """Whether it is an open file of the device."""
    return file is not None and file.mapping is k.dev_zero


def zeromap_page_range(k: Kernel, mm: MmStruct, start: int, end: int, flags: int) -> None:
    """The zero page at every address of [start, end), where nothing is. Raises SyscallError(EAGAIN); what it has done stays."""
    machine, address = k.machine, start
    bits = READABLE if flags & VM_ACCESS else READABLE & ~PRESENT | machine.encoding.hidden
    try:
        while address < end:
            stop = k.alloc_burst_end(address, end)
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, stop)
            tables: I64 = machine.alloc_tables(missing) if missing else np.empty(0, np.int64)
            machine.locks.enter(mm.page_table_lock)
            with k.batch() as batch:
                pfns = np.full((stop - address) >> PAGE_SHIFT, ZERO_PFN, np.int64)
                map_pages(*machine.geometry, mm.pgd, address, pfns, bits, tables, batch.columns)
            if missing:
                mm.nr_tables += missing
                k.design.tables_added(mm, address, stop)
            machine.charge("zeromap", pfns.size)
            machine.locks.leave(mm.page_table_lock)
            machine.end_burst()
            address = stop
    except NoMemory as failure:
        raise failure.or_errno(errno.EAGAIN, "mmap") from None
