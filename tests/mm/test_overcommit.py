"""vm_enough_memory by mode and era, at the page where the answer changes. Sums: history.md 2.7, eras.md 4.6."""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.mm.overcommit import OvercommitMode
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS
SWAP = 1000  # pages
KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"]


def boot(kernel: str, mode: int, ratio: int = 50) -> rmaplab.System:
    return rmaplab.boot(
        kernel, ram="64M", swap=SWAP * PAGE_SIZE, overcommit=mode, overcommit_ratio=ratio, boot_use="4M"
    )


def most(system: rmaplab.System, flags: int = ANON) -> int:
    """The largest mapping that is granted, in pages: found by halving; nothing stays mapped."""
    task = system.spawn()
    low, high = 0, 1 << 19
    while high - low > 1:
        middle = (low + high) // 2
        try:
            task.munmap(task.mmap(middle * PAGE_SIZE, RW, flags), middle * PAGE_SIZE)
            low = middle
        except rmaplab.SyscallError as error:
            assert error.name == "ENOMEM"
            high = middle
    system.check()
    task.exit()
    return low


@pytest.mark.parametrize("kernel", KERNELS)
def test_mode_0_at_the_very_page(kernel: str) -> None:
    """Free pages and free swap, on 2.6 less the 1/32 kept for root: one page less is granted, as much is not."""
    system = boot(kernel, 0)
    task = system.spawn()
    free = system.machine.allocator.nr_free + SWAP
    counts = free - free // 32 if system.kernel.rules.root_reserve_divisor else free
    with pytest.raises(rmaplab.SyscallError, match="overcommit"):
        task.mmap(counts * PAGE_SIZE, RW)
    assert system.machine.allocator.nr_free + SWAP == free
    task.mmap((counts - 1) * PAGE_SIZE, RW)


def test_root_has_the_reserve_too() -> None:
    """capable(CAP_SYS_ADMIN): on 2.6.2 the 1/32 is kept from others only."""
    system = boot("2.6.2", 0)
    task = system.spawn(root=True)
    free = system.machine.allocator.nr_free + SWAP
    with pytest.raises(rmaplab.SyscallError, match=f"more than what is free, with swap: {free - 1:,}"):
        task.mmap(free * PAGE_SIZE, RW)
    task.mmap((free - 1) * PAGE_SIZE, RW)


@pytest.mark.parametrize("root", [False, True])
def test_mode_2_of_today_keeps_reserves(root: bool) -> None:
    """__vm_enough_memory, at the very page: init_admin_reserve from others than root, and a 32nd of what a process has from itself."""
    system = boot("6.18", 2, 100)
    task = system.spawn(root=root)
    kept = 0 if root else min(system.kernel.overcommit.nr_free_at_boot // 32, 8192 // 4)
    assert bool(kept) is not root
    limit = system.machine.allocator.totalram_pages + SWAP - kept
    task.mmap(6400 * PAGE_SIZE, RW)
    left = limit - 6400 - 6400 // 32 - 1
    with pytest.raises(rmaplab.SyscallError, match=f"more than the limit of promises leaves .mode 2.: {left:,}"):
        task.mmap((left + 1) * PAGE_SIZE, RW)
    task.mmap(left * PAGE_SIZE, RW)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_mode_0_forgets(kernel: str) -> None:
    """Promises do not add up: three times half of what is free is granted, since nobody has touched any of it."""
    system = boot(kernel, 0)
    task = system.spawn()
    half = (system.machine.allocator.nr_free + SWAP) // 2
    for _ in range(3):
        task.mmap(half * PAGE_SIZE, RW)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_mode_1_says_yes(kernel: str) -> None:
    """2 GiB on a box of 64 MiB."""
    system = boot(kernel, 1)
    task = system.spawn()
    task.mmap("2000M", RW)
    task.fork()
    system.check()


@pytest.mark.parametrize("ratio", [0, 50, 100])
def test_mode_2_adds_promises_up(ratio: int) -> None:
    """Below RAM * ratio % + swap, the request included, on 2.6; fork promises all of the parent's again; unmapping takes back."""
    system = boot("2.6.2", 2, ratio)
    limit = system.machine.allocator.totalram_pages * ratio // 100 + SWAP
    assert most(system) == limit - 1
    task = system.spawn()
    third = limit // 3 + 1
    task.mmap(third * PAGE_SIZE, RW)
    task.mmap(third * PAGE_SIZE, PROT_READ)  # nothing to write, nothing to promise
    child = task.fork()
    with pytest.raises(rmaplab.SyscallError, match="overcommit") as error:
        child.fork()
    assert (error.value.call, error.value.name) == ("fork", "ENOMEM")
    system.check()
    assert most(system) == limit - system.kernel.committed_pages - 1


def test_mode_2_counts_noreserve_too() -> None:
    """sysctl_overcommit_memory > 1: MAP_NORESERVE asks for nothing in modes 0 and 1, and is ignored in 2."""
    for mode, charged in ((0, 0), (1, 0), (2, 10)):
        system = boot("2.6.2", mode)
        system.spawn().mmap(10 * PAGE_SIZE, RW, ANON | MAP_NORESERVE)
        assert system.kernel.committed_pages == charged
        system.check()


def test_2_4_knows_no_mode_2() -> None:
    """Anything but 0 is "always" (2.4.27 mm/mmap.c)."""
    task = boot("2.4.21", 2).spawn()
    task.mmap("2000M", RW)


@pytest.mark.parametrize("mode", OvercommitMode)
def test_a_request_asked_again_gets_the_same_answer(mode: OvercommitMode) -> None:
    """What was noted of each request is all the rule needs: lab/announcement/boundary.py asks it again with other swap."""
    system = boot("2.6.2", mode)
    k = system.kernel
    k.commit_requests = []
    answers = [k.vm_enough_memory(nr) for nr in (1, 5000, 15_000, 20_000, 9000)]
    assert [k.overcommit.allows(request) for request in k.commit_requests] == answers


@pytest.mark.parametrize(
    ("wrong", "hint"), [({"overcommit": 3}, "0 (heuristic)"), ({"overcommit_ratio": -1}, "0 or more")]
)
def test_wrong_modes_get_one_line(wrong: dict[str, int], hint: str) -> None:
    with pytest.raises(rmaplab.UsageError) as error:
        rmaplab.boot("2.6.2", **wrong)  # type: ignore[arg-type]
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
