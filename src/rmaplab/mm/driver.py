"""A device that is mapped: its driver has a mmap and a nopage of its own, and pages that no file and no anon_vma knows.

    mmap        file --> driver.mmap(vma)         vm_flags, vm_ops; or remap_page_range: all entries at once
    a fault     vma.ops.nopage(vma, address)      a page of the driver: mapping 0, and it may be PG_reserved

What the kernel of the day makes of such a page (Rules.driver_pages):

    reserved, or no RAM           an entry and nothing else: no reference, no rss, no reverse map, at fork and unmap neither
    AS_FILE    2.6.2, 2.6.7       as a file's. A chain finds it; where a page is found by the file that it names it is counted, and not found
    AS_ANON    00100              SetPageAnon: what has no mapping has a chain
    BY_VMA     00101              the reverse map does not hear of what VMAs with VM_RESERVED map; what others map must name a file: BUG()
    BY_PAGE    a week later       it does not hear of a page without mapping

page_remove_rmap passes over what nobody has told it of, in all of them: drivers always did that. So entries that go are sorted out by their
pages, and those that come by these rules.

Left out: private mappings of devices (drivers here refuse them), frames that are no RAM, and that a touch of what remap_page_range has left
out is anonymous memory.

Source: 2.6.2 mm/memory.c, do_no_page, remap_page_range, copy_page_range, zap_pte_range, mm/rmap.c, page_remove_rmap; objrmap-core-1; the -aa
tree's mm/memory.c and mm/objrmap.c; <20040320133025.GH9009@dualathlon.random>, <20040320174857.GA9009@dualathlon.random>; files.md C6.
"""

import numpy as np

from rmaplab.errors import KernelBug, NotModelled, Oops
from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import READABLE, RW
from rmaplab.machine.frames import PG_ANON, PG_RESERVED, PG_SWAPCACHE
from rmaplab.machine.pagetable import count_tables, lookup
from rmaplab.machine.pagetable_edit import hang_tables
from rmaplab.mm.file_rules import DriverPages
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_RESERVED, VM_WRITE
from rmaplab.objects.mm_types import AddressSpace, DeviceOperations, Driver, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def register_chrdev(k: Kernel, driver: Driver) -> AddressSpace:
    """The file of a new device, for Task.open()."""
    file = k.page_cache.new_file(on_disk=False)
    file.driver = driver
    k.page_cache.drivers.append(driver)
    k.holders.append(driver)
    return file


def is_device(vma: VmArea) -> bool:
    """Whether it shows a device."""
    return vma.file is not None and vma.file.mapping.driver is not None


def remap_page_range(k: Kernel, vma: VmArea, pfns: I64) -> None:
    """Entries for `pfns`, one behind the other from the VMA's start on. Up to 2.6.7 those that are not reserved are left out.

    Raises NotModelled: since 2.6.34 others are mapped too, and nobody has a reference. As an allocation, with nothing mapped.
    """
    machine, mm = k.machine, vma.mm
    reserved = machine.frames.flags[pfns] & PG_RESERVED != 0
    if k.rules.remap_vm_flags and not reserved.all():
        raise NotModelled("remap_page_range of pages that are not reserved: this kernel maps them all the same")
    vma.flags |= k.rules.remap_vm_flags
    missing, _ = count_tables(*machine.geometry, mm.pgd, -1, vma.start, vma.end)
    tables = machine.alloc_tables(missing) if missing else np.empty(0, np.int64)
    lock = machine.pte_lock(mm, vma.start)
    machine.locks.enter(lock)
    if missing:
        span = machine.paging.leaf_span
        hang_tables(*machine.geometry, mm.pgd, np.arange(vma.start & -span, vma.end, span), 0, tables)
        mm.nr_tables += missing
        k.design.tables_added(mm, vma.start, vma.end)
    bits = READABLE | (RW if vma.flags & VM_WRITE else 0)
    for i in np.flatnonzero(reserved).tolist():
        _, pte = lookup(*machine.geometry, mm.pgd, vma.start + (i << PAGE_SHIFT))
        machine.set_entry(int(pte), (int(pfns[i]) << PAGE_SHIFT) | bits)
    machine.locks.leave(lock)
    machine.charge("pte_remap", int(reserved.sum()))


def nopage(vma: VmArea, address: int) -> int:
    """The driver's page for `address`, with a reference; -1: SIGBUS. Raises as an allocation."""
    if not isinstance(vma.ops, DeviceOperations):
        raise NotModelled(f"{vma} is of a driver without nopage, and has no entry at {address:#x}: leave its touch out")
    return vma.ops.nopage(vma, address & -PAGE_SIZE)


class Lost:
    """A holder: who referred to a page has died of an Oops, and the reference is never dropped."""

    def __init__(self, page: int) -> None:
        self.page = page

    def references(self) -> I64:
        """That one."""
        return np.array([self.page], np.int64)


