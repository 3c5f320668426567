"""What a reverse-map walk costs in a large family: mallocgroup under several kernels.

Two kinds of pages: those the parent wrote, which the children have left, and the children's copies. Walks from each kind are made
from a sample of its pages and counted: a visit is what the design looks at, a VMA, an mm or a slot. Every page is mapped once, so
all visits but one are in vain.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import hardware_as_json
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.workloads.mallocgroup import MallocGroup

SPARE_BYTES = 512 << 20  # the kernel's own, and room below its watermarks


@dataclass(frozen=True)
class WalkResult:
    """One kernel's row. Visits are means over the walks made; `visits_mean` is over all pages there are."""

    workload: str
    kernel: str
    design: str
    hardware: dict[str, Any]
    children: int
    pages: int
    walks: int
    visits_parent_page: float
    visits_child_page: float
    visits_mean: float
    visits_max: int
    table_walks_mean: float
    rmap_bytes: int
    rmap_objects: dict[str, int]
    wall_s: float

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds."""
        return asdict(self)


@dataclass(frozen=True)
class _Walks:
    """Walks from pages of one kind."""

    visits: I64
    table_walks: I64


def compare_mallocgroup(
    kernels: Sequence[str], children: int, pages: int, walks: int, box: Box
) -> Iterator[WalkResult]:
    """A row per kernel, on a box with the RAM it takes. Everything that can be refused is refused before the first."""
    group = MallocGroup(children, pages)
    if walks < 1:
        raise UsageError(f"{walks} walks: make at least one of each kind of page")
    box = replace(box, ram=f"{-(-group.ram_bytes(SPARE_BYTES) >> 20)}M")
    for kernel in kernels:
        find_kernel(kernel)
        boot(kernel, box)
    return (_run(kernel, group, walks, box) for kernel in kernels)


def _run(kernel: str, group: MallocGroup, walks: int, box: Box) -> WalkResult:
    system = boot(kernel, box)
    began = time.perf_counter()
    parent, children = group.run(system)
    inherited = _pages(system, parent)
    copied = np.concatenate([_pages(system, child) for child in children[:: -(-len(children) // walks)]])
    first, rest = _walk(system, _sample(inherited, walks)), _walk(system, _sample(copied, walks))
    wall_s = time.perf_counter() - began
    design = system.kernel.design
    nr = group.children + 1

    def mean(kind: str) -> float:
        return float((getattr(first, kind).mean() + group.children * getattr(rest, kind).mean()) / nr)

    return WalkResult(
        workload=group.name,
        kernel=system.spec.name,
        design=design.name,
        hardware=hardware_as_json(system),
        children=group.children,
        pages=group.pages,
        walks=first.visits.size + rest.visits.size,
        visits_parent_page=float(first.visits.mean()),
        visits_child_page=float(rest.visits.mean()),
        visits_mean=mean("visits"),
        visits_max=int(max(first.visits.max(), rest.visits.max())),
        table_walks_mean=mean("table_walks"),
        rmap_bytes=sum(cache.bytes for cache in design.caches()),
        rmap_objects={cache.name: cache.nr_objects for cache in design.caches()},
        wall_s=wall_s,
    )


def _pages(system: System, task: Task) -> I64:
    """The frames of a task's own pages."""
    if task.mm is None:
        raise KernelBug("mallocgroup", f"task {task.pid} is gone")
    pfns = read_page_tables(system.machine, task.mm.pgd)[0].pfns
    own: I64 = pfns[pfns != ZERO_PFN]
    return own


def _sample(pfns: I64, nr: int) -> I64:
    """At most `nr` of them, evenly spread."""
    chosen: I64 = pfns[np.linspace(0, pfns.size - 1, min(nr, pfns.size)).astype(np.int64)]
    return chosen


def _walk(system: System, pfns: I64) -> _Walks:
    """Walk from each page and count. Raises KernelBug if one is not mapped exactly once."""
    ledger = system.machine.ledger
    visits, tables = np.empty(pfns.size, np.int64), np.empty(pfns.size, np.int64)
    for i, pfn in enumerate(pfns.tolist()):
        seen, walked = ledger.visits, ledger.counts["table_walk"]
        found = len(list(system.kernel.rmap.walk(pfn)))
        if found != 1:
            raise KernelBug("mallocgroup", f"page {pfn} is mapped once, and {found} mappings were found")
        visits[i] = ledger.visits - seen
        tables[i] = ledger.counts["table_walk"] - walked
    return _Walks(visits, tables)
