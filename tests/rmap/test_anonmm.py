"""anonmm: an anonymous page names an address space and an address; its family is tried there.

    page -> anonmm of 2 --- family: 1, 2, 3         one table walk each at the page's address: 2, 3, 1 until mapcount are found

Sources: history.md 1.4 (sizes, life of the object, walk, mremap); merging is in tests/mm/test_merging.py.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.rmap.anonmm import AnonMmMap
from rmaplab.units import PAGE_SIZE

FORMATS = ["i386", "i386-pae", "x86-64"]
BASE = 0x5000_0000


def boot(
    paging: str = "i386-pae", nr_pages: int = 16, kernel: str = "2.6.5-rc1+anonmm"
) -> tuple[rmaplab.System, AnonMmMap, rmaplab.Task]:
    """A task with an area whose pages have been written."""
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    assert isinstance(system.kernel.design, AnonMmMap)
    task = system.spawn()
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    task.mmap(nr_pages * PAGE_SIZE, PROT_READ | PROT_WRITE, flags, BASE)
    task.touch(BASE, nr_pages * PAGE_SIZE, write=True)
    system.kernel.lru_add.drain_all()
    return system, system.kernel.design, task


def write(task: rmaplab.Task, page: int) -> None:
    task.write(BASE + page * PAGE_SIZE, b"x")


def walk(system: rmaplab.System, task: rmaplab.Task, page: int) -> tuple[list[int], int, int, int]:
    """(pids found, mms visited, of them empty or gone, of them with another page there)."""
    counts = system.machine.ledger.counts
    names = "mm_visit", "visit_empty_mm", "visit_other_page"
    before = [counts[name] for name in names]
    pids = [m.mm.pid for m in system.who_maps(task, BASE + page * PAGE_SIZE)]
    visits, empty, other = (counts[name] - old for name, old in zip(names, before, strict=True))
    return pids, visits, empty, other


@pytest.mark.parametrize(("paging", "nr_bytes"), [("i386", 24), ("i386-pae", 24), ("x86-64", 40)])
def test_its_size(paging: str, nr_bytes: int) -> None:
    """24 bytes, 40 on x86-64, one per mm whatever it maps; + a pointer in mm_struct: "28 bytes per mm"."""
    system, design, task = boot(paging)
    word = system.machine.paging.word_bytes
    assert design.cache.object_bytes == nr_bytes
    assert (design.mm_bytes(system.machine.paging), design.vma_bytes(system.machine.paging)) == (word, 0)
    assert design.cache.nr_objects == 1
    children = [task.fork() for _ in range(4)]
    write(children[0], 3)
    children[1].mmap("1M", PROT_READ)
    assert design.cache.nr_objects == 5
    for one in (*children, task):
        one.exit()
    assert design.cache.nr_objects == 0
    system.check()


@pytest.mark.parametrize("paging", FORMATS)
def test_a_fork_counts_and_no_more(paging: str) -> None:
    """One object, nothing per VMA and nothing per page but the mapcount."""
    system, design, task = boot(paging)
    before = system.machine.ledger.counts.copy()
    pfns = design.tracked()
    task.fork()
    counts = system.machine.ledger.counts
    assert counts["anonmm_alloc"] - before["anonmm_alloc"] == 1
    assert design.tracked().tolist() == pfns.tolist()
    assert (design.frames.mapcount[pfns] == 2).all()
    system.check()


def test_the_pages_own_mm_is_tried_first() -> None:
    """A private page is found in the first mm tried, however large the family; a shared one when all its entries are."""
    system, _, parent = boot()
    children = [parent.fork() for _ in range(6)]
    for child in children:
        write(child, 0)
        assert walk(system, child, 0) == ([child.pid], 1, 0, 0)
    write(parent, 1)  # a copy for the parent; the old page still names it, and the children have it
    assert walk(system, parent, 1) == ([parent.pid], 1, 0, 0)
    pids = [child.pid for child in children]
    assert walk(system, children[3], 1) == (pids, 7, 0, 1)
    #   page 2: only the parent and the fifth child are left; the four before it are looked at in vain, the sixth never
    for i in (0, 1, 2, 3, 5):
        write(children[i], 2)
    assert walk(system, parent, 2) == ([parent.pid, children[4].pid], 6, 0, 4)
    system.check()


def test_a_family_of_grandchildren() -> None:
    """All descendants are one family, whoever the page names; another program's mms are never looked at."""
    system, _, parent = boot()
    strangers = [system.spawn() for _ in range(3)]
    child = parent.fork()
    write(child, 5)  # names the child
    grandchild = child.fork()
    great = grandchild.fork()
    #   named: the child; mapped by it and its two descendants; the family: parent, child, grandchild, great
    assert walk(system, great, 5) == ([child.pid, grandchild.pid, great.pid], 3, 0, 0)  # the parent would come last
    assert set(walk(system, great, 6)[0]) == {parent.pid, child.pid, grandchild.pid, great.pid}
    #   no new program's mm joins: exec would begin a family of its own
    newcomer = system.spawn()
    assert newcomer.pid not in walk(system, great, 6)[0]
    assert len(strangers) == 3
    assert walk(system, great, 6)[1] == 4
    system.check()


