"""anon_vma: one small object per family of areas, however many pages and processes; every mapping is found through it.

    parent  [ A A A . ]---+
                          +--- anon_vma, 12 bytes        no object per page, none per child
    child   [ A A A . ]---+

Sources: history.md 1.5.1 (sizes), 1.5.5 (walk), 1.5.6 (life cycle), 4.2 (merging); the announcement.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.rmap.anon_vma import AnonVma, AnonVmaMap
from rmaplab.units import PAGE_SIZE

FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
BASE = 0x5000_0000


def boot(paging: str = "i386-pae") -> tuple[rmaplab.System, AnonVmaMap, rmaplab.Task]:
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", paging=paging)
    assert isinstance(system.kernel.design, AnonVmaMap)
    return system, system.kernel.design, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, *, write: bool = False) -> None:
    task.mmap((last - first) * PAGE_SIZE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, at(first))
    if write:
        task.touch(at(first), (last - first) * PAGE_SIZE, write=True)


def objects(task: rmaplab.Task) -> list[object]:
    """The anon_vma of each area, in address order."""
    assert task.mm is not None
    return [vma.anon_vma for vma in task.mm.vmas]


@pytest.mark.parametrize(("paging", "nr_bytes"), [("i386", 12), ("i386-pae", 12), ("x86-64", 24)])
def test_its_size(paging: str, nr_bytes: int) -> None:
    """12 bytes (the announcement: "an anon_vma is only 12 bytes"); 24 on 64-bit machines."""
    _, design, _ = boot(paging)
    assert design.cache.object_bytes == nr_bytes
    assert [cache.name for cache in design.caches()] == ["anon_vma"]


@pytest.mark.parametrize("paging", FORMATS)
def test_one_object_however_many_pages(paging: str) -> None:
    """The first write fault makes it, the others find it there: "it can cover gigabytes of address space"."""
    system, design, task = boot(paging)
    put(task, 0, 4096)
    task.touch(at(0), 4096 * PAGE_SIZE)
    assert design.cache.nr_objects == 0  # reading maps the zero page: no object
    assert objects(task) == [None]
    task.write(at(7), b"first")
    assert design.cache.nr_objects == 1
    task.touch(at(0), 4096 * PAGE_SIZE, write=True)
    assert design.cache.nr_objects == 1
    assert system.machine.ledger.counts["anon_vma_alloc"] == 1
    put(task, 5000, 5001, write=True)  # another area, another object
    assert design.cache.nr_objects == 2
    assert objects(task)[0] is not objects(task)[1]
    system.check()


@pytest.mark.parametrize("paging", FORMATS)
def test_fork_links_and_allocates_nothing(paging: str) -> None:
    """The child's area joins its parent's object: one list insertion an area, whatever the number of pages."""
    system, design, parent = boot(paging)
    put(parent, 0, 64, write=True)
    put(parent, 100, 110, write=True)
    put(parent, 200, 210)  # never written: nothing to link
    before = system.machine.ledger.counts.copy()
    children = [parent.fork() for _ in range(5)]
    spent = system.machine.ledger.counts - before
    assert design.cache.nr_objects == 2
    assert spent["anon_vma_alloc"] == 0
    assert spent["anon_vma_link"] == 5 * 2
    for child in children:
        assert objects(child) == objects(parent)
    first = objects(parent)[0]
    assert isinstance(first, AnonVma)
    assert {vma.mm for vma in first.vmas()} == {parent.mm, *(child.mm for child in children)}
    system.check()


def test_pages_of_a_child_hang_on_the_familys_object() -> None:
    """A child that copies on write, or writes where nobody had, adds no object; an area of its own does."""
    system, design, parent = boot()
    put(parent, 0, 8)
    parent.write(at(0), b"x")
    child = parent.fork()
    child.write(at(0), b"copy")
    child.write(at(1), b"new")
    assert design.cache.nr_objects == 1
    put(child, 20, 24, write=True)
    assert design.cache.nr_objects == 2
    system.check()


def test_an_area_written_only_after_fork_has_two_objects() -> None:
    """What had no object at fork gets one on each side at its first write: the sides share no page there."""
    system, design, parent = boot()
    put(parent, 0, 8)
    child = parent.fork()
    parent.write(at(0), b"parent")
    child.write(at(0), b"child")
    assert design.cache.nr_objects == 2
    assert objects(parent)[0] is not objects(child)[0]
    assert [m.mm for m in system.who_maps(parent, at(0))] == [parent.mm]
    assert [m.mm for m in system.who_maps(child, at(0))] == [child.mm]
    system.check()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_it_is_freed_with_its_last_area(order: tuple[int, ...]) -> None:
    """anon_vma_unlink: whoever leaves last takes it along, founder or grandchild; until then pages are found."""
    system, design, parent = boot()
    put(parent, 0, 4, write=True)
    child = parent.fork()
    tasks = [parent, child, child.fork()]
    left = set(tasks)
    for i in order:
        assert design.cache.nr_objects == 1
        assert {m.mm for m in system.who_maps(tasks[i], at(2))} == {task.mm for task in left}
        tasks[i].exit()
        left.remove(tasks[i])
        system.check()
    assert design.cache.nr_objects == 0
    assert design.tracked().size == 0


def test_munmap_of_part_keeps_it() -> None:
    """A split puts the new half on the list; the object stays until both are gone."""
    system, design, task = boot()
    put(task, 0, 12, write=True)
    #   0   4   8   12
    #   AAAAAAAAAAAA ----- object
    #   AAAA    AAAA ----- the same object, twice on its list
    task.munmap(at(4), 4 * PAGE_SIZE)
    left, right = objects(task)
    assert left is right
    assert isinstance(left, AnonVma)
    assert len(left.vmas()) == 2
    for page in (0, 3, 8, 11):
        assert [(m.mm, m.address) for m in system.who_maps(task, at(page))] == [(task.mm, at(page))]
    system.check()
    task.munmap(at(0), 4 * PAGE_SIZE)
    assert design.cache.nr_objects == 1
    assert [m.address for m in system.who_maps(task, at(9))] == [at(9)]
    task.munmap(at(8), 4 * PAGE_SIZE)
    assert design.cache.nr_objects == 0
    system.check()


def test_a_walk_visits_every_area_on_the_object() -> None:
    """Its weak spot: areas that cannot or do not map the page are visited in vain, and the ledger tells why."""
    system, _, parent = boot()
    put(parent, 0, 12, write=True)
    children = [parent.fork() for _ in range(4)]
    #   0   4   8   12
    #   AAAAAAAAAAAA        parent, and children 2 and 3
    #   AAAAAAAABAAA        child 0 has a copy of page 8
    #   AAAA    AAAA        child 1 has unmapped [4, 8): two areas
    children[0].write(at(8), b"copy")
    children[1].munmap(at(4), 4 * PAGE_SIZE)
    counts = system.machine.ledger.counts

    def walk(task: rmaplab.Task, page: int) -> tuple[set[object], dict[str, int]]:
        before = counts.copy()
        mms: set[object] = {m.mm for m in system.who_maps(task, at(page))}
        return mms, dict(counts - before)

    everybody = {parent.mm, *(child.mm for child in children)}
    #   page 8: six areas; child 1's lower half does not reach it; child 0's entry names another frame
    mms, visits = walk(parent, 8)
    assert mms == everybody - {children[0].mm}
    assert visits == {"vma_visit": 6, "visit_out_of_range": 1, "table_walk": 5, "visit_other_page": 1}
    #   child 0's copy: only he maps it, but all are asked
    mms, visits = walk(children[0], 8)
    assert mms == {children[0].mm}
    assert visits == {"vma_visit": 6, "visit_out_of_range": 1, "table_walk": 5, "visit_other_page": 4}
    #   page 5: neither half of child 1 reaches it
    mms, visits = walk(parent, 5)
    assert mms == everybody - {children[1].mm}
    assert visits == {"vma_visit": 6, "visit_out_of_range": 2, "table_walk": 4}
    system.check()


def test_a_walk_asks_the_newest_area_first() -> None:
    """anon_vma_link is a list_add: it puts an area at the head."""
    system, _, parent = boot()
    put(parent, 0, 1, write=True)
    tasks = [parent]
    for _ in range(3):
        tasks.append(tasks[-1].fork())
    assert [m.mm for m in system.who_maps(parent, at(0))] == [task.mm for task in reversed(tasks)]


def test_a_walk_leaves_unrelated_areas_alone() -> None:
    """Better than anonmm: "it's finegrained". Areas on other objects of the same processes cost nothing."""
    system, _, parent = boot()
    put(parent, 0, 4, write=True)
    for i in range(20):
        put(parent, 10 + 2 * i, 11 + 2 * i, write=True)
    child = parent.fork()
    counts = system.machine.ledger.counts
    before = counts["vma_visit"]
    assert {m.mm for m in system.who_maps(child, at(1))} == {parent.mm, child.mm}
    assert counts["vma_visit"] - before == 2


# -- merging ---------------------------------------------------------------------------------------------------------


def test_the_survivor_inherits() -> None:
    """anon_vma_merge: the lower area has no object, the upper one has: what remains is one area on it."""
    system, design, task = boot()
    put(task, 0, 4)
    put(task, 8, 12, write=True)
    upper = objects(task)[1]
    #   0   4   8   12
    #   aaaa    BBBB
    #   aaaaccccBBBB     the lower area grows over all; B's object is its now
    put(task, 4, 8)
    assert objects(task) == [upper]
    assert isinstance(upper, AnonVma)
    assert len(upper.vmas()) == 1
    assert [m.address for m in system.who_maps(task, at(9))] == [at(9)]
    task.write(at(0), b"new page of an old area")
    assert design.cache.nr_objects == 1
    child = task.fork()
    assert {m.mm for m in system.who_maps(child, at(9))} == {task.mm, child.mm}
    system.check()


def test_the_dying_one_leaves_the_list() -> None:
    """Two halves on one object become one area again: it stands on the list once."""
    system, _, task = boot()
    put(task, 0, 12, write=True)
    child = task.fork()
    task.munmap(at(4), 4 * PAGE_SIZE)
    put(task, 4, 8)
    (mine,) = objects(task)
    assert isinstance(mine, AnonVma)
    assert {vma.mm for vma in mine.vmas()} == {task.mm, child.mm}
    assert len(mine.vmas()) == 2
    system.check()


def test_two_objects_cannot_become_one() -> None:
    """Pages name their object: an area on two of them could not be found from both. Both still are."""
    system, design, task = boot()
    put(task, 0, 4, write=True)
    put(task, 8, 12, write=True)
    put(task, 4, 8, write=True)
    assert len(objects(task)) == 2
    assert design.cache.nr_objects == 2
    for page in range(12):
        assert [m.address for m in system.who_maps(task, at(page))] == [at(page)]
    system.check()


def test_areas_must_continue_each_other() -> None:
    """The next pgoff must be pgoff + pages, or an index would name two addresses. A moved area does not fit any more.

    There is no mremap yet, so the move is made here by hand, on an area without pages.
    """
    system, _, task = boot()
    put(task, 0, 4)
    put(task, 8, 12)
    assert task.mm is not None
    for vma in task.mm.vmas:
        vma.pgoff += 1000
    put(task, 4, 8)
    assert [(v.start, v.end) for v in task.mm.vmas] == [(at(0), at(4)), (at(4), at(8)), (at(8), at(12))]
    #   and they are found by index, not by address: a page of the moved area
    task.write(at(9), b"moved")
    child = task.fork()
    assert {(m.mm, m.address) for m in system.who_maps(child, at(9))} == {(task.mm, at(9)), (child.mm, at(9))}
    system.check()


def test_an_area_that_was_moved_is_found_where_it_is() -> None:
    """The page keeps its index, the area its pgoff: address = start + (index - pgoff) * 4096 (history.md 1.5.7)."""
    system, _, parent = boot()
    put(parent, 4, 8)
    assert parent.mm is not None
    (area,) = parent.mm.vmas
    area.pgoff = 0x12345
    parent.touch(at(4), 4 * PAGE_SIZE, write=True)
    child = parent.fork()
    child.munmap(at(4), PAGE_SIZE)
    parent.munmap(at(7), PAGE_SIZE)
    put(parent, 2, 4, write=True)  # does not merge: the offsets do not continue
    for page, owners in [(4, [parent]), (5, [parent, child]), (6, [parent, child]), (7, [child])]:
        found = {(m.mm, m.address) for m in system.who_maps(owners[0], at(page))}
        assert found == {(owner.mm, at(page)) for owner in owners}
    system.check()
