"""What programs have cost the kernels they ran on, as a table: a column for each kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rmaplab.harmless import printable
from rmaplab.lab.announcement.experiment import OK
from rmaplab.lab.programs.executed import Executed
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size


def _count(*names: str) -> Callable[[Executed], str]:
    return lambda run: f"{sum(run.ledger.get(name, 0) for name in names):,}"


def _ended(run: Executed) -> str:
    if run.outcome != OK:
        return run.outcome
    return "ok" if not run.status else f"exit {run.status}"


def _objects(run: Executed) -> str:
    return ", ".join(f"{nr:,} {name}" for name, nr in run.peak.rmap_objects.items() if nr) or DASH


ROWS: Sequence[tuple[str, Callable[[Executed], str]]] = (
    ("outcome", _ended),
    ("processes in all, at once", lambda run: f"{run.processes:,}, {run.processes_peak:,}"),
    ("VMAs at exit, at peak", lambda run: f"{run.at_exit.vmas:,}, {run.peak.vmas:,}"),
    ("page tables at exit", lambda run: format_size(run.at_exit.page_tables_bytes)),
    ("  at peak", lambda run: format_size(run.peak.page_tables_bytes)),
    ("reverse map at exit", lambda run: format_size(run.at_exit.rmap_bytes)),
    ("  at peak", lambda run: format_size(run.peak.rmap_bytes)),
    ("  its objects at peak", _objects),
    ("system calls", _count("syscall")),
    ("forks", _count("fork")),
    ("PTEs copied", _count("pte_copy")),
    ("faults: new pages", _count("anon_fault")),
    ("  of the zero page", _count("zero_fault")),
    ("  copied on write", _count("cow_copy")),
    ("  reused on write", _count("cow_reuse")),
    ("  of files", _count("file_fault")),
    ("looked at by walks", lambda run: f"{run.visits:,}"),
    ("  in vain", lambda run: f"{run.in_vain:,}"),
    ("TLB flushes", _count("tlb_flush_mm", "tlb_flush_range", "tlb_flush_page")),
    ("  interrupts to CPUs", _count("tlb_ipi")),
    ("pages scanned, freed", lambda run: f"{run.ledger.get('pgscan', 0):,}, {run.ledger.get('pgsteal', 0):,}"),
    ("pages out, in", lambda run: f"{run.swap['pages_out']:,}, {run.swap['pages_in']:,}"),
    ("oom-killed", lambda run: f"{run.oom_killed:,}"),
    ("simulated time", lambda run: f"{run.time_s['real']:.3f} s"),
    ("  user, sys", lambda run: f"{run.time_s['user']:.3f}, {run.time_s['sys']:.3f} s"),
    ("basic blocks", lambda run: f"{run.blocks:,}"),
    ("wall", lambda run: f"{run.wall_s:.2f} s"),
)


@dataclass(frozen=True)
class ProgramCosts(Report[Executed]):
    """The same program on each kernel."""

    def text(self) -> Table:
        """A row for each figure, a column for each kernel."""
        table = new_table(
            printable(self.rows[0].program)[:120],
            "|".join(["", *(f">{run.kernel}" for run in self.rows)]),
            caption=(
                "at exit: when the first process ends; at peak: each at its own. Simulated time is assumed: user time 4 ns a basic block,\n"
                f"prices {self.rows[0].prices}. wall: our running time."
            ),
        )
        for name, figure in ROWS:
            table.add_row(name, *(figure(run) for run in self.rows))
        return table
