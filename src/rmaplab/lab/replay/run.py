"""A log on several kernels: what each made of it, over time and at its peaks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rmaplab.errors import NoMemory, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import hardware_as_json
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.player import TOUCH, LogPlayer
from rmaplab.mm.page_state import FAULTS
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.strace_log import read_log

OK, FULL = "ok", "RAM is full"
MOST_SAMPLES = 100_000


@dataclass(frozen=True)
class ReplaySample:
    """How things stood when so many of the log's calls had been made."""

    calls: int
    line: int
    processes: int
    vmas: int
    page_tables_bytes: int
    rmap_bytes: int
    merges: int
    faults: int


@dataclass(frozen=True)
class ReplayResult:
    """What one kernel made of a log. Sizes in bytes."""

    kernel: str
    design: str
    hardware: dict[str, Any]
    touch: str
    outcome: str
    line: int
    """Plan the log: the last that was played."""
    nr_calls: int
    calls: dict[str, int]
    differs: list[dict[str, Any]]
    """Calls that have come to something else than on the host: call, host, here, times."""
    not_modelled: dict[str, int]
    lost: dict[str, int]
    """Calls about what is not there, because what should have made it has failed here."""
    forks: int
    faults: int
    merges: int
    splits: int
    processes_peak: int
    vmas: int
    vmas_peak: int
    page_tables_peak_bytes: int
    rmap_peak_bytes: int
    """The design's objects and what it adds to VMAs and mms, at most."""
    rmap_slabs_peak_bytes: int
    objects_peak: dict[str, int]
    """The design's objects by cache, at most."""
    ledger: dict[str, int]
    over_time: list[ReplaySample] = field(default_factory=list)
    wall_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class ReplayWatch:
    """Looks at a system after every step: peaks, and a sample every so many calls. O(the design's caches)."""

    def __init__(self, system: System, player: LogPlayer, samples: int) -> None:
        k, paging = system.kernel, system.machine.paging
        self.system, self.player = system, player
        self._caches = [(cache, cache.object_bytes) for cache in k.design.caches()]
        self._vma_bytes, self._mm_bytes = k.design.vma_bytes(paging), k.design.mm_bytes(paging)
        self._vmas, self._mms = k.vma_cache, k.mm_cache
        self.peak = 0
        self.samples: list[ReplaySample] = []
        self._every = max(len(player.plan.steps) / samples, 1.0) if samples else 0.0
        self._steps, self._due = 0, self._every if samples else float("inf")

    @property
    def is_fresh(self) -> bool:
        """Whether the last sample is of where it is now."""
        return bool(self.samples) and self.samples[-1].line == self.player.line

    def rmap_bytes(self) -> int:
        """What the reverse map takes now: its objects, and what it adds to every VMA and mm."""
        size = self._vmas.nr_objects * self._vma_bytes + self._mms.nr_objects * self._mm_bytes
        for cache, object_bytes in self._caches:
            size += cache.nr_objects * object_bytes
        return size

    def __call__(self) -> None:
        """One step more is done."""
        size = self.rmap_bytes()
        self.peak = max(self.peak, size)
        self._steps += 1
        if self._steps >= self._due:
            self._due += self._every
            self.sample()

    def sample(self) -> None:
        """How things stand."""
        k, machine = self.system.kernel, self.system.machine
        counts = machine.ledger.counts
        self.samples.append(
            ReplaySample(
                calls=self.player.calls.total(),
                line=self.player.line,
                processes=k.nr_alive,
                vmas=self._vmas.nr_objects,
                page_tables_bytes=machine.nr_tables * PAGE_SIZE,
                rmap_bytes=self.rmap_bytes(),
                merges=counts["vma_merge"],
                faults=sum(counts[name] for name in FAULTS),
            )
        )


def read_plan(path: Path) -> Plan:
    """What a log says. Raises UsageError: no file, no log, or one beyond the bounds."""
    plan = plan_of(read_log(path, KNOWN, PASSED))
    if not plan.steps:
        raise UsageError(
            f"{path} has no call of memory, files or processes: record a whole program, from its execve on"
        )
    return plan


def replay(
    plan: Plan, kernels: Sequence[str], box: Box, touch: str, samples: int = 0, *, check: bool = True
) -> Iterator[ReplayResult]:
    """The plan on each kernel, one result as each is done. What can be refused is refused before the first. Raises UsageError, KernelBug."""
    if touch not in TOUCH:
        raise UsageError(f"--touch {touch!r}: choose from {', '.join(TOUCH)}")
    if not 0 <= samples <= MOST_SAMPLES:
        raise UsageError(f"{samples:,} samples: ask for 0 to {MOST_SAMPLES:,}")
    for kernel in kernels:
        find_kernel(kernel)
        boot(kernel, box)
    return (replay_on(kernel, plan, box, touch, samples, check=check) for kernel in kernels)


def replay_on(kernel: str, plan: Plan, box: Box, touch: str, samples: int = 0, *, check: bool = True) -> ReplayResult:
    """The plan on one kernel; then everything is recomputed, unless `check` says no. Raises UsageError, KernelBug."""
    system = boot(kernel, box)
    player = LogPlayer(system, plan, touch)
    watch = ReplayWatch(system, player, samples)
    outcome, began = OK, time.perf_counter()
    try:
        player.play(watch)
    except NoMemory:
        outcome = FULL
    wall_s = time.perf_counter() - began
    if samples and not watch.is_fresh:
        watch.sample()
    if check:
        system.check()
    result = _result(system, player, watch, outcome, wall_s)
    system.close()
    return result


def _result(system: System, player: LogPlayer, watch: ReplayWatch, outcome: str, wall_s: float) -> ReplayResult:
    k, machine = system.kernel, system.machine
    counts, caches = machine.ledger.counts, k.design.caches()
    differs = [
        {"call": call, "host": host, "here": here, "times": times}
        for (call, host, here), times in sorted(player.differs.items())
    ]
    return ReplayResult(
        kernel=system.spec.name,
        design=k.design.name,
        hardware=hardware_as_json(system),
        touch=player.touch,
        outcome=outcome,
        line=player.line,
        nr_calls=player.calls.total(),
        calls=dict(sorted(player.calls.items())),
        differs=differs,
        not_modelled=dict(sorted(player.not_modelled.items())),
        lost=dict(sorted(player.lost.items())),
        forks=sum(player.calls[name] for name in ("fork", "vfork", "clone_vm", "thread")),
        faults=sum(counts[name] for name in FAULTS),
        merges=counts["vma_merge"],
        splits=counts["vma_split"],
        processes_peak=k.nr_alive_peak,
        vmas=k.vma_cache.nr_objects,
        vmas_peak=k.vma_cache.nr_objects_peak,
        page_tables_peak_bytes=machine.nr_tables_peak * PAGE_SIZE,
        rmap_peak_bytes=watch.peak,
        rmap_slabs_peak_bytes=sum(cache.bytes_peak for cache in caches),
        objects_peak={cache.name: cache.nr_objects_peak for cache in caches},
        ledger=dict(sorted(counts.items())),
        over_time=watch.samples,
        wall_s=wall_s,
    )
