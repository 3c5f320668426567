"""Page faults: the zero page, copy on write, what may not be touched, and that a stretch is as good as its pages.

In the drawings `0` is the zero page, a letter a frame of its own; a bar under two tasks' pages says that they share it.

Source: 2.6.2 mm/memory.c, do_anonymous_page, do_wp_page, can_share_swap_page; eras.md 2.1, 2.2.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmaplab
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


def boot(kernel: str, paging: str = "i386-pae") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    return system, system.spawn()


def frames(system: rmaplab.System, task: rmaplab.Task) -> dict[int, int]:
    """The frame behind each page that is there, by the judge's own reading of the page tables."""
    assert task.mm is not None
    present, _ = read_page_tables(system.machine, task.mm.pgd)
    return dict(zip(present.addresses.tolist(), present.pfns.tolist(), strict=True))


def faults(system: rmaplab.System) -> dict[str, int]:
    names = ("anon_fault", "zero_fault", "cow_copy", "cow_reuse")
    return {name: system.machine.ledger.counts[name] for name in names if system.machine.ledger.counts[name]}


# -- what a fault does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_a_read_maps_the_zero_page(kernel: str, paging: str) -> None:
    """Reading untouched memory takes no frame; nobody is said to map the zero page, and it counts towards no rss."""
    system, task = boot(kernel, paging)
    address = task.mmap(4 * PAGE_SIZE)
    task.touch(address, 1)  # the page tables are there now
    free = system.machine.allocator.nr_unused
    #   address  0000
    assert task.read(address, 4 * PAGE_SIZE) == bytes(4 * PAGE_SIZE)
    assert set(frames(system, task).values()) == {ZERO_PFN}
    assert system.machine.allocator.nr_unused == free
    assert faults(system) == {"zero_fault": 4}
    assert system.who_maps(task, address) == []
    assert task.mm is not None
    assert task.mm.rss == 0
    system.check()
    #   address  0a00     the write takes a frame; it is an anonymous fault, not a copy
    task.write(address + PAGE_SIZE, b"a")
    assert faults(system) == {"zero_fault": 4, "anon_fault": 1}
    assert system.machine.allocator.nr_unused == free - 1 - (
        system.machine.caches["anon_vma"].nr_slabs if "aa1" in kernel else 0
    )
    assert task.mm.rss == 1
    assert [m.address for m in system.who_maps(task, address + PAGE_SIZE)] == [address + PAGE_SIZE]
    assert task.read(address, 4 * PAGE_SIZE) == bytes(PAGE_SIZE) + b"a" + bytes(3 * PAGE_SIZE - 1)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_new_page_is_zero_whatever_the_frame_held(kernel: str) -> None:
    """clear_page: a frame that comes back from another task does not show what that task wrote."""
    system, task = boot(kernel)
    address = task.mmap("1M")
    for i in range(256):
        task.write(address + i * PAGE_SIZE, b"secret" * 600)
    held = set(frames(system, task).values())
    task.exit()
    other = system.spawn()
    address = other.mmap("1M")
    other.touch(address, "1M", write=True)
    assert held & set(frames(system, other).values())
    assert other.read(address, 1 << 20) == bytes(1 << 20)
    assert other.read(address + 17, 99) == bytes(99)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_copy_on_write(kernel: str, paging: str) -> None:
    """The first writer gets a copy of the whole page; the others keep the frame."""
    system, parent = boot(kernel, paging)
    address = parent.mmap(2 * PAGE_SIZE)
    parent.write(address + 4090, b"parent's page")  # across the border
    #   parent   ab
    #            ||
    #   child    ab
    child = parent.fork()
    before = frames(system, parent)
    assert frames(system, child) == before
    #   parent   ab
    #             |
    #   child    cb
    child.write(address + 4090, b"C")
    assert frames(system, parent) == before
    assert frames(system, child)[address] not in before.values()
    assert frames(system, child)[address + PAGE_SIZE] == before[address + PAGE_SIZE]
    assert faults(system) == {"anon_fault": 2, "cow_copy": 1}
    assert parent.read(address + 4090, 13) == b"parent's page"
    assert child.read(address + 4090, 13) == b"Carent's page"
    assert {m.mm for m in system.who_maps(child, address)} == {child.mm}
    assert {m.mm for m in system.who_maps(parent, address)} == {parent.mm}
    assert {m.mm for m in system.who_maps(parent, address + PAGE_SIZE)} == {parent.mm, child.mm}
    assert child.mm is not None
    assert child.mm.rss == 2
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("last", ["parent", "child"])
def test_copy_on_write_reuses_a_page_that_is_left_alone(kernel: str, last: str) -> None:
    """When all other sharers are gone (count is 1) the writer takes the frame as it is: eras.md 2.2."""
    system, parent = boot(kernel)
    address = parent.mmap(PAGE_SIZE)
    parent.write(address, b"x")
    child = parent.fork()
    before = frames(system, parent)
    writer, other = (parent, child) if last == "parent" else (child, parent)
    other.exit()
    free = system.machine.allocator.nr_unused
    writer.write(address + 1, b"y")
    assert frames(system, writer) == before
    assert faults(system) == {"anon_fault": 1, "cow_reuse": 1}
    assert system.machine.allocator.nr_unused == free
    assert writer.read(address, 2) == b"xy"
    assert [m.mm for m in system.who_maps(writer, address)] == [writer.mm]
    system.check()
    writer.write(address, b"z")  # writable by now: the MMU does it alone
    assert faults(system) == {"anon_fault": 1, "cow_reuse": 1}


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_last_of_many_sharers_reuses(kernel: str) -> None:
    """Of n sharers that all write, n - 1 copy and the last one reuses, in whatever order they come."""
    system, parent = boot(kernel)
    address = parent.mmap(PAGE_SIZE)
    parent.write(address, b"shared")
    system.kernel.lru_add.drain_all()  # else its pagevec holds a reference, and the last one copies too
    tasks = [parent, *(parent.fork() for _ in range(5))]
    for i in (3, 0, 5, 1, 4, 2):
        tasks[i].write(address, b"%d" % i)
        system.check()
    assert faults(system) == {"anon_fault": 1, "cow_copy": 5, "cow_reuse": 1}
    assert [task.read(address, 6) for task in tasks] == [b"%dhared" % i for i in range(6)]
    assert len({frames(system, task)[address] for task in tasks}) == 6


