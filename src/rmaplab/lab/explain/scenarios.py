"""Three rules of anon_vma_chain that were wrong for a while, each with the calls that show it.

    double-reuse    3.19 to 5.19   one counter, `degree`, said whether an anon_vma may be reused; two VMAs got the same     CVE-2022-42703
    adoption        2.6.34-rc      a VMA shared a neighbour's anon_vma, though that was a fork's child                        April 2010
    mremap-merge    6.16 to 6.18   a moved VMA merged into one without anon_vma, and nobody cloned its chain                 CVE-2026-23077

All three end the same way: pages of a VMA name an anon_vma that the VMA is not on. A walk from such a page misses the mapping; once
the anon_vma is freed, page->mapping points to nothing. check() sees the broken invariant, and the judge the missed mapping.

A scenario is run on a kernel twice: with its own rules, and with the broken one in place of one method.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug
from rmaplab.kernels.system import System, boot
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.brute_force import judge
from rmaplab.rmap.chained_anon_vma import ChainedAnonVma
from rmaplab.units import PAGE_SIZE

BASE = 0x4000_0000
RW = PROT_READ | PROT_WRITE
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


class Degree(AnonVmaChainMap):
    """Any anon_vma of the chain but the VMA's own, if VMAs and children together are fewer than two."""

    def may_be_reused(self, vma: VmArea, anon_vma: ChainedAnonVma) -> bool:
        """As anon_vma_clone of 3.19 to 5.19: an abandoned leaf has no children, so one VMA may have taken it already."""
        return anon_vma is not vma.anon_vma and anon_vma.num_active_vmas + anon_vma.num_children < 2


class Adopts(AnonVmaChainMap):
    """Any neighbour's anon_vma, a fork's child's too."""

    def may_be_shared(self, neighbour: VmArea) -> bool:
        """As anon_vma_prepare of 2.6.34-rc: the newest of the chain comes along, and its ancestors do not."""
        return True


class NoClone(AnonVmaChainMap):
    """A VMA from elsewhere merges, and its chain is left behind."""

    def vma_adopt(self, vma: VmArea, source: VmArea) -> None:
        """As vma_expand before 61f67c230a5e: what was dup'ed was the chain of a neighbour that goes, not that of the source."""
        if source.start == vma.end or source.end == vma.start:
            super().vma_adopt(vma, source)


@dataclass(frozen=True)
class Scenario:
    """`calls` makes them one by one and says what each was; `broken` is the design with the wrong rule."""

    name: str
    about: str
    source: str
    broken: type[AnonVmaChainMap]
    calls: Callable[[System], Iterator[str]]

    def run(
        self, design: type[AnonVmaChainMap], kernel: str = "6.18", *, checked: bool = True
    ) -> tuple[list[str], str]:
        """(the calls made, what was found wrong after the last of them, or "").

        With `checked` all invariants are checked after every call, else only the judge is asked: does walk() find everything?
        """
        system = boot(kernel, ram="64M", design=design)
        made: list[str] = []
        for call in self.calls(system):
            made.append(call)
            try:
                if checked:
                    system.check()
                else:
                    judge_all(system)
            except KernelBug as bug:
                return made, str(bug)
        return made, ""


def judge_all(system: System) -> None:
    """walk() against the page tables, for every page that is mapped. Raises KernelBug."""
    mms = list(system.kernel.mms.values())
    tracked = system.kernel.design.tracked().tolist()
    mapped = {pfn for mm in mms for pfn in read_page_tables(system.machine, mm.pgd)[0].pfns.tolist() if pfn}
    judge(system.kernel.rmap, mms, sorted(mapped.union(tracked)))


def _at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def _map(task: Task, first: int, last: int, *, write: bool) -> str:
    task.mmap((last - first) * PAGE_SIZE, RW, FIXED, _at(first))
    if write:
        task.touch(_at(first), (last - first) * PAGE_SIZE, write=True)
    return f"pid {task.pid} maps pages {first} to {last - 1}" + (" and writes them" if write else "")


