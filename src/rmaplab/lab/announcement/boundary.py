"""Where the announcement's outcome holds: 2.6.2 passes level 7 and gets ENOMEM in fork at 8, 2.6.5-rc1-aa1 reaches 9.

Nobody wrote down the box. So the question is turned round: on which boxes does what was seen follow?

    boot use   swap ->   0    64   128  ...  512  576  640  704  ...
    20 MiB               7    7    n         n    +    +    e             7 s  2.6.2 fails at level 7 already
    38 MiB               7    7    n         n    +    +    e             8 e  2.6.2 passes level 8
    80 MiB               7    7    7         n    n    +    e             9 n  aa1 fails at level 9
                                                                          # +  as published

A run is made once per row, with overcommit set to "always", and every request that fork made is kept with what it met: pages
free, pages promised. Whether a request would have been granted with so much swap, in this mode, is then asked of the kernel's
own rule. That is exact, not an estimate: until the first refusal the run would have been the same, page for page, for neither
swap nor mode has any other effect here; and the first refusal decides the outcome. tests/lab/announcement/test_boundary.py runs
boxes on both sides of a border for real.

A run that ends for want of memory before it is over (the real kernel would swap) says nothing of what comes after. For that it
is made again on a box with more RAM, and the pages free there are taken less what that box has more. Below nothing free, that
many pages would have been swapped out; what the overcommit test adds up, free pages and free swap, is the same either way. So a
second letter stands where the answer needs this: "if swapping out moves pages, and changes nothing else". Whether it does can be
seen (to_the_end): such a run is made on the box itself, with everything that reclaim does, which takes a minute or more.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.releases import LINUX_2_4_21
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import FULL, HUNG, KILLED, OK, run_forkbench, run_to_the_end
from rmaplab.mm.overcommit import Overcommit, OvercommitMode, Request
from rmaplab.units import PAGE_SIZE, parse_size
from rmaplab.workloads.forkbench import Forkbench

OLD, NEW = "2.6.2", "2.6.5-rc1-aa1"
PASSES, FAILS, REACHES = 7, 8, 9
"""The levels of the announcement: 2.6.2 passes one, "from number 8" it fails, aa1 "reaches 9"."""
ENOMEM = "ENOMEM"
LETTERS = {"#": "+", "7": "s", "8": "e", "9": "n"}
"""What a cell says when it is certain, and when it holds if swapping out moves pages and changes nothing else."""
OTHERWISE = {KILLED: "k", HUNG: "h"}
"""What a cell says whose runs were made to the end, if at the first level that went otherwise than published the end was this."""
MORE_RAM = 2
"""The box on which a run goes on whose RAM was full has so many times that."""

_MIND = "what lab/announcement/boundary.py varies"
SCHEDULERS: dict[str, dict[str, int]] = {
    "own": {},
    "parent-first": {"child_runs_first": 0},
    "short-slices": {"timeslice_ms": 10},
    "one-queue": {
        name: LINUX_2_4_21.figure(name, 4)
        for name in (
            "one_run_queue",
            "child_runs_first",
            "sync_wakes_move",
            "sched_knows_siblings",
            "timeslice_ms",
            "max_timeslice_ms",
            "tick_us",
            "busy_balance_ms",
        )
    },
}
"""Schedulers by name: the figures that each replaces. "one-queue" is 2.4's."""


class Panel(NamedTuple):
    """What one map holds fixed."""

    highpte: bool
    line: int
    scheduler: str
    overcommit: OvercommitMode


class MadeRun(NamedTuple):
    """A run that was made to its end, with all that reclaim does."""

    kernel: str
    level: int
    outcome: str
    pages_out: int
    simulated_s: float


class CellRun(NamedTuple):
    """A cell whose runs were made: its letter, and those that decided it."""

    letter: str
    runs: tuple[MadeRun, ...]


