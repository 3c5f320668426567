"""mremap: a mapping grows, shrinks or moves with all that is in it; and where that fails, it has not happened.

In the drawings one letter is one page. Which neighbours a moved mapping joins is the subject of test_merging.py.

Sources: eras.md 6.1 (order, rollback, old and new lengths of 0), 6.2; 2.6.2 mm/mremap.c; for anonmm history.md 1.4.
"""

from __future__ import annotations

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import NoMemory
from rmaplab.lab.conformance import OF_2004
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.units import PAGE_SIZE

KERNELS = [*OF_2004]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000
TO = MREMAP_MAYMOVE | MREMAP_FIXED


def boot(kernel: str, paging: str = "i386-pae") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    return system, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, prot: int = RW, *, write: bool = True) -> None:
    """Map pages [first, last) of the drawing and put its number into each."""
    task.mmap((last - first) * PAGE_SIZE, RW, ANON | MAP_FIXED, at(first))
    if write:
        for page in range(first, last):
            task.write(at(page), b"page %d" % page)
    if prot != RW:
        task.mprotect(at(first), (last - first) * PAGE_SIZE, prot)


def remap(task: rmaplab.Task, first: int, last: int, nr_pages: int, flags: int = 0, to: int | None = None) -> int:
    """The page it is at afterwards."""
    lengths = (last - first) * PAGE_SIZE, nr_pages * PAGE_SIZE
    got = task.mremap(at(first), *lengths, flags, 0 if to is None else at(to))
    return (got - BASE) // PAGE_SIZE


def fails(name: str, task: rmaplab.Task, *arguments: int) -> None:
    with pytest.raises(rmaplab.SyscallError) as error:
        task.mremap(*arguments)
    assert (error.value.call, error.value.name) == ("mremap", name)


