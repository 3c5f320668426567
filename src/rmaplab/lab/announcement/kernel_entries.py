"""How often a run entered the kernel, and what a 4:4 split makes of it: the "4:4 slowdown" of the announcement, counted.

    3:1    user 0 .. 3 GiB, kernel above           one page table: a system call changes nothing in the TLB
    4:4    user 0 .. 4 GiB | kernel 0 .. 4 GiB     two: cr3 is loaded at every entry, and again at every exit, and each load flushes

So there are two flushes for each system call, each page fault and each timer tick that interrupts user mode. (A process that is born only
leaves the kernel, and one that dies only enters it; that comes to the same.) The flushes that mm/ asks for cost nothing more there, since
user addresses are not in the TLB while the kernel works: flush_tlb_* then has nothing to do on its own CPU.

Nothing here has a price: what a flush costs depends on what the TLB held.

Source: the announcement, "without the 4:4 slowdown"; Ingo Molnar's 4G/4G patch, LKML 2003-07-08 (CONFIG_X86_SWITCH_PAGETABLES: asm-i386/tlbflush.h
and the entry code); Andrea Arcangeli on LKML, 2004-03-08: a flush at every kernel entry, more than 30 % of a common server load, an estimate.
"""

from dataclasses import dataclass

from rmaplab.kernels.system import System

FAULTS = ("anon_fault", "zero_fault", "cow_copy", "cow_reuse")
SYSTEM_CALLS = ("syscall", "exit")  # what returns, and what does not


@dataclass(frozen=True)
class KernelEntries:
    """Entries from user mode by kind; `flushes_unsplit` are the TLB flushes there would be without the split: those of mm/ and of switch_mm."""

    system_calls: int
    faults: int
    ticks: int
    flushes_unsplit: int

    @property
    def nr(self) -> int:
        """All entries."""
        return self.system_calls + self.faults + self.ticks

    @property
    def flushes(self) -> int:
        """TLB flushes by page tables switched at entry and exit."""
        return 2 * self.nr

    def as_json(self) -> dict[str, int]:
        """All of it, by name."""
        return {
            "system_calls": self.system_calls,
            "faults": self.faults,
            "ticks": self.ticks,
            "tlb_flushes": self.flushes,
            "tlb_flushes_unsplit": self.flushes_unsplit,
        }


def kernel_entries(system: System) -> KernelEntries | None:
    """What a run came to where user and kernel have page tables of their own; None where they share them.

    Ticks are HZ times the simulated user time: one that comes while the kernel works is no entry from user mode.
    """
    machine = system.machine
    if not machine.paging.switches_tables:
        return None
    counts = machine.ledger.counts
    return KernelEntries(
        sum(counts[kind] for kind in SYSTEM_CALLS),
        sum(counts[kind] for kind in FAULTS),
        machine.sched.user_ns // machine.sched.rules.tick_ns,
        sum(counts[f"tlb_{kind}"] for kind in ("flush_mm", "flush_range", "flush_page", "switch_mm")),
    )
