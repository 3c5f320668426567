"""One workload on one kernel that has more to hold than there is RAM: all that is counted of it.

    boot, reclaim as the kernel had it  ->  the workload, to its end or that of memory  ->  what the ledger, the locks and the disk have counted

A visit is what a walk from a page looks at: a slot, a VMA, an mm. It is useful if the page is mapped there, else in vain. 2.4 walks from no page: it goes through the entries of
address spaces, and whose they are it sees when it is there.

Counts follow from kernel, box and seed. Believed are all seconds: simulated time, which is the disk's for the most part, and a disk's figures of 2004 are believed; and `walks_s`,
cache lines that walks fetch (LINES) at the price of a line of a pte_chain, all of them cold: more than the simulated clock has for them, where not every line is.
"""

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from rmaplab.errors import SyscallError, UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System, boot
from rmaplab.lab.announcement.experiment import KILLED, NS, OK, Watch, hardware_as_json, run_to_the_end
from rmaplab.lab.costs.localmalloc import A_LINE, LINES
from rmaplab.workloads.busy import Damage

WRONG = "wrong bytes"
"""An outcome that no kernel may have: a page came back as another, or as it was before."""
ENTRIES = ("chain_slot_visit", "table_walk", "pte_scan")
"""What reads an entry of a page table to know whether a page is there."""
AREAS = ("vma_visit", "swap_out_vma")
CLOCKS = {"real": "now", "user": "user", "sys": "system"}


class Workload(Protocol):
    """A program, or several, that look at every byte again."""

    failed: SyscallError | None
    damage: Damage | None
    verified_bytes: int
    written_bytes: int
    unfinished: int

    @property
    def name(self) -> str:
        """As it is typed."""

    def run(self, system: System) -> None:
        """To the end."""


@dataclass(frozen=True, kw_only=True)
class BeyondRow:
    """One kernel. Ratios are None where nothing was freed."""

    workload: str
    kernel: str
    design: str
    hardware: dict[str, Any]
    seed: int
    outcome: str
    """ok, an errno's name, oom-killed, hung, or wrong bytes."""
    why: str | None
    """Which call failed, who goes on trying, or where the bytes are wrong."""
    oom_killed: int
    swap: dict[str, int]
    """pages_in, pages_out: what the disk has read and written."""
    files: dict[str, int]
    """pages_read, pages_written: of files, by the disk."""
    verified_bytes: int
    """That were compared at the end, and are what was written."""
    written_bytes: int
    """What should have been."""
    freed: int
    """Pages that reclaim has freed."""
    scanned_per_freed: float | None
    """Pages that were looked at on the lists, active ones included."""
    entries_per_freed: float | None
    """Entries of page tables that were read for it."""
    vmas_per_freed: float | None
    visits: dict[str, int]
    """all, useful, in_vain."""
    walk_locks: dict[str, int]
    """By class: locks taken to look for entries."""
    stalls: int
    """Requests that had to make room themselves: allocstall; in 2.4 balance_classzone."""
    kswapd_share: float | None
    """Of the pages freed."""
    ledger: dict[str, int]
    time_s: dict[str, float]
    """real, user, sys: simulated."""
    walks_s: float
    prices: str
    wall_s: float = field(default=0.0, compare=False)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds."""
        return asdict(self)


def boot_beyond(kernel: str, box: Box) -> System:
    """Where programs make room. Raises UsageError: the kernel's reclaim is not here, or the price list cannot say what walks take."""
    system = boot(kernel, replace(box, reclaim=True))
    if A_LINE not in system.machine.ledger.prices.ns:
        raise UsageError(
            f"the price list {system.machine.ledger.prices.name} does not price cache lines: leave --prices out"
        )
    return system


def lived(workload: Workload, system: System, seed: int, watch: Watch | None = None) -> dict[str, Any]:
    """Run it to its end, whatever that is, and close the system: the columns of a BeyondRow. Running out of memory is an outcome."""
    if watch is not None:
        watch(system)
    began = time.perf_counter()
    end = run_to_the_end(workload.run, system)
    wall_s = time.perf_counter() - began
    system.close()
    killed = len(system.killer.killed) if system.killer is not None else 0
    outcome, why = _outcome(workload, end, killed)
    machine, k = system.machine, system.kernel
    counts, visits = machine.ledger.counts, machine.ledger.visits
    freed = counts["pgsteal"]
    return {
        "workload": workload.name,
        "kernel": system.spec.name,
        "design": k.design.name,
        "hardware": hardware_as_json(system),
        "seed": seed,
        "outcome": outcome,
        "why": why,
        "oom_killed": killed,
        "swap": {"pages_in": counts["swap_read"], "pages_out": counts["swap_write"]},
        "files": {"pages_read": counts["disk_read"], "pages_written": counts["disk_write"]},
        "verified_bytes": workload.verified_bytes,
        "written_bytes": workload.written_bytes,
        "freed": freed,
        "scanned_per_freed": _by(counts["pgscan"] + counts["pgrefill"], freed),
        "entries_per_freed": _by(sum(counts[name] for name in ENTRIES), freed),
        "vmas_per_freed": _by(sum(counts[name] for name in AREAS), freed),
        "visits": {"all": visits, "useful": visits - machine.ledger.in_vain, "in_vain": machine.ledger.in_vain},
        "walk_locks": dict(sorted(k.rmap.walk_locks.items())),
        "stalls": counts["allocstall"] + counts["balance_classzone"],
        "kswapd_share": _by(counts["kswapd_steal"], freed),
        "ledger": dict(sorted(counts.items())),
        "time_s": {name: getattr(machine.sched, f"{ns}_ns") / NS for name, ns in CLOCKS.items()},
        "walks_s": _walks_s(system),
        "prices": machine.ledger.prices.name,
        "wall_s": wall_s,
    }


def _outcome(workload: Workload, end: tuple[str, str | None], killed: int) -> tuple[str, str | None]:
    """In a word, and more about it. Wrong bytes are worse than anything."""
    if workload.damage is not None:
        return WRONG, str(workload.damage)
    if workload.failed is not None:
        return workload.failed.name, str(workload.failed)
    if end[0] == OK and workload.unfinished and not killed:
        return KILLED, f"a fault got no memory, and killed its process: {workload.unfinished} of them"
    return (KILLED, None) if killed and end[0] == OK else end


def _by(nr: int, freed: int) -> float | None:
    return nr / freed if freed else None


def _walks_s(system: System) -> float:
    """All cache lines of all walks, one after the other."""
    ledger = system.machine.ledger
    lines = sum(ledger.counts[name] * each for name, each in LINES.items())
    lines += ledger.counts["table_walk"] * system.machine.paging.levels
    return lines * ledger.prices.ns[A_LINE] / NS
