"""What a walk from a page of a file visits where very many VMAs map the file: rmap-test and test-mmap under several kernels and indexes.

    boot, run the program      ->  a sample of its pages: page_referenced, then try_to_unmap, through the kernel's own index of VMAs
    mlockall() in each process ->  the same pages, which that has brought back: page_referenced, then try_to_unmap

Nothing here is computed: what stands in a row is what the ledger has counted meanwhile, divided by the pages. Where a walk is long fewer
pages are walked from. What files.md E4 derives from the programs for the same walks is in DERIVED, to be laid beside.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, NoMemory, OomKilled, SyscallError, UsageError, did_you_mean
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.file_indexes import load_file_index
from rmaplab.kernels.system import System, boot
from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import MCL_CURRENT
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.workloads.manyvmas import PROGRAMS, ManyVmas

RAM = "2G"  # page tables of 513 processes with 256 MB each are 257 MB, their chains as much again
FINDING = 50  # a VMA that maps the page takes as long as so many that are passed
BUDGET = 2_000_000  # VMAs passed, of all walks from a program's pages
FEWEST, MOST = 8, 512  # pages


class Derived(NamedTuple):
    """What files.md E4 says of a program: visits on lists (page_referenced; try_to_unmap, mean), and by whatever finds only who maps the page; nodes of a prio_tree."""

    on_list: tuple[float, float]
    found: int
    prio_nodes: float | None


_RMAP_TEST_1 = Derived((10_100, 5_100.5), 101, 6.4)
DERIVED = {
    "rmap-test-1": _RMAP_TEST_1,
    "rmap-test-2": _RMAP_TEST_1,
    "rmap-test-3": Derived((20_000, 10_001), 2, 13.1),
    "rmap-test-4": Derived((513, 513), 513, None),
    "test-mmap": Derived((18_000, 9_000.5), 1, 14.2),
    "test-mmap2": Derived((57_600, 28_816), 32, None),
    "test-mmap3": Derived((576_000, 288_016), 32, 14.2),
}
"""By test. The nodes are means over all pages of the file from the first one that is mapped, those between two VMAs included: without them 13.2 for 13.1."""


class Visits(NamedTuple):
    """Of a walk, on average: what was looked at from a page by page_referenced and by try_to_unmap, what of the index by the former (None: it goes by none)."""

    referenced: float
    unmap: float
    nodes: float | None


@dataclass(frozen=True)
class ManyVmasRow:
    """One program on one kernel with one index. `visits` are those that were asked for: if `unlocked` is there, of locked mappings."""

    program: ManyVmas
    kernel: str
    index: str
    """What finds a page's VMAs; a design's name where that does it, and asks no index."""
    visits: Visits
    outcome: Outcome
    """Of try_to_unmap."""
    pages: int
    """Walked from."""
    unlocked: Visits | None = None
    wall_s: float = field(default=0.0, compare=False)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "test": self.program.name,
            "kernel": self.kernel,
            "index": self.index,
            "vmas": self.program.nr_vmas,
            "referenced_visits_per_page": self.visits.referenced,
            "unmap_visits_per_page": self.visits.unmap,
            "nodes_per_walk": self.visits.nodes,
        }


def compare_manyvmas(
    tests: Sequence[str],
    kernels: Sequence[str],
    indexes: Sequence[str],
    box: Box,
    *,
    locked: bool,
    growth: Sequence[int],
) -> tuple[Iterator[ManyVmasRow], int]:
    """Rows, and how many there will be: each test on each kernel with each index (none: its own), at each part of its size in `growth` (1: all of it).

    What can be refused is refused before the first: UsageError.
    """
    for name in tests:
        if name not in PROGRAMS:
            raise UsageError(f"no test {name!r}{did_you_mean(name, PROGRAMS)}: choose from {', '.join(PROGRAMS)}")
    for index in indexes:
        load_file_index(index)
    box = replace(box, ram=RAM)
    under = [pair for kernel in kernels for pair in _under(kernel, indexes, box)]
    if indexes and not any(index for _, index in under):
        raise UsageError(f"{' and '.join(kernels)}: no index of a file's VMAs is asked there, leave --indexes out")
    programs = [PROGRAMS[name].smaller(by) for name, by in product(tests, sorted(growth, reverse=True))]
    runs = (_run(program, kernel, index, box, locked=locked) for program, (kernel, index) in product(programs, under))
    return runs, len(programs) * len(under)


def _under(kernel: str, indexes: Sequence[str], box: Box) -> list[tuple[str, str | None]]:
    """The kernel with each index; with its own alone where none is asked, as its design finds pages of files by itself. Raises UsageError."""
    find_kernel(kernel)
    asked = not boot(kernel, box).kernel.design.covers_files
    return [(kernel, index) for index in (indexes if indexes and asked else (None,))]


def _run(program: ManyVmas, kernel: str, index: str | None, box: Box, *, locked: bool) -> ManyVmasRow:
    system = boot(kernel, replace(box, file_index=index))
    began = time.perf_counter()
    try:
        space, tasks = program.run(system)
        pages = _pages(system, program, space)
        visits, outcome = _walk(system, pages, program.processes)
        unlocked = None
        if locked:
            _lock(tasks)
            unlocked = visits
            visits, outcome = _walk(system, pages, 0)
    except (SyscallError, NoMemory, OomKilled):
        raise UsageError(
            f"{RAM} of RAM do not hold {program.name} under {kernel}: leave it out, or try --paging x86-64"
        ) from None
    own = system.kernel.design.name if system.kernel.design.covers_files else space.i_mmap.name
    return ManyVmasRow(
        program, system.spec.name, index or own, visits, outcome, pages.size, unlocked, time.perf_counter() - began
    )


def _pages(system: System, program: ManyVmas, space: AddressSpace) -> I64:
    """Frames to walk from: fewer, the longer a first walk is."""
    ledger, pfn = system.machine.ledger, space.pages[program.file_page(0)]
    visits, in_vain = ledger.visits, ledger.in_vain
    mappers = len(list(system.kernel.rmap.walk(pfn)))
    cost = ledger.in_vain - in_vain + (ledger.visits - visits - (ledger.in_vain - in_vain)) * FINDING
    if mappers != program.processes:
        raise KernelBug("manyvmas", f"{program.processes} processes map page {pfn}, and {mappers} were found")
    numbers = program.sample(min(MOST, max(FEWEST, BUDGET // cost)))
    return np.array([space.pages[program.file_page(nr)] for nr in numbers], np.int64)


def _walk(system: System, pages: I64, unmapped: int) -> tuple[Visits, Outcome]:
    """page_referenced from each, then try_to_unmap, which is to take `unmapped` entries away."""
    k, ledger, frames = system.kernel, system.machine.ledger, system.machine.frames
    frames.count[pages] += 1  # as reclaim refers to what it has isolated
    seen, nodes = ledger.visits, ledger.counts["file_node_visit"]
    referenced(k.rmap, pages)
    by_referenced, nodes = ledger.visits - seen, ledger.counts["file_node_visit"] - nodes
    gone = unmap(k.rmap, pages, np.zeros(pages.size, np.int64))
    by_unmap = ledger.visits - seen - by_referenced
    frames.count[pages] -= 1
    outcomes = set(gone.outcome.tolist())
    if set(gone.replaced.tolist()) != {unmapped} or len(outcomes) != 1:
        raise KernelBug("manyvmas", f"{unmapped} entries a page were to go, and {gone.replaced.tolist()} did")
    nr = pages.size
    visits = Visits(by_referenced / nr, by_unmap / nr, None if k.design.covers_files else nodes / nr)
    return visits, Outcome(outcomes.pop())


def _lock(tasks: Sequence[Task]) -> None:
    """Every process calls mlockall, for no child inherits it: what was unmapped comes back."""
    for task in tasks:
        task.cap_ipc_lock(granted=True)
        task.mlockall(MCL_CURRENT)
