"""The judge finds every way in which a design can be wrong: each design here is broken on purpose, and check() says so.

    what walk() may not do                          what is broken
    miss a mapping                                  an addition, a copy, a fork's link is forgotten; a walk stops early
    invent a mapping                                an entry is left behind; a mapping of somebody else is told
    tell one twice

Most of them also lie about themselves (`Unchecked`: their own check() is silent), so that only the judge can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest

import rmaplab
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import PG_TABLE
from rmaplab.objects.flags import PROT_READ
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.anon_vma import AnonVma, AnonVmaMap
from rmaplab.rmap.brute_force import judge
from rmaplab.rmap.protocol import Mapping, ReverseMap
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.units import PAGE_SIZE


class Unchecked(ReverseMap):
    """A design that never says that anything is wrong with it."""

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """All is well."""

    def check_owner(self, vma: VmArea, owner: int) -> None:
        """All is well."""


class ForgetsOneCopyChain(Unchecked, PteChain):
    """duplicate() and its reserve() leave out the last entry of a batch."""

    def reserve(self, batch: Batch) -> None:
        super().reserve(one_less(batch))

    def duplicate(self, batch: Batch, vma: VmArea) -> None:
        super().duplicate(one_less(batch), vma)


class ForgetsNewPageChain(Unchecked, PteChain):
    """add() leaves out the last entry."""

    def add(self, batch: Batch, vma: VmArea) -> None:
        super().add(one_less(batch), vma)


class LeavesAnEntryChain(Unchecked, PteChain):
    """remove() leaves the last entry where it is."""

    def remove(self, batch: Batch) -> None:
        super().remove(one_less(batch))


class ForgetsTablesChain(Unchecked, PteChain):
    """A new page table is put down as the first mm's, whoever's it is."""

    def tables_added(self, mm: MmStruct, start: int, end: int) -> None:
        super().tables_added(mm, start, end)
        first = next(iter(self._mms))
        self.frames.mapping[self.frames.flags & PG_TABLE != 0] = first


class ForgetsTheForkAnonVma(Unchecked, AnonVmaMap):
    """The child's area knows its anon_vma, which does not know the child's area."""

    def vma_fork(self, vma: VmArea, child: VmArea) -> None:
        child.anon_vma = vma.anon_vma


class ForgetsTheSplitAnonVma(Unchecked, AnonVmaMap):
    """The upper half of a split is on no list."""

    def vma_clone(self, vma: VmArea, new: VmArea) -> None:
        new.anon_vma = vma.anon_vma


class ForgetsTheMergeAnonVma(Unchecked, AnonVmaMap):
    """The survivor of a merge does not inherit."""

    def vma_merge(self, vma: VmArea, dying: VmArea) -> None:
        self.vma_unlink(dying)


class UnlinksTooMuchAnonVma(Unchecked, AnonVmaMap):
    """An area that goes takes another off the list with it."""

    def vma_unlink(self, vma: VmArea) -> None:
        anon_vma = vma.anon_vma
        super().vma_unlink(vma)
        if isinstance(anon_vma, AnonVma) and anon_vma.vmas():
            del anon_vma._vmas[anon_vma.vmas()[0]]


class WrongIndexAnonVma(Unchecked, AnonVmaMap):
    """New pages are one off."""

    def add(self, batch: Batch, vma: VmArea) -> None:
        super().add(batch, vma)
        self.frames.index[batch.pfns] += 1


class DoesNotLookAnonVma(Unchecked, AnonVmaMap):
    """Every area on the object is said to map the page: nobody looks whether it does."""

    def walk(self, pfn: int) -> Iterator[Mapping]:
        anon_vma = self.owner_of(pfn)
        for vma in anon_vma.vmas() if anon_vma else []:
            yield Mapping(vma.mm, vma.address_of(int(self.frames.index[pfn])))


def one_less(batch: Batch) -> Batch:
    """The batch without its last entry."""
    less = Batch(batch.nr, batch.entry_bytes)
    less.columns[:, : batch.runs] = batch.columns[:, : batch.runs]
    less.nr, less.runs = batch.nr - 1, batch.runs
    less.columns[3, less.runs - 1] -= 1
    less.runs -= int(less.columns[3, less.runs - 1] == 0)
    return less


def family(kernel: str, design: type[ReverseMap] | None) -> rmaplab.System:
    """Something of everything: pages shared and copied, areas split, unmapped, merged, gone with their task.

            0   4   8   12           0x90000
    parent  AAAA    AAAA             aaB        the hole at 1 was filled last
    child   AAAAA AABBBB
    """
    system = rmaplab.boot(kernel, ram="64M", paging="i386", design=design)
    parent = system.spawn()
    base = parent.mmap(12 * PAGE_SIZE)
    parent.touch(base, 12 * PAGE_SIZE, write=True)
    child = parent.fork()
    child.touch(base + 8 * PAGE_SIZE, 4 * PAGE_SIZE, write=True)
    parent.munmap(base + 4 * PAGE_SIZE, 4 * PAGE_SIZE)
    child.fork().exit()
    child.munmap(base + 5 * PAGE_SIZE, PAGE_SIZE)
    #   an area that was never written, one that was, and the hole between them filled
    low = parent.mmap(PAGE_SIZE, address=0x9000_0000)
    high = parent.mmap(PAGE_SIZE, address=low + 2 * PAGE_SIZE)
    parent.write(high, b"x")
    parent.mmap(PAGE_SIZE, address=low + PAGE_SIZE)
    return system


@pytest.mark.parametrize(("kernel", "design"), [("2.6.2", PteChain), ("2.6.5-rc1-aa1", AnonVmaMap)])
def test_the_designs_themselves_pass(kernel: str, design: type[ReverseMap]) -> None:
    """What the broken ones are asked, the sound ones answer."""
    family(kernel, None).check()
    family(kernel, design).check()


@pytest.mark.parametrize(
    ("design", "then"),
    [
        (ForgetsOneCopyChain, "nothing"),
        (ForgetsTablesChain, "nothing"),
        (ForgetsTheForkAnonVma, "nothing"),
        (ForgetsTheSplitAnonVma, "protect"),
        (UnlinksTooMuchAnonVma, "unmap"),
        (DoesNotLookAnonVma, "write"),
    ],
)
def test_the_judge_tells(design: type[ReverseMap], then: str) -> None:
    """Whatever a design says about itself, its answers are compared with the page tables."""
    kernel = "2.6.2" if issubclass(design, PteChain) else "2.6.5-rc1-aa1"
    system = rmaplab.boot(kernel, ram="64M", paging="i386", design=design)
    parent = system.spawn()
    base = parent.mmap(12 * PAGE_SIZE)
    parent.touch(base, 12 * PAGE_SIZE, write=True)
    child = parent.fork()
    if then == "unmap":
        child.munmap(base, 2 * PAGE_SIZE)
    if then == "protect":  # what sticks out is new
        child.mprotect(base, 2 * PAGE_SIZE, PROT_READ)
    elif then == "write":
        child.write(base + 11 * PAGE_SIZE, b"x")
    with pytest.raises(rmaplab.KernelBug, match=design.name) as bug:
        system.check()
    assert bug.value.where == "judge"


def test_a_forgotten_new_page() -> None:
    """The page is mapped, and nobody can say by whom."""
    system = rmaplab.boot("2.6.2", ram="64M", design=ForgetsNewPageChain)
    task = system.spawn()
    task.write(task.mmap(PAGE_SIZE), b"x")
    with pytest.raises(rmaplab.KernelBug, match="1 mappings missed, 0 invented") as bug:
        system.check()
    assert bug.value.where == "judge"


def test_an_entry_left_behind() -> None:
    """The page is unmapped in one process and still said to be there."""
    system = rmaplab.boot("2.6.2", ram="64M", design=LeavesAnEntryChain)
    parent = system.spawn()
    address = parent.mmap(2 * PAGE_SIZE)
    parent.touch(address, 2 * PAGE_SIZE, write=True)
    parent.fork().munmap(address, PAGE_SIZE)
    with pytest.raises(rmaplab.KernelBug, match="0 mappings missed, 1 invented") as bug:
        system.check()
    assert bug.value.where == "judge"


@pytest.mark.parametrize("what_goes", ["the task", "the page"])
def test_an_entry_left_behind_that_leads_nowhere(what_goes: str) -> None:
    """A KernelBug, whatever the walk trips over: a page table that is gone, the list of a page that is free."""
    system = rmaplab.boot("2.6.2", ram="64M", design=LeavesAnEntryChain)
    parent = system.spawn()
    address = parent.mmap(2 * PAGE_SIZE)
    parent.touch(address, 2 * PAGE_SIZE, write=True)
    if what_goes == "the task":
        parent.fork().exit()
    else:
        parent.munmap(address, PAGE_SIZE)
    with pytest.raises(rmaplab.KernelBug):
        system.check()


def test_a_wrong_index() -> None:
    """The page says it lies one further up."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", design=WrongIndexAnonVma)
    task = system.spawn()
    assert task.mm is not None
    task.write(task.mmap(2 * PAGE_SIZE), b"x")
    with pytest.raises(rmaplab.KernelBug) as bug:
        system.check()
    assert bug.value.where == "page_index"
    with pytest.raises(rmaplab.KernelBug, match="1 mappings missed, 0 invented"):
        judge(system.kernel.rmap, [task.mm], system.kernel.design.tracked().tolist())