def _protect(task: Task, first: int, last: int, prot: int) -> str:
    task.mprotect(_at(first), (last - first) * PAGE_SIZE, prot)
    return f"pid {task.pid} makes pages {first} to {last - 1} {'read-only' if prot == PROT_READ else 'writable'}"


def _move(task: Task, first: int, last: int, to: int) -> str:
    length = (last - first) * PAGE_SIZE
    task.mremap(_at(first), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, _at(to))
    return f"pid {task.pid} moves pages {first} to {last - 1} to page {to}"


def _write(task: Task, first: int, last: int) -> str:
    task.touch(_at(first), (last - first) * PAGE_SIZE, write=True)
    return f"pid {task.pid} writes pages {first} to {last - 1}"


def _double_reuse(system: System) -> Iterator[str]:
    """Two halves of one area, each with a chain of its own, get the same abandoned anon_vma in one fork; then they merge."""
    first = system.spawn()
    yield _map(first, 0, 8, write=True)
    second = first.fork()
    yield "pid 1 forks pid 2"
    third = second.fork()
    yield "pid 2 forks pid 3: chain of three, the newest its own"
    second.exit()
    yield "pid 2 exits: its anon_vma is nobody's, with one child"
    fourth = third.fork()
    yield "pid 3 forks pid 4, which takes over pid 2's; pid 3's own is a leaf from now on"
    yield _protect(third, 4, 8, PROT_READ) + ": two VMAs call the leaf their own"
    yield _protect(fourth, 4, 8, PROT_READ)
    fifth = fourth.fork()
    yield "pid 4 forks pid 5: both halves get new anon_vmas, and so chains that differ"
    yield _protect(fifth, 4, 8, RW)
    yield _write(fifth, 0, 8)
    third.exit()
    yield "pid 3 exits: the leaf is nobody's"
    sixth = fifth.fork()
    yield "pid 5 forks pid 6: may both halves have the leaf?"
    yield _protect(sixth, 4, 8, PROT_READ)
    yield _protect(sixth, 4, 8, RW) + ": as its neighbour; do they merge?"


def _adoption(system: System) -> Iterator[str]:
    """A child maps memory below what it has inherited; the lower VMA survives a merge, with its shorter chain."""
    parent = system.spawn()
    yield _map(parent, 4, 8, write=True)
    child = parent.fork()
    yield "pid 1 forks pid 2"
    yield _map(child, 0, 4, write=True) + ": whose anon_vma do they get?"
    yield _protect(child, 4, 8, PROT_READ)
    yield _protect(child, 4, 8, RW) + ": do they merge?"


def _mremap_merge(system: System) -> Iterator[str]:
    """What was written comes back beside memory nobody has touched."""
    task = system.spawn()
    yield _map(task, 4, 8, write=True)
    yield _move(task, 4, 8, 20)
    yield _map(task, 0, 4, write=False)
    yield _move(task, 20, 24, 4) + ": beside VMAs without an anon_vma"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "double-reuse",
            "an anon_vma is reused while another VMA still calls it its own: same anon_vma, other chain, and they merge",
            "CVE-2022-42703, found by Jann Horn; fixed by 2555283eb40d (6.0)",
            Degree,
            _double_reuse,
        ),
        Scenario(
            "adoption",
            "a VMA shares the anon_vma of a fork's child and not its ancestors; merged, it loses the inherited pages",
            "2.6.34-rc3, April 2010: lwn.net/Articles/383162",
            Adopts,
            _adoption,
        ),
        Scenario(
            "mremap-merge",
            "a faulted VMA is moved beside one that is not, merges with it, and its chain is not cloned",
            "CVE-2026-23077, found by syzbot; fixed by 61f67c230a5e (6.18.8)",
            NoClone,
            _mremap_merge,
        ),
    )
}
