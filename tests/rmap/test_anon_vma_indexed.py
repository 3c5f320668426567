"""An anon_vma's VMAs on an index of files: who is visited, and that nobody is lost when borders move.

    one VMA of 64 pages, written to, then cut by mprotect into 64:    |r-|rw|r-|rw| ...    on one anon_vma, all of them

Source: commit bf181b9f9d8d, which is about exactly that.
"""

from __future__ import annotations

from typing import ClassVar

import pytest

import rmaplab
from rmaplab.kernels import designs
from rmaplab.lab.conformance.kit import conformance
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ
from rmaplab.rmap.anon_vma_indexed import AnonVmaIntervalTree, IndexedAnonVmaMap
from rmaplab.rmap.file_index import FileIndex, VmaLists, VmaMendedPrioTree, VmaRbTree
from rmaplab.units import PAGE_SIZE

HERE = 0x5000_0000
PIECES = 64


class OnLists(AnonVmaIntervalTree):
    name: ClassVar[str] = "on_lists"
    index: ClassVar[type[FileIndex]] = VmaLists


class OnRbTree(AnonVmaIntervalTree):
    name: ClassVar[str] = "on_rbtree"
    index: ClassVar[type[FileIndex]] = VmaRbTree


class OnPrioTree(AnonVmaIntervalTree):
    name: ClassVar[str] = "on_prio_tree"
    index: ClassVar[type[FileIndex]] = VmaMendedPrioTree


EACH = (OnLists, OnRbTree, OnPrioTree, AnonVmaIntervalTree)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them by name."""
    for design in EACH[:3]:
        monkeypatch.setitem(designs.OURS, design.name, f"{design.__module__}:{design.__qualname__}")


def cut(design: type[IndexedAnonVmaMap] | None, children: int = 0) -> tuple[rmaplab.System, rmaplab.Task]:
    """A VMA that was written to, in pieces of a page, in each of these processes."""
    system = rmaplab.boot(f"2.6.5-rc1+{design.name if design else 'anon_vma'}", ram="64M")
    task = system.spawn()
    task.mmap(PIECES * PAGE_SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address=HERE)
    task.touch(HERE, PIECES * PAGE_SIZE, write=True)
    for page in range(0, PIECES, 2):
        task.mprotect(HERE + page * PAGE_SIZE, PAGE_SIZE, PROT_READ)
    assert task.mm is not None
    assert len(task.mm.vmas) == PIECES
    assert len({vma.anon_vma for vma in task.mm.vmas}) == 1
    for _ in range(children):
        task.fork()
    return system, task


def visits(system: rmaplab.System, task: rmaplab.Task, page: int, mappings: int) -> tuple[int, int]:
    """(VMAs, nodes) of a walk from a page that so many map."""
    counts = system.machine.ledger.counts
    before = counts.copy()
    assert len(system.who_maps(task, HERE + page * PAGE_SIZE)) == mappings
    spent = counts - before
    return spent["vma_visit"], spent["anon_node_visit"]


@pytest.mark.parametrize("children", [0, 3])
def test_who_is_visited(children: int) -> None:
    """2004's list and ours: all pieces. By first page: those that begin no later. A tree of ranges: whose page it is."""
    processes = children + 1
    everybody = PIECES * processes
    assert visits(*cut(None, children), 9, processes) == (everybody, 0)
    assert visits(*cut(OnLists, children), 9, processes) == (everybody, everybody)
    vmas, nodes = visits(*cut(OnRbTree, children), 9, processes)
    assert (vmas, nodes) == (10 * processes, 10 * processes + 1)
    for design in (OnPrioTree, AnonVmaIntervalTree):
        vmas, nodes = visits(*cut(design, children), 9, processes)
        assert vmas == processes
        assert nodes <= processes + 3 * everybody.bit_length()


def test_the_order_on_a_list_is_that_of_2004() -> None:
    """Newest first."""
    orders = []
    for design in (None, OnLists):
        system, task = cut(design, 3)
        orders.append([mapping.mm.pid for mapping in system.who_maps(task, HERE)])
    assert orders[0] == orders[1] == [4, 3, 2, 1]


@pytest.mark.parametrize("design", EACH)
def test_pieces_become_one_again(design: type[IndexedAnonVmaMap]) -> None:
    """munmap, moves and merges take VMAs off and put them back with other borders; an index that has not heard of it fails check()."""
    system, task = cut(design, 1)
    task.munmap(HERE + 8 * PAGE_SIZE, 4 * PAGE_SIZE)
    system.check()
    moved = task.mremap(HERE + 32 * PAGE_SIZE, PAGE_SIZE, 4 * PAGE_SIZE)
    system.check()
    task.munmap(moved, PAGE_SIZE)
    task.exit()
    system.check()


@pytest.mark.parametrize("design", EACH)
def test_random_calls(design: type[IndexedAnonVmaMap]) -> None:
    """Walk equals judge after each of them."""
    report = conformance(f"2.6.5-rc1+{design.name}", paging="i386", examples=15, steps=30, seed=1)
    assert report.counterexample is None, report.counterexample and report.counterexample.source
    assert report.calls > report.scripts


def test_what_it_takes() -> None:
    """A tree's node in each VMA, where the list took two words; a tree's root and leftmost node in each anon_vma, where that had two words of a list."""
    list_, tree = (
        rmaplab.boot(f"2.6.5-rc1+{name}", ram="64M").kernel for name in ("anon_vma", "anon_vma_interval_tree")
    )
    assert tree.vma_cache.object_bytes == list_.vma_cache.object_bytes + 8
    assert tree.design.caches()[0].object_bytes == list_.design.caches()[0].object_bytes == 12