def test_a_walk_goes_on_along_the_ring() -> None:
    """From the mm that the page names: younger ones, the head, older ones. The list of 13 March 2004 begins at its head and has no end.

    family    parent  0  1  2  3  helper of 1         page 0: named 1, mapped by 1 and the helper
    """
    for kernel, mine, shared in (("2.6.5-rc1+anonmm", 1, 4), ("2.6.5-rc1+anonmm_unordered", 6, 6)):
        system, design, parent = boot(kernel=kernel)
        children = [parent.fork() for _ in range(4)]
        write(children[1], 0)
        helper = children[1].fork()
        assert walk(system, helper, 0) == ([children[1].pid, helper.pid], shared, 0, shared - 2)
        write(children[3], 0)
        assert walk(system, children[3], 0) == ([children[3].pid], mine, 0, mine - 1)
        #   what reuse has told to a younger mm is mapped there alone; what is drawn is what is tried
        (pfn,) = {
            int(pfn)
            for pfn in design.tracked()
            if design.frames.index[pfn] == BASE and design.frames.mapcount[pfn] == 2
        }
        drawn = [line for line in design.draw(pfn) if "  pid " in line]
        first = [children[1], children[2], children[3], helper, parent, children[0]]
        order = first if mine == 1 else [parent, *children, helper]
        assert [
            f"{nr}  pid {task.pid}  " in line for nr, (task, line) in enumerate(zip(order, drawn, strict=True), 1)
        ] == [True] * 6
        system.check()


def test_the_object_outlives_its_mm() -> None:
    """Exit "clears anonmm->mm but keeps the object until its page count drops"."""
    system, design, parent = boot()
    child = parent.fork()
    write(child, 5)
    grandchild = child.fork()
    child.exit()
    assert design.cache.nr_objects == 3  # the grandchild maps a page that names the child's
    assert walk(system, grandchild, 5) == ([grandchild.pid], 2, 1, 0)
    system.check()
    grandchild.munmap(BASE + 5 * PAGE_SIZE, PAGE_SIZE)
    assert design.cache.nr_objects == 2
    system.check()
    #   the head stays as long as it has a family, though its mm and all its pages are gone
    parent.exit()
    grandchild.munmap(BASE, 16 * PAGE_SIZE)
    assert design.cache.nr_objects == 2
    system.check()
    grandchild.exit()
    assert design.cache.nr_objects == 0
    system.check()


def test_every_order_of_leaving() -> None:
    """Four generations, each with pages of its own that the younger share: whoever goes first, the rest is found."""
    for first in range(4):
        for second in range(4):
            system, design, task = boot(nr_pages=4)
            family = [task]
            for page in range(3):
                family.append(family[-1].fork())
                write(family[-1], page)
            rest = [one for i, one in enumerate(family) if i not in (first, second)]
            for i in dict.fromkeys((first, second)):
                family[i].exit()
                system.check()
            for one in rest:
                assert one.pid in walk(system, one, 3)[0]
                one.exit()
                system.check()
            assert design.cache.nr_objects == 0


def test_a_page_that_is_reused_moves_house() -> None:
    """page_update_anon_rmap: alone on it after the others have copied or gone, the writer's mm is what the page names."""
    system, design, parent = boot()
    child = parent.fork()
    for page in range(8):
        write(parent, page)  # copies for the parent; the originals name it still
    assert walk(system, child, 0) == ([child.pid], 2, 0, 1)
    system.kernel.lru_add.drain_all()
    counts = system.machine.ledger.counts
    reused = counts["cow_reuse"]
    write(child, 0)
    assert counts["cow_reuse"] - reused == 1
    assert walk(system, child, 0) == ([child.pid], 1, 0, 0)
    system.check()
    #   the parent goes: of its pages the child has seven, which name the dead; reuse frees the object
    parent.exit()
    assert walk(system, child, 3) == ([child.pid], 2, 1, 0)
    child.touch(BASE, 16 * PAGE_SIZE, write=True)
    assert walk(system, child, 3) == ([child.pid], 1, 0, 0)
    system.check()
    assert design.cache.nr_objects == 2  # the head of the family
    child.exit()
    assert design.cache.nr_objects == 0


def test_mremap_tells_private_pages_and_copies_shared_ones() -> None:
    """1.4: a new address for a page nobody shares, "a private copy (early COW)" of one that somebody does."""
    system, design, parent = boot()
    child = parent.fork()
    write(child, 0)
    counts = system.machine.ledger.counts
    flags, to = MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 100 * PAGE_SIZE
    free = system.machine.allocator.nr_unused
    tables = system.machine.nr_tables
    child.mremap(BASE, 4 * PAGE_SIZE, 4 * PAGE_SIZE, flags, to)
    assert counts["mremap_copy"] == 3
    assert free - system.machine.allocator.nr_unused == 3 + system.machine.nr_tables - tables
    for page in range(4):
        assert walk(system, child, 100 + page) == ([child.pid], 1, 0, 0)
    #   the originals are the parent's alone, who can reuse them
    for page in range(1, 4):
        assert walk(system, parent, page) == ([parent.pid], 1, 0, 0)
    assert (design.frames.mapcount[design.tracked()] <= 2).all()
    system.check()
    #   once everybody else has gone, moving costs no copy: the page that names the dead is told too
    parent.exit()
    child.mremap(BASE + 8 * PAGE_SIZE, 4 * PAGE_SIZE, 4 * PAGE_SIZE, flags, BASE + 200 * PAGE_SIZE)
    assert counts["mremap_copy"] == 3
    assert walk(system, child, 201) == ([child.pid], 1, 0, 0)
    system.check()


def test_an_empty_mm_is_passed_over() -> None:
    """Fork "sets mm->rss = 0 so walkers skip the mm while it is empty": no table walk is spent on it."""
    system, _, parent = boot()
    child = parent.fork()
    other = parent.fork()
    child.munmap(BASE, 16 * PAGE_SIZE)
    counts = system.machine.ledger.counts
    walks = counts["table_walk"]
    assert walk(system, parent, 1) == ([parent.pid, other.pid], 3, 1, 0)
    assert counts["table_walk"] - walks == 2
