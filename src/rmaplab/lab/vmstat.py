"""What vmstat(8) would show of a run: a sample now, and one every so often in simulated time.

    run     |====== fork ======|== touch ==|=== exit ===|
    samples ^         ^         ^         ^         ^         the first of what was since boot, each other of what was since the one before

A timer of the scheduler takes them, one that only watches: nothing of the run changes, it ends when it ends, and nothing is sampled after that. Driven from outside no
time passes by itself: then sample() is called when somebody wants to know, and what goes by while a disk is waited for is idle, as no CPU is anybody's.

What a column is: procps 3.x as of 2004 (procps 3.2.2 vmstat.c, new_format; proc/sysinfo.c, getstat): all rates by the second. It divides those since boot by the time of
all CPUs together, so with four of them they are a quarter of what they should be; so it is here. One process there is vmstat itself, which it does not count.

2.4 does not tell iowait from idle.

Believed: `interrupts` are ticks and requests of the disk that are done, as nothing else interrupts here; 6.18 would have a tick for each CPU that works.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rmaplab.kernels.system import System
from rmaplab.machine.cpu_times import CpuTimes, nr_running
from rmaplab.mm.page_state import PAGE_KIB, PageState
from rmaplab.mm.proc_vmstat import VmstatEra

SECOND = 10**9


class VmstatLine(NamedTuple):
    """One line by its columns: tasks; KiB; KiB swapped and transferred by the second; events by the second; percent of the time of all CPUs."""

    r: int
    b: int
    swpd: int
    free: int
    buff: int
    cache: int
    si: int
    so: int
    bi: int
    bo: int
    interrupts: int
    cs: int
    us: int
    sy: int
    id: int
    wa: int


@dataclass(frozen=True)
class _Counted:
    """What only grows: KiB to and from the disk and swap, interrupts, context switches; and where time has gone."""

    moved: tuple[int, int, int, int, int, int]
    times: CpuTimes
    now_ns: int


class Sampler:
    """Of one system; `tell` gets each line. With `every_ns` one now, and then as long as programs run."""

    def __init__(self, system: System, tell: Callable[[VmstatLine], None], every_ns: int | None = None) -> None:
        self._k, self._tell, self._every_ns = system.kernel, tell, every_ns
        self._sched = system.machine.sched
        self._counts_iowait = VmstatEra(system.figure("proc_vmstat")) is not VmstatEra.PROC_STAT
        self._before: _Counted | None = None
        if every_ns is not None:
            self._sched.at(self._sched.now_ns, self._fire, watches=True)

    def sample(self) -> VmstatLine:
        """What has been since the last one, or since boot; it is told too. O(files, CPUs)."""
        now, before = self._counted(), self._before
        self._before = now
        if before is None:
            moved, times = now.moved, now.times
            period_ns = sum(times)
        else:
            moved = tuple(a - b for a, b in zip(now.moved, before.moved, strict=True))  # type: ignore[assignment]
            times = CpuTimes(*(a - b for a, b in zip(now.times, before.times, strict=True)))
            period_ns = now.now_ns - before.now_ns
        if not sum(times):
            times = CpuTimes(0, 0, 1, 0)  # no time has passed: nobody has done anything
        k, sched, state = self._k, self._sched, PageState(self._k)
        line = VmstatLine(
            nr_running(sched.cpus),
            sum(cpu.nr_iowait for cpu in sched.cpus),
            k.swap.nr_used * PAGE_KIB,
            k.machine.allocator.nr_free * PAGE_KIB,
            0,
            state.nr_pagecache * PAGE_KIB,
            *(_rate(nr, SECOND, period_ns) for nr in moved),
            *(_rate(ns, 100, sum(times)) for ns in times),
        )
        self._tell(line)
        return line

    def _counted(self) -> _Counted:
        machine, state = self._k.machine, PageState(self._k)
        now_ns = self._sched.now_ns
        interrupts = now_ns // self._sched.rules.tick_ns + machine.disk.nr_done
        swapped = (state.event("pswpin") * PAGE_KIB, state.event("pswpout") * PAGE_KIB)
        times = self._sched.cpu_times()
        if not self._counts_iowait:
            times = CpuTimes(times.user, times.system, times.idle + times.iowait, 0)
        moved = (*swapped, state.pgpgin, state.pgpgout, interrupts, self._sched.nr_switches)
        return _Counted(moved, times, now_ns)

    def _fire(self) -> None:
        self.sample()
        if self._every_ns is not None:
            self._sched.at(self._sched.now_ns + self._every_ns, self._fire, watches=True)


def _rate(nr: int, per: int, period: int) -> int:
    """Rounded as procps does; of no time at all it is none."""
    return (nr * per + period // 2) // period if period else 0
