"""Hyper-threading: CPUs that share a core, and how long work takes while a sibling works too.

    CPU 0   |==== alone ====|---------- shared ----------|== alone ==|      shared: what takes 1000 alone takes 1538
    CPU 1                   |--------- its work ---------|                  from and to that very nanosecond

Neighbouring CPUs share a core, as Linux numbers them by APIC id. Work in progress is kept as the time it would take alone
(`Cpu.left_ns`), and recomputed whenever a sibling begins or ends. Like the kernel's own accounting, a task's time is the longer
one. A scheduler may know siblings or not (sched_policy.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmaplab.machine.runqueue import Cpu


@dataclass(frozen=True)
class Smt:
    """CPUs that share a core. `shared_permille`: how long what takes 1000 alone takes while a sibling works too."""

    threads_per_core: int = 1
    shared_permille: int = 1000

    def pair_up(self, cpus: Sequence[Cpu]) -> None:
        """Tell every CPU its siblings."""
        for cpu in cpus:
            core = cpu.index // self.threads_per_core
            cpu.siblings = tuple(c for c in cpus if c.index // self.threads_per_core == core and c is not cpu)

    def work_in(self, cpu: Cpu, ns: int) -> int:
        """How much work a CPU gets done in `ns`, if its siblings go on as they do now."""
        return max(ns * 1000 // self.shared_permille, 1) if cpu.shares_core else ns

    def lasts(self, cpu: Cpu, ns: int) -> int:
        """How long a CPU needs for work of `ns`, if its siblings go on as they do now."""
        return -(-ns * self.shared_permille // 1000) if cpu.shares_core else ns

    def set_off(self, cpu: Cpu, now_ns: int) -> int:
        """When the work that is left on a CPU will be done, if its siblings go on as they do now."""
        cpu.since_ns = now_ns
        cpu.permille = self.shared_permille if cpu.shares_core else 1000
        return now_ns + -(-cpu.left_ns * cpu.permille // 1000)

    def set_down(self, cpu: Cpu, now_ns: int) -> None:
        """What has been done since `set_off` is no longer left."""
        done = (now_ns - cpu.since_ns) * 1000 // cpu.permille
        cpu.left_ns = max(cpu.left_ns - done, 0)


NO_SMT = Smt()
