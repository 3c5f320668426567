"""The VMAs of a file hang on an index, in every kernel and whatever becomes of them; walks and truncate go by it.

fork    the child's beside its parent's          split, merge, mremap    borders and first pages move
munmap  off, when the entries are gone           walk, truncate          who may show a page, and what that has taken
"""

import random
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug, SegmentationFault, SyscallError, UsageError
from rmaplab.kernels import file_indexes
from rmaplab.kernels.file_indexes import GROUP, OURS
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.mm.kernel import FILE_LOCKS
from rmaplab.mm.truncate import vmtruncate
from rmaplab.mm.vma import show_file
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import AddressSpace, File, VmArea
from rmaplab.rmap.file_index import VmaLists
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7", "6.18")
HERE = 0x5000_0000
PAGES = 24


def shows(task: rmaplab.Task, file: File, at: int, nr: int, pgoff: int) -> VmArea:
    """`nr` pages of the file at `at`, from page `pgoff` on."""
    assert task.mmap(nr * PAGE_SIZE, address=at) == at
    assert task.mm is not None
    vma = task.mm.find_vma(at)
    assert vma is not None
    show_file(task.kernel, vma, file, pgoff)
    return vma


@pytest.mark.parametrize("index", [None, *(name for name in OURS if name != "prio_tree")])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(2))
def test_whatever_becomes_of_vmas_walks_find_their_pages(kernel: str, index: str | None, seed: int) -> None:
    """check() after each call: the index has the VMAs that map the file and no others, and walk equals judge. At last nobody is on it.

    Not 2.6.7's own prio_tree, which may come upon its fault: tests/rmap/test_prio_tree.py.
    """
    choose = random.Random(seed)
    system = rmaplab.boot(kernel, ram="64M", file_index=index)
    k = system.kernel
    space = k.page_cache.new_file(bytes(PAGES * PAGE_SIZE))
    opened = [File(space), File(space)]
    tasks = [system.spawn()]
    at = HERE
    for _ in range(60):
        task = choose.choice(tasks)
        assert task.mm is not None
        file_vmas = [vma for vma in task.mm.vmas if vma.file is not None]
        vma = choose.choice(file_vmas) if file_vmas else None
        what = choose.choice(["map", "read", "read", "write", "fork", "munmap", "mprotect", "mremap", "truncate"])
        if vma is None or what == "map":
            shows(task, choose.choice(opened), at, choose.randrange(1, 9), choose.randrange(PAGES - 8))
            at += 16 * PAGE_SIZE
            system.check()
            continue
        first = vma.start + choose.randrange(vma.nr_pages) * PAGE_SIZE
        nr = choose.randrange(1, 5) * PAGE_SIZE
        with suppress(BusError, SegmentationFault, SyscallError):
            if what == "read":
                task.touch(first, nr)
            elif what == "write":
                task.touch(first, PAGE_SIZE, write=True)
            elif what == "fork" and len(tasks) < 4:
                tasks.append(task.fork())
            elif what == "munmap":
                task.munmap(first, nr)
            elif what == "mprotect":
                task.mprotect(first, min(nr, vma.end - first), choose.choice([PROT_READ, PROT_READ | PROT_WRITE]))
            elif what == "mremap":
                to, at = at, at + 16 * PAGE_SIZE
                task.mremap(first, min(nr, vma.end - first), nr, MREMAP_MAYMOVE | MREMAP_FIXED, to)
            elif choose.random() < 0.3:
                vmtruncate(k, space, choose.randrange(4, PAGES) * PAGE_SIZE)
        system.check()
    for task in tasks:
        task.exit()
        system.check()
    assert list(space.i_mmap) == []


def order(system: rmaplab.System, space: AddressSpace) -> list[tuple[int, int]]:
    """(pid, first page) of the VMAs that a walk visits, in order."""
    return [(vma.mm.pid, vma.pgoff) for vma in space.i_mmap]


@pytest.mark.parametrize(
    ("kernel", "line"),
    [
        (
            "2.4.21",
            [(1, 9), (1, 0), (2, 0), (1, 4), (2, 4)],
        ),  # 4 and 9 are new at the head, a child right behind its parent
        ("2.6.2", [(2, 0), (1, 0), (2, 4), (1, 4), (1, 9)]),
        ("2.6.5-rc1-aa1", [(2, 0), (1, 0), (2, 4), (1, 4), (1, 9)]),
        ("6.18", [(1, 0), (2, 0), (1, 4), (2, 4), (1, 9)]),
    ],
)
def test_fork_and_map_in_the_order_of_the_era(kernel: str, line: list[tuple[int, int]]) -> None:
    """files.md A4: two VMAs are mapped, a fork doubles them, one more is mapped."""
    system = rmaplab.boot(kernel, ram="64M")
    space = system.kernel.page_cache.new_file(bytes(16 * PAGE_SIZE))
    task = system.spawn()
    for at, pgoff in ((0, 4 if kernel == "2.4.21" else 0), (16, 0 if kernel == "2.4.21" else 4)):
        shows(task, File(space), HERE + at * PAGE_SIZE, 2, pgoff)
    task.fork()
    shows(task, File(space), HERE + 32 * PAGE_SIZE, 2, 9)
    assert order(system, space) == line


