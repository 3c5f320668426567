"""The mmlist beside a plain list: whoever comes and goes, both have the same address spaces in the same order, and swap_mm stands where it must.

[a b c]   a child of b: [a b child c]   an exec: [new a b c]   b leaves while swap_mm stands on it: that is c now
"""

import random

import pytest

import rmaplab
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import Locks
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.objects.mm_list import MmList
from rmaplab.objects.mm_types import MmStruct

RULES = SchedRules(
    timeslice_ns=10**8,
    max_timeslice_ns=10**8,
    tick_ns=10**7,
    busy_balance_ns=10**8,
    one_queue=True,
    child_first=False,
    sync_wakes_move=False,
    knows_siblings=False,
)
ORDER = (("mmap_sem", True, False), ("page_table_lock", False, True))


@pytest.mark.parametrize("seed", range(4))
def test_as_a_plain_list_whoever_comes_and_goes(seed: int) -> None:
    rng, locks = random.Random(seed), Locks(ORDER, Scheduler(RULES, 1), Ledger(PriceList("", "", {})))
    mmlist, plain = MmList(), list[MmStruct]()
    for pid in range(300):
        if plain and rng.random() < 0.4:
            gone = rng.choice(plain)
            at = plain.index(gone)
            after = plain[at + 1] if at + 1 < len(plain) else None
            expected = after if mmlist.swap_mm is gone else mmlist.swap_mm
            plain.remove(gone)
            mmlist.remove(gone)
            assert mmlist.swap_mm is expected
        else:
            parent = rng.choice([None, *plain])
            new = MmStruct(pid, pid * 64, 0, locks)
            plain.insert(0 if parent is None else plain.index(parent) + 1, new)
            mmlist.add(new, parent)
        mmlist.swap_mm = rng.choice([None, *plain])
        assert list(mmlist) == plain
        assert mmlist.nr == len(plain)
        assert [mmlist.next(mm) for mm in [None, *plain]] == [*plain, None]


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "6.18"])
def test_a_child_is_behind_its_parent(kernel: str) -> None:
    """first, its second child, its first child; then a task of its own, which is at the beginning; one that fails or exits is off."""
    system = rmaplab.boot(kernel, ram="64M")
    first = system.spawn()
    children = [first.fork(), first.fork()]
    stranger = system.spawn()
    expected = [stranger, first, children[1], children[0]]
    assert list(system.kernel.mmlist) == [task.mm for task in expected]
    system.machine.allocator.fail_after = 3
    with pytest.raises(rmaplab.SyscallError):
        first.fork()
    children[1].exit()
    assert list(system.kernel.mmlist) == [task.mm for task in (stranger, first, children[0])]
