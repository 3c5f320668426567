"""The judge does not walk from every page, and says what one says who does: of sound systems, and of systems in which anything was broken by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.designs import OURS, load_design
from rmaplab.kernels.file_indexes import OURS as INDEXES
from rmaplab.kernels.file_indexes import load_file_index
from rmaplab.kernels.system import System
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MAP_SHARED, PROT_READ
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.alike import says
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.brute_force import judge, mappings_of
from rmaplab.rmap.index_apart import NonlinearApart
from rmaplab.rmap.interval_tree import IntervalTree, Node
from rmaplab.rmap.prio_tree import PrioTree
from rmaplab.rmap.protocol import Mapping
from rmaplab.units import PAGE_SIZE

KERNELS = {  # and what a file's VMAs hang on
    "2.4.21": "list",
    "2.6.2": "rbtree",
    "2.6.5-rc1+anonmm": "interval_tree",
    "2.6.5-rc1+anonmm_unordered": "list",
    "2.6.5-rc1-aa1": "list",
    "2.6.5-rc3-aa3": "prio_tree_mended",
    "2.6.7": "prio_tree",
    "2.6.5-rc1+anon_vma_interval_tree": "rbtree",
    "6.18": "interval_tree",
    "6.18+anon_vma_chain_newest": "interval_tree",
}
CHAINS = {"pte_chain"}  # each page has its own


def mms_of(system: System) -> list[MmStruct]:
    return list(system.kernel.mms.values())


def judge_every_page(system: System, pfns: Iterable[int]) -> None:
    """What judge() is measured against: a walk from each page, beside what the page tables say of it."""
    rmap, mms = system.kernel.rmap, mms_of(system)
    unfindable = rmap.declared_unfindable()
    for pfn in sorted(set(pfns)):
        real = {(m.mm.address, m.address) for m in mappings_of(system.machine, mms, pfn)}
        answer = [(m.mm.address, m.address) for m in rmap.walk(pfn)]
        found = set(answer)
        missed, invented, twice = real - found, found - real, len(answer) - len(found)
        if invented or twice or (missed and pfn not in unfindable):
            raise rmaplab.KernelBug(
                "judge",
                f"{rmap.design.name}, page {pfn}: {len(missed)} mappings missed, {len(invented)} invented, {twice} told twice, of {len(real)}",
            )


def family(kernel: str, random: Random) -> tuple[System, list[int]]:
    """Some processes that share some pages, of a file too, have others alone, and split, moved or lost some. And the pages there are."""
    system = rmaplab.boot(kernel, ram="64M", paging="x86-64", file_index=KERNELS[kernel])
    first = system.spawn()
    file = first.open(system.kernel.page_cache.new_file(b"x" * 8 * PAGE_SIZE), writable=True)
    areas = [first.mmap(12 * PAGE_SIZE) for _ in range(2)]
    areas.append(first.mmap(8 * PAGE_SIZE, flags=MAP_SHARED, file=file))
    for area in areas:
        first.touch(area, 8 * PAGE_SIZE, write=True)
    tasks = [first]
    for _ in range(random.randrange(2, 6)):
        tasks.append(random.choice(tasks).fork())
        for _ in range(random.randrange(16)):
            change(random.choice(tasks), areas, random)
    system.check()
    mapped = system.machine.frames.mapcount
    return system, np.flatnonzero(mapped).tolist()


def change(task: Task, areas: list[int], random: Random) -> None:
    at = random.choice(areas) + random.randrange(8) * PAGE_SIZE
    match random.choice([0, 1, 2, 3, 3, 3]):
        case 0:
            task.munmap(at, random.randrange(1, 3) * PAGE_SIZE)
        case 1 if task.mm is not None and (vma := task.mm.find_vma(at)) is not None and vma.end > at >= vma.start:
            task.mprotect(at, PAGE_SIZE, PROT_READ)
        case 2 if task.mm is not None and (vma := task.mm.find_vma(at)) is not None and vma.end > at >= vma.start:
            task.mremap(at, PAGE_SIZE, 2 * PAGE_SIZE)
        case _ if task.mm is not None and (vma := task.mm.find_vma(at)) is not None and vma.start <= at < vma.end:
            with_right = vma.flags & 2
            task.touch(at, PAGE_SIZE, write=bool(with_right))


def some_vma(system: System, random: Random) -> VmArea:
    return random.choice([vma for mm in mms_of(system) for vma in mm.vmas])


def break_entry(system: System, pfns: list[int], random: Random) -> None:
    """One is gone, or maps another page."""
    where = [m for pfn in pfns for m in mappings_of(system.machine, mms_of(system), pfn)]
    at = random.choice(where)
    _, pte = lookup(*system.machine.geometry, at.mm.pgd, at.address)
    other = random.choice([0, int(random.choice(pfns)) << 12 | 7])
    system.machine.words[pte // system.machine.paging.entry_bytes] = other


def break_index(system: System, pfns: list[int], random: Random) -> None:
    system.machine.frames.index[random.choice(pfns)] += random.choice([-1, 1, PAGE_SIZE])


def break_owner(system: System, pfns: list[int], random: Random) -> None:
    """It names another's, or nobody."""
    frames, pfn = system.machine.frames, random.choice(pfns)
    frames.mapping[pfn] = random.choice([0, int(frames.mapping[random.choice(pfns)])])


