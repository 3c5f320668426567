"""Many pages at once: what is found, done and counted is what page by page would have been, whatever the pages are.

    pid 1  [a][b][c][d] | [e][f]      | mlocked |      a, b: shared by fork; c: written by pid 2 since; e: young; f: its list is busy ...
    pid 2  [a][b][C][d] | [e][f]
    pid 3      [b]                     moved by mremap

Two systems live the same life; one is asked page by page (FEW is out of reach). Expected: the two agree in everything but how long locks were held.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_REFERENCED, PG_SWAPCACHE, PG_TABLE
from rmaplab.objects.flags import MREMAP_MAYMOVE
from rmaplab.rmap import at_once
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.rmap.queries import referenced, unmap
from rmaplab.units import PAGE_SIZE

KERNELS = [
    "2.6.2",
    "2.6.5-rc1-aa1",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1+anonmm_unordered",
    "2.6.7",
    "2.6.5-rc1+anon_vma_interval_tree",
]
NR = 24


class Life:
    """A random family on a kernel, the same for the same seed."""

    def __init__(self, kernel: str, seed: int) -> None:
        self.system = rmaplab.boot(kernel, ram="16M", swap="4M", boot_use=0, paging="i386")
        self.k = self.system.kernel
        say = random.Random(seed)
        task = self.system.spawn(root=True)
        start = task.mmap(2 * NR * PAGE_SIZE)
        task.touch(start, NR * PAGE_SIZE, write=True)
        if say.random() < 0.5:
            task.mlock(start + say.randrange(NR) * PAGE_SIZE, 2 * PAGE_SIZE)
        tasks = [task]
        for _ in range(say.randrange(4)):
            tasks.append(say.choice(tasks).fork())
            for _ in range(4):
                where = start + say.randrange(NR) * PAGE_SIZE
                say.choice(tasks).touch(where, say.randrange(1, 4) * PAGE_SIZE, write=say.random() < 0.5)
        if say.random() < 0.5:
            say.choice(tasks).munmap(start + say.randrange(NR) * PAGE_SIZE, 2 * PAGE_SIZE)
        if say.random() < 0.5:
            moved = say.choice(tasks)
            moved.mremap(start + NR * PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE)
        if say.random() < 0.3 and len(tasks) > 1:
            tasks.pop(say.randrange(len(tasks))).exit()
        self.k.lru_add.drain_all()
        frames = self.system.machine.frames
        pages = np.flatnonzero(frames.mapcount)
        spare = self.system.machine.allocator.alloc(2, rmaplab.machine.allocator.Gfp.HIGHUSER)
        self.pfns: I64 = np.concatenate((pages, spare))  # the last two nobody maps
        self.pfns = self.pfns[say.sample(range(self.pfns.size), self.pfns.size)]
        frames.flags[self.pfns[::3]] |= np.uint32(PG_REFERENCED)
        self.busy = say.random() < 0.4

    @contextmanager
    def with_a_busy_table(self) -> Iterator[None]:
        """Somebody else has the first mm's page_table_lock, perhaps."""
        lock = next(iter(self.k.mms.values())).page_table_lock
        if not self.busy:
            yield
            return
        with self.system.machine.locks.apart("test"):
            lock.writer = self.system.machine.locks.owner
            yield
            lock.writer = None

    def swap_entries(self) -> I64:
        """All in the swap cache, with a reference more for the caller."""
        frames, mapped = self.system.machine.frames, self.pfns
        self.k.swap.add_many(mapped, self.k.swap.get_slots(mapped.size))
        frames.count[mapped] += 1
        return self.k.swap.entries(frames.private[mapped])

    def seen(self) -> dict[str, Any]:
        """Everything that a query can change."""
        machine = self.system.machine
        frames = machine.frames
        locks = {n: (kind.reads, kind.writes, kind.trylock_failures) for n, kind in machine.locks.classes.items()}
        columns = {n: getattr(frames, n).tolist() for n in ("flags", "count", "mapcount", "mapping", "index")}
        tables = machine.ram.bytes[np.flatnonzero(frames.flags & PG_TABLE)].tobytes()
        counts = {name: nr for name, nr in machine.ledger.counts.items() if nr}
        if self.k.design.name.startswith("anonmm"):  # an mm is empty from its last page on, and that may be another one
            in_vain = counts.pop("visit_empty_mm", 0), counts.pop("visit_other_page", 0)
            counts |= {"visits in vain": sum(in_vain), "table_walk": counts["table_walk"] + in_vain[0]}
        ledger = (machine.ledger.visits, machine.ledger.in_vain)
        rss = [mm.rss for mm in self.k.mms.values()]
        return {
            "locks": locks, "tables": tables, "counts": counts, "ledger": ledger, "rss": rss,
            "slots": self.k.swap.users.tolist(), **columns,
        }  # fmt: skip

    def asked(self) -> list[list[Any]]:
        """What page_referenced says, twice, and then try_to_unmap."""
        with self.with_a_busy_table():
            answers = [part.tolist() for _ in range(2) for part in referenced(self.k.rmap, self.pfns)]
            entries = self.swap_entries()
            done = unmap(self.k.rmap, self.pfns, entries, self.k.swap.duplicate)
        return [*answers, done.outcome.tolist(), done.replaced.tolist()]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(12))
def test_as_page_by_page(kernel: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together, alone = Life(kernel, seed), Life(kernel, seed)
    said = together.asked()
    seen = together.seen()
    with monkeypatch.context() as patch:
        patch.setattr(at_once, "FEW", 1 << 40)
        assert alone.asked() == said
    expected = alone.seen()
    assert {what: value for what, value in seen.items() if value != expected[what]} == {}
    together.k.machine.frames.count[together.pfns] -= 1  # ours
    assert (together.k.machine.frames.flags[together.pfns] & PG_SWAPCACHE != 0).all()


@pytest.mark.parametrize("kernel", KERNELS[:5])
def test_most_pages_are_asked_of_at_once(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above are about something."""
    life = Life(kernel, 3)
    answered = list[int]()
    ask = at_once.referenced

    def counted(*arguments: Any) -> Any:
        done = ask(*arguments)
        answered.append(int(done.sum()))
        return done

    monkeypatch.setattr(at_once, "referenced", counted)
    referenced(life.k.rmap, life.pfns)
    assert answered == [life.pfns.size]


def test_a_design_that_walks_otherwise_is_asked_page_by_page() -> None:
    """It has inherited `sites`, which speak of another walk."""
    parent = type(rmaplab.boot("2.6.5-rc1-aa1", ram="64M").kernel.design)

    class Otherwise(parent):  # type: ignore[misc, valid-type]
        def walk(self, pfn: int) -> Any:
            return super().walk(pfn)

    assert at_once._answers(parent)
    assert not at_once._answers(Otherwise)
    assert not at_once._answers(ReverseMap)
