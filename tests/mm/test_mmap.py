"""mmap and munmap: where mappings go, which become one, what is left when a hole is cut.

In the drawings one letter is one page; `rw` and `r-` are protections, a capital marks pages that have been written.

Sources: merging is history.md 4.1 (2.6.2: to anonymous memory neither page offsets nor written pages matter) and 4.2
(aa1: both do); placement and errors are 2.6.2 mm/mmap.c, do_mmap_pgoff, get_unmapped_area, do_munmap.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import rmaplab
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.spec import KernelSpec
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_EXEC,
    VM_READ,
    VM_WRITE,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000  # where the drawings begin
GIB = 1 << 30


def boot(kernel: str | KernelSpec, paging: str = "i386-pae") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    return system, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, prot: int = RW, *, flags: int = 0, write: bool = False) -> None:
    """Map pages [first, last) of the drawing, with MAP_FIXED."""
    length = (last - first) * PAGE_SIZE
    assert task.mmap(length, prot, ANON | MAP_FIXED | flags, at(first)) == at(first)
    if write:
        task.touch(at(first), length, write=True)


def vmas(task: rmaplab.Task) -> list[VmArea]:
    assert task.mm is not None
    return task.mm.vmas


def drawn(task: rmaplab.Task) -> list[tuple[int, int, str]]:
    """The VMAs in pages of the drawing, with their protection."""
    return [
        (
            (v.start - BASE) // PAGE_SIZE,
            (v.end - BASE) // PAGE_SIZE,
            ("r" if v.flags & VM_READ else "-")
            + ("w" if v.flags & VM_WRITE else "-")
            + ("x" if v.flags & VM_EXEC else ""),
        )
        for v in vmas(task)
    ]


def errno_of(error: pytest.ExceptionInfo[rmaplab.SyscallError]) -> tuple[str, str]:
    return error.value.call, error.value.name


# -- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("written", [False, True])
def test_append(kernel: str, written: bool) -> None:
    """A mapping that begins where a like one ends becomes part of it, faulted or not (4.2: "appends always merge")."""
    system, task = boot(kernel)
    put(task, 0, 4, write=written)
    #   0   4   8
    #   aaaa            rw
    #       bbbb        rw, new
    #   aaaaaaaa        one VMA
    put(task, 4, 8, write=written)
    assert drawn(task) == [(0, 8, "rw")]
    assert system.machine.caches["vm_area_struct"].nr_objects == 1
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("written", [False, True])
def test_prepend(kernel: str, written: bool) -> None:
    """A mapping that ends where a like one begins becomes part of it, and pages that were there are still found."""
    system, task = boot(kernel)
    put(task, 4, 8, write=written)
    #   0   4   8
    #       bbbb        rw
    #   aaaa            rw, new
    #   bbbbbbbb        one VMA, its start moved down, and its page offset with it
    put(task, 0, 4)
    assert drawn(task) == [(0, 8, "rw")]
    task.touch(at(0), 8 * PAGE_SIZE, write=True)
    assert [m.address for m in system.who_maps(task, at(5))] == [at(5)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("left", "right"), [(False, False), (True, False), (False, True)])
def test_fill_a_hole_between_neighbours_of_which_at_most_one_was_written(kernel: str, left: bool, right: bool) -> None:
    """All three become one: an anon_vma may be missing on one side."""
    system, task = boot(kernel)
    put(task, 0, 4, write=left)
    put(task, 8, 12, write=right)
    #   0   4   8   12
    #   aaaa    bbbb    rw, one of them written at most
    #       cccc        rw, new
    #   aaaaaaaaaaaa    one VMA
    put(task, 4, 8)
    assert drawn(task) == [(0, 12, "rw")]
    assert system.machine.caches["vm_area_struct"].nr_objects == 1
    task.touch(at(0), 12 * PAGE_SIZE, write=True)
    task.fork().write(at(9), b"x")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_fill_a_hole_between_neighbours_written_apart(kernel: str) -> None:
    """Two VMAs with anon_vmas of their own cannot be one in aa1 (4.2: "not merged"); in 2.6.2 they can."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    put(task, 8, 12, write=True)
    #   0   4   8   12
    #   AAAA    BBBB    rw
    #       cccc        rw, new
    #   AAAAaaaaaaaa    2.6.2
    #   AAAAaaaaBBBB    aa1: the hole joins the lower neighbour, the upper one stays
    put(task, 4, 8)
    assert drawn(task) == {"2.6.2": [(0, 12, "rw")], "2.6.5-rc1-aa1": [(0, 8, "rw"), (8, 12, "rw")]}[kernel]
    task.touch(at(0), 12 * PAGE_SIZE, write=True)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_unmap_a_gap_and_fill_it_again(kernel: str) -> None:
    """Both halves of a split share the anon_vma, so the refill always makes one VMA again (4.2: "guaranteed")."""
    system, task = boot(kernel)
    put(task, 0, 12, write=True)
    #   0   4   8   12
    #   AAAAAAAAAAAA    rw
    #   AAAA    AAAA    munmap [4, 8)
    task.munmap(at(4), 4 * PAGE_SIZE)
    assert drawn(task) == [(0, 4, "rw"), (8, 12, "rw")]
    #   AAAAaaaaAAAA    one VMA
    put(task, 4, 8)
    assert drawn(task) == [(0, 12, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_fill_a_hole_in_a_forks_child(kernel: str) -> None:
    """The child inherits its parent's anon_vmas, so the answer is the parent's."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    put(task, 8, 12, write=True)
    child = task.fork()
    put(child, 4, 8)
    assert drawn(child) == {"2.6.2": [(0, 12, "rw")], "2.6.5-rc1-aa1": [(0, 8, "rw"), (8, 12, "rw")]}[kernel]
    assert drawn(task) == [(0, 4, "rw"), (8, 12, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("other", [PROT_READ, PROT_NONE, RW | PROT_EXEC])
def test_different_protections_never_merge(kernel: str, other: int) -> None:
    """vm_flags must be equal."""
    system, task = boot(kernel)
    put(task, 0, 4)
    put(task, 8, 12)
    #   0   4   8   12
    #   aaaa    bbbb    rw
    #       cccc        another protection
    put(task, 4, 8, other)
    assert [(first, last) for first, last, _ in drawn(task)] == [(0, 4), (4, 8), (8, 12)]
    assert [v.flags & 7 for v in vmas(task)] == [RW, other, RW]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_accounted_and_unaccounted_memory_do_not_merge(kernel: str) -> None:
    """VM_ACCOUNT is one of vm_flags: what is charged must be known when it is unmapped."""
    system, task = boot(kernel)
    put(task, 0, 4)
    put(task, 4, 8, flags=MAP_NORESERVE)
    assert drawn(task) == [(0, 4, "rw"), (4, 8, "rw")]
    assert system.kernel.committed_pages == 4
    task.munmap(at(0), 8 * PAGE_SIZE)
    assert system.kernel.committed_pages == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_hole_of_the_wrong_size_joins_one_side(kernel: str) -> None:
    """Neighbours that do not touch the new mapping are left alone."""
    _, task = boot(kernel)
    put(task, 0, 4)
    put(task, 8, 12)
    #   0   4   8   12
    #   aaaa    bbbb
    #       cc          new
    #   aaaaaa  bbbb
    put(task, 4, 6)
    assert drawn(task) == [(0, 6, "rw"), (8, 12, "rw")]
    #   aaaaaa bbbbb
    put(task, 7, 8)
    assert drawn(task) == [(0, 6, "rw"), (7, 12, "rw")]


@pytest.mark.parametrize("paging", FORMATS)
def test_page_offsets_of_anonymous_memory(paging: str) -> None:
    """In aa1 a VMA's page offset is its start in pages, whatever is cut off or joined: so neighbours are continuous."""
    _, task = boot("2.6.5-rc1-aa1", paging)
    put(task, 4, 12, write=True)
    task.munmap(at(6), 2 * PAGE_SIZE)
    task.munmap(at(4), PAGE_SIZE)
    put(task, 2, 5)
    assert drawn(task) == [(2, 6, "rw"), (8, 12, "rw")]
    assert [v.pgoff for v in vmas(task)] == [v.start // PAGE_SIZE for v in vmas(task)]


# -- where mappings go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paging", "base"), [("i386", 0x4000_0000), ("i386-pae", 0x4000_0000), ("x86-64", 0x2A_9555_6000)]
)
def test_the_first_mapping(paging: str, base: int) -> None:
    """At TASK_UNMAPPED_BASE, a third of the address space up (asm-*/processor.h); the next ones go above it."""
    _, task = boot("2.6.2", paging)
    assert task.mmap("1M") == base
    assert task.mmap("4K", PROT_READ) == base + (1 << 20)
    assert task.mmap(1, PROT_NONE) == base + (1 << 20) + PAGE_SIZE


@pytest.mark.parametrize("paging", FORMATS)
def test_a_hint(paging: str) -> None:
    """Followed, rounded up to a page, where there is room; else the search decides."""
    system, task = boot("2.6.2", paging)
    base = task.mmap(PAGE_SIZE)
    task_size = system.machine.paging.task_size
    #   0   4   8
    #       hhhh        free: there it goes
    assert task.mmap(4 * PAGE_SIZE, RW, ANON, at(4) - 5) == at(4)
    #     hhhh          the end is taken
    assert task.mmap(4 * PAGE_SIZE, RW, ANON, at(2)) == base + PAGE_SIZE
    #         hhhh      the beginning is taken
    assert task.mmap(4 * PAGE_SIZE, RW, ANON, at(7)) == base + 5 * PAGE_SIZE
    #        h          right in the middle
    assert task.mmap(1, RW, ANON, at(5)) == base + 9 * PAGE_SIZE
    #   the last page there is; beyond it
    assert task.mmap(1, RW, ANON, task_size - PAGE_SIZE) == task_size - PAGE_SIZE
    assert task.mmap(1, RW, ANON, task_size) == base + 10 * PAGE_SIZE
    assert task.mmap(2 * PAGE_SIZE, RW, ANON, task_size - PAGE_SIZE) == base + 11 * PAGE_SIZE
    system.check()


@pytest.mark.parametrize("paging", FORMATS)
@pytest.mark.parametrize("address", [-PAGE_SIZE, -3 * PAGE_SIZE, 1 << 40, 1 << 63])
def test_an_impossible_hint_is_no_hint(paging: str, address: int) -> None:
    """An address is unsigned and ends at TASK_SIZE: nothing is ever mapped outside."""
    system, task = boot("2.6.2", paging)
    got = task.mmap(PAGE_SIZE, RW, ANON, address)
    assert got == -(-system.machine.paging.unmapped_base // PAGE_SIZE) * PAGE_SIZE
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_map_fixed_replaces(kernel: str) -> None:
    """MAP_FIXED takes its place from whatever is there; the new pages read as zeros."""
    system, task = boot(kernel)
    put(task, 0, 12, write=True)
    task.write(at(3), b"old" * 2000)
    #   0   4   8   12
    #   AAAAAAAAAAAA    rw
    #       rrrr        r-, MAP_FIXED
    put(task, 4, 8, PROT_READ)
    assert drawn(task) == [(0, 4, "rw"), (4, 8, "r-"), (8, 12, "rw")]
    assert task.read(at(4), 100) == bytes(100)
    assert task.read(at(3), 3) == b"old"
    assert system.kernel.committed_pages == 8
    #   xxxxxxxxxxxxxx  over all of it
    put(task, -1, 13)
    assert drawn(task) == [(-1, 13, "rw")]
    assert task.read(at(3), 3) == bytes(3)
    system.check()


@pytest.mark.parametrize("paging", FORMATS)
def test_map_fixed_errors(paging: str) -> None:
    """Beyond TASK_SIZE is ENOMEM, tested before the alignment, which is EINVAL; nothing is unmapped for it."""
    system, task = boot("2.6.2", paging)
    task_size = system.machine.paging.task_size
    put(task, 0, 1)
    for address, length, name in [
        (at(0) + 1, PAGE_SIZE, "EINVAL"),
        (task_size, PAGE_SIZE, "ENOMEM"),
        (task_size - PAGE_SIZE, 2 * PAGE_SIZE, "ENOMEM"),
        (task_size - PAGE_SIZE + 1, PAGE_SIZE, "ENOMEM"),
        (-PAGE_SIZE, PAGE_SIZE, "ENOMEM"),
        (-2 * PAGE_SIZE, 4 * PAGE_SIZE, "ENOMEM"),
        (1 << 62, PAGE_SIZE, "ENOMEM"),
    ]:
        with pytest.raises(rmaplab.SyscallError) as error:
            task.mmap(length, RW, ANON | MAP_FIXED, address)
        assert errno_of(error) == ("mmap", name), hex(address)
    assert task.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, task_size - PAGE_SIZE) == task_size - PAGE_SIZE
    assert task.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, 0) == 0  # there was no mmap_min_addr yet
    task.write(0, b"null")
    assert task.read(0, 4) == b"null"
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_hole_of_an_unmapping_is_used_first(kernel: str) -> None:
    """An munmap moves the place where searches begin down to the new hole (free_area_cache)."""
    system, task = boot(kernel)
    base = task.mmap(12 * PAGE_SIZE)
    #   base+0  4   8   12
    #   aaaaaaaaaaaa
    #   aa  aaaaaaaa            munmap [2, 4)
    task.munmap(base + 2 * PAGE_SIZE, 2 * PAGE_SIZE)
    #   aa  aaaaaaaabbb         three pages: too many for the hole
    assert task.mmap(3 * PAGE_SIZE, PROT_READ) == base + 12 * PAGE_SIZE
    #   aa  aaaaaaaabbbc        one page: the search goes on from there, past the hole
    assert task.mmap(PAGE_SIZE, PROT_READ) == base + 15 * PAGE_SIZE
    #   aa  aaaaaaa bbbc        munmap [11, 12): the search begins there ...
    task.munmap(base + 11 * PAGE_SIZE, PAGE_SIZE)
    assert task.mmap(PAGE_SIZE, PROT_NONE) == base + 11 * PAGE_SIZE
    #   a   aaaaaaadbbbc        munmap [1, 2): ... and here
    task.munmap(base + PAGE_SIZE, PAGE_SIZE)
    assert task.mmap(3 * PAGE_SIZE, PROT_NONE) == base + PAGE_SIZE
    system.check()


@pytest.mark.parametrize("paging", ["i386", "i386-pae"])
def test_an_address_space_fills_up(paging: str) -> None:
    """ENOMEM when no hole is large enough; what lies below TASK_UNMAPPED_BASE is only used by hints."""
    system, task = boot("2.6.2", paging)
    #   1 GiB             2 GiB             3 GiB = TASK_SIZE
    #   aaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbb
    base = task.mmap(GIB, PROT_READ)
    assert task.mmap(GIB, PROT_NONE) == base + GIB
    with pytest.raises(rmaplab.SyscallError) as error:
        task.mmap(1, PROT_READ)
    assert errno_of(error) == ("mmap", "ENOMEM")
    #   pcccccccccccccccccbbbbbbbbbbbbbbbbbb     the GiB is refilled: one page, and the rest of it behind
    task.munmap(base, GIB)
    task.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, base)
    assert task.mmap(GIB - PAGE_SIZE, PROT_READ | PROT_EXEC) == base + PAGE_SIZE
    task.munmap(base, PAGE_SIZE)
    assert task.mmap(2 * PAGE_SIZE, PROT_READ, ANON, 4 * PAGE_SIZE) == 4 * PAGE_SIZE
    with pytest.raises(rmaplab.SyscallError):
        task.mmap(2 * PAGE_SIZE, PROT_READ)
    assert task.mmap(1, PROT_READ) == base
    system.check()