def break_kind(system: System, pfns: list[int], random: Random) -> None:
    system.machine.frames.flags[random.choice(pfns)] ^= PG_ANON


def break_mapcount(system: System, pfns: list[int], random: Random) -> None:
    system.machine.frames.mapcount[random.choice(pfns)] += random.choice([-1, 1])


def break_area(system: System, pfns: list[int], random: Random) -> None:
    """Its page offset, or an end."""
    vma = some_vma(system, random)
    match random.randrange(3):
        case 0:
            vma.pgoff += random.choice([-1, 1])
        case 1:
            vma.end -= min(random.randrange(1, 6) * PAGE_SIZE, vma.end - vma.start - PAGE_SIZE)
        case _:
            vma.start += PAGE_SIZE


def break_list(system: System, pfns: list[int], random: Random) -> None:
    """A VMA is not on what it should be on: its owner's, or its file's, or the list of address spaces."""
    vma, design = some_vma(system, random), system.kernel.design
    if vma.file is not None:
        vma.file.mapping.i_mmap.unlink(vma)
    elif hasattr(vma.anon_vma, "unlink"):
        vma.anon_vma.unlink(vma)
    elif hasattr(design, "chains") and vma in design.chains:
        avc = random.choice(design.chains[vma])
        avc.anon_vma.tree.remove(avc)
    elif hasattr(design, "_mmlist"):
        del design._mmlist[vma.mm.address]
    elif hasattr(design, "_of_mm"):
        anonmm = design._of_mm[vma.mm.address]
        del anonmm.head.family[anonmm]


def break_tree(system: System, pfns: list[int], random: Random) -> None:
    """A node of a tree says that less hangs below it."""
    trees = [
        anon_vma.tree for anon_vma in getattr(system.kernel.design, "at", {}).values() if hasattr(anon_vma, "tree")
    ]
    for file in system.kernel.rmap.files.values():
        index = file.i_mmap.index if isinstance(file.i_mmap, NonlinearApart) else file.i_mmap
        trees.append(getattr(index, "_tree", None))
    nodes = [node for tree in trees if tree is not None and hasattr(tree, "_root") for node in tree]
    if nodes:
        random.choice(nodes).subtree_last -= random.randrange(1, 9)


BREAKS: list[Callable[[System, list[int], Random], None]] = [
    break_entry, break_index, break_owner, break_kind, break_mapcount, break_area, break_list, break_tree,
]  # fmt: skip


def verdict(said: Callable[[], None]) -> str:
    try:
        said()
    except rmaplab.KernelBug as bug:
        return str(bug)
    except Exception as error:  # noqa: BLE001  (a walk through what was broken may end anyhow)
        return type(error).__name__
    return ""


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_says_what_one_says_who_walks_from_every_page(kernel: str) -> None:
    """The same page, the same words: where all is well, and in many ways of being wrong."""
    said: list[str] = []
    for seed in range(30, 60):
        random = Random(seed)
        system, pfns = family(kernel, random)
        for broken in random.sample(BREAKS, random.randrange(3)):
            broken(system, pfns, random)
        mine = verdict(lambda: judge(system.kernel.rmap, mms_of(system), pfns))  # noqa: B023
        assert mine == verdict(lambda: judge_every_page(system, pfns)), seed  # noqa: B023
        said.append(mine)
    assert "" in said
    assert any("missed" in text for text in said)


