"""The sweep of memory: what is read off the machines is what the sources say a design's structures take.

Sizes from history.md 1.4 (struct anonmm 24 bytes and a pointer per mm, "28 bytes per mm"), 1.5.1 (anon_vma 12 bytes and 12 more per
VMA), 1.2.1 (a pte_chain block is a cache line with 15 slots where slots have 8 bytes and lines 128).
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box, announced
from rmaplab.kernels.system import boot
from rmaplab.lab.costs.sweep import (
    MAX_CHILDREN,
    STRIDE,
    Combination,
    MemoryPoint,
    Stretch,
    grid,
    measure,
    order,
    orders,
    sweep_memory,
    with_vmas,
)

PTE_CHAIN, ANONMM, ANON_VMA = KERNELS = ("2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1")


class Sizes(NamedTuple):
    anonmm: int
    mm_pointer: int
    anon_vma: int
    in_vma: int


SIZES = {"i386": Sizes(24, 4, 12, 12), "i386-pae": Sizes(24, 4, 12, 12), "x86-64": Sizes(40, 8, 24, 24)}


def sweep(
    kernels: tuple[str, ...], children: list[int], vmas: list[int], box: Box | None = None
) -> dict[tuple[str, int, int], MemoryPoint]:
    points, _ = grid(children, vmas, 10_000)
    found = sweep_memory(kernels, points, box or announced(ram="128M"))
    return {(point.kernel, point.children, point.vmas): point for point in found}


# -- what is measured --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vmas", [1, 2, 7])
@pytest.mark.parametrize("children", [1, 3, 10])
@pytest.mark.parametrize("paging", SIZES)
def test_the_bytes_are_those_of_the_sources(paging: str, children: int, vmas: int) -> None:
    sizes, box = SIZES[paging], announced(ram="128M", paging=paging)
    points = sweep((ANONMM, ANON_VMA), [children], [vmas], box)
    anonmm, anon_vma = points[ANONMM, children, vmas], points[ANON_VMA, children, vmas]
    processes = children + 1
    assert anonmm.nr_objects == {"anonmm": processes}
    assert (anonmm.objects_bytes, anonmm.vma_bytes, anonmm.mm_bytes) == (
        sizes.anonmm * processes,
        0,
        sizes.mm_pointer * processes,
    )
    assert anon_vma.nr_objects == {"anon_vma": vmas}
    assert (anon_vma.objects_bytes, anon_vma.vma_bytes, anon_vma.mm_bytes) == (
        sizes.anon_vma * vmas,
        sizes.in_vma * vmas * processes,
        0,
    )
    for point in (anonmm, anon_vma):
        assert point.total_bytes == point.objects_bytes + point.vma_bytes + point.mm_bytes


@pytest.mark.parametrize(("children", "blocks"), [(1, 1), (14, 1), (15, 2), (29, 2), (30, 3)])
def test_a_chain_takes_a_line_for_fifteen_mappings_of_a_page(children: int, blocks: int) -> None:
    point = sweep((PTE_CHAIN,), [children], [3])[PTE_CHAIN, children, 3]
    assert point.nr_objects == {"pte_chain": 3 * blocks}
    assert point.total_bytes == 3 * blocks * 128
    assert (point.vma_bytes, point.mm_bytes) == (0, 0)


def test_struct_pages_are_reported_apart() -> None:
    """history.md 2.1: the pte union has 8 bytes with PAE and HIGHPTE, a mapcount 4; for each of 32,768 frames."""
    points = sweep(KERNELS, [1], [1])
    assert [point.page_struct_bytes for point in points.values()] == [8 << 15, 4 << 15, 4 << 15]


def test_slabs_hold_what_the_sources_say_they_hold() -> None:
    """A slabinfo of 2004: 250 anon_vmas in a page, 50 VMAs of 76 bytes (history.md 1.5.1)."""
    points = sweep((ANON_VMA,), [1], [125, 250, 251])
    assert points[ANON_VMA, 1, 250].own_slabs_bytes == 4096
    assert points[ANON_VMA, 1, 251].own_slabs_bytes == 8192
    all_but_mms = points[ANON_VMA, 1, 125].all_slabs_bytes - 4096
    assert all_but_mms == 4096 + 4096 * 5


@pytest.mark.parametrize("kernel", [*KERNELS, "2.4.21", "2.6.2+anon_vma"])
def test_the_system_is_what_it_is_said_to_be(kernel: str) -> None:
    """All VMAs apart, all processes alive, every page found in all of them, and everything agrees with the judge."""
    system = boot(kernel, announced(ram="128M"))
    parent = with_vmas(system, 5)
    for _ in range(4):
        parent.fork()
    system.check()
    point = measure(system, 4, 5)
    assert (point.nr_mms, point.nr_vmas, system.kernel.nr_alive) == (5, 25, 5)
    base = system.machine.paging.unmapped_base
    for address in range(base, base + 5 * STRIDE, STRIDE):
        assert len({m.mm.pid for m in system.who_maps(parent, address)}) == 5


def test_growing_step_by_step_is_the_same_as_at_once() -> None:
    for kernel in KERNELS:
        steps, once = sweep((kernel,), [1, 5, 20], [3]), sweep((kernel,), [20], [3])
        assert steps[kernel, 20, 3] == once[kernel, 20, 3]


def test_a_design_that_keeps_nothing_takes_nothing() -> None:
    """2.4 searches: no object, nothing in a VMA."""
    point = sweep(("2.4.21",), [2], [2])["2.4.21", 2, 2]
    assert (point.nr_objects, point.total_bytes, point.own_slabs_bytes) == ({}, 0, 0)


# -- where the order turns ---------------------------------------------------------------------------------------------


def test_anonmm_is_preferable_from_a_few_vmas_on() -> None:
    """The announcement's claim. 28 (C + 1) bytes against 12 V (C + 2): from 2 VMAs on with a child, from 3 with ten."""
    points = list(sweep((ANONMM, ANON_VMA), [1, 10], [1, 2, 3, 4]).values())
    assert order(points, ANONMM, ANON_VMA) == {
        1: (Stretch(ANON_VMA, 1, 1), Stretch(ANONMM, 2, 4)),
        10: (Stretch(ANON_VMA, 1, 2), Stretch(ANONMM, 3, 4)),
    }