def test_2_4_searches_from_the_beginning_every_time() -> None:
    """2.4.27 arch_get_unmapped_area has no free_area_cache: the lowest hole that is large enough is taken, always."""
    _, task = boot("2.4.21", "i386-pae")
    base = task.mmap(12 * PAGE_SIZE)
    #   aa  aaaa.aaa            [2, 4), then the page at 8; 2.6 would begin at 2 for the first, and go on behind it
    task.munmap(base + 2 * PAGE_SIZE, 2 * PAGE_SIZE)
    task.munmap(base + 8 * PAGE_SIZE, PAGE_SIZE)
    assert task.mmap(3 * PAGE_SIZE, PROT_READ) == base + 12 * PAGE_SIZE
    assert task.mmap(PAGE_SIZE, PROT_READ) == base + 2 * PAGE_SIZE
    assert task.mmap(PAGE_SIZE, PROT_NONE) == base + 3 * PAGE_SIZE
    assert task.mmap(PAGE_SIZE, PROT_NONE) == base + 8 * PAGE_SIZE


def test_a_hole_left_behind_is_found_by_the_second_search() -> None:
    """A hole below the place where the last search ended is found once there is nothing left above."""
    _, task = boot("2.6.2", "i386-pae")
    base = task.mmap(PAGE_SIZE, PROT_READ)
    task.mmap(PAGE_SIZE, PROT_NONE)
    task.munmap(base, PAGE_SIZE)
    #   .bcc        the search for two pages begins at the hole and goes past it
    assert task.mmap(2 * PAGE_SIZE, PROT_READ) == base + 2 * PAGE_SIZE
    #   .bccddd...d up to TASK_SIZE
    rest = 0xC000_0000 - (base + 4 * PAGE_SIZE)
    assert task.mmap(rest, PROT_NONE) == base + 4 * PAGE_SIZE
    assert task.mmap(PAGE_SIZE, PROT_NONE) == base


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("address", [0, 0x1234, BASE])
def test_length_zero_succeeds_and_maps_nothing(kernel: str, address: int) -> None:
    """Up to 2.6.7 mmap of nothing returns the address it was given (eras.md 6.3)."""
    system, task = boot(kernel)
    assert task.mmap(0, RW, ANON, address) == address
    assert vmas(task) == []
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmap_errors(kernel: str) -> None:
    """No type at all, a length that no address space has: EINVAL."""
    system, task = boot(kernel)
    for length, flags in [
        (PAGE_SIZE, MAP_ANONYMOUS),
        (3 * GIB + 1, ANON),
        (1 << 32, ANON),
        (-1, ANON),
    ]:
        with pytest.raises(rmaplab.SyscallError) as error:
            task.mmap(length, PROT_READ, flags)
        assert errno_of(error) == ("mmap", "EINVAL")
    assert vmas(task) == []
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("swap", ["0", "16M"])
def test_overcommit(kernel: str, swap: str) -> None:
    """ENOMEM unless what is free, swap included, less 1/32 for root, is more than is asked (eras.md 0.2, 4.6)."""
    system = rmaplab.boot(kernel, ram="64M", swap=swap)
    task = system.spawn()
    free = system.machine.allocator.nr_free + (int(swap.rstrip("M")) << 20) // PAGE_SIZE
    allowed = free - free // 32
    with pytest.raises(rmaplab.SyscallError) as error:
        task.mmap(allowed * PAGE_SIZE)
    assert errno_of(error) == ("mmap", "ENOMEM")
    assert vmas(task) == []
    assert system.kernel.committed_pages == 0
    #   what cannot be written, or was asked for without reserve, is not counted
    task.mmap(allowed * PAGE_SIZE, PROT_READ)
    task.mmap(allowed * PAGE_SIZE, RW, ANON | MAP_NORESERVE)
    assert system.kernel.committed_pages == 0
    system.check()
    task.exit()

    task = system.spawn()
    assert system.machine.allocator.nr_free <= free
    for cache in system.machine.caches.values():
        cache.shrink()
    free = system.machine.allocator.nr_free + (int(swap.rstrip("M")) << 20) // PAGE_SIZE
    nr_pages = free - free // 32 - 1
    address = task.mmap(nr_pages * PAGE_SIZE)
    assert system.kernel.committed_pages == nr_pages
    #   each request is compared with what is free now, not with the sum of all promises (history.md 2.7)
    task.mmap((nr_pages - 8) * PAGE_SIZE)
    task.munmap(address, nr_pages * PAGE_SIZE)
    assert system.kernel.committed_pages == nr_pages - 8
    system.check()