@pytest.mark.parametrize("kernel", KERNELS)
def test_unmapping_leaves_the_page_to_the_sharer(kernel: str) -> None:
    """An munmap drops a reference as exit does; the frame is freed with the last one."""
    system, parent = boot(kernel)
    address = parent.mmap(2 * PAGE_SIZE)
    parent.write(address, b"x")
    child = parent.fork()
    free = system.machine.allocator.nr_unused
    parent.munmap(address, PAGE_SIZE)
    assert system.machine.allocator.nr_unused == free
    assert child.read(address, 1) == b"x"
    assert [m.mm for m in system.who_maps(child, address)] == [child.mm]
    system.check()
    child.write(address, b"y")
    assert faults(system) == {"anon_fault": 1, "cow_reuse": 1}
    child.munmap(address, PAGE_SIZE)
    assert system.machine.allocator.nr_unused >= free + 1
    system.check()


# -- what may not be touched -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_segmentation_faults(kernel: str) -> None:
    """The first byte that may not be touched, and why; what comes before it is done."""
    system, task = boot(kernel)
    base = 0x5000_0000
    #   0    2    4    6    8
    #   wwwwwrrrrr-----     .        rw, r-, PROT_NONE, nothing
    task.mmap(2 * PAGE_SIZE, RW, ANON | MAP_FIXED, base)
    task.mmap(2 * PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, base + 2 * PAGE_SIZE)
    task.mmap(2 * PAGE_SIZE, PROT_NONE, ANON | MAP_FIXED, base + 4 * PAGE_SIZE)

    def segfault(address: int) -> rmaplab.SegmentationFault:
        fault: rmaplab.SegmentationFault = error.value
        assert fault.address == address
        return fault

    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.read(base - 1)
    assert "nothing is mapped" in segfault(base - 1).cause
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.write(base + 2 * PAGE_SIZE + 5, b"x")
    assert "not writable" in segfault(base + 2 * PAGE_SIZE + 5).cause
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.read(base + 3 * PAGE_SIZE + 5, PAGE_SIZE)
    assert "not readable" in segfault(base + 4 * PAGE_SIZE).cause
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.touch(base + 17, 8 * PAGE_SIZE, write=True)
    segfault(base + 2 * PAGE_SIZE)
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.touch(base + 6 * PAGE_SIZE + 17, 8 * PAGE_SIZE)
    assert "nothing is mapped" in segfault(base + 6 * PAGE_SIZE + 17).cause

    #   a range that runs off the end: the bytes before it are stored
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.write(base + PAGE_SIZE - 10, b"0123456789" * 1000)
    segfault(base + 2 * PAGE_SIZE)
    stored = task.read(base, 2 * PAGE_SIZE)
    assert stored == bytes(PAGE_SIZE - 10) + (b"0123456789" * 1000)[: PAGE_SIZE + 10]
    assert task.read(base + 2 * PAGE_SIZE, 2 * PAGE_SIZE) == bytes(2 * PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_range_that_runs_off_the_end_has_touched_what_is_before(kernel: str) -> None:
    """touch(): four pages are there, the fifth is not: four faults have happened."""
    system, task = boot(kernel)
    address = task.mmap(4 * PAGE_SIZE)
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.touch(address + PAGE_SIZE, "1G", write=True)
    assert error.value.address == address + 4 * PAGE_SIZE
    assert faults(system) == {"anon_fault": 3}
    with pytest.raises(rmaplab.SegmentationFault):
        task.touch(address, "1G")
    assert faults(system) == {"anon_fault": 3, "zero_fault": 1}
    with pytest.raises(rmaplab.SegmentationFault):
        task.touch(address - 1, "1G", write=True)
    assert faults(system) == {"anon_fault": 3, "zero_fault": 1}
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_protections_of_i386(kernel: str) -> None:
    """A read fault wants VM_READ or VM_EXEC; a page that is there can be read: the MMU has no bit against it."""
    _, task = boot(kernel)
    executable = task.mmap(PAGE_SIZE, PROT_EXEC)
    assert task.read(executable, 3) == bytes(3)
    with pytest.raises(rmaplab.SegmentationFault):
        task.write(executable, b"x")
    write_only = task.mmap(PAGE_SIZE, PROT_WRITE)
    with pytest.raises(rmaplab.SegmentationFault):
        task.read(write_only)
    task.write(write_only, b"x")
    assert task.read(write_only) == b"x"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_there_is_nothing_beyond_the_address_space(kernel: str, paging: str) -> None:
    """Addresses do not wrap: what lies 2^32, 2^39 or 2^48 above or below a page that is there is a SIGSEGV."""
    system, task = boot(kernel, paging)
    task_size = system.machine.paging.task_size
    address = task.mmap(PAGE_SIZE)
    task.write(address, b"mine")
    other = system.spawn()
    other.mmap(PAGE_SIZE)
    other.write(address, b"not mine")
    for far in (
        task_size,
        *(address + (1 << bits) for bits in (32, 33, 35, 39, 40, 48)),
        -PAGE_SIZE,
        -1,
        address - (1 << 48),
    ):
        if paging == "x86-64" and 0 <= far < task_size:
            continue
        canonical = system.machine.paging.is_canonical(far)
        for access in (
            lambda far=far: task.read(far, 4),
            lambda far=far: task.write(far, b"oops"),
            lambda far=far: task.touch(far, 4),
            lambda far=far: task.touch(far, 4, write=True),
        ):
            with pytest.raises(rmaplab.SegmentationFault) as error:
                access()
            assert error.value.address == (far if canonical else 0)
        assert system.who_maps(task, far) == []
    assert task.read(address, 4) == b"mine"
    assert other.read(address, 8) == b"not mine"
    #   the last page there is, and one byte too many
    last = task.mmap(PAGE_SIZE, RW, ANON, task_size - PAGE_SIZE)
    assert last == task_size - PAGE_SIZE
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.write(task_size - 2, b"end")
    assert error.value.address == task_size
    assert task.read(task_size - 3, 3) == b"\0en"
    with pytest.raises(rmaplab.SegmentationFault) as error:
        task.read(task_size - 1, 2)
    assert error.value.address == task_size
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_accesses_of_no_bytes(kernel: str) -> None:
    """Nothing is touched, so nothing can fault."""
    system, task = boot(kernel)
    address = task.mmap(PAGE_SIZE)
    for where in (address, address + PAGE_SIZE - 1, 0x100_0000, 0x100_0001):
        assert task.read(where, 0) == b""
        task.write(where, b"")
    assert frames(system, task) == {}


# -- in bulk ---------------------------------------------------------------------------------------------------------

Op = tuple[str, int, int]
OPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "munmap", "fork", "child write", "child exit"]),
        st.integers(0, 23),
        st.integers(1, 12),
    ),
    max_size=8,
)


