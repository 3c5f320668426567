"""What is unmapped is freed when TLBs have been flushed, and each call flushes as often as its kernel's does.

    munmap, 2.6.2      [506 pages] flush, free    [506 pages] flush, free    [the rest, the page tables] flush, free

Expected counts: eras.md 7, from 2.4.27 and 2.6.2 include/asm-generic/tlb.h; those of 6.18 are what the tracepoint tlb:tlb_flush showed
on a running 6.18.44.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import rmaplab
from rmaplab.lab.conformance import OF_2004
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_FREE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

KERNELS = [*OF_2004, "6.18"]
OLD = KERNELS[:-1]
ROOM = {"2.4.21": 508, "6.18": 9678}
BASE = 0x4000_0000  # the begin of an entry of the top table in each format
FIXED = 0x32  # MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED
LOOK = 400 * PAGE_SIZE  # what a look takes, in pages touched


def boot(kernel: str, cpus: int = 2, overcommit: int = 0) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="256M", cpus=cpus, boot_use="8M", overcommit=overcommit)
    return system, system.spawn()


def mapped(task: rmaplab.Task, pages: int, *, at: int = BASE, write: bool = True) -> int:
    address = task.mmap(pages * PAGE_SIZE, PROT_READ | PROT_WRITE, FIXED, at)
    if write:
        task.touch(address, pages * PAGE_SIZE, write=True)
    return address


class Flushes:
    """How often each kind of flush was counted since the last look."""

    def __init__(self, system: rmaplab.System) -> None:
        self._system = system
        self._seen: Counter[str] = Counter()
        self.take()

    def take(self) -> dict[str, int]:
        counts = Counter({k: nr for k, nr in self._system.machine.ledger.counts.items() if k.startswith("tlb_")})
        new, self._seen = counts - self._seen, counts
        return {kind.removeprefix("tlb_"): nr for kind, nr in new.items()}


# -- munmap and exit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pages", [1, 100, 505, 506, 507, 508, 509, 5000, 20_000])
def test_munmap(kernel: str, pages: int) -> None:
    """One flush for every full gather and one for what is left; 2.4 needs one only, as nobody else lives there (fast mode)."""
    system, task = boot(kernel)
    mapped(
        task, 1, at=BASE + (64 << 20) * 4
    )  # a neighbour under the same top entry: the page tables stay in the old kernels
    address = mapped(task, pages)
    flushes = Flushes(system)
    task.munmap(address, pages * PAGE_SIZE)
    room = ROOM.get(kernel, 506)
    last = 1 if kernel == "6.18" and pages % room == 0 else 0  # its page tables go, and want one of their own
    assert flushes.take() == {"flush_mm": 1 if kernel == "2.4.21" else -(-pages // room) + last}
    system.check()


@pytest.mark.parametrize(("pages", "expected"), [(504, 1), (505, 1), (506, 2), (1010, 2), (1011, 3)])
def test_page_tables_are_gathered_as_pages(pages: int, expected: int) -> None:
    """2.6 on PAE: with the last VMA of a GiB its page tables go too, and fill places (__pte_free_tlb is tlb_remove_page)."""
    system, task = boot("2.6.2")
    address = mapped(task, pages)
    tables = -(-pages // 512)
    assert -(-(pages + tables) // 506) == expected
    flushes = Flushes(system)
    task.munmap(address, pages * PAGE_SIZE)
    assert flushes.take() == {"flush_mm": expected}
    system.check()


@pytest.mark.parametrize("pages", [505, 506, 507])
def test_pages_of_two_areas_share_a_gather(pages: int) -> None:
    """2.6 has one gather for the call, 2.4 one for each VMA, whether or not anything was there."""
    for kernel, expected in (("2.6.2", -(-(pages + 10) // 506)), ("2.4.21", 3)):
        system, task = boot(kernel)
        mapped(task, 1, at=BASE + (256 << 20))
        address = mapped(task, pages)
        task.mmap(PAGE_SIZE, PROT_READ, FIXED, address + pages * PAGE_SIZE)
        mapped(task, 10, at=address + (pages + 1) * PAGE_SIZE)
        flushes = Flushes(system)
        task.munmap(address, (pages + 11) * PAGE_SIZE)
        assert flushes.take() == {"flush_mm": expected}, kernel
        system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_was_there(kernel: str) -> None:
    """need_flush: 2.6 and later leave the flush out; 2.4 flushes the range all the same. The zero page is something."""
    system, task = boot(kernel)
    mapped(task, 1, at=BASE + (256 << 20))
    address = mapped(task, 64, write=False)
    flushes = Flushes(system)
    task.munmap(address, 64 * PAGE_SIZE)
    assert flushes.take() == ({"flush_mm": 1} if kernel == "2.4.21" else {})
    mapped(task, 64, write=False)
    task.touch(address, 64 * PAGE_SIZE)
    flushes.take()
    task.munmap(address, 64 * PAGE_SIZE)
    assert flushes.take() == {"flush_mm": 1}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pages", [1, 1000, 20_000])
def test_exit(kernel: str, pages: int) -> None:
    """Batches in every kernel: at exit mm_users is 0, so 2.4 is not fast either. Page tables fill places in 2.6."""
    system, task = boot(kernel)
    mapped(task, pages)
    child = task.fork()
    tables = -(-pages // 512) if kernel not in ("2.4.21", "6.18") else 0
    flushes = Flushes(system)
    child.exit()
    assert flushes.take() == {"flush_mm": -(-(pages + tables) // ROOM.get(kernel, 506))}
    system.check()


@pytest.mark.parametrize(("kernel", "expected"), [("2.4.21", 40), ("2.6.2", 1), ("6.18", 3)])
def test_one_cpu(kernel: str, expected: int) -> None:
    """On one CPU 2.6 frees at once and flushes at the end; 2.4's kernel is built for several, and asks for users; 6.18 always gathers."""
    system, task = boot(kernel, cpus=1)
    mapped(task, 20_000)
    flushes = Flushes(system)
    task.exit()
    assert flushes.take() == {"flush_mm": expected}


