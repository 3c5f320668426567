"""Shared memory under random calls on a box that is too small for it; and what is broken is seen."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rmaplab.errors import KernelBug
from rmaplab.lab.conformance.shared_pressure_run import SharedPressureRun
from rmaplab.machine.frames import PG_DIRTY
from rmaplab.mm import shmem_swap
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim import shrink_file

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7")


@pytest.mark.parametrize("kernel", KERNELS)
def test_bytes_are_where_they_must_be(kernel: str) -> None:
    run = SharedPressureRun(kernel, 8)
    run.run(100)
    assert run.stolen > 300
    assert run.moved > 50


def test_all_young_and_kswapd_asleep_is_the_end_of_a_task() -> None:
    """It looks at all it maps; 940 slots are free, and its own 60 passes are in vain (tests/reclaim/test_virtual.py). The others go on."""
    run = SharedPressureRun("2.4.21+pte_chain", 100304, paging="x86-64")
    run.run(200)
    assert run.killed == 1


def test_page_by_page_too() -> None:
    """If somebody watches, each page is locked by itself."""
    run = SharedPressureRun("2.6.7", 8)
    run.system.watch(lambda *_: None)
    run.run(40)
    assert run.moved


def _move_clean(k: Any, file: AddressSpace, first: int, pages: Any) -> int:
    """A page that goes to swap, and is not dirty: it is never written."""
    moved = WRITEPAGE(k, file, first, pages)
    k.machine.frames.flags[pages] &= ~np.uint32(PG_DIRTY)
    return moved


def _leave_slots(_k: Any, file: AddressSpace, first: int, last: int = 1 << 62) -> int:
    """The vector forgets what it has, and the slots are used still."""
    gone = [index for index in file.slots if first <= index <= last]
    for index in gone:
        del file.slots[index]
    if file.shmem is not None:
        file.shmem.swapped -= len(gone)
    return len(gone)


def _recount_nothing(_k: Any, file: AddressSpace) -> None:
    """What has been dropped is forgotten, and stays promised."""
    file.dropped = 0


WRITEPAGE = shmem_swap.shmem_writepage
BREAKS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "clean": (shrink_file, "shmem_writepage", _move_clean),
    "slots": (shmem_swap, "free_slots", _leave_slots),
    "dropped": (shmem_swap, "recalc_inode", _recount_nothing),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, broken = BREAKS[what]
    monkeypatch.setattr(module, name, broken)

    def some() -> None:
        for seed in range(6):
            SharedPressureRun("2.6.7", seed).run(100)

    with pytest.raises((AssertionError, KernelBug)):
        some()