def prepared(kernel: str, paging: str, base: int, history: list[Op]) -> tuple[rmaplab.System, rmaplab.Task]:
    """A task with 24 pages at `base` that have seen `history`: some absent, some zero, some shared, some its own."""
    system, task = boot(kernel, paging)
    task.mmap(24 * PAGE_SIZE, RW, ANON | MAP_FIXED, base)
    children: list[rmaplab.Task] = []
    for what, first, nr_pages in history:
        start, length = base + first * PAGE_SIZE, min(nr_pages, 24 - first) * PAGE_SIZE
        if what == "fork":
            children.append(task.fork())
        elif what == "munmap":
            task.munmap(start, length)
            task.mmap(length, RW, ANON | MAP_FIXED, start)
        elif what == "child exit" and children:
            children.pop(first % len(children)).exit()
        elif what == "child write" and children:
            children[-1].touch(start, length, write=True)
        elif what in ("read", "write"):
            task.touch(start, length, write=what == "write")
    return system, task


def shape(system: rmaplab.System) -> list[list[tuple[int, int, int]]]:
    """All page tables: per mm the (address, bits, frame) of each entry, frames renamed in the order they are met."""
    names: dict[int, int] = {ZERO_PFN: ZERO_PFN}
    result = []
    for mm in system.kernel.mms.values():
        present, _ = read_page_tables(system.machine, mm.pgd)
        bits = (present.entries & 0xFFF).tolist()
        named = [names.setdefault(pfn, len(names)) for pfn in present.pfns.tolist()]
        result.append(list(zip(present.addresses.tolist(), bits, named, strict=True)))
    return result


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(history=OPS, first=st.integers(0, 23), nr_pages=st.integers(1, 24), write=st.booleans(), where=st.integers(0, 2))
def test_a_stretch_is_as_good_as_its_pages(
    kernel: str, paging: str, history: list[Op], first: int, nr_pages: int, write: bool, where: int
) -> None:
    """Touching a range at once and touching it page by page leave the same page tables and count the same operations.

    The 24 pages lie in one leaf table, across two, or across the border of two bursts of work (2^7 MiB on i386).
    """
    base = [0x5000_0000, 0x5020_0000 - 12 * PAGE_SIZE, 0x5800_0000 - 12 * PAGE_SIZE][where]
    nr_pages = min(nr_pages, 24 - first)
    results: list[tuple[list[list[tuple[int, int, int]]], Counter[str]]] = []
    for bulk in (True, False):
        system, task = prepared(kernel, paging, base, history)
        before = system.machine.ledger.counts.copy()
        start = base + first * PAGE_SIZE
        if bulk:
            task.touch(start, nr_pages * PAGE_SIZE, write=write)
        else:
            for page in range(nr_pages):
                task.touch(start + page * PAGE_SIZE, 1, write=write)
        results.append((shape(system), system.machine.ledger.counts - before))
        system.check()
    assert results[0] == results[1]


