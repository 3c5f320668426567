"""What tests of reclaim share: pages that nobody has used, one look at all that is inactive, and programs that want more than there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.kernels.system import System
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE


def make_old(system: System, pfns: Sequence[int]) -> None:
    """Nobody has used these pages: all are inactive, in this order, the first at the tail."""
    pages, lists = np.array(pfns), system.machine.allocator.lru
    lists.remove(pages)
    lists.add(pages, active=False)
    referenced(system.kernel.rmap, pages)
    system.machine.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)


def scan_once(system: System) -> Scan:
    """shrink_cache of 2.6: all that is inactive is looked at once, in one batch; and all is counted."""
    scan, shrinker = Scan(), Shrinker(system.kernel, system.spec.reclaim_rules(4))
    system.kernel.lru_add.drain_all()
    for zone, (inactive, _) in enumerate(system.machine.allocator.lru.nr.tolist()):
        assert inactive <= 32
        shrinker.shrink_cache(zone, inactive, 32, scan)
    system.check()
    return scan


def two_come_right(system: System, pages: int) -> None:
    """Two programs write so many pages each, and all bytes are there when they read them."""
    ended = list[int]()

    def program(task: Task) -> None:
        start = task.mmap(pages * PAGE_SIZE)
        words = b"".join(b"%d %d." % (task.pid, page) + bytes(PAGE_SIZE - 10) for page in range(pages))
        words = words[: pages * PAGE_SIZE - PAGE_SIZE]
        task.write(start, words)
        assert task.read(start, len(words)) == words
        ended.append(task.pid)
        task.exit()

    for _ in range(2):
        system.spawn(program)
    system.run()
    system.check()
    assert sorted(ended) == [1, 2]
