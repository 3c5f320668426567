"""Results of the fork benchmark as tables: several side by side, or one with everything that was counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import Result
from rmaplab.report.beyond import whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Table, new_table
from rmaplab.units import format_size

COMPARED = "level|kernel|outcome|>processes|>PTEs copied|>page tables|>reverse map|design|>slots searched|>pages out|>memory|>wall|>rel."
ENTRIES = "level|kernel|>system calls|>faults|>ticks|>kernel entries|>TLB flushes|>with another split"


def comparison(results: Sequence[Result], box: Box) -> Table:
    """The main table: a group of rows per level, and beside each cost how it stands to the best of its level (1.00)."""
    table = new_table(
        f"{results[0].workload} on {describe_box(box)}",
        COMPARED,
        caption=whys(results)
        + (
            "processes: at peak. page tables, reverse map: each at its own peak. slots searched: by the reverse map, for the mapping that goes.\n"
            "pages out: to swap, where RAM was full (in which order, and how fast, hangs on believed prices and the disk).\n"
            "memory: both together, relative to the best of the level. wall: our running time (the host's own, in its row) and the same ratio.\n"
            f"Simulated time decides who is alive when; prices: {results[0].prices or DASH}."
        ),
        leave_out="design|pages out|PTEs copied|slots searched|processes|rel.",
    )
    for i, result in enumerate(results):
        peers = [r for r in results if r.level == result.level and r.outcome == "ok"]
        last = i + 1 == len(results) or results[i + 1].level != result.level
        table.add_row(*_comparison_row(result, peers), end_section=last)
    return table


def kernel_entries(results: Sequence[Result]) -> list[Table]:
    """Of the results on a 4:4 split: entries, and the flushes they are. No table where there are none."""
    split = [(result, result.kernel_entries) for result in results if result.kernel_entries is not None]
    if not split:
        return []
    table = new_table(
        "split 4:4: two TLB flushes per kernel entry",
        ENTRIES,
        caption=(
            "User and kernel have page tables of their own: cr3 is loaded at every entry and every exit, and\n"
            'that flushes (Ingo Molnar\'s 4G/4G patch, July 2003; the announcement: "the 4:4 slowdown"). ticks:\n'
            "in simulated user time. with another split: what mm and context switches ask for.\n"
            "Flushes have no price: none of the seconds above is longer for them."
        ),
        leave_out="ticks|with another split|faults|system calls",
    )
    for i, (result, entries) in enumerate(split):
        numbers = (
            entries.system_calls,
            entries.faults,
            entries.ticks,
            entries.nr,
            entries.flushes,
            entries.flushes_unsplit,
        )
        last = i + 1 == len(split) or split[i + 1][0].level != result.level
        table.add_row(str(result.level), result.kernel, *(f"{nr:,}" for nr in numbers), end_section=last)
    return [table]


def _comparison_row(result: Result, peers: Sequence[Result]) -> list[str]:
    memory, ledger = result.memory_peak_bytes, result.ledger
    row = [str(result.level), result.kernel, outcome_of(result)]
    if memory is None or ledger is None:
        row += [f"{result.processes:,}", *[DASH] * 7]
    else:
        slots = result.searched
        row += [
            f"{result.processes_peak:,}",
            f"{ledger.get('pte_copy', 0):,}",
            format_size(memory["page_tables"]),
            format_size(memory["rmap"]),
            result.design or DASH,
            f"{slots / 1e6:,.1f} M" if slots else "0",
            f"{ledger.get('pswpout', 0):,}",
            _relative(_both(result), [_both(peer) for peer in peers]) if result.outcome == "ok" else DASH,
        ]
    wall = _relative(result.wall_s, [peer.wall_s for peer in peers]) if result.outcome == "ok" else DASH
    return [*row, f"{result.wall_s:.2f} s", wall]


def _both(result: Result) -> float:
    memory = result.memory_peak_bytes
    return memory["page_tables"] + memory["rmap"] if memory else 0


def _relative(value: float, peers: Sequence[float]) -> str:
    known = [peer for peer in peers if peer > 0]
    return f"{value / min(known):.2f}" if known and value > 0 else DASH


def outcome_of(result: Result) -> str:
    """The outcome, with the call that failed."""
    return f"{result.outcome} in {result.failed_call}" if result.failed_call else result.outcome


def describe_box(box: Box) -> str:
    """The box in words, for a title."""
    parts = [f"{box.paging}" + (" with HIGHPTE" if box.highpte and box.paging == "i386-pae" else "")]
    cpus = f"{box.cpus} CPUs" if box.ht == "off" else f"{box.cpus} CPUs, two to a core"
    parts += [f"{box.ram} RAM", f"{box.swap} swap", cpus, f"{box.l1_cache_bytes}-byte cache lines"]
    parts += [f"split {box.split}"] if box.split else []
    parts += [f"boot use {box.boot_use}"] if box.boot_use else []
    parts += [f"overcommit {box.overcommit}"] if box.overcommit else []
    return ", ".join(parts)


def add_counts(table: Table, ledger: Mapping[str, int]) -> None:
    """A row for each operation of a ledger."""
    for name, count in ledger.items():
        table.add_row(name, f"{count:,}", "counted")


@dataclass(frozen=True)
class OneRun(Report[Result]):
    """What `run` found: one result, a line per figure."""

    columns = "what|>value|_"

    box: Box

    def text(self) -> Table:
        """What came of it, memory, counts, times."""
        (result,) = self.rows
        table = new_table(
            f"{result.workload} level {result.level}: Linux {result.kernel} on {describe_box(self.box)}",
            self.columns,
        )
        table.add_row("outcome", outcome_of(result), result.why or "")
        table.add_row("processes", f"{result.processes:,}", f"{result.processes_peak:,} at peak")
        if result.memory_peak_bytes is not None:
            table.add_section()
            table.add_row("page tables", format_size(result.memory_peak_bytes["page_tables"]), "at peak")
            table.add_row("reverse map", format_size(result.memory_peak_bytes["rmap"]), "at peak")
            for name, size in result.memory_peak_bytes["by_cache"].items():
                table.add_row(f"  slab {name}", format_size(size), "at peak")
            wakes = result.kswapd_wakes or 0
            since = (
                f"first after {result.first_kswapd_wake_s:.2f} s of simulated time"
                if result.first_kswapd_wake_s
                else ""
            )
            table.add_row("kswapd wakes", f"{wakes:,}", since)
        table.add_section()
        add_counts(table, result.ledger or {})
        if (entries := result.kernel_entries) is not None:
            table.add_section()
            kinds = f"{entries.system_calls:,} system calls, {entries.faults:,} faults, {entries.ticks:,} ticks in user mode"
            table.add_row("kernel entries", f"{entries.nr:,}", kinds)
            told = (
                f"2 per entry, cr3 is loaded (4G/4G patch, July 2003); {entries.flushes_unsplit:,} with another split"
            )
            table.add_row("TLB flushes, split 4:4", f"{entries.flushes:,}", told)
        table.add_section()
        for name, seconds in (result.time_s or {}).items():
            table.add_row(f"{name} time", f"{seconds:.2f} s", f"simulated, prices {result.prices}")
        table.add_row("wall", f"{result.wall_s:.2f} s", "our running time")
        return table
