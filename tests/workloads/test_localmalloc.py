"""localmalloc: who has the pages of each case, and which VMA they lie in.

    parent       [inherited]
    child 1..n   [inherited][adjacent]  .  [apart]      helpers of child i have what it has

Sources: the announcement; merging by history.md 1.4, 1.5.2, modern.md 1.8.
"""

import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.machine.entries import PFN_MASK
from rmaplab.machine.pagetable import lookup
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.localmalloc import BASE, Case, LocalMalloc

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+anonmm", "2.6.5-rc1+anonmm_unordered", "2.6.5-rc1-aa1", "6.18")
CHILDREN, HELPERS, PAGES = 4, 2, 3
MAPPED = {
    Case.PRIVATE_APART: 1,
    Case.PRIVATE_ADJACENT: 1,
    Case.SHARED: 1 + HELPERS,
    Case.SHARED_AT_ONCE: 1 + HELPERS,
    Case.CREATOR_GONE: HELPERS,
    Case.COWED: 1,
    Case.UNTOUCHED: 1 + CHILDREN,
}


def system_of(kernel: str) -> rmaplab.System:
    return rmaplab.boot(kernel, ram="64M")


@pytest.mark.parametrize("case", Case)
@pytest.mark.parametrize("kernel", KERNELS)
def test_who_has_the_pages(kernel: str, case: Case) -> None:
    """Every place has frames of its own, each with as many mappings as the case says, all at one address, by all page tables."""
    system = system_of(kernel)
    places = LocalMalloc(CHILDREN, HELPERS, PAGES).run(system, case)
    assert len(places) == (1 if case is Case.UNTOUCHED else CHILDREN)
    frames = set()
    for task, address in places:
        assert task.mm is not None
        for at in range(address, address + PAGES * PAGE_SIZE, PAGE_SIZE):
            entry, _ = lookup(*system.machine.geometry, task.mm.pgd, at)
            frames.add(pfn := (entry >> PAGE_SHIFT) & PFN_MASK)
            found = list(mappings_of(system.machine, system.kernel.mms.values(), pfn))
            assert len(found) == MAPPED[case]
            assert {m.address for m in found} == {at}
            assert task.pid in {m.mm.pid for m in found}
    assert len(frames) == len(places) * PAGES
    system.check()


@pytest.mark.parametrize(
    ("kernel", "merges"), [("2.4.21", True), ("2.6.2", True), ("2.6.5-rc1-aa1", True), ("6.18", False)]
)
def test_adjacent_is_one_with_what_was_inherited_where_that_merges(kernel: str, merges: bool) -> None:
    """Up to 2.6.34 and later, until cloned VMAs merged no more; apart is never one. A heap that grows is as adjacent."""
    system = system_of(kernel)
    group = LocalMalloc(CHILDREN, HELPERS, PAGES)
    for case, one in ((Case.PRIVATE_ADJACENT, merges), (Case.PRIVATE_APART, False)):
        for task, address in group.run(system, case):
            assert task.mm is not None
            vma = task.mm.find_vma(address)
            assert vma is not None
            assert (vma.start == BASE) == one
    parent = system.spawn()
    end = parent.brk(parent.brk() + PAGES * PAGE_SIZE)
    parent.touch(end - PAGE_SIZE, PAGE_SIZE, write=True)
    child = parent.fork()
    child.touch(child.brk(end + PAGE_SIZE) - PAGE_SIZE, PAGE_SIZE, write=True)
    assert child.mm is not None
    vma = child.mm.find_vma(end)
    assert vma is not None
    assert (vma.start < end) == merges


@pytest.mark.parametrize(
    "sizes",
    [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (15_000, 1, 1), (200, 200, 1), (200, 1, 70_000), (2_000, 9, 200)],
)
def test_sizes_that_make_no_sense(sizes: tuple[int, int, int]) -> None:
    """One line that names sizes that do."""
    with pytest.raises(UsageError, match="--children 200 --helpers 1 --pages 32"):
        LocalMalloc(*sizes)
