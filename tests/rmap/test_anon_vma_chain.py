"""anon_vma_chain: an anon_vma per generation, a chain entry per VMA and ancestor; every mapping is found, and few are asked.

    P  [page]   anon_vma R                 chain of P: R
    C  [page]   anon_vma A, parent R       chain of C: A R          C's own copies name A: P is not asked about them
    G  [page]   anon_vma B, parent A       chain of G: B A R

Sources: modern.md 1.1 (sizes), 1.2 (adoption), 1.3 (clone, fork, reuse, exact counts), 1.5 (which anon_vma a page names), 1.8
(merging); the counts were compared with a running 6.18 by `make counts`.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.errors import KernelBug, SyscallError
from rmaplab.objects.flags import (
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap, NewestFirst
from rmaplab.rmap.chained_anon_vma import ChainedAnonVma
from rmaplab.units import PAGE_SIZE

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000
KERNELS = ["6.18", "2.6.5-rc1+anon_vma_chain"]


def boot(
    kernel: str = "6.18", design: type[AnonVmaChainMap] | None = None, ram: str = "128M"
) -> tuple[rmaplab.System, AnonVmaChainMap, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram=ram, paging="x86-64", design=design)
    assert isinstance(system.kernel.design, AnonVmaChainMap)
    return system, system.kernel.design, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, *, write: bool = False, prot: int = RW) -> None:
    task.mmap((last - first) * PAGE_SIZE, prot, ANON | MAP_FIXED, at(first))
    if write:
        task.touch(at(first), (last - first) * PAGE_SIZE, write=True)


def own(task: rmaplab.Task, page: int = 0) -> ChainedAnonVma:
    """The anon_vma of the VMA at a page."""
    assert task.mm is not None
    vma = task.mm.find_vma(at(page))
    assert vma is not None
    assert isinstance(vma.anon_vma, ChainedAnonVma)
    return vma.anon_vma


def chain(design: AnonVmaChainMap, task: rmaplab.Task, page: int = 0) -> list[ChainedAnonVma]:
    """The VMA's chain, newest first as the kernel's list has it."""
    assert task.mm is not None
    vma = task.mm.find_vma(at(page))
    assert vma is not None
    return [avc.anon_vma for avc in reversed(design.chains.get(vma, []))]


def objects(design: AnonVmaChainMap) -> tuple[int, int]:
    return design.cache.nr_objects, design.chain_cache.nr_objects


# -- sizes and counts ------------------------------------------------------------------------------------------------


def test_sizes() -> None:
    """BTF and slabinfo of 6.18: 96 bytes in a slot of 104, 39 a page; 64 and 64."""
    _, design, _ = boot()
    assert design.object_bytes(design.machine.hardware) == {"anon_vma": 96, "anon_vma_chain": 64}
    assert (design.cache.packing.stride, design.cache.packing.per_slab) == (104, 39)
    assert (design.chain_cache.packing.stride, design.chain_cache.packing.per_slab) == (64, 64)
    assert design.cache.packing.order == design.chain_cache.packing.order == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("areas", "children"), [(1, 1), (3, 7), (5, 20)])
def test_flat(kernel: str, areas: int, children: int) -> None:
    """Children of one parent, all alive: F + Fn anon_vmas, F + 2Fn chains (modern.md 1.3)."""
    system, design, parent = boot(kernel)
    for area in range(areas):
        put(parent, 2 * area, 2 * area + 1, write=True)
    for _ in range(children):
        parent.fork()
    assert objects(design) == (areas + areas * children, areas + 2 * areas * children)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("areas", "depth"), [(1, 1), (2, 10), (4, 25)])
def test_a_line(kernel: str, areas: int, depth: int) -> None:
    """Each the child of the one before, all alive: F D anon_vmas, F D (D + 1) / 2 chains (modern.md 1.3)."""
    system, design, task = boot(kernel)
    for area in range(areas):
        put(task, 2 * area, 2 * area + 1, write=True)
    for _ in range(depth - 1):
        task = task.fork()
    assert objects(design) == (areas * depth, areas * depth * (depth + 1) // 2)
    system.check()


@pytest.mark.parametrize("design", [AnonVmaChainMap, NewestFirst])
def test_generations(design: type[AnonVmaChainMap]) -> None:
    """Each exits when its child is there: three anon_vmas a VMA, however many generations (modern.md 1.3; `make counts`)."""
    system, rmap, task = boot(design=design)
    put(task, 0, 1, write=True)
    seen = []
    for _ in range(20):
        child = task.fork()
        task.exit()
        task = child
        seen.append(objects(rmap))
    assert max(anon_vmas for anon_vmas, _ in seen) == 3
    assert system.machine.ledger.counts["anon_vma_alloc"] == 3
    system.check()
    task.exit()
    assert objects(rmap) == (0, 0)


# -- whose anon_vma --------------------------------------------------------------------------------------------------


def test_reading_makes_nothing() -> None:
    """The zero page needs no anon_vma; the first write does (modern.md 1.2)."""
    system, design, task = boot()
    put(task, 0, 4)
    task.touch(at(0), 4 * PAGE_SIZE)
    assert objects(design) == (0, 0)
    task.write(at(2), b"x")
    assert objects(design) == (1, 1)
    system.check()


def test_an_order_of_ancestors() -> None:
    """A grandchild is on its own anon_vma and on those of its ancestors, the root last; parents and counts follow."""
    system, design, parent = boot()
    put(parent, 0, 1, write=True)
    child = parent.fork()
    grandchild = child.fork()
    root, middle, newest = own(parent), own(child), own(grandchild)
    assert chain(design, grandchild) == [newest, middle, root]
    assert (newest.parent, middle.parent, root.parent) == (middle, root, root)
    assert {a.root for a in (newest, middle, root)} == {root}
    assert [(a.num_active_vmas, a.num_children, a.refcount) for a in (root, middle, newest)] == [
        (1, 2, 3),
        (1, 1, 1),
        (1, 0, 1),
    ]
    system.check()


def test_the_oldest_is_reused() -> None:
    """Seen on 6.18: of two that nobody calls his own any more a fork takes the older; 7.x, it is believed, the newer."""
    for design, age in ((AnonVmaChainMap, 1), (NewestFirst, 2)):
        _, rmap, first = boot(design=design)
        put(first, 0, 1, write=True)
        second = first.fork()
        third = second.fork()
        fourth = third.fork()
        line = [own(task) for task in (first, second, third, fourth)]
        second.exit()
        third.exit()
        fifth = fourth.fork()
        assert own(fifth) is line[age]
        assert chain(rmap, fifth) == line[::-1]


def test_a_root_is_never_reused() -> None:
    """It counts itself as a child; so the first generation that loses its parent still gets an anon_vma of its own."""
    _, design, parent = boot()
    put(parent, 0, 1, write=True)
    child = parent.fork()
    parent.exit()
    grandchild = child.fork()
    assert own(grandchild) not in (own(child), own(child).root)
    assert objects(design)[0] == 3


def test_pages_name_the_anon_vma_of_whom_they_belong_to() -> None:
    """Inherited: the parent's. Copied: the child's own. Reused, once the child has gone: the parent's own again."""
    system, design, parent = boot()
    put(parent, 0, 3, write=True)
    child = parent.fork()
    child.write(at(1), b"mine")
    grandchild = child.fork()

    def named(task: rmaplab.Task, page: int) -> int:
        return int(design.frames.mapping[_pfn(system, task, page)])

    assert named(child, 0) == named(grandchild, 0) == own(parent).address
    assert named(child, 1) == named(grandchild, 1) == own(child).address
    assert {m.mm.pid for m in system.who_maps(grandchild, at(1))} == {child.pid, grandchild.pid}
    assert {m.mm.pid for m in system.who_maps(grandchild, at(0))} == {parent.pid, child.pid, grandchild.pid}
    parent.exit()
    child.exit()
    grandchild.write(at(0), b"now mine alone")
    assert named(grandchild, 0) == own(grandchild).address
    system.check()


