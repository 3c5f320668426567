"""The TLB that is only counted: which CPUs have an address space loaded, and who is interrupted when it changes.

    cpu_vm_mask    CPUs that must be told             loaded, and not left since
    flush          this CPU, and one round of interrupts if there are others

Source: 2.6.2 include/asm-i386/mmu_context.h, switch_mm; arch/i386/kernel/smp.c, flush_tlb_mm, leave_mm, smp_invalidate_interrupt.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.tlb import Tlb, TlbRules

MS = 1_000_000
RULES = SchedRules(102 * MS, 200 * MS, MS, 200 * MS, one_queue=False, child_first=False)


class Mm:
    """As much of an address space as a CPU sees."""

    def __init__(self) -> None:
        self.cpu_vm_mask = 0


class Box:
    """CPUs without a scheduler's doing: who runs where is said here."""

    def __init__(self, rules: TlbRules, nr_cpus: int = 4) -> None:
        self.counts: Counter[str] = Counter()
        self.sched = Scheduler(RULES, nr_cpus)
        self.tlb = Tlb(rules, self.sched, lambda what, nr: self.counts.update({what: nr}))

    def run(self, cpu: int, mm: Mm | None) -> SchedEntity:
        """A task with `mm` runs on a CPU from now on; None for an exiting one. Calls are its own from now on."""
        entity = SchedEntity()
        entity.mm, entity.cpu = mm, self.sched.cpus[cpu]
        self.sched.cpus[cpu].current = self.sched.current = entity
        self.sched.switch_mm(self.sched.cpus[cpu], entity)
        return entity

    def idle(self, cpu: int) -> None:
        self.sched.cpus[cpu].current = None


OLD = TlbRules()
NEW = TlbRules(switch_clears_mask=False, spares_lazy_cpus=True)


@pytest.mark.parametrize("rules", [OLD, NEW])
def test_one_cpu_interrupts_nobody(rules: TlbRules) -> None:
    """A flush of an address space that no other CPU has loaded is a local one."""
    box, mm = Box(rules), Mm()
    box.run(1, mm)
    assert mm.cpu_vm_mask == 0b10
    for flush in (box.tlb.flush_mm, box.tlb.flush_range, box.tlb.flush_page):
        flush(mm, 3)
    assert box.counts == {"tlb_switch_mm": 1, "tlb_flush_mm": 3, "tlb_flush_range": 3, "tlb_flush_page": 3}


@pytest.mark.parametrize("rules", [OLD, NEW])
@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_flush_is_one_round_however_many_run_threads(rules: TlbRules, others: int) -> None:
    """One interrupt goes to all of them at once (send_IPI_mask); n flushes are n rounds; nobody leaves what he uses."""
    box, mm = Box(rules), Mm()
    for cpu in range(others, -1, -1):
        box.run(cpu, mm)
    box.tlb.flush_page(mm, 7)
    assert box.counts["tlb_ipi"] == 7
    assert box.counts["tlb_leave_mm"] == 0
    assert mm.cpu_vm_mask == (2 << others) - 1


def test_a_lazy_cpu_is_interrupted_once_and_leaves() -> None:
    """An idle CPU keeps the page tables; the first flush makes it leave, and later ones do not ask it. When it comes back it loads again."""
    box, mm = Box(OLD), Mm()
    thread = box.run(2, mm)
    box.idle(2)
    box.run(0, mm)
    box.tlb.flush_mm(mm, 5)
    assert (box.counts["tlb_ipi"], box.counts["tlb_leave_mm"], mm.cpu_vm_mask) == (1, 1, 0b1)
    box.tlb.flush_mm(mm)
    assert box.counts["tlb_ipi"] == 1
    box.sched.switch_mm(box.sched.cpus[2], thread)
    assert (box.counts["tlb_switch_mm"], mm.cpu_vm_mask) == (3, 0b101)


def test_a_lazy_cpu_that_is_not_told_need_not_load_again() -> None:
    """The same task comes back to a CPU that has only been idle: cr3 is as it was."""
    box, mm = Box(OLD), Mm()
    thread = box.run(2, mm)
    box.idle(2)
    box.sched.switch_mm(box.sched.cpus[2], thread)
    assert box.counts == {"tlb_switch_mm": 1}


def test_a_later_kernel_spares_lazy_cpus_and_finds_out_late_who_has_left() -> None:
    """6.18: an idle CPU is let sleep and stays in the mask; one that runs another mm is interrupted in vain, once (seen on 6.18.44)."""
    box, mm, other = Box(NEW), Mm(), Mm()
    box.run(1, mm)
    box.idle(1)
    box.run(0, mm)
    box.tlb.flush_mm(mm, 2)
    assert (box.counts["tlb_ipi"], mm.cpu_vm_mask) == (0, 0b11)
    box.run(1, other)
    assert mm.cpu_vm_mask == 0b11  # switch_mm left it there
    box.run(0, mm)
    box.tlb.flush_mm(mm, 2)
    box.tlb.flush_mm(mm, 2)
    assert (box.counts["tlb_ipi"], mm.cpu_vm_mask) == (1, 0b1)


def test_switching_away_stops_the_interrupts() -> None:
    """Up to 6.13 switch_mm takes the CPU out of the mask of the mm it leaves."""
    box, mm, other = Box(OLD), Mm(), Mm()
    box.run(1, mm)
    box.run(1, other)
    box.run(0, mm)
    box.tlb.flush_mm(mm)
    assert (box.counts["tlb_ipi"], mm.cpu_vm_mask, other.cpu_vm_mask) == (0, 0b1, 0b10)


def test_who_exits_leaves_at_the_first_flush() -> None:
    """do_exit has given up the mm: the CPU is lazy (leave_mm), and the flushes to come find nobody."""
    box, mm = Box(OLD), Mm()
    box.run(0, mm).mm = None
    box.tlb.flush_mm(mm, 260)
    assert (box.counts["tlb_leave_mm"], box.counts["tlb_ipi"], mm.cpu_vm_mask) == (1, 0, 0)
    assert box.counts["tlb_flush_mm"] == 260


def test_somebody_elses_address_space() -> None:
    """Reclaim flushes for an mm that is not its own: this CPU keeps what it has, the one that runs it is interrupted."""
    box, mm, own = Box(OLD), Mm(), Mm()
    box.run(3, mm)
    box.run(0, own)
    box.tlb.flush_page(mm)
    assert (box.counts["tlb_ipi"], box.counts["tlb_leave_mm"]) == (1, 0)
    assert (mm.cpu_vm_mask, own.cpu_vm_mask) == (0b1000, 0b1)


def test_many_flushes_are_as_one_after_the_other() -> None:
    """N at once count what n single ones do, whoever is there: running, lazy, gone elsewhere, exiting."""
    for rules, states in product((OLD, NEW), product(("runs", "lazy", "other", "exits"), repeat=2)):
        results = []
        for calls in ((5,), (1,) * 5):
            box, mm = Box(rules), Mm()
            for cpu, state in enumerate(states, 1):
                entity = box.run(cpu, mm)
                if state == "lazy":
                    box.idle(cpu)
                elif state == "other":
                    box.run(cpu, Mm())
                elif state == "exits":
                    entity.mm = None
            box.run(0, mm)
            for nr in calls:
                box.tlb.flush_mm(mm, nr)
            results.append((box.counts, mm.cpu_vm_mask))
        assert results[0] == results[1], (rules, states)