def test_a_merge_that_is_not_inherited() -> None:
    """The pages of the area that went away name an object that is gone."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", design=ForgetsTheMergeAnonVma)
    task = system.spawn()
    low = task.mmap(PAGE_SIZE, address=0x9000_0000)
    high = task.mmap(PAGE_SIZE, address=low + 2 * PAGE_SIZE)
    task.write(high, b"x")
    task.mmap(PAGE_SIZE, address=low + PAGE_SIZE)
    with pytest.raises(rmaplab.KernelBug) as bug:
        system.check()
    assert bug.value.where == "judge"


# -- walks that lie, on both designs ---------------------------------------------------------------------------------


def liar(base: type[ReverseMap], lie: str) -> type[ReverseMap]:
    """`base` with a walk that misses, invents or repeats a mapping."""

    class Liar(Unchecked, base):  # type: ignore[misc, valid-type]
        unfindable: bool = False

        def walk(self, pfn: int) -> Iterator[Mapping]:
            truth = list(base.walk(self, pfn))
            if lie == "misses one":
                yield from islice(truth, 1, None)
                return
            yield from truth
            if lie == "tells one twice":
                yield from truth[:1]
            elif lie == "invents an address":
                yield from (Mapping(m.mm, m.address + PAGE_SIZE) for m in truth[:1])
            elif lie == "invents a process":
                others = [m.mm for m in truth[1:]]
                yield from (Mapping(mm, 0x1000) for mm in others)

        def declared_unfindable(self) -> set[int]:
            return set(self.tracked().tolist()) if self.unfindable else set()

    return Liar


@pytest.mark.parametrize(("kernel", "base"), [("2.6.2", PteChain), ("2.6.5-rc1-aa1", AnonVmaMap)])
@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("misses one", "1 mappings missed, 0 invented, 0 told twice, of 2"),
        ("invents an address", "0 mappings missed, 1 invented, 0 told twice, of 2"),
        ("invents a process", "0 mappings missed, 1 invented, 0 told twice, of 2"),
        ("tells one twice", "0 mappings missed, 0 invented, 1 told twice, of 2"),
    ],
)
@pytest.mark.parametrize("unfindable", [False, True])
def test_liars(kernel: str, base: type[ReverseMap], lie: str, told: str, unfindable: bool) -> None:
    """The message counts what is wrong. A page declared unfindable may be missed, never invented or repeated."""
    design = liar(base, lie)
    design.unfindable = unfindable  # type: ignore[attr-defined]
    system = rmaplab.boot(kernel, ram="64M", design=design)
    parent = system.spawn()
    parent.write(parent.mmap(PAGE_SIZE), b"x")
    parent.fork()
    if unfindable and lie == "misses one":
        system.check()
        return
    with pytest.raises(rmaplab.KernelBug, match=told) as bug:
        system.check()
    assert bug.value.where == "judge"