def test_a_wiped_area_begins_anew() -> None:
    """MADV_WIPEONFORK: the child's VMA has no anon_vma, and no pages (eras.md 3.1)."""
    system, design, parent = boot()
    put(parent, 0, 2, write=True)
    parent.madvise(at(0), 2 * PAGE_SIZE, MADV_WIPEONFORK)
    child = parent.fork()
    assert chain(design, child) == []
    assert child.read(at(0), 4) == bytes(4)
    child.write(at(0), b"x")
    assert chain(design, child) == [own(child)]
    assert own(child).root is own(child)
    system.check()


# -- sharing with neighbours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["behind", "before"])
def test_a_neighbour_s_anon_vma_is_shared(side: str) -> None:
    """Halves that differ in access bits only share one, so that they may be one again (modern.md 1.2, seen on 6.18)."""
    system, design, task = boot()
    put(task, 0, 8)
    task.mprotect(at(4), 4 * PAGE_SIZE, RW | PROT_EXEC)
    first, second = (0, 4) if side == "behind" else (4, 0)
    task.write(at(first), b"x")
    task.write(at(second), b"y")
    assert own(task, 0) is own(task, 4)
    assert objects(design) == (1, 2)
    task.mprotect(at(4), 4 * PAGE_SIZE, RW)
    assert task.mm is not None
    assert task.mm.map_count == 1
    system.check()