@pytest.mark.parametrize(
    ("index", "vmas", "nodes"), [("list", 40, 40), ("rbtree", 8, 9), ("interval_tree", 1, None), ("prio_tree", 1, None)]
)
def test_a_walk_is_charged_for_what_it_looks_at(index: str, vmas: int, nodes: int | None) -> None:
    """40 one-page VMAs of pages 0 to 39: a walk for page 7 visits all of them, those that begin no later, or the one that shows it."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", file_index=index)
    space = system.kernel.page_cache.new_file(bytes(40 * PAGE_SIZE))
    task = system.spawn()
    for page in range(40):
        shows(task, File(space), HERE + 2 * page * PAGE_SIZE, 1, page)
        task.read(HERE + 2 * page * PAGE_SIZE)
    counts = system.machine.ledger.counts
    before = counts.copy()
    assert len(list(system.kernel.rmap.walk(space.pages[7]))) == 1
    assert counts["vma_visit"] - before["vma_visit"] == vmas
    looked_at = counts["file_node_visit"] - before["file_node_visit"]
    assert looked_at == nodes if nodes is not None else 1 <= looked_at <= 12


def test_an_index_takes_room_in_vmas() -> None:
    """A prio_tree's union is twice a list_head."""
    plain, other = (rmaplab.boot("2.6.2", ram="64M", file_index=index).kernel for index in ("list", "prio_tree"))
    assert other.vma_cache.object_bytes == plain.vma_cache.object_bytes + 8
    assert rmaplab.boot("2.6.2", ram="64M").kernel.vma_cache.object_bytes == plain.vma_cache.object_bytes


class Newest(VmaLists):
    """An index of another package: a list that is walked backwards."""

    name = "newest"

    def __iter__(self) -> Iterator[VmArea]:
        return iter(list(super().__iter__())[::-1])


def test_an_index_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point; what is no whole index is refused in words."""
    points = [EntryPoint(name, f"{__name__}:{what}", GROUP) for name, what in (("newest", "Newest"), ("no", "PAGES"))]
    points.append(EntryPoint("half", "rmaplab.rmap.file_index:FileIndex", GROUP))
    monkeypatch.setattr(file_indexes, "entry_points", lambda group: points if group == GROUP else [])
    system = rmaplab.boot("2.6.2", ram="64M", file_index="newest")
    space = system.kernel.page_cache.new_file(bytes(4 * PAGE_SIZE))
    task = system.spawn()
    for page in range(3):
        shows(task, File(space), HERE + 2 * page * PAGE_SIZE, 1, page)
    assert [pgoff for _, pgoff in order(system, space)] == [2, 1, 0]
    system.check()
    for name, why in (("no", "is not a FileIndex"), ("half", "does not say __iter__, candidates, file_bytes")):
        with pytest.raises(UsageError, match=why):
            rmaplab.boot("2.6.2", ram="64M", file_index=name)


def test_an_index_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"'prio_tre' \(did you mean prio_tree\?\): choose from list, rbtree"):
        rmaplab.boot("2.6.2", ram="64M", file_index="prio_tre")


def test_check_sees_a_vma_that_is_on_no_index() -> None:
    system = rmaplab.boot("2.6.2", ram="64M")
    space = system.kernel.page_cache.new_file(bytes(4 * PAGE_SIZE))
    vma = shows(system.spawn(), File(space), HERE, 2, 0)
    system.check()
    space.i_mmap.unlink(vma)
    with pytest.raises(KernelBug, match="i_mmap: 0 VMAs are on a file's list, and 1 map the file"):
        system.check()


@pytest.mark.parametrize(
    ("kernel", "busy_counts", "contended"),
    [("2.6.5-rc1+00100", 1, True), ("2.6.5-rc1-aa1", 0, True), ("6.18", 0, True)],
)
def test_a_busy_list_is_tried(kernel: str, busy_counts: int, contended: bool) -> None:
    """files.md E1, E2: page_referenced does not wait for the file's lock; 00100 then takes the page for used. Unmap: AGAIN, or it waits."""
    system = rmaplab.boot(kernel, ram="64M")
    k = system.kernel
    space = k.page_cache.new_file(bytes(4 * PAGE_SIZE))
    task = system.spawn()
    shows(task, File(space), HERE, 2, 0)
    task.read(HERE)
    pfns = np.array([space.pages[0]])
    system.machine.frames.flags[pfns] &= ~np.uint32(PG_REFERENCED)  # filemap_nopage says so too
    assert (referenced(k.rmap, pfns).nr.tolist(), referenced(k.rmap, pfns).nr.tolist()) == ([1], [0])
    assert space.lock.type.name == FILE_LOCKS[k.rules.file_lock][0]
    system.machine.locks.take(space.lock)
    asked = referenced(k.rmap, pfns)
    assert (asked.nr.tolist(), asked.contended.tolist()) == ([busy_counts], [contended])
    if kernel != "6.18":
        assert unmap(k.rmap, pfns, np.zeros(1, np.int64)).outcome.tolist() == [Outcome.AGAIN]
    system.machine.locks.drop(space.lock)
    system.machine.frames.count[pfns] += 1
    assert unmap(k.rmap, pfns, np.zeros(1, np.int64)).outcome.tolist() == [Outcome.SUCCESS]
    system.machine.frames.count[pfns] -= 1
    system.check()
