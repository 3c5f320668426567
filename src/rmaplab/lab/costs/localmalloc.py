"""What it costs to reclaim pages of localmalloc: does "better than anonmm because it's finegrained" hold, case by case?

    boot, run a case  ->  a sample of its pages: the judge; page_referenced from each; each goes to swap, by try_to_unmap

What stands in a row is what the ledger and the locks have counted meanwhile, divided by the pages. A visit is what the design looks at: an
mm, a VMA, a slot of a chain. It is useful if the page is mapped there, else in vain. Every walk must find everybody who maps the page: the
judge reads all page tables before, and try_to_unmap must have taken as many entries away as the page had.

Microseconds are predicted, and believed at best: cache lines that each operation fetches (LINES, by reading the structures), each at what
the price list says a line of a pte_chain takes, and for operations beside those what the list says. Everything cold, nobody else on the locks. The
simulated clock has lower prices for visits (kernels/prices.py): not every line is cold.

`verdict` is about the sentence, which compares with anonmm: page_referenced visits fewer under the announcement's anon_vma (holds), as
many (ties) or more (fails). It is asked of every page, again and again; try_to_unmap ends with the last mapping, once.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from rmaplab.errors import KernelBug, NoMemory, OomKilled, SyscallError, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import hardware_as_json
from rmaplab.lab.costs.sweep import measure
from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import PFN_MASK
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.anonmm import AnonMmMap
from rmaplab.rmap.brute_force import judge
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.localmalloc import Case, LocalMalloc, LocalPages

SPARE_BYTES = 64 << 20  # the kernel's own, and room below its watermarks
SWAP_SPARE = 64  # pages: its header, and where slots are looked for in clusters
HOLDS, TIES, FAILS = "holds", "ties", "fails"
A_LINE = "chain_line_visit"
"""What a price list calls the fetch of a cache line."""
LINES: Mapping[str, float] = {
    "mm_visit": 1,  # the anonmm
    "vma_visit": 1,  # its borders, pgoff and mm lie together
    "table_walk": 1,  # the mm, for its pgd and page_table_lock; and an entry of each level
    "find_vma": 2,  # the nodes of a small tree
    "chain_slot_visit": 3,  # the entry, its table's struct page, the mm
    "pte_scan": 1 / 16,  # entries of 8 bytes in lines of 128
}
"""Cache lines that an operation of a walk fetches."""


@dataclass(frozen=True)
class LocalMallocRow:
    """One case on one kernel. All figures but the last three are means over the pages walked from."""

    workload: str
    case: str
    kernel: str
    design: str
    hardware: dict[str, Any]
    children: int
    helpers: int
    pages: int
    walked: int
    """Pages walked from."""
    mapped: float
    """Entries that map such a page."""
    referenced_visits: float
    unmap_visits: float
    useful: float
    in_vain: float
    """Visits of both walks, by what came of them."""
    looked_at: dict[str, float]
    """What both walks have visited, read and looked up, by operation."""
    locks: dict[str, float]
    """Acquisitions by both, by class of lock."""
    predicted_us: float
    """Both."""
    rmap_bytes: int
    """What the reverse map takes, in objects, VMAs and mms, when the walks begin."""
    verdict: str | None = None
    """Of an anonmm: what becomes of the sentence if this is what anon_vma is compared with."""
    wall_s: float = field(default=0.0, compare=False)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in the units that their names end in."""
        return asdict(self)