def test_the_next_one_is_asked_first() -> None:
    """Between two neighbours with different anon_vmas it is the next one's (find_mergeable_anon_vma)."""
    _, _, task = boot()
    put(task, 0, 4, write=True)
    put(task, 8, 12, write=True)
    put(task, 4, 8, prot=PROT_READ | PROT_EXEC)
    task.mprotect(at(4), 4 * PAGE_SIZE, RW | PROT_EXEC)
    task.write(at(4), b"x")
    assert own(task, 4) is own(task, 8)


def test_a_fork_s_child_shares_with_nobody() -> None:
    """Its VMA is on its ancestors' anon_vmas too; who took the newest alone could not merge with it (2010)."""
    system, design, parent = boot()
    put(parent, 4, 8, write=True)
    child = parent.fork()
    put(child, 0, 4, write=True)
    assert own(child, 0) is not own(child, 4)
    assert chain(design, child, 0) == [own(child, 0)]
    system.check()


def test_a_piece_that_moves_takes_the_whole_chain_along() -> None:
    """The copy that mremap makes is cloned: every page is found at its new place, by the anon_vma it always had."""
    system, design, parent = boot()
    put(parent, 0, 4, write=True)
    child = parent.fork()
    before = chain(design, child)
    assert child.mremap(at(1), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(40)) == at(40)
    assert chain(design, child, 40) == chain(design, child, 0) == chain(design, child, 2) == before
    assert {(m.mm.pid, m.address) for m in system.who_maps(child, at(40))} == {(parent.pid, at(1)), (child.pid, at(40))}
    system.check()


# -- the walk --------------------------------------------------------------------------------------------------------


def test_only_who_covers_the_page_is_visited() -> None:
    """One area split into a hundred: the tree knows which piece covers the index (bf181b9f9d8d)."""
    system, _, task = boot()
    put(task, 0, 200, write=True)
    for page in range(0, 200, 2):
        task.mprotect(at(page), PAGE_SIZE, PROT_READ)
    counts = system.machine.ledger.counts
    before = counts.copy()
    assert len(system.who_maps(task, at(77))) == 1
    assert (counts - before)["vma_visit"] == 1
    assert (counts - before)["interval_search"] < 30
    system.check()


# -- what check() finds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "message"),
    [("num_active_vmas", "I5"), ("num_children", "I5"), ("refcount", "I5"), ("mapping", "I3"), ("index", "page_index")],
)
def test_check_finds_what_is_wrong(field: str, message: str) -> None:
    """A counter that is off by one, a page that names a stranger or another index (modern.md 2.8)."""
    system, design, parent = boot()
    put(parent, 0, 2, write=True)
    put(parent, 4, 6, write=True)
    parent.fork()
    pfn = _pfn(system, parent, 0)
    if field == "mapping":
        design.frames.mapping[pfn] = own(parent, 4).address
    elif field == "index":
        design.frames.index[pfn] += 1
    else:
        setattr(own(parent), field, getattr(own(parent), field) + 1)
    with pytest.raises(KernelBug, match=message):
        system.kernel.rmap.check(list(system.kernel.mms.values()), design.frames.mapcount.astype("int64"))


@pytest.mark.parametrize("nth", range(12))
def test_a_fork_without_memory_leaves_nothing(nth: int) -> None:
    """Whichever allocation fails, counters, trees and slabs are as before (eras.md 3.3)."""
    system, design, parent = boot()
    put(parent, 0, 1, write=True)
    parent = parent.fork()
    put(parent, 4, 5, write=True)
    before = objects(design)
    system.machine.allocator.fail_after = nth
    try:
        child = parent.fork()
    except SyscallError as error:
        assert error.name == "ENOMEM"
        assert objects(design) == before
    else:
        child.exit()
    finally:
        system.machine.allocator.fail_after = None
    assert objects(design) == before
    system.check()


def _pfn(system: rmaplab.System, task: rmaplab.Task, page: int) -> int:
    """The frame that a task has at a page."""
    from rmaplab.machine.pagetable import lookup

    assert task.mm is not None
    return int(lookup(*system.machine.geometry, task.mm.pgd, at(page))[0] >> 12)
