"""Memory is what users have taken of it, to the frame; and the number of users is the allocator's, which arithmetic from a few of them meets.

A box of 64 MB has low memory alone; with 4 MB of segment a user takes two page tables, and chains of 128-byte blocks for 1,024 pages.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rmaplab.errors import OomKilled, SyscallError, UsageError
from rmaplab.kernels.box import announced
from rmaplab.kernels.system import System, boot
from rmaplab.lab.costs import sga as lab
from rmaplab.lab.costs.sga import MOST_USERS, SgaRow, compare_sga, zones
from rmaplab.machine.frames import PG_DIRECT
from rmaplab.reclaim import badness, direct, oom_kill
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.sga import SEGMENT as WHOLE_SEGMENT
from rmaplab.workloads.sga import How, Sga

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1")
BOX = announced(ram="64M", swap="0", cpus=1)
SEGMENT = 4 << 20
kernels = pytest.mark.parametrize("kernel", KERNELS)
highpte = pytest.mark.parametrize("highpte", [True, False])


def rows(*kernels: str, most: int = MOST_USERS, segment: int = SEGMENT, **box: object) -> list[SgaRow]:
    runs, total = compare_sga(kernels, [replace(BOX, **box)], segment, most, [How.WHOLE])  # type: ignore[arg-type]
    found = list(runs)
    assert len(found) == total
    return found


def blocks(system: System) -> int:
    """Chain blocks, by going through all pages' chains."""
    design = system.kernel.design
    assert isinstance(design, PteChain)
    chained = np.flatnonzero((design.pte != 0) & (system.machine.frames.flags & PG_DIRECT == 0))
    return sum(len(list(design._blocks(pfn))) for pfn in chained.tolist())


