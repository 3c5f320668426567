"""What slab caches are asked for when pages are looked at, and that they give nothing.

pages on lists   |====|====|====| ... all of them once, in strides      dentries, 5469 of them: each asked for twice over
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.system import System
from rmaplab.reclaim.kswapd import PageReclaim
from rmaplab.reclaim.shrink_slab import SHRINK_BATCH, SlabCaches
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1-aa1", "2.6.7")


def boot(kernel: str, ram: str = "96M", boot_use: str | int | None = None) -> tuple[System, SlabCaches]:
    system = rmaplab.boot(
        kernel, ram=ram, swap="64M", boot_use=boot_use, overcommit=1, paging="i386", cpus=1, reclaim=True
    )
    reclaim = system.machine.allocator.reclaim.__self__  # type: ignore[attr-defined]
    assert isinstance(reclaim, PageReclaim)
    return system, reclaim.slab


@settings(max_examples=20, deadline=None)
@given(kernel=st.sampled_from(KERNELS), strides=st.lists(st.integers(2, 3000), min_size=1, max_size=30))
def test_once_over_all_pages_is_twice_over_all_objects(kernel: str, strides: list[int]) -> None:
    """But for what is rounded down each time and what is still saved up: no more than a batch."""
    system, slab = boot(kernel)
    system.machine.allocator.lru.nr[0] = pages, _ = 20_000, 0
    for scanned in strides:
        slab.shrink_slab(scanned)
    asked = system.machine.ledger.counts.get("slabs_scanned", 0) + sum(cache.nr for cache in slab.caches)
    wanted = sum(2 * sum(strides) * cache.unused() / (pages + 1) for cache in slab.caches)
    odd = 2 * sum(cache.unused() for cache in slab.caches) / (pages + 1) if kernel == "2.6.2" else 0
    assert wanted - len(strides) * (len(slab.caches) + odd) <= asked <= wanted
    assert all(cache.nr <= SHRINK_BATCH for cache in slab.caches)


def test_2_6_2_rounds_a_single_page_away() -> None:
    """Page by page nothing is ever asked for; from 2.6.5-rc1 on it adds up."""
    for kernel in KERNELS:
        system, slab = boot(kernel)
        for _ in range(4000):
            slab.shrink_slab(1)
        assert (system.machine.ledger.counts.get("slabs_scanned", 0) > 0) == (kernel != "2.6.2")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_run_under_pressure_counts_and_frees_none(kernel: str) -> None:
    """/proc/vmstat has the name from 2.6.5-rc1 on; the caches are as large as before; a file that is closed is one dentry more."""
    system, slab = boot(kernel, ram="64M")
    before = [cache.unused() for cache in slab.caches]

    def program(task: Task) -> None:
        start = task.mmap(9_000 * PAGE_SIZE)
        for page in range(0, 9_000, 50):
            task.touch(start + page * PAGE_SIZE, 50 * PAGE_SIZE, write=True)

    system.spawn(program)
    system.run()
    stat = system.vmstat()
    assert system.machine.ledger.counts["slabs_scanned"] > 0
    assert ("slabs_scanned" in stat) == (kernel != "2.6.2")
    assert stat.get("slabs_scanned", 1) > 0
    assert [cache.unused() for cache in slab.caches] == before == [5469, 1536]
    system.new_file()
    assert [cache.unused() for cache in slab.caches] == [5470, 1536]
    system.check()


def test_there_is_as_much_as_boot_has_left() -> None:
    """A box of which boot takes nothing has empty caches; with half of the usual, half of them."""
    assert [cache.unused() for cache in boot("2.6.7", boot_use=0)[1].caches] == [0, 0]
    system, slab = boot("2.6.7", boot_use="17M")
    use = system.boot_use
    share = (use.kernel + use.user) * PAGE_SIZE / (35 << 20)
    assert [cache.unused() for cache in slab.caches] == [int(5469 * share), int(1536 * share)]
    assert 0 < share < 0.6