def areas(task: rmaplab.Task) -> list[tuple[int, int]]:
    assert task.mm is not None
    return [((v.start - BASE) // PAGE_SIZE, (v.end - BASE) // PAGE_SIZE) for v in task.mm.vmas]


def numbers(task: rmaplab.Task, first: int, last: int) -> list[int | None]:
    """What stands in each page."""
    words = [task.read(at(page), 10).rstrip(b"\0") for page in range(first, last)]
    return [int(word.removeprefix(b"page ")) if word else None for word in words]


def seen(task: rmaplab.Task) -> dict[int, bytes]:
    """All mapped pages by address, read off the page tables so that looking changes nothing."""
    assert task.mm is not None
    machine = task.kernel.machine
    present, _ = read_page_tables(machine, task.mm.pgd)
    pairs = zip(present.addresses.tolist(), present.pfns.tolist(), strict=True)
    return {address: machine.ram.bytes[pfn].tobytes() for address, pfn in pairs}


# -- where it goes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_grow_in_place(kernel: str) -> None:
    """At the end of its VMA, up to the next one: the end moves, nothing else does."""
    system, task = boot(kernel)
    put(task, 0, 4)
    put(task, 8, 9, PROT_READ)
    free = system.machine.allocator.nr_unused
    assert remap(task, 2, 4, 6) == 2
    assert areas(task) == [(0, 8), (8, 9)]
    assert system.machine.allocator.nr_unused == free
    assert numbers(task, 0, 9) == [0, 1, 2, 3, None, None, None, None, 8]
    assert task.mm is not None
    assert task.mm.total_vm == 9
    assert system.kernel.committed_pages == (0 if kernel == "2.4.21" else 9)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_shrink(kernel: str) -> None:
    """The end is unmapped: as munmap would, so several VMAs are no hindrance."""
    system, task = boot(kernel)
    put(task, 0, 8)
    task.mprotect(at(4), 2 * PAGE_SIZE, PROT_READ)
    assert remap(task, 1, 8, 2) == 1
    assert areas(task) == [(0, 3)]
    assert numbers(task, 0, 3) == [0, 1, 2]
    with pytest.raises(rmaplab.SegmentationFault):
        task.read(at(3))
    assert remap(task, 0, 3, 3) == 0  # nothing to do
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("first", "last"), [(0, 8), (0, 4), (4, 8), (2, 6)])
def test_grow_where_there_is_no_room(kernel: str, first: int, last: int) -> None:
    """Not without MREMAP_MAYMOVE; with it the range goes elsewhere, whole VMA or part of one, and what is left is left."""
    system, task = boot(kernel)
    put(task, 0, 8)
    put(task, 8, 9, PROT_READ)
    fails("ENOMEM", task, at(first), (last - first) * PAGE_SIZE, 12 * PAGE_SIZE, 0)
    assert areas(task) == [(0, 8), (8, 9)]
    to = remap(task, first, last, 12, MREMAP_MAYMOVE)
    assert numbers(task, to, to + 12) == [*range(first, last), *[None] * (12 - last + first)]
    left = [piece for piece in ((0, first), (last, 8)) if piece[0] < piece[1]]
    assert sorted(areas(task)) == sorted([(to, to + 12), *left, (8, 9)])
    for piece in left:
        assert numbers(task, *piece) == list(range(*piece))
    assert [m.address for m in system.who_maps(task, at(to))] == [at(to)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_to_a_fixed_place(kernel: str) -> None:
    """What was there goes; the range arrives longer or shorter. Protection and marks of PROT_NONE come along."""
    system, task = boot(kernel)
    put(task, 0, 4, PROT_NONE)
    put(task, 100, 120, PROT_READ)
    assert remap(task, 0, 4, 6, TO, 104) == 104
    assert areas(task) == [(100, 104), (104, 110), (110, 120)]
    with pytest.raises(rmaplab.SegmentationFault):
        task.read(at(105))
    system.check()
    task.mprotect(at(104), 6 * PAGE_SIZE, PROT_READ)
    assert numbers(task, 103, 111) == [103, 0, 1, 2, 3, None, None, 110]
    #   shorter: the tail goes first, then the rest moves
    assert remap(task, 104, 110, 2, TO, 0) == 0
    assert numbers(task, 0, 2) == [0, 1]
    assert (104, 110) not in areas(task)
    assert (0, 2) in areas(task)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_destination_is_lost_even_if_the_source_is_none(kernel: str) -> None:
    """It is unmapped before the source is looked at (eras.md 6.1)."""
    system, task = boot(kernel)
    put(task, 100, 112)
    fails("EFAULT", task, at(0), 4 * PAGE_SIZE, 4 * PAGE_SIZE, TO, at(104))
    assert areas(task) == [(100, 104), (108, 112)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arguments(kernel: str) -> None:
    """EINVAL: unknown flags (DONTUNMAP among them), unaligned, overlapping, out of the address space; EFAULT: not one VMA."""
    system, task = boot(kernel)
    put(task, 0, 4)
    put(task, 4, 8, PROT_READ)
    four = 4 * PAGE_SIZE
    fails("EINVAL", task, at(0), four, four, MREMAP_MAYMOVE | 4)
    fails("EINVAL", task, at(0) + 1, four, four, MREMAP_MAYMOVE)
    fails("EINVAL", task, at(0), four, four, MREMAP_FIXED, at(100))
    fails("EINVAL", task, at(0), four, four, TO, at(100) + 1)
    for to in (-3, 0, 3):
        fails("EINVAL", task, at(0), four, four, TO, at(to))
    fails("EINVAL", task, at(0), four, four, TO, system.machine.paging.task_size - 3 * PAGE_SIZE)
    fails("EFAULT", task, at(0), 8 * PAGE_SIZE, 12 * PAGE_SIZE, MREMAP_MAYMOVE)
    fails("EFAULT", task, at(8), PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert areas(task) == [(0, 4), (4, 8)]
    assert numbers(task, 0, 8) == list(range(8))
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_new_length_of_nothing(kernel: str) -> None:
    """2.4 unmaps the range and returns its address, 2.6 says EINVAL (eras.md 6.1)."""
    system, task = boot(kernel)
    put(task, 0, 8)
    if kernel == "2.4.21":
        assert remap(task, 2, 6, 0) == 2
        assert areas(task) == [(0, 2), (6, 8)]
    else:
        fails("EINVAL", task, at(2), 4 * PAGE_SIZE, 0, 0)
        assert areas(task) == [(0, 8)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_old_length_of_nothing(kernel: str) -> None:
    """An empty twin of the VMA: same protection, nothing in it, and the original untouched (eras.md 6.1)."""
    system, task = boot(kernel)
    put(task, 0, 4)
    to = remap(task, 0, 0, 4, MREMAP_MAYMOVE)
    assert sorted(areas(task)) == sorted([(0, 4), (to, to + 4)])
    assert numbers(task, to, to + 4) == [None] * 4
    task.write(at(to), b"twin")
    assert numbers(task, 0, 4) == [0, 1, 2, 3]
    child = task.fork()
    for page in (0, to):
        assert {(m.mm, m.address) for m in system.who_maps(task, at(page))} == {
            (task.mm, at(page)),
            (child.mm, at(page)),
        }
    assert task.mm is not None
    assert task.mm.total_vm == 8
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_limits(kernel: str) -> None:
    """RLIMIT_AS and overcommit ask for the growth alone; a move of the same length needs neither."""
    system, task = boot(kernel)
    put(task, 0, 8)
    task.limit_as(8 * PAGE_SIZE)
    fails("ENOMEM", task, at(0), 8 * PAGE_SIZE, 9 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert remap(task, 0, 8, 8, TO, 100) == 100
    task.limit_as("1G")
    fails("ENOMEM", task, at(100), 8 * PAGE_SIZE, 64 << 20, MREMAP_MAYMOVE)
    assert areas(task) == [(100, 108)]
    assert numbers(task, 100, 108) == list(range(8))
    system.check()


# -- what moves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_contents_across_table_borders(kernel: str, paging: str) -> None:
    """Far down, far up, and by one page: by odd numbers of pages, so that nothing keeps its place in a table.

    A page here and there over many tables, and a dense stretch over a border; zero pages come along; afterwards the old
    tables are gone where nobody else lives under the same top entry.
    """
    system, task = boot(kernel, paging)
    span = system.machine.paging.leaf_span // PAGE_SIZE
    length = 70 * span
    start = -(BASE // PAGE_SIZE) % span + 2 * length  # a table border
    task.mmap(length * PAGE_SIZE, RW, ANON | MAP_FIXED | MAP_NORESERVE, at(start))
    pages = {0, length - 1, *range(33 * span - 20, 33 * span + 20), *range(7, length, span + 3)}
    for page in sorted(pages):
        task.write(at(start + page), b"page %d" % page)
    zeros = [page + 1 for page in range(7, length, 5 * span) if page + 1 not in pages]
    for page in zeros:
        task.read(at(start + page))
    copies = system.machine.ledger.counts["anon_fault"]
    assert task.mm is not None
    rss = task.mm.rss
    place = start
    for to in (start - length - 13, start + length + span // 2 + 1, start + 1):
        assert remap(task, place, place + length, length, TO, to) == to
        place = to
        present, tables = read_page_tables(system.machine, task.mm.pgd)
        moved = {(a - at(place)) // PAGE_SIZE for a in present.addresses.tolist()}
        assert moved == pages | set(zeros)
        assert task.mm.rss == rss == len(pages)
        if paging == "i386":  # elsewhere a table goes only with all others of its GiB, or of its 512 GiB
            leaves = {(BASE // PAGE_SIZE + place + page) // span for page in moved}
            assert len(tables) == len(leaves)
        system.check()
    for page in pages:
        assert task.read(at(place + page), 12).rstrip(b"\0") == b"page %d" % page
    assert system.machine.ledger.counts["anon_fault"] == copies
    assert system.machine.ledger.counts["mremap_copy"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shared_page_moves_in_one_process(kernel: str) -> None:
    """anon_vma and chains find it at both addresses; anonmm cannot, so the mover takes a copy (1.4: "early COW")."""
    system, parent = boot(kernel)
    put(parent, 0, 4)
    child = parent.fork()
    child.write(at(1), b"mine")
    counts = system.machine.ledger.counts
    before = counts["mremap_copy"], counts["cow_copy"]
    assert remap(child, 0, 4, 4, TO, 100) == 100
    system.check()
    shared = {(parent.mm, at(2)), (child.mm, at(102))}
    if kernel == "2.6.5-rc1+anonmm":
        assert counts["mremap_copy"] - before[0] == 3  # page 1 was its own
        for task, page in ((parent, 2), (child, 102), (child, 101)):
            assert [(m.mm, m.address) for m in system.who_maps(task, at(page))] == [(task.mm, at(page))]
    else:
        assert counts["mremap_copy"] == 0
        for task, page in ((parent, 2), (child, 102)):
            assert {(m.mm, m.address) for m in system.who_maps(task, at(page))} == shared
    assert counts["cow_copy"] == before[1]
    assert numbers(child, 102, 104) == [2, 3]
    child.write(at(102), b"after")
    assert numbers(parent, 0, 4) == [0, 1, 2, 3]
    #   and a page that moved is shared again by the next fork, found from both sides
    grandchild = child.fork()
    assert {m.mm for m in system.who_maps(child, at(101))} == {child.mm, grandchild.mm}
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_there_and_back_again(kernel: str) -> None:
    """Home again the VMA is as it was, and so is what walks find."""
    system, task = boot(kernel)
    put(task, 0, 8)
    child = task.fork()
    remap(child, 2, 6, 4, TO, 100)
    remap(child, 100, 104, 4, TO, 2)
    assert numbers(child, 0, 8) == list(range(8))
    system.check()
    assert child.mm is not None
    assert child.mm.total_vm == 8
    child.munmap(at(0), 8 * PAGE_SIZE)
    assert [m.mm for m in system.who_maps(task, at(3))] == [task.mm]
    system.check()


# -- when memory is short --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
@pytest.mark.parametrize(("first", "last"), [(0, 8), (3, 6)])
@pytest.mark.parametrize("neighbour", [False, True])
def test_rollback(kernel: str, paging: str, first: int, last: int, neighbour: bool) -> None:
    """Every allocation of a move fails once: ENOMEM, and all entries are where they were; the next try succeeds.

    The pages span a table border at both ends, and are shared, so that anonmm needs copies. Only the last allocations
    may be refused without harm: the source is unmapped then, and what cannot be split stays mapped, empty.
    """
    span = rmaplab.boot(kernel, ram="64M", paging=paging).machine.paging.leaf_span // PAGE_SIZE
    home = -(BASE // PAGE_SIZE) % span + span - 4
    to = home + 10 * span + first
    failed, names = 0, set()
    for granted in range(60):
        system, task = boot(kernel, paging)
        put(task, home, home + 8)
        if neighbour:
            put(task, to - 2, to)
        child = task.fork()
        before, pieces, committed = seen(child), areas(child), system.kernel.committed_pages
        allocator = system.machine.allocator
        allocator.fail_after = granted
        try:
            remap(child, home + first, home + last, last - first, TO, to)
        except rmaplab.SyscallError as error:
            names.add((error.call, error.name))
            failed += 1
            assert seen(child) == before
            if not neighbour:  # a neighbour that has grown stays grown, in 2.4 and 2.6.2 (eras.md 6.1)
                assert areas(child) == pieces
                assert system.kernel.committed_pages == committed
            fired = True
            system.check()
            remap(child, home + first, home + last, last - first, TO, to)
        else:
            fired = allocator.fail_after is None
            allocator.fail_after = None
        assert numbers(child, to, to + last - first) == list(range(home + first, home + last))
        assert numbers(task, home, home + 8) == list(range(home, home + 8))
        system.check()
        for one in (child, task):
            one.exit()
        system.check()
        if not fired:
            break
    else:
        pytest.fail("it never succeeds")
    assert failed >= 1
    assert names == {("mremap", "ENOMEM")}


@pytest.mark.parametrize("stays", [0, MREMAP_DONTUNMAP])
def test_a_run_of_mappings_of_which_the_last_cannot_go(stays: int) -> None:
    """[a a][B B][c c] -> far away: what precedes a failure has moved, whole, and nothing is lost (6.18 mm/mremap.c, remap_move).

    B is read-only, so there are three VMAs; the last two go where there is no page table yet.
    """
    outcomes = set()
    for granted in range(40):
        system, task = boot("6.18", "x86-64")
        put(task, 0, 6)
        task.mprotect(at(2), 2 * PAGE_SIZE, PROT_READ)
        there = (1 << 18) - BASE // PAGE_SIZE % 512 - 2  # the first VMA ends where a table ends
        system.machine.allocator.fail_after = granted
        try:
            remap(task, 0, 6, 6, TO | stays, there)
        except rmaplab.SyscallError:
            failed = True
        else:
            failed = False
        system.machine.allocator.fail_after = None
        moved = [(at(there) - at(0) + at(page)) in seen(task) for page in range(6)]
        assert moved in ([True] * n + [False] * (6 - n) for n in (0, 2, 4, 6))
        assert [numbers(task, there * m + page, there * m + page + 1)[0] for page, m in enumerate(moved)] == [*range(6)]
        assert len(seen(task)) == 6
        system.check()
        outcomes.add(sum(moved))
        if not failed:
            break
    assert outcomes >= {0, 2, 6}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("tables_left", [0, 1, 5, 9])
def test_memory_runs_out_in_the_middle_of_a_burst(kernel: str, tables_left: int) -> None:
    """No injector: a sparse area needs sixteen tables where it goes, and there are only so many frames. All goes back.

    2.4 gives up (ENOMEM); 2.6 would try for ever, which ends the run (NoMemory): the state is whole in both.
    """
    system, task = boot(kernel, "i386")
    span, leaf = system.machine.paging.leaf_span, system.machine.paging.leaf_span // PAGE_SIZE
    start, to = 2 * leaf, 50 * leaf
    task.mmap(16 * span, RW, ANON | MAP_FIXED | MAP_NORESERVE, at(start))
    for i in range(16):
        task.write(at(start + i * leaf + 100), b"page %d" % i)
    hog = system.spawn()
    hog.mmap("64M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x9000_0000)
    hog.touch(0x9000_0000, "64M")  # zero pages: its tables
    system.kernel.lru_add.drain_all()
    allocator = system.machine.allocator
    hog.touch(0x9000_0000, (allocator.obtainable(Gfp.HIGHUSER) - tables_left) * PAGE_SIZE, write=True)
    assert allocator.obtainable(Gfp.HIGHUSER) == tables_left
    before, pieces, committed = seen(task), areas(task), system.kernel.committed_pages
    with pytest.raises((rmaplab.SyscallError, rmaplab.NoMemory)) as error:
        remap(task, start, start + 16 * leaf, 16 * leaf, TO, to)
    assert isinstance(error.value, rmaplab.SyscallError) == (kernel == "2.4.21")
    assert areas(task) == pieces
    assert seen(task) == before
    assert system.kernel.committed_pages == committed
    system.check()
    hog.exit()
    remap(task, start, start + 16 * leaf, 16 * leaf, TO, to)
    found = [task.read(at(to + i * leaf + 100), 7).rstrip(b"\0") for i in range(16)]
    assert found == [b"page %d" % i for i in range(16)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_random_moves_keep_every_page(kernel: str) -> None:
    """Forty moves of random pieces in a family of three, against a dictionary per process."""
    random = np.random.default_rng(2004)
    system, task = boot(kernel, "i386")
    put(task, 0, 64)
    tasks = [task, task.fork()]
    tasks.append(tasks[1].fork())
    where = [{page: page for page in range(64)} for _ in tasks]  # place: the number that stands there
    errors = set()
    for _ in range(40):
        who = int(random.integers(3))
        task, pages = tasks[who], where[who]
        first = int(random.choice(list(pages)))
        nr = 1
        while nr < 7 and first + nr in pages:
            nr += 1
        to = int(random.integers(0, 400)) * 7 - 1000
        if to < first + nr and first < to + nr:
            continue
        try:
            remap(task, first, first + nr, nr, TO, to)
        except rmaplab.SyscallError as error:
            errors.add(error.name)
            moved = {}
        else:
            moved = {to + i: pages[first + i] for i in range(nr)}
            for i in range(nr):
                del pages[first + i]
        for i in range(nr):
            pages.pop(to + i, None)
        pages.update(moved)
        system.check()
    assert errors <= {"EFAULT"}  # over a border of VMAs: only the destination is lost
    for one, pages in zip(tasks, where, strict=True):
        assert {(a - BASE) // PAGE_SIZE for a in seen(one)} == pages.keys()
        for place, number in pages.items():
            assert numbers(one, place, place + 1) == [number]


@pytest.mark.parametrize("kernel", KERNELS)
def test_memory_runs_out_when_the_source_goes(kernel: str) -> None:
    """One VMA is left for where it goes, none for the split of where it was: the pages have moved, and all adds up.

    2.4 leaves the source mapped, empty, and nobody looks; in 2.6 the request would be tried for ever (NoMemory).
    """
    system, task = boot(kernel, "i386")
    put(task, 0, 12)
    put(task, 20, 21, PROT_READ)  # shares the page table of where it goes
    hog = system.spawn()
    hog.mmap("64M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x9000_0000)
    hog.touch(0x9000_0000, "64M")
    cache = system.machine.caches["vm_area_struct"]
    for i in range((-cache.nr_objects - 1) % cache.packing.per_slab):
        hog.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, 0xA000_0000 + 2 * i * PAGE_SIZE)
    allocator = system.machine.allocator
    hog.touch(0x9000_0000, (allocator.obtainable(Gfp.HIGHUSER)) * PAGE_SIZE, write=True)
    if kernel == "2.4.21":
        assert remap(task, 4, 8, 4, TO, 30) == 30
        assert areas(task) == [(0, 12), (20, 21), (30, 34)]
    else:
        with pytest.raises(rmaplab.NoMemory):
            remap(task, 4, 8, 4, TO, 30)
    system.check()
    assert sorted(word.rstrip(b"\0") for word in seen(task).values()) == sorted(
        b"page %d" % page for page in (*range(12), 20)
    )


@pytest.mark.parametrize("kernel", [each for each in KERNELS if each != "2.4.21"])
def test_memory_runs_out_when_what_is_new_is_faulted_in(kernel: str) -> None:
    """What is locked has moved when its new pages are waited for: that cannot be undone, and the failure says so. In 2.4 such an error is ignored."""
    system, task = boot(kernel, "i386")
    task.cap_ipc_lock(granted=True)
    put(task, 0, 4)
    task.mlock(BASE, 4 * PAGE_SIZE)
    put(task, 4, 5, PROT_READ)  # so it cannot grow where it is
    hog = system.spawn()
    hog.mmap("64M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x9000_0000)
    hog.touch(0x9000_0000, "64M")
    left = 4  # of the 8 that are new, and what finding them takes
    hog.touch(0x9000_0000, (system.machine.allocator.obtainable(Gfp.HIGHUSER) - left) * PAGE_SIZE, write=True)
    with pytest.raises(rmaplab.NoMemory) as failure:
        task.mremap(BASE, 4 * PAGE_SIZE, 12 * PAGE_SIZE, MREMAP_MAYMOVE)
    assert failure.value.waiting_helps
    assert not failure.value.undone
    assert {(a - BASE) // PAGE_SIZE for a in seen(task)} > {4}
    assert not {(a - BASE) // PAGE_SIZE for a in seen(task)} & set(range(4)), "it has moved"
    assert sorted(word.rstrip(b"\0") for word in seen(task).values() if any(word)) == [
        b"page %d" % page for page in range(5)
    ]
    system.check()


class ClonesNothing(AnonVmaMap):
    """A design that has no memory for the VMA at the new place."""

    def vma_clone(self, vma: VmArea, new: VmArea) -> None:
        raise NoMemory("vma_clone")


def test_a_design_that_cannot_take_the_new_vma() -> None:
    """vma_clone may fail: ENOMEM, all entries are where they were, and no VMA is lost."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M", design=ClonesNothing)
    task = system.spawn()
    address = task.mmap(4 * PAGE_SIZE)
    task.write(address, b"stays")
    with pytest.raises(rmaplab.SyscallError, match="mremap"):
        task.mremap(address, 4 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, address + 64 * PAGE_SIZE)
    assert task.read(address, 5) == b"stays"
    system.check()