@kernels
@highpte
@pytest.mark.parametrize("how", [How.WHOLE, How.BACKWARDS])
def test_what_is_gone_from_memory_is_what_users_have(kernel: str, highpte: bool, how: How) -> None:
    """Zones add up to RAM; page tables, slabs, stacks, the segment are those that there are, by other counts; what is gone is their sum."""
    box = replace(BOX, ram="1G", highpte=highpte)
    system = boot(kernel, box)
    segment = SEGMENT // 4
    sga, machine = Sga(system, segment, how), system.machine
    before = zones(system, sga)
    for nr in range(1, 17):
        sga.attach()
        if nr not in (1, 2, 16):
            continue
        used = zones(system, sga)
        total = {use: sum(side[use] for side in used.values()) for use in used["low"]}
        assert sum(total.values()) == 1 << 30
        assert total["page_tables"] == machine.nr_tables * PAGE_SIZE
        assert total["segment"] == segment
        assert total["stacks"] == (nr + 1) * 8192
        assert total["vmas"] == system.kernel.vma_cache.bytes
        assert total["vmas"] >= nr * (32 if how is How.BACKWARDS else 1) * 64
        gone = sum(before[side]["free"] - used[side]["free"] for side in used)
        assert gone == sum(total[use] - sum(side[use] for side in before.values()) for use in total if use != "free")
        if "pte_chain" in machine.caches and kernel == "2.6.2":
            slots = 15 if highpte else 31
            assert blocks(system) == (segment // PAGE_SIZE * -(-nr // slots) if nr > 1 else 0)
            assert used["low"]["reverse_map"] == -(-blocks(system) // 30) * PAGE_SIZE
        else:
            assert total["reverse_map"] <= 2 * PAGE_SIZE
        if highpte:
            assert used["high"]["page_tables"] == nr * PAGE_SIZE
        else:
            assert used["high"]["page_tables"] == 0
    system.check()


@kernels
@highpte
def test_arithmetic_meets_the_allocator(kernel: str, highpte: bool) -> None:
    """Users computed from two, nine or forty of them are as many as there are when memory is gone, within three of a hundred."""
    (whole,) = rows(kernel, highpte=highpte)
    assert not whole.arithmetic
    assert whole.users == whole.run > 100
    for run in (2, 9, 16, 40):
        (part,) = rows(kernel, most=run, highpte=highpte)
        assert (part.arithmetic, part.run) == (True, run)
        assert part.users == pytest.approx(whole.users, rel=0.03)
        assert part.per_user.reverse_map == pytest.approx(whole.per_user.reverse_map, rel=0.03)
        assert part.per_user.page_tables == pytest.approx(whole.per_user.page_tables, rel=0.03)


def test_published_figures_stand_beside_the_box_that_the_mail_names() -> None:
    """Chains, 2.7 GiB, 3:1 and 8 GiB, or 4:4 with 8; no other RAM, segment or kernel. As a list for programs."""
    boxes = {
        ("8G", "3:1", WHOLE_SEGMENT): [100, 150],
        ("8G", "4:4", WHOLE_SEGMENT): [700],
        ("16G", "3:1", WHOLE_SEGMENT): None,
        ("8G", "3:1", 512 << 20): None,
    }
    for (ram, split, segment), published in boxes.items():
        row, other = rows("2.6.2", "2.4.21", most=2, ram=ram, split=split, segment=segment)
        assert row.as_json()["published_users"] == published
        assert other.as_json()["published_users"] is None


@pytest.mark.parametrize(("highpte", "slots"), [(True, 15), (False, 31)])
def test_chains_end_where_every_page_wants_a_block_more(highpte: bool, slots: int) -> None:
    """Page tables lie in high memory, and a round of blocks for all pages is more than users take of low memory besides: the last user is the last in a round."""
    (row,) = rows("2.6.2", highpte=highpte, ram="2G", boot_use="1500M", segment=128 << 20)
    assert row.short_of == "a slab of pte_chain, in low memory"
    assert row.zones["low"]["free"] < 3 << 20
    assert row.users % slots == 0 or not highpte  # without HIGHPTE page tables are low, too


def test_without_chains_page_tables_are_what_ends_it() -> None:
    """The same box; objrmap takes nothing per entry."""
    chains, half, aa1 = rows("2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", segment=12 << 20)
    assert {half.short_of, aa1.short_of} <= {"a page table", "a kernel stack, in low memory"}
    assert aa1.per_user.reverse_map == half.per_user.reverse_map == 0
    assert chains.users * (1 + chains.per_user.reverse_map / sum(aa1.per_user)) == pytest.approx(aa1.users, rel=0.15)


@pytest.mark.parametrize(
    ("kernel", "swap", "then"),
    [
        ("2.4.21", "0", "fork: ENOMEM"),
        ("2.4.21", "64M", "nobody makes room, and it waits for ever"),
        ("2.6.2", "0", "the OOM killer takes user 1 in its place"),
        ("2.6.2", "64M", "nobody makes room, and it waits for ever"),
        ("2.6.5-rc1-aa1", "0", "the OOM killer takes user 1 in its place"),
    ],
)
def test_what_the_kernel_makes_of_it(kernel: str, swap: str, then: str) -> None:
    """history.md 2.7: 2.4 fails a fault, or a fork; 2.6.2 kills the first of those alike. With swap and without reclaim nobody does anything."""
    (row,) = rows(kernel, swap=swap, segment=12 << 20)
    assert row.then == then


LITTLE: dict[str, Any] = {"ram": "16M", "boot_use": "9M", "segment": 256 << 10, "reclaim": True}


def test_the_segment_goes_to_swap_until_nothing_is_left_that_could(monkeypatch: pytest.MonkeyPatch) -> None:
    """All RAM is page tables, stacks and slabs then. There are as many users more as the segment's pages make room for, by arithmetic from 30 too."""
    monkeypatch.setattr(direct, "HANG_NS", 5 * 10**9)
    (none,), (row,), (part,) = (
        rows("2.6.2", **LITTLE | more) for more in ({}, {"swap": "1M"}, {"swap": "1M", "most": 30})
    )
    assert not any(none.swap.values())
    assert row.swap["pages_out"] > 64
    assert row.as_json()["swap"] == row.swap
    each = LITTLE["segment"] / sum(row.per_user)
    assert none.users < row.users == pytest.approx(none.users + each, abs=each * 0.6)
    assert part.arithmetic
    assert part.users == pytest.approx(row.users, rel=0.03)
    assert row.then == "hung"
    assert row.why is not None
    assert row.why.startswith("for 5 seconds no page could be freed")
    assert "the OOM killer does nothing" in row.why
    assert row.zones["low"]["segment"] == 0, "memory as it is when that is found out, not at the first request"


def test_when_swap_is_full_the_killer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is told as it was before he came."""
    (row,) = rows("2.6.2", **LITTLE, swap="128K")
    assert row.then == "the OOM killer takes user 1 in its place"
    assert row.zones["low"]["free"] < 256 << 10
    assert row.zones["low"]["page_tables"] > row.users * 16384
    monkeypatch.setattr(badness, "select_bad_process", lambda found: max(pid for pid, _, _ in found))
    monkeypatch.setattr(oom_kill, "select_bad_process", badness.select_bad_process)
    (row,) = rows("2.6.2", **LITTLE, swap="128K")
    assert row.then == "the OOM killer takes the user itself"


def test_low_memory_has_nothing_that_could_go_to_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """history.md 2.7: chains fill low memory, the segment lies high. So no page goes out, and nobody is killed."""
    monkeypatch.setattr(direct, "HANG_NS", 10**9)
    (row,) = rows("2.6.2", ram="2G", boot_use="1500M", segment=128 << 20, swap="256M", reclaim=True)
    assert row.users % 15 == 0, "as without swap: the last in a round of chain blocks"
    assert row.short_of == "a slab of pte_chain, in low memory"
    assert row.then == "hung"
    assert not any(row.swap.values())


def test_the_user_that_the_allocator_refuses_is_the_first_without_memory() -> None:
    """The same without the lab: as many users attach as the row says, and then one dies."""
    (row,) = rows("2.4.21", segment=12 << 20)
    sga = Sga(boot("2.4.21", BOX), 12 << 20)
    for _ in range(row.users):
        sga.attach()
    with pytest.raises((OomKilled, SyscallError)):
        sga.attach()


def test_the_host_has_memory_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that it is arithmetic; the result is the same."""
    (whole,) = rows("2.6.2")
    monkeypatch.setattr(lab, "HOST_BYTES", 1 << 20)
    (part,) = rows("2.6.2")
    assert part.arithmetic
    assert 10 < part.run < whole.users
    assert part.users == pytest.approx(whole.users, rel=0.03)


def test_high_memory_is_taken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By arithmetic as by the allocator: page tables lie high while there is room, and low memory ends it, or all."""
    monkeypatch.setattr(lab, "HOST_BYTES", 0)
    for kernel, ram, segment, short_of in (
        ("2.6.2", "4G", 1 << 30, "low memory"),
        ("2.6.5-rc1-aa1", "2G", 1 << 30, "low memory, as high memory is full"),
        ("2.6.2", "64M", 1 << 20, "low memory"),
        ("2.6.5-rc1-aa1", "64G", 1 << 20, "low memory"),
    ):
        (row,) = rows(kernel, ram=ram, segment=segment)
        assert (row.run, row.short_of) == (2, short_of)
    middle = 3 * PAGE_SIZE  # PAE's middle tables lie low, with HIGHPTE too
    low = row.zones["low"]["free"] / (middle + row.per_user.vmas + row.per_user.other)
    assert row.users == pytest.approx(low, rel=0.03)


@pytest.mark.parametrize("segment", [0, -1, 3 << 30, 1 << 30])
def test_a_segment_that_nobody_can_map_or_promise(segment: int) -> None:
    """It is refused before anything is run: by a user's addresses, or by overcommit."""
    with pytest.raises(UsageError, match="--segment"):
        rows("2.6.2", segment=segment)
