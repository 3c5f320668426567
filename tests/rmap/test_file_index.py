"""Indexes of a file's VMAs: whoever maps a page is among the candidates, whatever comes and goes; and the order of each era.

file    0 1 2 3 4 5 6 7          fork: the child's VMA stands beside its parent's
A         [=====]                split, merge: borders move
B             [=======]          unmap
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.machine.paging import paging_format
from rmaplab.objects.flags import VM_READ, VM_SHARED
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.file_index import (
    FileIndex,
    ListOrder,
    VmaIntervalTree,
    VmaLists,
    VmaMendedPrioTree,
    VmaPrioTree,
    VmaRbTree,
    check_index,
)
from rmaplab.units import PAGE_SHIFT

PAGING = paging_format("x86-64")
ALL = (VmaLists, VmaRbTree, VmaMendedPrioTree, VmaIntervalTree)
NEW = ListOrder()
"""2.6.2: the tail, and before the parent."""


def vma(first: int, pages: int, *, shared: bool = True) -> VmArea:
    flags = VM_READ | (VM_SHARED if shared else 0)
    return VmArea(None, 0, pages << PAGE_SHIFT, flags, first)  # type: ignore[arg-type]  # an index does not ask whose it is


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("order", [NEW, ListOrder(new_at_head=True, child_behind=True), ListOrder(moved_to_tail=True)])
@settings(deadline=None)
@given(st.data())
def test_who_maps_a_page_is_among_the_candidates(kind: type[FileIndex], order: ListOrder, data: st.DataObject) -> None:
    """Against brute force over all VMAs, through maps, forks, moved borders and unmaps; nobody comes twice."""
    index, there = kind(PAGING, order), list[VmArea]()
    for _ in range(data.draw(st.integers(1, 25))):
        what = data.draw(st.sampled_from(["map", "map", "fork", "move", "unmap"]))
        chosen = data.draw(st.sampled_from(there)) if there else None
        if chosen is None or what == "map":
            there.append(
                vma(data.draw(st.integers(0, 30)), data.draw(st.integers(1, 12)), shared=data.draw(st.booleans()))
            )
            index.link(there[-1])
        elif what == "fork":
            child = VmArea(chosen.mm, chosen.start, chosen.end, chosen.flags, chosen.pgoff)
            index.link(child, chosen)
            there.append(child)
        elif what == "move":
            index.pre_update(chosen)
            chosen.pgoff, chosen.end = data.draw(st.integers(0, 30)), data.draw(st.integers(1, 12)) << PAGE_SHIFT
            index.post_update(chosen)
        else:
            index.unlink(chosen)
            there.remove(chosen)
        check_index(index, set(there))
        low = data.draw(st.integers(0, 40))
        high = low + data.draw(st.integers(0, 5))
        found = list(index.candidates(low, high))
        assert len(found) == len(set(found))
        meet = {each for each in there if each.pgoff <= high and each.pgoff + each.nr_pages > low}
        assert meet <= set(found)
        if kind in (VmaMendedPrioTree, VmaIntervalTree):
            assert meet == set(found)


@pytest.mark.parametrize(
    ("order", "new", "forked", "moved"),
    [
        (ListOrder(new_at_head=True, child_behind=True), "CBA", "CBbA", "CBbA"),  # 2.4
        (ListOrder(), "ABC", "AbBC", "AbBC"),  # 2.6.2, aa1
        (ListOrder(moved_to_tail=True), "ABC", "AbBC", "AbCB"),  # 00100
    ],
)
def test_a_list_has_them_in_the_order_of_its_era(order: ListOrder, new: str, forked: str, moved: str) -> None:
    """files.md A4: three maps, a fork of B (its child is b), and B's first page moves up."""
    index, named = VmaLists(PAGING, order), {}
    for letter in "ABC":
        named[letter] = vma(0, 4)
        index.link(named[letter])

    def line() -> str:
        return "".join(next(letter for letter, each in named.items() if each is one) for one in index)

    assert line() == new
    named["b"] = vma(0, 4)
    index.link(named["b"], named["B"])
    assert line() == forked
    index.pre_update(named["B"])
    named["B"].pgoff += 1
    index.post_update(named["B"])
    assert line() == moved
    shared_last = vma(0, 1, shared=False)
    index.link(shared_last)
    assert next(iter(index)) is shared_last  # private VMAs are walked first


def test_an_interval_tree_has_a_child_right_behind_its_parent() -> None:
    """files.md A6: equal first pages go behind those that are there; a fork's child directly behind its parent, the youngest first."""
    index = VmaIntervalTree(PAGING, NEW)
    a, b, child, grandchild, younger = (vma(5, 2) for _ in range(5))
    index.link(a)
    index.link(b)
    index.link(child, a)
    index.link(grandchild, child)
    index.link(younger, a)
    assert list(index) == [a, younger, child, grandchild, b]


def test_a_plain_search_tree_only_leaves_out_who_begins_later() -> None:
    """VMAs of one page each, at 0, 1, 2 ... 9: a walk for page 4 tests five of them, and an interval tree's one."""
    for kind, tested in ((VmaRbTree, 5), (VmaIntervalTree, 1), (VmaPrioTree, 1), (VmaLists, 10)):
        index = kind(PAGING, NEW)
        for page in range(10):
            index.link(vma(page, 1))
        assert len(list(index.candidates(4, 4))) == tested, kind.name
