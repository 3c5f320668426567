"""00100 alone: which pages have chains, how long PG_anon lives, and that check() sees either go wrong. Source: history.md 1.3."""

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import KernelBug
from rmaplab.machine.frames import PG_ANON, PG_DIRECT
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.truncate import vmtruncate
from rmaplab.mm.vma import show_file
from rmaplab.objects.mm_types import File
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.pte_chain_anon import AnonPteChain
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

FILE, ANON = 0x5000_0000, 0x6000_0000


class Mixed:
    """A task with a private mapping of two pages of a file, and two anonymous ones beside it."""

    def __init__(self, paging: str = "i386-pae") -> None:
        self.system = rmaplab.boot("2.6.5-rc1+00100", ram="64M", swap="1M", paging=paging)
        self.frames = self.system.machine.frames
        design = self.system.kernel.design
        assert isinstance(design, AnonPteChain)
        self.design = design
        self.file = self.system.kernel.page_cache.new_file(b"one".ljust(PAGE_SIZE) + b"two")
        self.task = self.system.spawn()
        assert self.task.mm is not None
        self.task.mmap(2 * PAGE_SIZE, address=FILE)
        show_file(self.system.kernel, self.task.mm.vmas[0], File(self.file), 0)
        self.task.mmap(2 * PAGE_SIZE, address=ANON)
        self.task.read(FILE, 2 * PAGE_SIZE)
        self.task.write(ANON, b"anon")

    def pfn(self, task: rmaplab.Task, address: int) -> int:
        assert task.mm is not None
        return int(lookup(*self.system.machine.geometry, task.mm.pgd, address)[0]) >> PAGE_SHIFT

    def anon(self, pfn: int) -> bool:
        return bool(self.frames.flags[pfn] & PG_ANON)

    @property
    def blocks(self) -> int:
        return self.system.machine.caches["pte_chain"].nr_objects


@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
def test_chains_are_for_anonymous_pages(paging: str) -> None:
    """Five processes: five entries of each page; a block for the anonymous one, and none for those of the file until somebody writes."""
    mixed = Mixed(paging)
    children = [mixed.task.fork() for _ in range(4)]
    mixed.system.check()
    shown, own = mixed.file.pages[0], mixed.pfn(mixed.task, ANON)
    assert mixed.frames.mapcount[[shown, own]].tolist() == [5, 5]
    assert (mixed.anon(shown), mixed.anon(own)) == (False, True)
    assert mixed.design.pte[shown] == 0
    assert mixed.frames.mapping[own] == 0
    assert mixed.blocks == 1 + (mixed.design.nrpte < 5)
    assert {m.mm.pid for m in mixed.system.who_maps(mixed.task, FILE)} == {t.pid for t in (mixed.task, *children)}
    children[0].write(FILE, b"own")
    copy = mixed.pfn(children[0], FILE)
    assert mixed.anon(copy)
    assert mixed.frames.flags[copy] & PG_DIRECT
    assert mixed.frames.mapcount[shown] == 4
    mixed.system.check()
    for child in children:
        child.exit()
    assert mixed.blocks == 1 + (mixed.design.nrpte < 5)  # once shared, always a chain
    mixed.system.check()


def test_a_move_of_both_kinds_at_once() -> None:
    """A copied page and one of the file in one VMA: the chain follows, and the file's page is where the VMA says."""
    mixed = Mixed()
    child = mixed.task.fork()
    mixed.task.write(FILE, b"own")
    assert mixed.task.mremap(FILE, 2 * PAGE_SIZE, 2 * PAGE_SIZE, 3, FILE + (1 << 24)) == FILE + (1 << 24)
    mixed.system.check()
    assert [m.address for m in mixed.system.who_maps(mixed.task, FILE + (1 << 24))] == [FILE + (1 << 24)]
    shared = {m.address for m in mixed.system.who_maps(child, FILE + PAGE_SIZE)}
    assert shared == {FILE + PAGE_SIZE, FILE + (1 << 24) + PAGE_SIZE}


def test_pg_anon_lives_until_the_page_is_free() -> None:
    """free_pages_check: in the swap cache it is anonymous still when nobody maps it; a frame that is free is not."""
    mixed = Mixed()
    child = mixed.task.fork()
    mixed.system.kernel.lru_add.drain_all()
    page = mixed.pfn(child, ANON)
    mixed.frames.count[page] += 1  # somebody looks at it: it stays in the cache
    assert not page_out(mixed.system.kernel, page)
    assert (mixed.frames.mapcount[page], mixed.anon(page), mixed.design.pte[page]) == (0, True, 0)
    mixed.frames.count[page] -= 1
    assert child.read(ANON, 4) == mixed.task.read(ANON, 4) == b"anon"
    mixed.system.check()
    for task in (mixed.task, child):
        task.exit()
    vmtruncate(mixed.system.kernel, mixed.file, 0)
    mixed.system.kernel.lru_add.drain_all()
    assert not (mixed.frames.flags[mixed.frames.count == 0] & PG_ANON).any()
    mixed.system.check()


def test_check_sees_what_goes_wrong() -> None:
    """A flag that is lost, or one too many; a chain that is lost."""
    for damage in ("lost", "found", "chain"):
        mixed = Mixed()
        shown, own = mixed.file.pages[0], mixed.pfn(mixed.task, ANON)
        if damage == "lost":
            mixed.frames.flags[own] &= ~np.uint32(PG_ANON)
        elif damage == "found":
            mixed.frames.flags[shown] |= np.uint32(PG_ANON)
        else:
            mixed.design.pte[own] = 0
        with pytest.raises(KernelBug):
            mixed.system.check()
