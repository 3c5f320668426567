"""Which calls make neighbours one: mmap, mprotect, mremap and brk, kernel by kernel.

In the drawings one letter is one page; a capital marks pages that have been written. Areas are `rw` unless they say `r-`.

                        mmap                            mprotect, mremap                page offsets
    2.4.21, 2.6.2,
    2.6.5-rc1           like flags                      like flags                      do not matter
    2.6.5-rc1+anonmm    as its base: an anonmm knows nothing of VMAs ("anonmm allows full vma merging")
    2.6.5-rc1-aa1       and anon_vmas that agree        not at all (disabled)           must continue
    2.6.5-rc3-aa3       likewise                        mprotect again                  must continue
    2.6.7               likewise                        both again                      must continue; of what was never written they move along

Sources: history.md 4.1 to 4.4; eras.md 6.2 (which call merges, the quirks of mprotect); the announcement.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_EXEC,
    VM_RESERVED,
    VM_WRITE,
)
from rmaplab.units import PAGE_SIZE

MERGING = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm"]
AA1 = "2.6.5-rc1-aa1"
LINEAR = [AA1, "2.6.5-rc3-aa3", "2.6.7"]
KERNELS = [*MERGING, "2.6.5-rc1+00100", *LINEAR]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000
Drawing = list[tuple[int, int, str]]


def boot(kernel: str) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M")
    return system, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, prot: int = RW, *, write: bool = False) -> None:
    """Map pages [first, last) of the drawing; `write` puts its number into each."""
    task.mmap((last - first) * PAGE_SIZE, prot, ANON | MAP_FIXED, at(first))
    if write:
        for page in range(first, last):
            task.write(at(page), b"page %d" % page)


def protect(task: rmaplab.Task, first: int, last: int, prot: int) -> None:
    task.mprotect(at(first), (last - first) * PAGE_SIZE, prot)


def move(task: rmaplab.Task, first: int, last: int, to: int) -> None:
    length = (last - first) * PAGE_SIZE
    assert task.mremap(at(first), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) == at(to)


def drawn(task: rmaplab.Task) -> Drawing:
    assert task.mm is not None
    return [
        (
            (v.start - BASE) // PAGE_SIZE,
            (v.end - BASE) // PAGE_SIZE,
            ("rw" if v.flags & VM_WRITE else "r-") + ("x" if v.flags & VM_EXEC else ""),
        )
        for v in task.mm.vmas
    ]


def outcome(kernel: str, merged: Drawing, apart: Drawing) -> Drawing:
    """Where page offsets and anon_vmas matter."""
    return apart if kernel in LINEAR else merged


def after_mprotect(kernel: str, merged: Drawing, apart: Drawing) -> Drawing:
    """Where mprotect does not merge."""
    return apart if kernel == AA1 else merged


# -- mmap ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_fill_a_hole_between_areas_written_apart(kernel: str) -> None:
    """4.2: "not merged: two separately faulted neighbours whose gap is filled later"; without anon_vmas they are."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    put(task, 8, 12, write=True)
    #   AAAA    BBBB
    #       cccc            new
    #   AAAAccccBBBB        one, or in aa1 AAAAcccc and BBBB
    put(task, 4, 8)
    assert drawn(task) == outcome(kernel, [(0, 12, "rw")], [(0, 8, "rw"), (8, 12, "rw")])
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_unmap_a_gap_and_fill_it_again(kernel: str) -> None:
    """4.2: "always merges (both halves share the anon_vma after split)"."""
    system, task = boot(kernel)
    put(task, 0, 12, write=True)
    task.munmap(at(4), 4 * PAGE_SIZE)
    #   AAAA    AAAA
    put(task, 4, 8)
    assert drawn(task) == [(0, 12, "rw")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("side", ["behind", "before"])
def test_map_beside_an_area_that_was_moved(kernel: str, write: bool, side: str) -> None:
    """4.2: fresh neighbours qualify, "a vma moved by mremap does not": its page offset is that of the old place."""
    system, task = boot(kernel)
    put(task, 0, 4, write=write)
    move(task, 0, 4, 104)
    first = 108 if side == "behind" else 100
    put(task, first, first + 4)
    ends = sorted([(104, 108, "rw"), (first, first + 4, "rw")])
    follows = kernel == "2.6.7" and not write  # what was never written takes the page offset of its new place
    merged = [(ends[0][0], ends[1][1], "rw")]
    assert drawn(task) == (merged if follows else outcome(kernel, merged, ends))
    if write:
        assert task.read(at(107), 6) == b"page 3"
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_heap_is_one_area(kernel: str) -> None:
    """do_brk merges as mmap does; read and executed, written and not, it grows (4.2)."""
    system, task = boot(kernel)
    heap = task.brk()
    for i in range(1, 5):
        task.brk(heap + i * 2 * PAGE_SIZE)
        task.write(heap + (2 * i - 1) * PAGE_SIZE, b"x")
    assert task.mm is not None
    assert [(v.start, v.end) for v in task.mm.vmas] == [(heap & -PAGE_SIZE, heap + 8 * PAGE_SIZE)]
    #   and a mapping with the heap's flags joins it
    task.mmap(PAGE_SIZE, RW | PROT_EXEC, ANON | MAP_FIXED, heap + 8 * PAGE_SIZE)
    assert task.mm.map_count == 1
    system.check()


# -- mprotect --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("write", [False, True])
def test_a_whole_area_becomes_like_the_previous(kernel: str, write: bool) -> None:
    """2.6.2 mprotect_attempt_merge: prev grows over it. In aa1 both stay."""
    system, task = boot(kernel)
    put(task, 0, 4, PROT_READ)
    put(task, 4, 8, write=write)
    #   aaaaBBBB            r-, rw
    #       ----            mprotect r-
    #   aaaaBBBB            r-: one, unless VM_ACCOUNT tells them apart
    protect(task, 4, 8, PROT_READ)
    #   what could be written stays charged, so it is not like what never could (2.6: "cannot reduce our commit")
    charged = kernel != "2.4.21"
    assert drawn(task) == ([(0, 4, "r-"), (4, 8, "r-")] if charged else [(0, 8, "r-")])
    #   BBBB BBBB: both charged
    protect(task, 0, 4, RW)
    protect(task, 4, 8, RW)
    assert drawn(task) == after_mprotect(kernel, [(0, 8, "rw")], [(0, 4, "rw"), (4, 8, "rw")])
    if write:
        assert task.read(at(7), 6) == b"page 7"
        task.write(at(7), b"after")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_border_to_the_previous_moves(kernel: str) -> None:
    """The front part becomes like prev: prev grows, the area shrinks; page offsets and pages follow."""
    system, task = boot(kernel)
    put(task, 0, 8, write=True)
    protect(task, 4, 8, PROT_READ)
    #   AAAABBBB            rw, r-
    #       --              mprotect rw
    #   AAAAAABB
    protect(task, 4, 6, RW)
    assert drawn(task) == after_mprotect(
        kernel, [(0, 6, "rw"), (6, 8, "r-")], [(0, 4, "rw"), (4, 6, "rw"), (6, 8, "r-")]
    )
    system.check()
    child = task.fork()
    child.write(at(5), b"child")
    for page in range(8):
        assert task.read(at(page), 6) == b"page %d" % page
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_back_part_becomes_like_the_next(kernel: str) -> None:
    """The call ends where a VMA does: at the very end it joins what follows (eras.md 6.2)."""
    system, task = boot(kernel)
    put(task, 0, 8, write=True)
    protect(task, 0, 4, PROT_READ)
    #   AAAABBBB            r-, rw
    #     --                mprotect rw
    #   AABBBBBB
    protect(task, 2, 4, RW)
    assert drawn(task) == after_mprotect(
        kernel, [(0, 2, "r-"), (2, 8, "rw")], [(0, 2, "r-"), (2, 4, "rw"), (4, 8, "rw")]
    )
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_area_between_two_like_it(kernel: str) -> None:
    """Previous first, then next: all one again. An island made and unmade leaves nothing but in aa1."""
    system, task = boot(kernel)
    put(task, 0, 12, write=True)
    protect(task, 4, 8, PROT_READ)
    assert drawn(task) == [(0, 4, "rw"), (4, 8, "r-"), (8, 12, "rw")]
    protect(task, 4, 8, RW)
    assert drawn(task) == after_mprotect(kernel, [(0, 12, "rw")], [(0, 4, "rw"), (4, 8, "rw"), (8, 12, "rw")])
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_range_over_two_areas(kernel: str) -> None:
    """The first piece is cut off, the second joins it as its previous."""
    system, task = boot(kernel)
    put(task, 0, 8, write=True)
    protect(task, 4, 8, PROT_READ)
    #   AAAABBBB            rw, r-
    #     ----              mprotect rwx
    #   AACCCCBB
    protect(task, 2, 6, RW | PROT_EXEC)
    middle = after_mprotect(kernel, [(2, 6, "rwx")], [(2, 4, "rwx"), (4, 6, "rwx")])
    assert drawn(task) == [(0, 2, "rw"), *middle, (6, 8, "r-")]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_special_areas_never_merge(kernel: str) -> None:
    """VM_SPECIAL (4.1); 2.4 does not test it (eras.md 6.2)."""
    system, task = boot(kernel)
    put(task, 0, 8)
    protect(task, 4, 8, PROT_READ)
    assert task.mm is not None
    for vma in task.mm.vmas:
        vma.flags |= VM_RESERVED
    protect(task, 4, 8, RW)
    assert drawn(task) == [(0, 4, "rw"), (4, 8, "rw")]
    system.check()


# -- mremap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("neighbours", ["previous", "next", "both"])
def test_move_beside_a_like_area(kernel: str, write: bool, neighbours: str) -> None:
    """move_vma: the previous grows, and takes the next too if it fits; else the next (eras.md 6.2). aa1: off."""
    system, task = boot(kernel)
    #   aaaa    cccc        one of them or both
    #       BBBB            moved here
    areas: Drawing = [(4, 8, "rw")]
    if neighbours != "next":
        put(task, 0, 4, write=write)
        areas.insert(0, (0, 4, "rw"))
    if neighbours != "previous":
        put(task, 8, 12, write=write)
        areas.append((8, 12, "rw"))
    put(task, 100, 104, write=True)
    move(task, 100, 104, 4)
    assert drawn(task) == outcome(kernel, [(areas[0][0], areas[-1][1], "rw")], areas)
    system.check()
    child = task.fork()
    assert {m.mm for m in system.who_maps(task, at(5))} == {task.mm, child.mm}
    for first, last, _ in areas:
        for page in range(first, last):
            number = page + 96 if 4 <= page < 8 else page
            assert child.read(at(page), 8).rstrip(b"\0") == (b"page %d" % number if write or 4 <= page < 8 else b"")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("to", [4, -4, 2, 6])
def test_move_within_its_own_neighbourhood(kernel: str, to: int) -> None:
    """The neighbour that grows is the area the pages come from: what is left of it and where they went are one."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    if abs(to) == 4:
        move(task, 0, 4, to)  # right behind, right before: the old half goes
        assert drawn(task) == [(to, to + 4, "rw")]
        moved = [(0, to, 4)]
    elif to == 2:
        move(task, 0, 2, 4)  # the front goes behind the rest
        assert drawn(task) == outcome(kernel, [(2, 6, "rw")], [(2, 4, "rw"), (4, 6, "rw")])
        moved = [(0, 4, 2), (2, 2, 2)]
    else:
        move(task, 2, 4, -2)  # the back goes before the rest
        assert drawn(task) == outcome(kernel, [(-2, 2, "rw")], [(-2, 0, "rw"), (0, 2, "rw")])
        moved = [(2, -2, 2), (0, 0, 2)]
    for source, target, nr in moved:
        for i in range(nr):
            assert task.read(at(target + i), 6) == b"page %d" % (source + i)
    system.check()
    assert task.mm is not None
    assert task.mm.total_vm == 4
    assert system.kernel.committed_pages == (0 if kernel == "2.4.21" else 4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_growing_in_place_merges_with_nobody(kernel: str) -> None:
    """It is "just vm_end, no merge with next" (eras.md 6.1)."""
    system, task = boot(kernel)
    put(task, 0, 4)
    put(task, 8, 12)
    assert task.mremap(at(0), 4 * PAGE_SIZE, 8 * PAGE_SIZE, 0) == at(0)
    assert drawn(task) == [(0, 8, "rw"), (8, 12, "rw")]
    system.check()


# -- all together ----------------------------------------------------------------------------------------------------


def script(task: rmaplab.Task) -> None:
    """An allocator at work: arenas grow, guards come and go, blocks are moved to where they fit.

    1  eight areas of four pages, every other one of them first, the holes later; all written
    2  a guard page in each area, made and unmade
    3  the last four areas move, one by one, behind the first four, where gaps have been left open
    """
    for parity in (0, 1):
        for i in range(parity, 8, 2):
            put(task, 4 * i, 4 * i + 4, write=True)
    for i in range(8):
        protect(task, 4 * i + 1, 4 * i + 2, PROT_READ)
    for i in range(8):
        protect(task, 4 * i + 1, 4 * i + 2, RW)
    task.munmap(at(16), 16 * PAGE_SIZE)
    for i in range(4):
        put(task, 100 + 8 * i, 104 + 8 * i, write=True)
    for i in range(4):
        move(task, 100 + 8 * i, 104 + 8 * i, 16 + 4 * i)


def test_anonmm_allows_full_merging() -> None:
    """One script on the same kernel with three reverse maps: "vma merging for mprotect and mremap is disabled" costs VMAs.

    With chains and with anonmm all ends as one area. In aa1 it cannot: each guard leaves three pieces, what is moved stays
    apart, and areas that were written apart never meet. Contents are the same in all.
    """
    left, contents = {}, {}
    for kernel in ("2.6.5-rc1", "2.6.5-rc1+anonmm", AA1):
        system, task = boot(kernel)
        script(task)
        system.check()
        assert task.mm is not None
        left[kernel] = task.mm.map_count
        contents[kernel] = task.read(at(0), 32 * PAGE_SIZE)
        expected = [*range(16), *(100 + 8 * i + j for i in range(4) for j in range(4))]
        for page, number in enumerate(expected):
            assert contents[kernel][page * PAGE_SIZE :][:8].rstrip(b"\0") == b"page %d" % number
    assert left["2.6.5-rc1"] == left["2.6.5-rc1+anonmm"] == 1
    #   each hole joined the area below it, never the one above: two areas of eight pages are left of four, each cut in
    #   five by its two guards (A g AAA g AA); and the four that were moved
    assert left[AA1] == 2 * 5 + 4
    assert len(set(contents.values())) == 1