def test_with_two_vmas_and_five_children_both_take_the_same() -> None:
    """28 * 6 = 12 * 2 * 7."""
    points = list(sweep((ANONMM, ANON_VMA), [5], [1, 2, 3]).values())
    assert order(points, ANONMM, ANON_VMA)[5] == (Stretch(ANON_VMA, 1, 1), Stretch(None, 2, 2), Stretch(ANONMM, 3, 3))
    assert order(points, ANON_VMA, ANONMM) == order(points, ANONMM, ANON_VMA)


def test_every_two_kernels_are_compared() -> None:
    points = list(sweep(KERNELS, [1], [1]).values())
    assert list(orders(points)) == [(PTE_CHAIN, ANONMM), (PTE_CHAIN, ANON_VMA), (ANONMM, ANON_VMA)]


# -- the grid, and what is refused -------------------------------------------------------------------------------------


def test_the_grid_keeps_what_is_within_the_limit() -> None:
    kept, skipped = grid([1, 10], [1, 5, 10], 50)
    assert kept == [Combination(*pair) for pair in ((1, 1), (1, 5), (1, 10), (10, 1), (10, 5))]
    assert skipped == [Combination(10, 10)]


@pytest.mark.parametrize(
    ("children", "vmas", "limit"), [([0], [1], 10), ([1], [0], 10), ([MAX_CHILDREN + 1], [1], 1 << 20), ([5], [5], 24)]
)
def test_a_grid_that_makes_no_sense(children: list[int], vmas: list[int], limit: int) -> None:
    with pytest.raises(UsageError):
        grid(children, vmas, limit)


@pytest.mark.parametrize(
    ("kernel", "vmas", "box"),
    [
        ("2.7.0", 1, announced()),
        (ANON_VMA, 65_537, announced()),
        (ANON_VMA, 1, announced(ram="1M")),
        (ANON_VMA, 1, announced(paging="vax")),
    ],
)
def test_refused_before_the_first_measurement(kernel: str, vmas: int, box: Box) -> None:
    with pytest.raises(UsageError):
        sweep_memory([ANONMM, kernel], [Combination(1, vmas)], box)


@pytest.mark.parametrize("kernel", [*KERNELS, "2.4.21"])
def test_a_box_that_is_too_small_is_an_answer_with_a_next_step(kernel: str) -> None:
    with pytest.raises(UsageError, match="try a larger --ram"):
        list(sweep_memory([kernel], [Combination(5_000, 1)], announced(ram="64M", swap="0")))
