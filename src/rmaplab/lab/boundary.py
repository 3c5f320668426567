"""Where the announcement's outcome holds: 2.6.2 passes level 7 and gets ENOMEM in fork at 8, 2.6.5-rc1-aa1 reaches 9.

Nobody wrote down the box. So the question is turned round: on which boxes does what was seen follow?

    boot use   swap ->   0    64   128  ...  448  512  576  640  ...
    20 MiB               7    7    7         #    #    #    8             7  2.6.2 fails at level 7 already
    38 MiB               7    7    7         #    #    #    8             8  2.6.2 passes level 8
    80 MiB               7    7    7         7    #    #    #             #  as published

A run is made once per row, with overcommit set to "always", and every request that fork made is kept with what it met: pages
free, pages promised. Whether a request would have been granted with so much swap, in this mode, is then asked of the kernel's
own rule. That is exact, not an estimate: until the first refusal the run would have been the same, page for page, for neither
swap nor mode has any other effect here; and the first refusal decides the outcome. A run that ends for want of memory ends at
that place whatever swap there is. tests/lab/test_boundary.py runs boxes on both sides of a border for real.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from rmaplab.errors import NeedsReclaim, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.spec import Figure, KernelSpec, Status
from rmaplab.kernels.system import boot
from rmaplab.lab.experiment import Box
from rmaplab.mm.overcommit import Overcommit, OvercommitMode, Request
from rmaplab.units import PAGE_SIZE, parse_size
from rmaplab.workloads.forkbench import Forkbench

OLD, NEW = "2.6.2", "2.6.5-rc1-aa1"
PASSES, FAILS, REACHES = 7, 8, 9
"""The levels of the announcement: 2.6.2 passes one, "from number 8" it fails, aa1 "reaches 9"."""
ENOMEM, RECLAIM = "ENOMEM", "needs reclaim"
MIB_PAGES = (1 << 20) // PAGE_SIZE

_MIND = "what lab/boundary.py varies"
SCHEDULERS: dict[str, dict[str, int]] = {
    "own": {},
    "parent-first": {"child_runs_first": 0},
    "short-slices": {"timeslice_ms": 10},
    "one-queue": {"one_run_queue": 1, "child_runs_first": 0, "timeslice_ms": 60},
}
"""Schedulers by name: the figures in which each differs from the kernel's own. "one-queue" is 2.4's."""


class Panel(NamedTuple):
    """What one map holds fixed."""

    highpte: bool
    line: int
    scheduler: str
    overcommit: OvercommitMode


@dataclass(frozen=True)
class Demand:
    """What one run asked of one box."""

    rule: Overcommit
    requests: tuple[Request, ...]
    outcome: str
    """"ok", or "needs reclaim": how it ended when nothing was refused."""
    kswapd_wakes: int
    tables_peak_bytes: int
    rmap_peak_bytes: int

    def outcome_with(self, swap_pages: int, mode: OvercommitMode) -> str:
        """How it would have ended: "ok", "ENOMEM", "needs reclaim". O(requests)."""
        rule = replace(self.rule, swap=swap_pages, mode=mode)
        return self.outcome if all(map(rule.allows, self.requests)) else ENOMEM

    def swap_needed(self, mode: OvercommitMode, most: int = 1 << 24) -> int | None:
        """The least swap, in pages, with which nothing is refused; None if no swap up to `most` pages helps."""
        if self.outcome_with(most, mode) == ENOMEM:
            return None
        low, high = -1, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.outcome_with(middle, mode) == ENOMEM:
                low = middle
            else:
                high = middle
        return high


@dataclass(frozen=True)
class Row:
    """One row of a map: a box but for its swap. Sizes in bytes, swap in pages."""

    panel: Panel
    boot_use_bytes: int
    passes: Demand
    fails: Demand
    reaches: Demand

    def cell(self, swap_pages: int) -> str:
        """What happens with so much swap: "#" as published, "7", "8", "9" the level that goes otherwise, "r" undecided."""
        mode = self.panel.overcommit
        first = self.passes.outcome_with(swap_pages, mode)
        if first != "ok":
            return str(PASSES) if first == ENOMEM else "r"
        second = self.fails.outcome_with(swap_pages, mode)
        if second != ENOMEM:
            return str(FAILS) if second == "ok" else "r"
        return str(REACHES) if self.reaches.outcome_with(swap_pages, mode) == ENOMEM else "#"

    def window(self) -> tuple[int, int | None] | None:
        """The swap, in pages, from which and below which the map has a "#": (first, end), end None for "however much"."""
        mode = self.panel.overcommit
        if self.passes.outcome != "ok" or (first := self.passes.swap_needed(mode)) is None:
            return None
        if (third := self.reaches.swap_needed(mode)) is None:
            return None
        end = self.fails.swap_needed(mode)
        first = max(first, third)
        return None if end is not None and end <= first else (first, end)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        window = self.window()
        return {
            "highpte": self.panel.highpte,
            "l1_cache_bytes": self.panel.line,
            "scheduler": self.panel.scheduler,
            "overcommit": int(self.panel.overcommit),
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
                for kernel, level, demand in (
                    (OLD, PASSES, self.passes),
                    (OLD, FAILS, self.fails),
                    (NEW, REACHES, self.reaches),
                )
            },
        }


def with_scheduler(kernel: str, name: str) -> KernelSpec:
    """A kernel with another scheduler. Raises UsageError."""
    if name not in SCHEDULERS:
        raise UsageError(f"no scheduler {name!r}: choose from {', '.join(SCHEDULERS)}")
    spec = find_kernel(kernel)
    changed = {figure: Figure(value, _MIND, Status.BELIEVED) for figure, value in SCHEDULERS[name].items()}
    return replace(spec, figures={**spec.figures, **changed})


def demand_of(kernel: str, level: int, box: Box, scheduler: str = "own") -> Demand:
    """Run forkbench once with nothing refused, and keep what it asked for."""
    system = boot(with_scheduler(kernel, scheduler), **asdict(replace(box, overcommit=int(OvercommitMode.ALWAYS))))
    k = system.kernel
    k.commit_requests = []
    outcome = "ok"
    try:
        Forkbench(level).run(system)
    except NeedsReclaim:
        outcome = RECLAIM
    return Demand(
        rule=k.overcommit,
        requests=tuple(dict.fromkeys(k.commit_requests)),  # the same question twice has the same answer
        outcome=outcome,
        kswapd_wakes=system.machine.allocator.kswapd_wakes,
        tables_peak_bytes=system.machine.nr_tables_peak * PAGE_SIZE,
        rmap_peak_bytes=sum(cache.bytes_peak for cache in k.rmap.caches()),
    )


def boundary(panels: Sequence[Panel], boot_uses: Sequence[str], box: Box) -> Iterator[Row]:
    """The rows of all maps, panel by panel. Runs are shared by panels that differ in overcommit only. Raises UsageError."""
    for panel in panels:
        with_scheduler(OLD, panel.scheduler)
    for use in boot_uses:  # everything that can be refused is refused before the first run
        boot(OLD, **asdict(replace(box, boot_use=use)))
    return _rows(panels, boot_uses, box)


def _rows(panels: Sequence[Panel], boot_uses: Sequence[str], box: Box) -> Iterator[Row]:
    known: dict[tuple[object, ...], tuple[Demand, Demand, Demand]] = {}
    for panel in panels:
        for use in boot_uses:
            key = (panel.highpte, panel.line, panel.scheduler, use)
            if key not in known:
                here = replace(box, highpte=panel.highpte, l1_cache_bytes=panel.line, boot_use=use)
                known[key] = (
                    demand_of(OLD, PASSES, here, panel.scheduler),
                    demand_of(OLD, FAILS, here, panel.scheduler),
                    demand_of(NEW, REACHES, here, panel.scheduler),
                )
            yield Row(panel, parse_size(use), *known[key])