def check_nopage(k: Kernel, vma: VmArea, page: int) -> None:
    """The checks of 00101's do_no_page. Raises Oops: the page's reference is lost then. NotModelled: a driver's page that is a file's."""
    rules, frames = k.rules, k.machine.frames
    if page < 0:
        if rules.sigbus_is_checked:
            raise Oops("do_no_page", "what ->nopage has returned is no RAM, for it is NOPAGE_SIGBUS")
        return
    if not rules.nopage_is_checked and not is_device(vma):
        return
    flags, owner = frames.flags[page], frames.mapping[page]
    if rules.nopage_is_checked:
        why = ""
        if flags & (PG_SWAPCACHE | PG_ANON):
            why = "is anonymous"
        elif not vma.flags & VM_RESERVED and (not owner or flags & PG_RESERVED):
            why = f"{'is reserved' if flags & PG_RESERVED else 'has no mapping'}, and the VMA is not VM_RESERVED"
        if why:
            k.holders.append(Lost(page))
            raise Oops("do_no_page", f"->nopage has returned page {page}, which {why}")
    if is_device(vma) and owner:
        k.holders.append(Lost(page))
        raise NotModelled("a driver whose nopage returns a page of a file: leave it out")


def map_device(k: Kernel, vma: VmArea, batch: Batch) -> None:
    """Entries for a driver's pages are there."""
    frames = k.machine.frames
    pages = batch.select(frames.flags[batch.pfns] & PG_RESERVED == 0)
    if not pages.nr:
        return
    frames.count[pages.pfns] += 1
    vma.mm.rss += pages.nr
    if not _is_told(k, vma):
        return
    if k.rules.driver_pages is DriverPages.AS_ANON and not k.design.names_owners:  # a chain is all that PG_anon says
        k.rmap.add(pages, vma)
    else:
        k.rmap.add_file(pages, vma)


def _is_told(k: Kernel, vma: VmArea) -> bool:
    """Whether the reverse map hears of pages without mapping that `vma` maps."""
    how = k.rules.driver_pages
    return how not in (DriverPages.BY_PAGE, DriverPages.BY_VMA) or (
        how is DriverPages.BY_VMA and not vma.flags & VM_RESERVED
    )


def fork_device(k: Kernel, vma: VmArea, new: VmArea, batch: Batch) -> None:
    """copy_page_range has copied entries of a device's VMA and taken references: what is reserved has none, and is copied as it is."""
    machine, frames = k.machine, k.machine.frames
    reserved = frames.flags[batch.pfns] & PG_RESERVED != 0
    pages, others = batch.select(~reserved), batch.select(reserved)
    frames.count[others.pfns] -= 1
    for address, pte in zip(others.addresses.tolist(), others.ptes.tolist(), strict=True):
        machine.set_entry(pte, int(lookup(*machine.geometry, vma.mm.pgd, address)[0]))
    new.mm.rss += pages.nr
    if not pages.nr:
        return
    if _is_told(k, vma):
        k.rmap.duplicate(pages, new)
    elif frames.mapcount[pages.pfns].any() or frames.mapping[pages.pfns].any():
        raise KernelBug("copy_page_range", f"a page of {vma} is counted, and nobody was to hear of it")


def sort_out(k: Kernel, batch: Batch) -> tuple[Batch, Batch]:
    """Of entries that are met: those whose pages have a reference for them; and of those what the reverse map was told of (page_mapped)."""
    frames = k.machine.frames
    pages = batch.select(frames.flags[batch.pfns] & PG_RESERVED == 0)
    return pages, pages.select(frames.mapcount[pages.pfns] > 0)


def move_device(k: Kernel, before: Batch, after: Batch, target: VmArea) -> None:
    """Entries of a device's VMA have moved: the design hears of those that it knows."""
    frames = k.machine.frames
    pfns = before.pfns
    known = (frames.flags[pfns] & PG_RESERVED == 0) & (frames.mapcount[pfns] > 0)
    if known.any():
        k.design.moved(before.select(known), after.select(known), target)


def get_user_pages(k: Kernel, mm: MmStruct, start: int, end: int) -> I64:
    """The pages that [start, end) has, touched already, each with a reference for whoever asks: as DMA keeps them."""
    entries = [int(lookup(*k.machine.geometry, mm.pgd, at)[0]) for at in range(start, end, PAGE_SIZE)]
    if not all(entry & k.machine.mapped for entry in entries):
        raise KernelBug("get_user_pages", f"not all of [{start:#x}, {end:#x}) is there")
    pfns = np.array([entry >> PAGE_SHIFT for entry in entries], np.int64)
    k.machine.frames.count[pfns] += 1
    return pfns


# -- for check() -------------------------------------------------------------------------------------------------------


def in_devices(mm: MmStruct, addresses: I64) -> tuple[Bools, Bools]:
    """(Which of the ascending addresses lie in VMAs of devices, in such with VM_RESERVED.) O(VMAs)."""
    of_device, of_reserved = np.zeros((2, addresses.size), np.bool_)
    for vma in mm.vmas:
        if is_device(vma):
            part = slice(*np.searchsorted(addresses, (vma.start, vma.end)))
            of_device[part] = True
            of_reserved[part] = bool(vma.flags & VM_RESERVED)
    return of_device, of_reserved


def was_told(k: Kernel, of_device: Bools, of_reserved: Bools) -> Bools:
    """Of which entries the reverse map has heard, reserved pages aside."""
    how = k.rules.driver_pages
    if how is DriverPages.BY_VMA:
        return ~of_reserved
    return ~of_device if how is DriverPages.BY_PAGE else np.ones(of_device.size, np.bool_)