# -- when there is no memory -----------------------------------------------------------------------------------------


def full_box(kernel: str, paging: str) -> tuple[rmaplab.System, rmaplab.Task, int]:
    """A task that has written until no page was left. Swap makes the promise possible; nothing is swapped out yet."""
    system = rmaplab.boot(kernel, ram="64M", swap="1G", paging=paging)
    task = system.spawn()
    address = task.mmap("256M")
    task.write(address + 8 * PAGE_SIZE, b"kept")
    with pytest.raises(rmaplab.NoMemory):
        task.touch(address, "256M", write=True)
    return system, task, address


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_a_full_box_has_used_every_page_it_may(kernel: str, paging: str) -> None:
    """GFP_HIGHUSER goes down to pages_min and not below; what could be done is done: the pages are there, in order."""
    system, task, address = full_box(kernel, paging)
    assert system.machine.allocator.obtainable(Gfp.HIGHUSER) == 0
    there = sorted(frames(system, task))
    assert there == list(range(address, address + len(there) * PAGE_SIZE, PAGE_SIZE))
    assert faults(system) == {"anon_fault": len(there)}
    assert task.mm is not None
    assert task.mm.rss == len(there)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
@pytest.mark.parametrize("verb", ["write", "read", "mmap", "fork", "munmap", "spawn"])
def test_whatever_needs_memory_on_a_full_box_leaves_it_consistent(kernel: str, paging: str, verb: str) -> None:
    """NoMemory stops the verb, and all adds up: contents, charges, the reverse map; and everything can go."""
    system, task, address = full_box(kernel, paging)
    length = 256 << 20

    def until_a_slab_is_full() -> None:
        for i in range(1000):
            if verb == "mmap":
                task.mmap(PAGE_SIZE, RW if i % 2 else PROT_READ, ANON, 0x1000_0000 + i * PAGE_SIZE)
            elif verb == "munmap":
                task.munmap(address + (16 + 2 * i) * PAGE_SIZE, 1)
                task.write(address + length - (1 + i) * PAGE_SIZE, b"the page that came free")
            elif verb == "write":
                task.write(address + length - (1 + i) * PAGE_SIZE, b"x")
            elif verb == "read":  # page tables take memory too
                task.read(address + length - (1 + i) * (2 << 20))
            elif verb == "fork":
                task.fork()
            else:
                system.spawn()

    with pytest.raises(rmaplab.NoMemory):
        until_a_slab_is_full()
    system.check()
    assert task.read(address + 8 * PAGE_SIZE, 4) == b"kept"
    task.write(address + 8 * PAGE_SIZE, b"KEPT")
    assert task.read(address + 8 * PAGE_SIZE, 4) == b"KEPT"
    for one in list(system.kernel.tasks.values()):
        assert isinstance(one, rmaplab.Task)
        one.exit()
    system.check()
    assert system.kernel.committed_pages + system.kernel.committed_drift == 0
    assert system.machine.nr_tables == 0
    assert system.kernel.design.tracked().size == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_long_stretch_takes_few_bursts(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page at a time is for who gets nowhere in stretches: each 64 MiB read (32 page tables) are two bursts."""
    system = rmaplab.boot(kernel, ram="64M", overcommit=1, paging="i386-pae")
    task = system.spawn()
    start, bursts = task.mmap("512M"), list[bool]()
    end_burst = system.machine.end_burst

    def counted(*, user: bool = False) -> None:
        bursts.append(user)
        end_burst(user=user)

    monkeypatch.setattr(system.machine, "end_burst", counted)
    task.touch(start, "512M")
    assert len(bursts) <= 2 * 9
