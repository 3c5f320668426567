"""The TLB, as far as it can be counted: who is told to flush, and which other CPUs must hear of it.

    CPU 0   runs A of mm 1        loaded: mm 1            cpu_vm_mask of mm 1:  CPUs 0, 1, 2
    CPU 1   runs B of mm 1        loaded: mm 1
    CPU 2   idle                  loaded: mm 1, lazily

    A unmaps a page    CPU 0 flushes; one round of interrupts: CPU 1 flushes, CPU 2 leaves the mm, and is not asked again

What a TLB holds is not modelled: mm/ changes entries and frees frames in the order that Linux would, so nobody ever reads through a stale
one. What can be counted is counted, wherever Linux calls flush_tlb_*:

    tlb_flush_mm, tlb_flush_range, tlb_flush_page    calls, by kind
    tlb_ipi                                          rounds of interrupts: a flush with another CPU in cpu_vm_mask sends one
    tlb_leave_mm                                     CPUs that left an address space instead of flushing
    tlb_switch_mm                                    loads of another page table by the scheduler: a flush of everything on i386

A CPU that runs out of tasks keeps the page tables it has (lazy TLB). An exiting task is lazy too: its CPU leaves the mm at the first flush.

Source: 2.4.27 and 2.6.2 include/asm-i386/mmu_context.h, switch_mm; arch/i386/kernel/smp.c, flush_tlb_mm, flush_tlb_page, leave_mm,
smp_invalidate_interrupt; 6.18 arch/x86/mm/tlb.c; eras.md 7.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rmaplab.machine.runqueue import Cpu, CpuMask, SchedEntity
from rmaplab.machine.sched import Scheduler


@dataclass(frozen=True)
class TlbRules:
    """What differs between kernels."""

    switch_clears_mask: bool = True
    """switch_mm takes the CPU out of the old mm's mask. Without it an interrupt that comes in vain does."""
    spares_lazy_cpus: bool = False
    """An idle CPU is not interrupted; it looks when it wakes."""


class Tlb:
    """What all CPUs of one machine have loaded, and who must be told of a change."""

    def __init__(self, rules: TlbRules, sched: Scheduler, charge: Callable[[str, int], None]) -> None:
        self.rules = rules
        self._sched, self._charge = sched, charge
        self._loaded: list[CpuMask | None] = [None] * len(sched.cpus)
        """By CPU the mm whose page tables it walks, active_mm."""
        self.listener: Callable[[], None] | None = None
        """Is told that page tables have changed so that somebody must flush: who keeps what it has read of them (cpu/)."""
        sched.switch_mm = self.switch_mm

    def switch_mm(self, cpu: Cpu, entity: SchedEntity) -> None:
        """`cpu` is about to run `entity`: its address space is loaded, if it is not there already."""
        mm, bit = entity.mm, 1 << cpu.index
        old = self._loaded[cpu.index]
        if mm is None or (mm is old and mm.cpu_vm_mask & bit):
            return
        if old is not None and self.rules.switch_clears_mask:
            old.cpu_vm_mask &= ~bit
        self._loaded[cpu.index] = mm
        mm.cpu_vm_mask |= bit
        self._charge("tlb_switch_mm", 1)

    def activate_mm(self, entity: SchedEntity) -> None:
        """Exec has given a task another address space. Driven from outside, no CPU runs it."""
        if entity.cpu is not None:
            self.switch_mm(entity.cpu, entity)

    def flush_mm(self, mm: CpuMask, nr: int = 1) -> None:
        """flush_tlb_mm, `nr` times, one after the other: everything of an address space."""
        self._charge("tlb_flush_mm", nr)
        self._flush(mm, nr)

    def flush_range(self, mm: CpuMask, nr: int = 1) -> None:
        """flush_tlb_range. On i386 it flushes everything."""
        self._charge("tlb_flush_range", nr)
        self._flush(mm, nr)

    def flush_page(self, mm: CpuMask, nr: int = 1) -> None:
        """flush_tlb_page, for `nr` pages, each by itself."""
        self._charge("tlb_flush_page", nr)
        self._flush(mm, nr)

    def tell(self) -> None:
        """The listener is to forget what it has."""
        if self.listener is not None:
            self.listener()

    def _flush(self, mm: CpuMask, nr: int) -> None:
        """The CPUs that have the mm loaded. Driven from outside, it is CPU 0 that works for the mm."""
        self.tell()
        if not mm.cpu_vm_mask:
            return
        current = self._sched.current
        here = self._sched.this_cpu()
        if current is not None and current.mm is None and self._loaded[here] is mm:
            self._leave(mm, here)
        others = mm.cpu_vm_mask & ~(1 << here)
        if others:
            self._interrupt(mm, others, nr)

    def _interrupt(self, mm: CpuMask, others: int, nr: int) -> None:
        """`nr` rounds to those who go on with the mm; who does not is out of the mask after the first."""
        rounds = 0
        for cpu in self._sched.cpus:
            if not others >> cpu.index & 1 or (cpu.current is None and self.rules.spares_lazy_cpus):
                continue
            if cpu.current is not None and cpu.current.mm is mm:
                rounds = nr
            else:
                self._leave(mm, cpu.index)
                rounds = max(rounds, 1)
        if rounds:
            self._charge("tlb_ipi", rounds)

    def _leave(self, mm: CpuMask, cpu: int) -> None:
        """leave_mm: the CPU has no use for the mm, and is not told of its changes any more."""
        if mm.cpu_vm_mask >> cpu & 1:
            mm.cpu_vm_mask &= ~(1 << cpu)
            self._charge("tlb_leave_mm", 1)