def compare_localmalloc(
    kernels: Sequence[str],
    children: int,
    helpers: int,
    pages: int,
    walks: int,
    box: Box,
    growth: Sequence[int] = (1,),
) -> tuple[Iterator[LocalMallocRow], int]:
    """Rows, and how many there will be: each case on each kernel, with each part of the children in `growth` (1: all of them).

    At most `walks` pages of a case are walked from. What can be refused is refused before the first: UsageError.
    """
    whole = LocalMalloc(children, helpers, pages)
    if walks < 1:
        raise UsageError(f"{walks} walks: walk from at least one page of each kind")
    sizes = sorted({max(children // by, 1) for by in growth})
    groups = [LocalMalloc(nr, helpers, pages) for nr in sizes]
    box = replace(box, ram=f"{-(-whole.ram_bytes(SPARE_BYTES) >> 20)}M", swap=(walks + SWAP_SPARE) * PAGE_SIZE)
    for kernel in kernels:
        find_kernel(kernel)
        _line_ns(boot(kernel, box))
    cases = list(product(groups, Case))
    rows = (row for group, case in cases for row in _judged([_run(name, group, case, walks, box) for name in kernels]))
    return rows, len(cases) * len(kernels)


def _line_ns(system: System) -> int:
    """What a cache line takes. Raises UsageError where the price list has no price of one."""
    prices = system.machine.ledger.prices
    if A_LINE not in prices.ns:
        raise UsageError(f"the price list {prices.name} does not price cache lines: leave --prices out")
    return prices.ns[A_LINE]


def _judged(rows: Sequence[LocalMallocRow]) -> list[LocalMallocRow]:
    """Rows of one case, with verdicts."""
    ours = next((row for row in rows if row.design == AnonVmaMap.name), None)
    if ours is None:
        return list(rows)
    return [replace(row, verdict=_verdict(ours, row)) for row in rows]


def _verdict(ours: LocalMallocRow, row: LocalMallocRow) -> str | None:
    if not issubclass(find_kernel(row.kernel).design_class(), AnonMmMap):
        return None
    more = row.referenced_visits - ours.referenced_visits
    return HOLDS if more > 0 else FAILS if more < 0 else TIES


def _run(kernel: str, group: LocalMalloc, case: Case, walks: int, box: Box) -> LocalMallocRow:
    system = boot(kernel, box)
    began = time.perf_counter()
    try:
        places = group.run(system, case)
    except (SyscallError, NoMemory, OomKilled) as failure:
        raise UsageError(
            f"{group.children:,} children do not fit under {kernel} ({failure}): try fewer --children, or --paging x86-64"
        ) from None
    k, ledger = system.kernel, system.machine.ledger
    k.lru_add.drain_all()
    pages = sample(system, places, group.pages, walks)
    before = ledger.snapshot()
    judge(k.rmap, list(k.mms.values()), pages.tolist())
    ledger.restore(before)
    rmap_bytes = measure(system, group.children, 0).total_bytes
    nr, mapped = pages.size, int(system.machine.frames.mapcount[pages].sum())
    asked = _counted(system, lambda: referenced(k.rmap, pages))
    taken = _counted(system, lambda: _take(k, pages))
    both, useful = asked + taken, 2 * mapped
    in_vain = both["visits"] - useful
    if both["in vain"] not in (0, in_vain):  # a search through everything has no word for it
        raise KernelBug("localmalloc", f"{in_vain} visits in vain under {kernel}, and it says {both['in vain']}")
    return LocalMallocRow(
        workload=group.name,
        case=case.value,
        kernel=system.spec.name,
        design=k.design.name,
        hardware=hardware_as_json(system),
        children=group.children,
        helpers=group.helpers if case.has_helpers else 0,
        pages=group.pages,
        walked=nr,
        mapped=mapped / nr,
        referenced_visits=asked["visits"] / nr,
        unmap_visits=taken["visits"] / nr,
        useful=useful / nr,
        in_vain=in_vain / nr,
        looked_at={name: both[name] / nr for name in LINES if both[name]},
        locks={name: both[_lock(name)] / nr for name in system.machine.locks.classes if both[_lock(name)]},
        predicted_us=_microseconds(system, both) / nr,
        rmap_bytes=rmap_bytes,
        wall_s=time.perf_counter() - began,
    )


def sample(system: System, places: Sequence[LocalPages], pages: int, most: int) -> I64:
    """The frames of at most `most` pages, evenly spread over all that lie at these places. Raises KernelBug where one is not there."""
    total = len(places) * pages
    found = []
    for nr in np.linspace(0, total - 1, min(most, total)).astype(np.int64).tolist():
        place, page = places[nr // pages], nr % pages
        mm = place.task.mm
        entry = 0 if mm is None else lookup(*system.machine.geometry, mm.pgd, place.address + page * PAGE_SIZE)[0]
        if not entry & system.machine.mapped:
            raise KernelBug("localmalloc", f"page {page} of {place} is not in memory")
        found.append((entry >> PAGE_SHIFT) & PFN_MASK)
    return np.array(found, np.int64)


def _take(k: Kernel, pages: I64) -> None:
    """Each goes to swap. Raises KernelBug if somebody keeps one."""
    for pfn in pages.tolist():
        if not page_out(k, pfn):
            raise KernelBug("localmalloc", f"page {pfn} has not gone, {k.machine.frames.mapcount[pfn]} still map it")


def _counted(system: System, does: Callable[[], object]) -> Counter[str]:
    """What is counted while it does that: operations, locks by class, visits, those in vain."""
    before = _counts(system)
    does()
    return _counts(system) - before


def _counts(system: System) -> Counter[str]:
    ledger, locks = system.machine.ledger, system.machine.locks
    taken = {_lock(name): each.reads + each.writes + each.trylock_failures for name, each in locks.classes.items()}
    return ledger.counts + Counter({**taken, "visits": ledger.visits, "in vain": ledger.in_vain})


def _lock(name: str) -> str:
    """What a class of locks is called among the operations."""
    return f"lock {name}"


def _microseconds(system: System, counts: Counter[str]) -> float:
    """By cache lines; what has none by what the price list says."""
    levels = system.machine.paging.levels
    lines = sum(counts[name] * each for name, each in LINES.items()) + counts["table_walk"] * levels
    listed = sum(nr * system.machine.ledger.prices.ns.get(name, 0) for name, nr in counts.items() if name not in LINES)
    return (lines * _line_ns(system) + listed) / 1000
