"""One workload on one kernel on one box: a Result, a row of every table and file.

Counts and memory follow from kernel, workload, box and price list, and are the same in every run. `wall_s` alone is not:
it is our own running time on the machine at hand, with the loops compiled beforehand.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rmaplab.errors import Hung, NoMemory
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.contention import estimates
from rmaplab.lab.announcement.kernel_entries import KernelEntries, kernel_entries
from rmaplab.lab.announcement.published import FORKBENCH
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads.forkbench import Forkbench

Watch = Callable[[System], object]

NS = 10**9  # to divide by: the quotient of two ints is the same on every machine


OK, KILLED, HUNG, FULL = "ok", "oom-killed", "hung", "RAM is full"
OUTCOMES = (OK, KILLED, HUNG, FULL)
"""All is done; somebody was killed for memory; for a minute nobody got on; memory was out, and nobody makes room here (Box.reclaim)."""


@dataclass(frozen=True)
class Result:
    """What came of it. `outcome` is one of OUTCOMES, or an errno's name; what a host run cannot know is None."""

    workload: str
    level: int
    kernel: str
    hardware: dict[str, Any]
    outcome: str
    failed_call: str | None
    processes: int
    design: str | None = None
    """The name of the reverse map."""
    processes_peak: int | None = None
    memory_peak_bytes: dict[str, Any] | None = None
    """page_tables, rmap, and by_cache every slab cache: each at its own peak."""
    ledger: dict[str, int] | None = None
    locks: dict[str, dict[str, Any]] | None = None
    """By lock class: acquisitions, waits, time held. Waits are those that happened."""
    locks_estimated_s: dict[str, float] | None = None
    """By lock class: CPU time that would be lost to locks that are not simulated: an analytic estimate (contention.py)."""
    kswapd_wakes: int | None = None
    """Requests for memory that were met below the low marks, or not at all: each would have woken kswapd."""
    first_kswapd_wake_s: float | None = None
    """In simulated time; from here on the real kernel would have begun to make room."""
    prices: str | None = None
    time_s: dict[str, float] | None = None
    """real, user, sys: simulated."""
    published_s: dict[str, float] | None = None
    """The same as published for this kernel, level and box: the mean of the runs."""
    kernel_entries: KernelEntries | None = None
    """Where page tables are switched at every one of them (a 4:4 split)."""
    oom_killed: int | None = None
    """Programs that the OOM killer has chosen."""
    why: str | None = None
    """Of hung: who goes on trying, and why nobody is killed for it. Of RAM is full: why nobody makes room."""
    searched: int | None = None
    """Mappings that the design went through to take others away; the ledger has them by its own name for it."""
    wall_s: float = field(default=0.0)

    @property
    def locks_waited_s(self) -> dict[str, float]:
        """CPU time that went by in spinning or asleep, by lock class that anybody waited for or could have."""
        return {name: kind["wait_s"] for name, kind in (self.locks or {}).items() if kind["waits"]}

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds. `kernel_entries` is there only where it means something."""
        row = asdict(self)
        del row["kernel_entries"], row["searched"]
        return row if self.kernel_entries is None else row | {"kernel_entries": self.kernel_entries.as_json()}


def run_forkbench(kernel: str | KernelSpec, level: int, box: Box, watch: Watch | None = None) -> Result:
    """The fork benchmark at one level. `watch` is given the system before it runs. Raises UsageError; running out of memory is an outcome."""
    workload = Forkbench(level)
    system = boot(kernel, box)
    workload.check_ram(system.machine.hardware.ram_bytes)
    if watch is not None:
        watch(system)
    began = time.perf_counter()
    end, why = run_to_the_end(workload.run, system)
    wall_s = time.perf_counter() - began
    system.close()
    failed, killed = workload.failed, len(system.killer.killed) if system.killer is not None else 0
    outcome = failed.name if failed else KILLED if killed and end == OK else end
    machine, k = system.machine, system.kernel
    row = FORKBENCH.get((system.spec.name, level))
    by_cache = {name: cache.bytes_peak for name, cache in sorted(machine.caches.items())}
    return Result(
        workload=workload.name,
        level=level,
        kernel=system.spec.name,
        hardware={**hardware_as_json(system), "ht": box.ht},
        outcome=outcome,
        failed_call=failed.call if failed else None,
        processes=k.nr_processes,
        design=k.design.name,
        processes_peak=k.nr_alive_peak,
        memory_peak_bytes={
            "page_tables": machine.nr_tables_peak * PAGE_SIZE,
            "rmap": sum(cache.bytes_peak for cache in k.design.caches()),
            "by_cache": by_cache,
        },
        ledger=dict(sorted(machine.ledger.counts.items())),
        oom_killed=killed,
        why=why,
        searched=machine.ledger.searched,
        locks=machine.locks.as_json(),
        locks_estimated_s=estimates(machine.ledger, machine.sched.now_ns, box.cpus),
        kswapd_wakes=machine.allocator.kswapd_wakes,
        first_kswapd_wake_s=None if (wake := machine.allocator.first_wake_ns) is None else wake / NS,
        prices=machine.ledger.prices.name,
        time_s={
            "real": machine.sched.now_ns / NS,
            "user": machine.sched.user_ns / NS,
            "sys": machine.sched.system_ns / NS,
        },
        kernel_entries=kernel_entries(system),
        published_s=row.mean_s if box.is_the_announcements and row is not None else None,
        wall_s=wall_s,
    )


def run_to_the_end(run: Callable[[System], object], system: System) -> tuple[str, str | None]:
    """OK, HUNG or FULL; and more about it, but of OK."""
    try:
        run(system)
    except Hung as failure:
        return HUNG, failure.why
    except NoMemory as failure:
        if system.killer is not None:  # where the killer finds nobody, 2.6 panics
            return HUNG, str(failure)
        here = (
            "nobody makes room (--no-reclaim)"
            if system.spec.reclaim
            else "the reclaim of this kernel is not here yet; try --ram with more, or 2.4.21, or 2.6.2 to 2.6.7"
        )
        return FULL, here
    return OK, None


def hardware_as_json(system: System) -> dict[str, Any]:
    """The box a system runs on, for a result."""
    hardware = system.machine.hardware
    return {
        "arch": hardware.arch,
        "ram_bytes": hardware.ram_bytes,
        "swap_bytes": hardware.swap_bytes,
        "cpus": hardware.cpus,
        "l1_cache_bytes": hardware.l1_cache_bytes,
        "highpte": hardware.highpte,
        "split": hardware.paging.split or None,
        "boot_use_bytes": system.boot_use.nr_pages * PAGE_SIZE,
        "overcommit": int(system.kernel.overcommit.mode),
        "threads_per_core": hardware.smt.threads_per_core,
    }


def warm_up(kernel: str, box: Box) -> None:
    """Have every loop that forkbench needs compiled, so that wall times are not the compiler's."""
    run_to_the_end(Forkbench(2).run, boot(kernel, box))


