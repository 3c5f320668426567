"""k.rmap: what struct page says of who maps a page, and who is asked, for anonymous pages and those of a file.

    page p of a file       mapping = its address_space, index = 3, no PG_anon; a reference of the page cache
      mapped by pid 1      its fault
      mapped by pid 2      pid 1's fork
      mapped by pid 3      its own fault, with nobody's help

Sources: eras.md 1.1; 2.6.7 mm/rmap.c, page_add_anon_rmap, page_add_file_rmap, page_remove_rmap; 6.18 mm/rmap.c, __folio_set_anon.
"""

from __future__ import annotations

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import READABLE
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.mm_types import File, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "6.18", "6.18+anonmm", "6.18+pte_chain"]
INDEX = 3


def vma_of(task: rmaplab.Task, address: int) -> VmArea:
    assert task.mm is not None
    vma = task.mm.find_vma(address)
    assert vma is not None
    return vma


def pfn_of(system: rmaplab.System, task: rmaplab.Task, address: int) -> int:
    assert task.mm is not None
    return int(lookup(*system.machine.geometry, task.mm.pgd, address)[0]) >> PAGE_SHIFT


class CachedPage:
    """Page 3 of a file, in the page cache of `system`, which refers to it."""

    def __init__(self, system: rmaplab.System) -> None:
        self.system, frames = system, system.machine.frames
        self.pfn = pfn = int(system.machine.allocator.alloc(1, Gfp.HIGHUSER)[0])
        self.space = system.kernel.page_cache.new_file(b"")
        frames.mapping[pfn], frames.index[pfn] = self.space.address, INDEX
        others = system.kernel.lru_add.references
        system.kernel.lru_add.references = lambda: np.append(others(), pfn)  # type: ignore[method-assign]

    def mmap(self, task: rmaplab.Task) -> int:
        """The file's first four pages in `task`, and a copy of the first of its own. Returns where page 3 would be."""
        address = task.mmap(4 * PAGE_SIZE)
        vma_of(task, address).pgoff = 0
        task.touch(address, PAGE_SIZE, write=True)
        vma_of(task, address).file = File(self.space)
        self.space.i_mmap.link(vma_of(task, address))
        return address + INDEX * PAGE_SIZE

    def fault(self, task: rmaplab.Task, address: int) -> None:
        """do_no_page: a read finds the page in the cache."""
        machine, mm, entry = self.system.machine, task.mm, (self.pfn << PAGE_SHIFT) | READABLE
        assert mm is not None
        _, pte = lookup(*machine.geometry, mm.pgd, address)
        machine.words[pte // machine.paging.entry_bytes] = entry
        machine.frames.count[self.pfn] += 1
        mm.rss += 1
        batch = Batch(1, machine.paging.entry_bytes)
        batch.nr = batch.runs = 1
        batch.columns[:, 0] = self.pfn, pte, address, 1, entry
        self.system.kernel.rmap.add(batch, vma_of(task, address))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_of_a_file_that_two_fault_in(kernel: str) -> None:
    """It is nobody's anonymous page: the second fault is no bug, all are found, and a write takes a copy."""
    system = rmaplab.boot(kernel, ram="64M")
    cached, frames = CachedPage(system), system.machine.frames
    first, other = system.spawn(), system.spawn()
    there, elsewhere = cached.mmap(first), cached.mmap(other)
    cached.fault(first, there)
    child = first.fork()
    cached.fault(other, elsewhere)

    def who() -> set[tuple[int, int]]:
        return {(m.mm.pid, m.address) for m in system.kernel.rmap.walk(cached.pfn)}

    system.check()
    assert who() == {(first.pid, there), (child.pid, there), (other.pid, elsewhere)}
    assert (frames.mapcount[cached.pfn], frames.flags[cached.pfn] & PG_ANON, frames.count[cached.pfn]) == (3, 0, 4)
    child.write(there, b"x")
    assert who() == {(first.pid, there), (other.pid, elsewhere)}
    assert [m.mm.pid for m in system.who_maps(child, there)] == [child.pid]
    system.check()
    other.munmap(elsewhere, PAGE_SIZE)
    first.munmap(there, PAGE_SIZE)
    assert who() == set()
    system.check()
    assert (frames.mapcount[cached.pfn], frames.mapping[cached.pfn], frames.count[cached.pfn]) == (
        0,
        cached.space.address,
        1,
    )


@pytest.mark.parametrize(
    ("kernel", "keeps"), [("2.6.5-rc1-aa1", False), ("2.6.5-rc1+anonmm", False), ("6.18", True), ("6.18+anonmm", True)]
)
def test_when_an_anonymous_page_forgets_its_owner(kernel: str, keeps: bool) -> None:
    """With its last entry up to 2.6.7, when it is freed from 2.6.34 on; whoever else has a reference can see the difference."""
    system = rmaplab.boot(kernel, ram="64M")
    frames, k = system.machine.frames, system.kernel
    task = system.spawn()
    address = task.mmap(PAGE_SIZE)
    task.write(address, b"x")
    k.lru_add.drain_all()
    pfn = pfn_of(system, task, address)
    owner = int(frames.mapping[pfn])
    assert owner
    frames.count[pfn] += 1
    task.munmap(address, PAGE_SIZE)
    assert (int(frames.mapping[pfn]), bool(frames.flags[pfn] & PG_ANON)) == ((owner, True) if keeps else (0, False))
    assert list(k.rmap.walk(pfn)) == []
    frames.count[pfn] -= 1
    system.machine.allocator.free(np.array([pfn]))
    assert (frames.mapping[pfn], frames.flags[pfn] & PG_ANON) == (0, 0)
    system.check()


def test_an_anonmm_waits_for_pages_that_name_it() -> None:
    """Its mm is gone, and 6.18 lets a page name it until that is freed."""
    system = rmaplab.boot("6.18+anonmm", ram="64M")
    task = system.spawn()
    child = task.fork()
    (cache,) = system.kernel.design.caches()
    address = child.mmap(PAGE_SIZE)
    child.write(address, b"x")
    pfn = pfn_of(system, child, address)
    system.machine.frames.count[pfn] += 1
    child.exit()
    assert cache.nr_objects == 2
    system.machine.allocator.free(np.array([pfn]))
    assert cache.nr_objects == 1
    system.check()


@pytest.mark.parametrize("exclusive", [True, False])
def test_whom_a_page_names_that_comes_back(exclusive: bool) -> None:
    """6.18: its own VMA's anon_vma if nobody else can have it, else the root; one that has an owner still keeps it (eras.md 2.3)."""
    system = rmaplab.boot("6.18", ram="64M")
    k, frames = system.kernel, system.machine.frames
    parent = system.spawn()
    address = parent.mmap(2 * PAGE_SIZE)
    parent.touch(address, 2 * PAGE_SIZE, write=True)
    child = parent.fork()
    child.write(address, b"x")
    vma = vma_of(child, address)
    own, root = (k.design.owner(vma, exclusive=alone) for alone in (True, False))
    assert own != root == k.design.owner(vma_of(parent, address), exclusive=True)
    pfns = system.machine.allocator.alloc(2, Gfp.HIGHUSER)
    frames.mapping[pfns[1]], frames.flags[pfns[1]] = 0xC0DE, PG_ANON
    batch = Batch(2, 8)
    batch.nr = batch.runs = 2
    batch.columns[:] = np.array((0, 0, address, 1, 0))[:, None]
    batch.columns[0] = pfns
    k.rmap.add(batch, vma, exclusive=exclusive)
    assert frames.mapping[pfns].tolist() == [own if exclusive else root, 0xC0DE]
    assert frames.mapcount[pfns].tolist() == [1, 1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mapcount_that_is_not_the_number_of_entries(kernel: str) -> None:
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    address = task.mmap(2 * PAGE_SIZE)
    task.touch(address, 2 * PAGE_SIZE, write=True)
    system.check()
    pfn = pfn_of(system, task, address)
    system.machine.frames.mapcount[pfn] += 1
    with pytest.raises(rmaplab.KernelBug, match=f"mapcount: page {pfn} says 2 entries, there are 1"):
        system.check()
    system.machine.frames.mapcount[pfn] = 0
    with pytest.raises(rmaplab.KernelBug, match="page_remove_rmap: a page was not mapped"):
        task.munmap(address, PAGE_SIZE)


@pytest.mark.parametrize("kernel", ["2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "6.18"])
def test_a_page_without_an_owner(kernel: str) -> None:
    """A mapped page is somebody's; and nobody's page is not mapped twice by faults."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    address = task.mmap(PAGE_SIZE)
    task.write(address, b"x")
    pfn = pfn_of(system, task, address)
    system.machine.frames.mapping[pfn] = 0
    with pytest.raises(rmaplab.KernelBug, match="page_mapping"):
        system.check()
    batch = Batch(1, system.machine.paging.entry_bytes)
    batch.nr = batch.runs = 1
    batch.columns[:, 0] = pfn, 0, address, 1, 0
    with pytest.raises(rmaplab.KernelBug, match="page_add_rmap: a page that is nobody's is mapped already"):
        system.kernel.rmap.add(batch, vma_of(task, address))