@dataclass(frozen=True)
class Demand:
    """What one run asked of one box."""

    rule: Overcommit
    requests: tuple[Request, ...]
    outcome: str
    """How it ended when nothing was refused: "ok", or RAM was full."""
    beyond: tuple[Request, ...] = ()
    """If it was: all requests, as they would be met if swapping out moved pages and changed nothing else."""
    kswapd_wakes: int = 0
    tables_peak_bytes: int = 0
    rmap_peak_bytes: int = 0

    def refused(self, swap_pages: int, mode: OvercommitMode, *, beyond: bool = False) -> bool:
        """Whether some request would have been refused. O(requests)."""
        rule = replace(self.rule, swap=swap_pages, mode=mode)
        return not all(map(rule.allows, self.requests + (self.beyond if beyond else ())))

    def outcome_with(self, swap_pages: int, mode: OvercommitMode) -> tuple[str, bool]:
        """How it would have ended, "ok" or "ENOMEM", and whether that is certain."""
        if self.refused(swap_pages, mode):
            return ENOMEM, True
        if self.outcome == OK:
            return OK, True
        return (ENOMEM if self.refused(swap_pages, mode, beyond=True) else "ok"), False

    def swap_needed(self, mode: OvercommitMode, most: int = 1 << 24) -> int | None:
        """The least swap, in pages, with which nothing is refused, certain or not; None if no swap up to `most` helps."""
        if self.outcome_with(most, mode)[0] == ENOMEM:
            return None
        low, high = -1, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.outcome_with(middle, mode)[0] == ENOMEM:
                low = middle
            else:
                high = middle
        return high


@dataclass(frozen=True)
class BoundaryRow:
    """One row of a map: a box but for its swap. Sizes in bytes, swap in pages."""

    panel: Panel
    boot_use_bytes: int
    passes: Demand
    fails: Demand
    reaches: Demand
    seen: dict[int, CellRun] = field(default_factory=dict)
    """By swap in pages: what came of those runs that had to swap, where they were made (to_the_end)."""

    def asked(self) -> tuple[tuple[str, int, Demand, str, str], ...]:
        """In this order: kernel, level, what it asked for, the published outcome, and the letter of a cell in which that was refused (or not)."""
        return (
            (OLD, PASSES, self.passes, OK, "7"),
            (OLD, FAILS, self.fails, ENOMEM, "8"),
            (NEW, REACHES, self.reaches, OK, "9"),
        )

    def cell(self, swap_pages: int) -> str:
        """What happens with so much swap: a letter of LETTERS, or its second form where that is not certain; of OTHERWISE, where runs were made to the end."""
        if swap_pages in self.seen:
            return self.seen[swap_pages].letter
        mode = self.panel.overcommit
        certain = True
        for _, _, demand, published, letter in self.asked():
            outcome, sure = demand.outcome_with(swap_pages, mode)
            certain = certain and sure
            if outcome != published:
                return letter if certain else LETTERS[letter]
        return "#" if certain else LETTERS["#"]

    def window(self) -> tuple[int, int | None] | None:
        """The swap, in pages, from which and below which it is as published, certain or not; end None: however much."""
        mode = self.panel.overcommit
        needs = self.passes.swap_needed(mode), self.reaches.swap_needed(mode)
        if needs[0] is None or needs[1] is None:
            return None
        first, end = max(needs[0], needs[1]), self.fails.swap_needed(mode)
        return None if end is not None and end <= first else (first, end)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        window = self.window()
        return {
            "highpte": self.panel.highpte,
            "l1_cache_bytes": self.panel.line,
            "scheduler": self.panel.scheduler,
            "overcommit": int(self.panel.overcommit),
            "certain": all(demand.outcome == "ok" for _, _, demand, _, _ in self.asked()),
            "boot_use_bytes": self.boot_use_bytes,
            "holds_from_swap_bytes": None if window is None else window[0] * PAGE_SIZE,
            "holds_below_swap_bytes": None if window is None or window[1] is None else window[1] * PAGE_SIZE,
            "runs": {
                f"{kernel} level {level}": {
                    "outcome": demand.outcome,
                    "swap_needed_bytes": None
                    if (need := demand.swap_needed(self.panel.overcommit)) is None
                    else need * PAGE_SIZE,
                    "kswapd_wakes": demand.kswapd_wakes,
                    "page_tables_peak_bytes": demand.tables_peak_bytes,
                    "rmap_peak_bytes": demand.rmap_peak_bytes,
                }
                for kernel, level, demand, _, _ in self.asked()
            },
            "to_the_end": [
                {"swap_bytes": pages * PAGE_SIZE, "letter": cell.letter, "runs": [run._asdict() for run in cell.runs]}
                for pages, cell in self.seen.items()
            ],
        }


def with_scheduler(kernel: str, name: str) -> KernelSpec:
    """A kernel with another scheduler. Raises UsageError."""
    if name not in SCHEDULERS:
        raise UsageError(f"no scheduler {name!r}: choose from {', '.join(SCHEDULERS)}")
    spec = find_kernel(kernel)
    changed = {figure: Figure(value, _MIND, Status.BELIEVED) for figure, value in SCHEDULERS[name].items()}
    return replace(spec, figures={**spec.figures, **changed})