def compare_forkbench(
    kernels: list[str],
    levels: list[int],
    boxes: list[Box],
    *,
    host: HostForkbench | None = None,
    watch: Watch | None = None,
) -> Iterator[Result]:
    """Every level on every kernel and box, one Result as each is done. What can be refused is refused before the first.

    `host`, if given, adds the real kernel's row to each level; `watch` is given each system before it runs. Raises UsageError.
    """
    for level in levels:
        Forkbench(level)
        if host is not None:
            host.check_memory(level)
    for kernel in kernels:
        find_kernel(kernel)
        for box in boxes:
            Forkbench.check_ram(boot(kernel, box).machine.hardware.ram_bytes)
    return _compare(kernels, levels, boxes, host, watch)


def _compare(
    kernels: Iterable[str],
    levels: Iterable[int],
    boxes: list[Box],
    host: HostForkbench | None,
    watch: Watch | None,
) -> Iterator[Result]:
    for kernel in kernels:
        warm_up(kernel, boxes[0])
    for level in levels:
        for kernel in kernels:
            for box in boxes:
                yield run_forkbench(kernel, level, box, watch)
        if host is not None:
            run = host.run(level)
            yield Result(
                Forkbench.name, level, "host", run.hardware, run.outcome, run.failed_call, 1 << level, wall_s=run.wall_s
            )