def test_two_users_are_not_fast() -> None:
    """2.4 with a second thread: pages wait for the flush, 508 at a time."""
    system, task = boot("2.4.21")
    address = mapped(task, 2000)
    task.clone_vm()
    flushes = Flushes(system)
    task.munmap(address, 2000 * PAGE_SIZE)
    assert flushes.take() == {"flush_mm": 4}
    system.check()


# -- when pages are free ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_page_is_free_before_its_flush(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each flush just what the flushes before have let go is free; what is unmapped since then is not."""
    system, task = boot(kernel)
    task.clone_vm()  # or 2.4 would be fast
    mapped(task, 1, at=BASE + (256 << 20))
    address = mapped(task, 20_000)
    allocator, tlb = system.machine.allocator, system.machine.tlb
    before, freed, flush = allocator.nr_unused, list[int](), tlb.flush_mm

    def spy(mm: object, nr: int = 1) -> None:
        freed.extend([allocator.nr_unused - before] * nr)
        flush(task.mm, nr)  # type: ignore[arg-type]

    monkeypatch.setattr(tlb, "flush_mm", spy)
    task.munmap(address, 20_000 * PAGE_SIZE)
    room = ROOM.get(kernel, 506)
    assert len(freed) == -(-20_000 // room)
    # several at once (a burst of work) are flushed before any of their pages is freed
    assert all(nr <= i * room and nr % room == 0 for i, nr in enumerate(freed))
    assert freed[-1] == (len(freed) - 1) * room
    assert allocator.nr_unused - before >= 20_000


@pytest.mark.parametrize(("kernel", "expected"), [("2.4.21", 2), ("2.6.2", 3), ("2.6.5-rc1-aa1", 3), ("6.18", 1)])
def test_no_page_table_is_free_before_the_flush(kernel: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 page tables of one page each: in 2.6 they are gathered behind the pages; in 2.4 and 6.18 they go when all pages have gone."""
    system, task = boot(kernel, overcommit=1)
    task.clone_vm()
    span, machine = system.machine.paging.leaf_span, system.machine
    address = task.mmap(600 * span, PROT_READ | PROT_WRITE, FIXED, BASE)
    for i in range(600):
        task.write(address + i * span, b"x")
    system.kernel.lru_add.drain_all()
    before, tables, freed, flush = (
        machine.allocator.nr_unused,
        machine.nr_tables,
        list[tuple[int, int]](),
        machine.tlb.flush_mm,
    )

    def spy(_: object, nr: int = 1) -> None:
        gone = tables - machine.nr_tables
        freed.extend([(machine.allocator.nr_unused - before - gone, gone)] * nr)
        flush(task.mm, nr)  # type: ignore[arg-type]

    monkeypatch.setattr(machine.tlb, "flush_mm", spy)
    task.munmap(address, 600 * span)
    assert len(freed) == expected
    at_flushes = [(0, 0), (506, 0), (600, 2 * 506 - 600)] if expected == 3 else [(0, 0), (508, 0)]
    assert freed == at_flushes[:expected]
    assert tables - machine.nr_tables >= 600
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_gather_is_a_holder_of_references(kernel: str) -> None:
    """While a task works through its range another looks: the pages in the gather have their reference, and check() knows whose it is."""
    system, _ = boot(kernel, cpus=2)
    pages, seen, looking, done = 40_000, list[int](), list[bool](), list[bool]()
    k = system.kernel

    def zaps(task: rmaplab.Task) -> None:
        address = task.mmap(pages * PAGE_SIZE)
        task.touch(address, pages * PAGE_SIZE, write=True)
        own = task.mmap(LOOK)
        task.touch(own, LOOK, write=True)
        task.clone_vm(lambda child: looks(child, own))
        while not looking:
            task.touch(own, LOOK)
        task.madvise(address, pages * PAGE_SIZE, MADV_DONTNEED)
        done.append(True)

    def looks(task: rmaplab.Task, own: int) -> None:
        looking.append(True)
        while not done:
            task.touch(own, LOOK)
            held = sum(holder.references().size for holder in k.holders if isinstance(holder, MmuGather))
            if held and held not in seen:
                seen.append(held)
                system.check()

    system.spawn(zaps)
    system.run()
    assert seen
    assert all(held < ROOM.get(kernel, 506) for held in seen)
    assert not [holder for holder in k.holders if isinstance(holder, MmuGather)]
    system.check()


@pytest.mark.parametrize("room", [1, 2, 3, 7, 50])
def test_gathered_by_runs_as_page_by_page(room: int) -> None:
    """Whatever runs a batch has, the same pages are freed in the same order as if each had been put into the gather by itself."""
    rng = np.random.default_rng(room)
    for _ in range(40):
        system, task = boot("2.6.2")
        k, mm = system.kernel, task.mm
        assert mm is not None
        lengths = [rng.integers(1, 9, rng.integers(1, 6)).tolist() for _ in range(3)]
        starts = np.cumsum([0, *[nr + 1 for batch in lengths for nr in batch]]).tolist() + np.array(9000)
        freed, model = list[int](), list[int]()
        k.rules = replace(k.rules, gather_pages=room)  # all kernels of that name have the same rules
        machine = k.machine
        machine.allocator.free = lambda pfns, freed=freed, **_: freed.extend(pfns.tolist())  # type: ignore[method-assign]
        flushes, waiting, at = 0, list[int](), iter(starts)
        counted = Flushes(system)
        with MmuGather(k, mm) as tlb:
            for runs in lengths:
                with k.batch() as batch:
                    batch.runs, batch.nr = len(runs), sum(runs)
                    for i, nr in enumerate(runs):
                        first = int(next(at))
                        batch.columns[:, i] = first, 0, 0, nr, first << 12
                        machine.frames.count[first : first + nr] = 1
                        waiting.extend(range(first, first + nr))
                    tlb.remove_pages(batch)
                while len(waiting) >= room:
                    model.extend(waiting[:room])
                    del waiting[:room]
                    flushes += 1
                assert freed == model
                assert tlb.references().tolist() == waiting
                assert machine.frames.count[waiting].tolist() == [1] * len(waiting)
        model.extend(waiting)
        assert freed == model
        assert counted.take() == {"flush_mm": flushes + bool(waiting)}


# -- the other calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_fork_and_copy_on_write(kernel: str) -> None:
    """A fork flushes the parent once; a copy flushes its page, and so does a page that is only made writable, but on 6.18."""
    system, task = boot(kernel)
    address = mapped(task, 600)
    flushes = Flushes(system)
    child = task.fork()
    assert flushes.take() == {"flush_mm": 1}
    task.touch(address, 32 * PAGE_SIZE)
    assert flushes.take() == {}  # a read changes nothing
    task.touch(address, 32 * PAGE_SIZE, write=True)
    task.write(address + 50 * PAGE_SIZE, b"x")
    assert flushes.take() == {"flush_page": 33}
    child.exit()
    flushes.take()
    task.touch(address + 100 * PAGE_SIZE, 64 * PAGE_SIZE, write=True)
    assert flushes.take() == ({} if kernel == "6.18" else {"flush_page": 64})
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_first_touches(kernel: str) -> None:
    """Nothing was there, so no TLB knew it; but whoever has read zeros has an entry, and the write replaces it."""
    system, task = boot(kernel)
    address = task.mmap(64 * PAGE_SIZE)
    flushes = Flushes(system)
    task.touch(address, 32 * PAGE_SIZE)
    task.touch(address + 32 * PAGE_SIZE, 32 * PAGE_SIZE, write=True)
    assert flushes.take() == {}
    task.touch(address, 64 * PAGE_SIZE, write=True)
    assert flushes.take() == {"flush_page": 32}


def test_a_fork_that_fails_flushes_too() -> None:
    """dup_mmap: its entries may have become read-only (eras.md 3.1)."""
    system, task = boot("2.6.2")
    nr_bytes = system.machine.allocator.nr_free * 3 // 4 * PAGE_SIZE
    task.touch(task.mmap(nr_bytes), nr_bytes, write=True)
    flushes = Flushes(system)
    with pytest.raises(rmaplab.SyscallError, match="overcommit"):
        task.fork()
    assert flushes.take() == {"flush_mm": 1}


@pytest.mark.parametrize("kernel", KERNELS)
def test_mprotect(kernel: str) -> None:
    """Old kernels flush the range of each VMA; 6.18 once for the call, and only if an entry has changed."""
    system, task = boot(kernel)
    address = mapped(task, 64)
    for first in (8, 24):
        task.mprotect(address + first * PAGE_SIZE, 8 * PAGE_SIZE, PROT_READ)
    empty = mapped(task, 8, at=BASE + (64 << 20), write=False)
    flushes, new = Flushes(system), kernel == "6.18"
    task.mprotect(address, 64 * PAGE_SIZE, PROT_NONE)  # five VMAs
    assert flushes.take() == ({"flush_mm": 1} if new else {"flush_range": 5})
    task.mprotect(empty, 8 * PAGE_SIZE, PROT_READ)
    assert flushes.take() == ({} if new else {"flush_range": 1})
    task.mprotect(empty, 8 * PAGE_SIZE, PROT_READ)  # nothing is to be done
    assert flushes.take() == {}


@pytest.mark.parametrize("kernel", KERNELS)
def test_madvise(kernel: str) -> None:
    """MADV_DONTNEED: a gather for each VMA's part, on 6.18 one for the call; FREE and COLD change entries, too."""
    system, task = boot(kernel)
    address = mapped(task, 64)
    task.mprotect(address + 8 * PAGE_SIZE, 8 * PAGE_SIZE, PROT_READ)
    flushes, new = Flushes(system), kernel == "6.18"
    if new:
        for advice in (MADV_FREE, MADV_COLD):
            task.madvise(address, 64 * PAGE_SIZE, advice)
            assert flushes.take() == {"flush_mm": 1}
    task.madvise(address, 64 * PAGE_SIZE, MADV_DONTNEED)
    assert flushes.take() == {"flush_mm": 1 if new else 3}
    task.madvise(address, 64 * PAGE_SIZE, MADV_DONTNEED)
    assert flushes.take() == ({"flush_mm": 3} if kernel == "2.4.21" else {})
    system.check()


def moved(kernel: str, pages: int, touched: list[tuple[int, int]], offset: int = 0) -> dict[str, int]:
    """What mremap of `pages` of which these [first, last) are there flushes; the source shares its page tables with neighbours."""
    system, task = boot(kernel)
    whole = mapped(task, 4096, write=False)
    for first, last in touched:
        task.touch(whole + (512 + first) * PAGE_SIZE, (last - first) * PAGE_SIZE, write=True)
    for page in range(0, 4096, 511):  # a neighbour in every table
        if not 512 <= page < 512 + pages:
            task.write(whole + page * PAGE_SIZE, b"x")
    flushes = Flushes(system)
    target = BASE + (64 << 20) + offset * PAGE_SIZE
    length = pages * PAGE_SIZE
    task.mremap(whole + 512 * PAGE_SIZE, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, target)
    system.check()
    return flushes.take()


@pytest.mark.parametrize(
    ("kernel", "kind", "full", "sparse"),
    [
        ("2.4.21", "flush_range", 1, 1),  # one for the range
        ("2.6.2", "flush_page", 100, 100),  # one for each page, populated or not
        ("2.6.5-rc1", "flush_page", 100, 10),  # one for each entry
        ("2.6.5-rc1-aa1", "flush_page", 100, 10),
        ("6.18", "flush_range", 1, 1),
    ],
)
def test_mremap(kernel: str, kind: str, full: int, sparse: int) -> None:
    """Each kernel flushes as it goes (eras.md 6.1); what is moved has gone from the source, whose munmap then finds nothing."""
    munmap = {"flush_mm": 1} if kernel == "2.4.21" else {}  # in fast mode, whether or not anything is there
    if kernel == "6.18":
        munmap = {}
    assert moved(kernel, 100, [(0, 100)]) == {kind: full} | munmap
    assert moved(kernel, 100, [(0, 5), (95, 100)]) == {kind: sparse} | munmap


@pytest.mark.parametrize(
    ("offset", "touched", "expected"),
    [(0, [(0, 1024)], 2), (128, [(0, 1024)], 4), (384, [(0, 1024)], 4), (128, [(0, 10), (600, 610)], 2)],
)
def test_mremap_flushes_each_stretch_between_tables(offset: int, touched: list[tuple[int, int]], expected: int) -> None:
    """6.18 moves what lies in one page table before and after at a time: seen on 6.18.44 (and one more where the source's tables go)."""
    counts = moved("6.18", 1024, touched, offset)
    assert counts["flush_range"] == expected
    assert counts.get("flush_mm", 0) <= 1


# -- other CPUs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_thread_on_one_cpu_interrupts_nobody(kernel: str) -> None:
    """Whatever it does: no other CPU has its address space."""
    system, _ = boot(kernel, cpus=1)

    def program(task: rmaplab.Task) -> None:
        address = mapped(task, 2000)
        task.fork(lambda child: child.touch(address, 100 * PAGE_SIZE, write=True))
        task.touch(address, 100 * PAGE_SIZE, write=True)
        task.wait()
        task.mprotect(address, 100 * PAGE_SIZE, PROT_READ)
        task.munmap(address, 2000 * PAGE_SIZE)

    system.spawn(program)
    system.run()
    counts = system.machine.ledger.counts
    assert counts["tlb_ipi"] == 0
    assert counts["tlb_flush_mm"] > 2
    assert counts["tlb_leave_mm"] <= 2  # each when it exits


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_threads_on_two_cpus(kernel: str) -> None:
    """While one computes on another CPU, every flush of the address space they share interrupts it."""
    system, _ = boot(kernel, cpus=2)
    seen = list[tuple[int, int]]()
    k: Kernel = system.kernel

    def flushed() -> tuple[int, int]:
        counts = system.machine.ledger.counts
        return sum(counts[f"tlb_flush_{kind}"] for kind in ("mm", "range", "page")), counts["tlb_ipi"]

    def works(task: rmaplab.Task) -> None:
        address = mapped(task, 3000)
        task.touch(address, 3000 * PAGE_SIZE)
        task.clone_vm(lambda child: computes(child, address))
        for _ in range(200):  # until both run
            task.touch(address, 3000 * PAGE_SIZE)
        both = all(cpu.current is not None and cpu.current.mm is task.mm for cpu in k.machine.sched.cpus)
        assert both
        before = flushed()
        task.mprotect(address, 10 * PAGE_SIZE, PROT_READ)
        task.munmap(address, 2000 * PAGE_SIZE)
        seen.append((flushed()[0] - before[0], flushed()[1] - before[1]))

    def computes(task: rmaplab.Task, address: int) -> None:
        for _ in range(3000):
            task.touch(address + 2500 * PAGE_SIZE, 400 * PAGE_SIZE)

    system.spawn(works)
    system.run()
    ((flushes, interrupts),) = seen
    assert (
        flushes == interrupts == {"2.4.21": 1 + 1 + 4, "6.18": 1 + 1}.get(kernel, 1 + 4)
    )  # in 2.4 a gather for each VMA
    system.check()


@pytest.mark.parametrize("kernel", ["2.6.2", "6.18"])
def test_exec_leaves_the_old_address_space(kernel: str) -> None:
    """activate_mm: the CPU has the new one when the old one is torn down, so nobody is interrupted and the mask is the new mm's."""
    system, _ = boot(kernel)
    masks = list[int]()

    def program(task: rmaplab.Task) -> None:
        mapped(task, 100)
        old = task.mm
        task.execve()
        assert old is not None
        assert task.mm is not None
        masks.extend((old.cpu_vm_mask, task.mm.cpu_vm_mask))

    system.spawn(program)
    system.run()
    assert masks[1].bit_count() == 1
    assert system.machine.ledger.counts["tlb_ipi"] == 0
    assert system.machine.ledger.counts["tlb_switch_mm"] == 2