def demand_of(kernel: str, level: int, box: Box, scheduler: str = "own") -> Demand:
    """Run forkbench with nothing refused, and keep what it asked for; on more RAM once more if this was full."""
    spec = with_scheduler(kernel, scheduler)
    system, requests, outcome = _run(spec, level, box)
    allocator = system.machine.allocator
    beyond: tuple[Request, ...] = ()
    if outcome == FULL:
        larger = replace(box, ram=str(parse_size(box.ram) * MORE_RAM), boot_use=str(_boot_use(system)))
        roomy, further, _ = _run(spec, level, larger)
        more = roomy.machine.allocator.totalram_pages - allocator.totalram_pages
        beyond = tuple(request._replace(nr_free=request.nr_free - more) for request in further)
        system = roomy
    return Demand(
        rule=system.kernel.overcommit
        if not beyond
        else replace(system.kernel.overcommit, totalram=allocator.totalram_pages),
        requests=requests,
        outcome=outcome,
        beyond=beyond,
        kswapd_wakes=allocator.kswapd_wakes,
        tables_peak_bytes=system.machine.nr_tables_peak * PAGE_SIZE,
        rmap_peak_bytes=sum(cache.bytes_peak for cache in system.kernel.design.caches()),
    )


def _run(spec: KernelSpec, level: int, box: Box) -> tuple[System, tuple[Request, ...], str]:
    gc.collect()  # a system is full of cycles: the RAM of the last one goes when they do
    system = boot(spec, box, overcommit=int(OvercommitMode.ALWAYS))
    system.kernel.commit_requests = []
    outcome, _ = run_to_the_end(Forkbench(level).run, system)
    system.close()
    # the same question twice has the same answer
    return system, tuple(dict.fromkeys(system.kernel.commit_requests)), outcome


def _boot_use(system: System) -> int:
    """In bytes, and without mem_map: what --boot-use says."""
    return (system.boot_use.nr_pages - system.boot_use.mem_map) * PAGE_SIZE


def to_the_end(row: BoundaryRow, swap_pages: int, box: Box) -> CellRun:
    """Make those runs of a cell that had to swap, and see: 2.6.2 and aa1 as they were, on a disk. Minutes. What is certain is not run again."""
    mode, scheduler = row.panel.overcommit, row.panel.scheduler
    here = replace(box, swap=str(swap_pages * PAGE_SIZE), overcommit=int(mode), reclaim=True)
    ran: list[MadeRun] = []
    for kernel, level, demand, published, letter in row.asked():
        outcome, sure = demand.outcome_with(swap_pages, mode)
        if not sure:
            gc.collect()
            result = run_forkbench(with_scheduler(kernel, scheduler), level, here)
            outcome = result.outcome
            counts, times = result.ledger or {}, result.time_s or {}
            ran.append(MadeRun(kernel, level, outcome, counts.get("pswpout", 0), times.get("real", 0.0)))
        if outcome != published:
            return CellRun(OTHERWISE.get(outcome, letter), tuple(ran))
    return CellRun("#", tuple(ran))


def boundary(
    panels: Sequence[Panel], boot_uses: Sequence[str], box: Box, swaps: Sequence[int] = ()
) -> Iterator[BoundaryRow]:
    """The rows of all maps, panel by panel. Runs are shared by panels that differ in overcommit only. Raises UsageError.

    `swaps`, in pages: of these cells those that are not certain are made to the end.
    """
    for panel in panels:
        with_scheduler(OLD, panel.scheduler)
    for use in boot_uses:  # everything that can be refused is refused before the first run
        boot(OLD, box, boot_use=use)
    return _rows(panels, boot_uses, box, swaps)


def _rows(panels: Sequence[Panel], boot_uses: Sequence[str], box: Box, swaps: Sequence[int]) -> Iterator[BoundaryRow]:
    known: dict[tuple[object, ...], tuple[Demand, Demand, Demand]] = {}
    for panel in panels:
        for use in boot_uses:
            key = (panel.highpte, panel.line, panel.scheduler, use)
            here = replace(box, highpte=panel.highpte, l1_cache_bytes=panel.line, boot_use=use)
            if key not in known:
                known[key] = (
                    demand_of(OLD, PASSES, here, panel.scheduler),
                    demand_of(OLD, FAILS, here, panel.scheduler),
                    demand_of(NEW, REACHES, here, panel.scheduler),
                )
            row = BoundaryRow(panel, parse_size(use), *known[key])
            for swap in swaps:
                if row.cell(swap) in LETTERS.values():
                    row.seen[swap] = to_the_end(row, swap, here)
            yield row