def test_map_fixed_without_memory_has_unmapped_already() -> None:
    """do_mmap_pgoff clears old maps first and asks vm_enough_memory then: the old mapping is lost."""
    system, task = boot("2.6.2")
    put(task, 0, 4, write=True)
    with pytest.raises(rmaplab.SyscallError) as error:
        task.mmap("1G", RW, ANON | MAP_FIXED, at(0))
    assert errno_of(error) == ("mmap", "ENOMEM")
    assert vmas(task) == []
    system.check()


# -- munmap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_munmap_splits(kernel: str, paging: str) -> None:
    """A hole in the middle makes two VMAs of one; contents beside it stay, what was in it is gone."""
    system, task = boot(kernel, paging)
    put(task, 0, 12)
    for page in range(12):
        task.write(at(page), b"page %d" % page)
    free = system.machine.allocator.nr_unused
    #   0   4   8   12
    #   AAAAAAAAAAAA
    #   AAAA    AAAA
    task.munmap(at(4), 4 * PAGE_SIZE - 17)  # the length is rounded up
    assert drawn(task) == [(0, 4, "rw"), (8, 12, "rw")]
    assert system.machine.caches["vm_area_struct"].nr_objects == 2
    assert system.machine.allocator.nr_unused == free + 4
    assert system.kernel.committed_pages == 8
    assert task.mm is not None
    assert (task.mm.rss, task.mm.total_vm) == (8, 8)
    for page in (0, 3, 8, 11):
        assert task.read(at(page), 8).rstrip(b"\0") == b"page %d" % page
    for page in (4, 7):
        with pytest.raises(rmaplab.SegmentationFault):
            task.read(at(page))
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_munmap_over_several_areas(kernel: str) -> None:
    """Everything in the range goes, holes in it do not matter, the ends are cut."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    put(task, 6, 8, PROT_READ)
    put(task, 10, 16, write=True)
    #   0   4   8   12  16
    #   AAAA  rr  BBBBBB
    #   AA           BBB    munmap [2, 13)
    task.munmap(at(2), 11 * PAGE_SIZE)
    assert drawn(task) == [(0, 2, "rw"), (13, 16, "rw")]
    assert system.machine.caches["vm_area_struct"].nr_objects == 2
    task.munmap(0, 0xC000_0000)
    assert vmas(task) == []
    assert system.machine.caches["vm_area_struct"].nr_objects == 0
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_munmap_where_nothing_is(kernel: str) -> None:
    """Success: a hole stays a hole."""
    _, task = boot(kernel)
    put(task, 4, 8)
    task.munmap(at(0), 4 * PAGE_SIZE)
    task.munmap(at(8), 4 * PAGE_SIZE)
    assert drawn(task) == [(4, 8, "rw")]


@pytest.mark.parametrize("paging", FORMATS)
def test_munmap_errors(paging: str) -> None:
    """Unaligned, empty or not all within the address space: EINVAL, and nothing happens."""
    system, task = boot("2.6.2", paging)
    task_size = system.machine.paging.task_size
    put(task, 0, 4)
    for address, length in [
        (at(0) + 1, PAGE_SIZE),
        (at(0), 0),
        (at(0), -1),
        (at(0), task_size),
        (task_size, PAGE_SIZE),
        (task_size + PAGE_SIZE, PAGE_SIZE),
        (-PAGE_SIZE, PAGE_SIZE),
        (-PAGE_SIZE, task_size),
    ]:
        with pytest.raises(rmaplab.SyscallError) as error:
            task.munmap(address, length)
        assert errno_of(error) == ("munmap", "EINVAL"), (hex(address), length)
    assert drawn(task) == [(0, 4, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_too_many_mappings(kernel: str) -> None:
    """For mmap map_count > limit is too many, for a split map_count >= limit (eras.md 6.2): mmap may go one over."""
    spec = find_kernel(kernel)
    few = replace(spec, figures={**spec.figures, "max_map_count": Figure(3, "this test", Status.BELIEVED)})
    system, task = boot(few)
    put(task, 0, 4)
    put(task, 10, 14)
    put(task, 20, 24)
    with pytest.raises(rmaplab.SyscallError) as error:  # three of three: no split
        task.munmap(at(1), PAGE_SIZE)
    assert errno_of(error) == ("munmap", "ENOMEM")
    put(task, 30, 34)  # but a fourth mapping
    with pytest.raises(rmaplab.SyscallError) as error:
        put(task, 40, 44)
    assert errno_of(error) == ("mmap", "ENOMEM")
    assert drawn(task) == [(0, 4, "rw"), (10, 14, "rw"), (20, 24, "rw"), (30, 34, "rw")]
    task.munmap(at(10), 14 * PAGE_SIZE)  # whole VMAs need no split
    task.munmap(at(3), PAGE_SIZE)  # one split, of two VMAs
    assert drawn(task) == [(0, 3, "rw"), (30, 34, "rw")]
    with pytest.raises(rmaplab.SyscallError) as error:  # the second split is one too many, and the first one stays
        task.munmap(at(1), PAGE_SIZE)
    assert errno_of(error) == ("munmap", "ENOMEM")
    assert drawn(task) == [(0, 1, "rw"), (1, 3, "rw"), (30, 34, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_map_fixed_that_cannot_split_fails_as_mmap(kernel: str) -> None:
    """do_munmap's failure inside mmap is mmap's ENOMEM."""
    spec = find_kernel(kernel)
    few = replace(spec, figures={**spec.figures, "max_map_count": Figure(1, "this test", Status.BELIEVED)})
    system, task = boot(few)
    put(task, 0, 4)
    with pytest.raises(rmaplab.SyscallError) as error:
        put(task, 1, 2, PROT_READ)
    assert errno_of(error) == ("mmap", "ENOMEM")
    assert drawn(task) == [(0, 4, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("paging", "span"), [("i386", 4 << 20), ("i386-pae", 1 << 30)])
def test_page_tables_go_when_no_neighbour_needs_their_top_entry(kernel: str, paging: str, span: int) -> None:
    """free_pgtables works by whole entries of the top table: 4 MiB on i386, 1 GiB with PAE (history.md 2.4)."""
    system, task = boot(kernel, paging)
    assert task.mm is not None
    born = task.mm.nr_tables
    near = 0x4000_0000
    far = near + span
    #   |  near . . . . . |  far             one leaf table each, under two entries of the top table
    task.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, near)
    task.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, near + 64 * PAGE_SIZE)
    task.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, far)
    for address in (near, near + 64 * PAGE_SIZE, far):
        task.write(address, b"x")
    assert task.mm.nr_tables == born + 2
    task.munmap(far, PAGE_SIZE)
    assert task.mm.nr_tables == born + 1
    task.munmap(near, PAGE_SIZE)  # its neighbour lives under the same entry
    assert task.mm.nr_tables == born + 1
    task.munmap(near + 64 * PAGE_SIZE, PAGE_SIZE)
    assert task.mm.nr_tables == born
    system.check()
