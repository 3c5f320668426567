"""A stretch that comes back from swap is as good as its pages one by one: the same bytes, slots, references and counts.

    parent  [s1][s2][s3][ . ][c4][s5][p][s6]...      s: a slot, c: one whose page is in the cache, p: a page, .: nothing
    child   [s1][p ][s3]                             shares some, has copies of others

Two systems live the same life; one touches the stretch at once, the other page after page.
"""

import random
from typing import Any

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.frames import PG_ACTIVE, PG_DIRTY, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.machine.pagetable import lookup
from rmaplab.mm import fault, swap_in, swap_in_many
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "2.6.7", "6.18"]
NR = 40
SEEN = PG_ACTIVE | PG_DIRTY | PG_REFERENCED | PG_SWAPCACHE


class Life:
    """NR pages of a task and perhaps a child, most of them in swap."""

    def __init__(self, kernel: str, seed: int) -> None:
        say = random.Random(seed)
        slots = say.choice((NR + 8, 3 * NR, 1024))  # more than half used, or not
        paging = "x86-64" if kernel == "6.18" else "i386-pae"
        self.system = rmaplab.boot(kernel, ram="16M", swap=slots * PAGE_SIZE, boot_use=0, paging=paging)
        self.k = self.system.kernel
        self.task = self.system.spawn()
        self.start = self.task.mmap(NR * PAGE_SIZE)
        for page in range(NR):
            if page % 13 != 12:
                self.task.write(self.start + page * PAGE_SIZE, b"page %d" % page)
        self.k.lru_add.drain_all()
        self.tasks = [self.task]
        if say.random() < 0.6:
            self.tasks.append(self.task.fork())
            for page in say.sample(range(NR), 5):
                self.tasks[1].write(self.start + page * PAGE_SIZE, b"child's")
            self.k.lru_add.drain_all()
        for page in say.sample(range(NR), NR - 4):
            entry = self.entry(self.task, page)
            if entry & self.system.machine.mapped:
                page_out(self.k, entry >> PAGE_SHIFT)
        for page in say.sample(range(NR), 3):
            say.choice(self.tasks).touch(self.start + page * PAGE_SIZE, PAGE_SIZE)
        self.write = say.random() < 0.5
        self.system.check()

    def entry(self, task: rmaplab.Task, page: int) -> int:
        assert task.mm is not None
        return int(lookup(*self.system.machine.geometry, task.mm.pgd, self.start + page * PAGE_SIZE)[0])

    def seen(self) -> dict[str, Any]:
        """All that does not hang on which frame it is."""
        frames, pages = self.system.machine.frames, list[tuple[int, ...]]()
        for task in self.tasks:
            for page in range(NR):
                entry = self.entry(task, page)
                if not entry & self.system.machine.mapped:
                    pages.append((entry,))
                    continue
                pfn = entry >> PAGE_SHIFT
                flags = int(frames.flags[pfn]) & SEEN
                pages.append((entry & (PAGE_SIZE - 1), flags, int(frames.count[pfn]), int(frames.mapcount[pfn])))
        counts = self.system.machine.ledger.counts
        names = ("swap_in", "pswpin", "cow_copy", "cow_reuse", "anon_fault", "zero_fault", "pgactivate", "page_touch")
        locks = {name: (kind.reads, kind.writes) for name, kind in self.system.machine.locks.classes.items()}
        rss = [task.mm.rss for task in self.tasks if task.mm is not None]
        data = [task.read(self.start, NR * PAGE_SIZE) for task in self.tasks]
        return {"pages": pages, "counts": {name: counts[name] for name in names}, "rss": rss, "data": data,
                "locks": {name: locks[name] for name in ("mmap_sem", "PG_locked")}, "slots": self.k.swap.nr_used}  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(8))
def test_as_page_by_page(kernel: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together, alone = Life(kernel, seed), Life(kernel, seed)
    together.task.touch(together.start, NR * PAGE_SIZE, write=together.write)
    with monkeypatch.context() as patch:
        patch.setattr(fault, "map_cached", lambda _k, _vma, address, _end: address)
        patch.setattr(swap_in, "read_swap_cache", lambda _k, slots: not slots)
        for page in range(NR):
            alone.task.touch(alone.start + page * PAGE_SIZE, PAGE_SIZE, write=alone.write)
    for life in (together, alone):
        life.system.check()
    assert together.seen() == alone.seen()
    for life in (together, alone):
        life.system.check()


def test_most_pages_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above is about something: of 40 pages in slots that follow each other most are not faulted alone."""
    mapped = list[int]()
    really = swap_in_many.map_cached

    def counted(k: Any, vma: Any, address: int, end: int) -> int:
        reached = really(k, vma, address, end)
        mapped.append((reached - address) // PAGE_SIZE)
        return reached

    monkeypatch.setattr(fault, "map_cached", counted)
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="16M", swap="4M", boot_use=0, paging="i386")
    task = system.spawn()
    start = task.mmap(NR * PAGE_SIZE)
    task.touch(start, NR * PAGE_SIZE, write=True)
    system.kernel.lru_add.drain_all()
    for pfn in np.flatnonzero(system.machine.frames.mapcount).tolist():
        page_out(system.kernel, pfn)
    task.touch(start, NR * PAGE_SIZE)
    assert sum(mapped) >= NR - 10
    assert max(mapped) >= 7