def counted(system: System, pfns: list[int]) -> list[int]:
    """The pages that the judge walks from."""
    rmap, walked = system.kernel.rmap, list[int]()
    walk = rmap.walk

    def counting(pfn: int) -> Iterator[Mapping]:
        walked.append(pfn)
        return walk(pfn)

    rmap.walk = counting  # type: ignore[method-assign]
    judge(rmap, mms_of(system), pfns)
    return walked


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_place_is_asked_for_once(kernel: str) -> None:
    """Twenty pages that four processes share, in two areas, and one that each child has alone: a walk an owner and area, but of pages with a chain of their own."""
    system = rmaplab.boot(kernel, ram="64M", paging="x86-64")
    parent = system.spawn()
    areas = [parent.mmap(10 * PAGE_SIZE, address=0x7000_0000 + 0x100_0000 * i) for i in range(2)]
    for area in areas:
        parent.touch(area, 10 * PAGE_SIZE, write=True)
    children = [parent.fork() for _ in range(3)]
    for child in children:
        child.write(areas[0] + 3 * PAGE_SIZE, b"x")
    pfns = np.flatnonzero(system.machine.frames.mapcount).tolist()
    walked = counted(system, pfns)
    name = system.kernel.design.name
    own = 3 if name.startswith(("anonmm", "anon_vma_chain")) else 0  # a copy names its own
    shared = 1 if name.startswith("anonmm") else 2  # at whatever address, or in whatever area
    assert len(walked) == (len(pfns) if name in CHAINS else shared + own)


def test_each_design_says_it_for_its_own_walk() -> None:
    """All of ours but chains; and nobody has it from another class, whose walk may not be his."""
    found = {name: load_design(path) for name, path in OURS.items()}
    saying = {name for name, design in found.items() if "borders" in vars(design) or "looks_everywhere" in vars(design)}
    assert saying == OURS.keys() - CHAINS
    assert all("borders" in vars(load_file_index(name)) for name in INDEXES)

    class Derived(AnonVmaMap):
        """Whatever it does."""

    assert not says(rmaplab.boot("2.6.5-rc1-aa1", ram="64M", design=Derived).kernel.design, "borders")


def test_who_walks_another_way_is_asked_of_every_page() -> None:
    """A design that is derived from ours and misses every seventh page."""
    nr = count()

    class Seventh(AnonVmaMap):
        """Misses it."""

        name = "seventh"

        def walk(self, pfn: int) -> Iterator[Mapping]:
            yield from () if next(nr) % 7 == 6 else super().walk(pfn)

    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", design=Seventh)
    task = system.spawn()
    task.touch(task.mmap(16 * PAGE_SIZE), 16 * PAGE_SIZE, write=True)
    with pytest.raises(rmaplab.KernelBug, match=r"seventh, page .*: 1 mappings missed"):
        system.check()


def tree_of(kind: str, random: Random) -> IntervalTree[Node] | PrioTree[int]:
    """Of random ranges; and what its nodes say of those below may be wrong."""
    ranges = [(first, first + random.randrange(20)) for first in random.choices(range(60), k=random.randrange(1, 25))]
    if kind == "prio":
        prio: PrioTree[int] = PrioTree(32, whole_words=bool(random.randrange(2)))
        for first, last in set(ranges):
            prio.insert(first, last, 0)
        for node in random.choices(list(prio.overlapping(0, 99)), k=2):
            node.last = max(node.first, node.last - random.randrange(4))
        return prio
    interval: IntervalTree[Node] = IntervalTree()
    for first, last in ranges:
        interval.insert(Node(), first, last)
    for one in random.choices(list(interval), k=2):
        one.subtree_last -= random.randrange(4)
    return interval


@pytest.mark.parametrize("kind", ["interval", "prio"])
def test_between_two_borders_a_search_goes_one_way(kind: str) -> None:
    """In sound trees and in others: the same nodes found, and as many looked at."""
    for seed in range(300):
        tree = tree_of(kind, Random(seed))
        borders, before = {0, *tree.borders()}, None
        for place in range(90):
            found = [id(node) for node in tree.overlapping(place, place)], tree.looked_at
            assert place in borders or found == before, (seed, place)
            before = found
