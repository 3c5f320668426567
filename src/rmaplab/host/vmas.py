"""The live kernel's graph: what bpf/task_vma.bpf.c writes, as objects/graph.py has it.

    kernel --iterator--> rows of 64 bytes --decode--> columns with pointers --build--> Graph, pointers renamed
                            | CUT? put (VMA, place) into the map, run again, append
                            +-- torn? dump again, up to TRIES times and BUDGET_S; how often is in Dump.torn
    few processes: the same iterator over each, and over their parents as long as counters say that somebody is missing

A dump is not atomic: each VMA is read under its mmap_lock, but processes fork and exit between one and the next. So every dump is
checked: what was read twice must be the same twice, and graph_check.py must find nothing. What counters count and nobody shows
(a process half made or half gone, pid 1, other PID namespaces) is not torn but hidden, and reported as such.
"""

import mmap
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.bpf.syscall import update_map
from rmaplab.host.closing import Closing
from rmaplab.host.rights import proc_is_of_our_namespace
from rmaplab.machine.arrays import I64, Bools, among, ascending_order, numbered
from rmaplab.objects.graph import NONE, UNKNOWN, AnonVmas, Chains, Files, Graph, Processes, Vmas, build, find_rows
from rmaplab.objects.graph_check import Finding, findings, hidden
from rmaplab.units import PAGE_SIZE

TRIES, BUDGET_S = 5, 0.8
FEW = 64  # processes read one by one: 0.2 ms each, where all of a machine may take a second
RESUME_AT_ONCE = 60_000  # the map holds 65,536
VMA, VMA_MORE, CHAIN, CUT, RESUMED = range(1, 6)


@dataclass(frozen=True)
class Dump:
    """A graph, and the kernel's pointers by row of it: they say which anon_vma a page's mapping means.

    `torn` is how many dumps were thrown away before this one, `broken` what is still wrong with it (empty if nothing) and where;
    `resumed` the number of VMAs whose chain took more than one run. `mapping_pointers` are the files' address_spaces.
    """

    graph: Graph
    anon_vma_pointers: I64
    mapping_pointers: I64
    torn: int = 0
    broken: Sequence[Finding] = ()
    resumed: int = 0
    hidden: tuple[int, int] = (0, 0)
    """Children and VMAs that anon_vmas count and nobody shows."""
    page_tables: I64 | None = None
    """Bytes by process; UNKNOWN where this kernel has no count, None where it was not asked."""


class VmaDumper(Closing):
    """The iterator, loaded once, dumped as often as wanted. A context manager. Raises BpfUnavailable."""

    def __init__(self) -> None:
        if mmap.PAGESIZE != PAGE_SIZE:
            raise BpfUnavailable(f"pages have {mmap.PAGESIZE} bytes here, and the graph is read for {PAGE_SIZE} only")
        if not proc_is_of_our_namespace():
            raise BpfUnavailable(
                "/proc is of another PID namespace, and BPF numbers processes by ours (mount one: unshare --pid --fork --mount-proc)"
            )
        self._iterator = Iterator("task_vma")

    def close(self) -> None:
        """Let go of the program."""
        self._iterator.close()

    def dump(self) -> Dump:
        """The graph as it is now: the first dump that is not torn, or the last of TRIES. O(n log n).

        Tries end after BUDGET_S: a large dump of a busy machine would be torn again, and is reported as it is.
        """
        began = time.monotonic()
        for torn in range(TRIES):
            rows, resumed, lost = self._read()
            dump = decode(rows)
            broken = [*dump.broken, *findings(dump.graph)]
            if lost:
                nobody: I64 = np.zeros(0, np.int64)
                broken.append(Finding("VMAs went before their chain was read to its end", lost, nobody))
            dump = replace(dump, torn=torn, broken=broken, resumed=resumed, hidden=hidden(dump.graph))
            if not broken or time.monotonic() - began > BUDGET_S:
                break
        return dump

    def dump_of(self, pids: Collection[int]) -> Dump:
        """A graph that has these processes and all whose VMAs a walk from their pages may visit; the whole machine's where that is not found.

        Nobody is missing if every anon_vma has as many children and VMAs as it counts: a VMA that hangs on one has an anon_vma below it.
        """
        seen: set[int] = set()
        rows, new = [np.zeros((0, 8), np.int64)], set(pids)
        if not new:
            return decode(rows[0])
        while new and len(seen) + len(new) <= FEW:
            rows.append(_as_rows(self._iterator.read(sorted(new))))
            seen |= new
            table = np.concatenate(rows)
            dump = decode(table)
            anon_vmas = dump.graph.anon_vmas
            said = np.concatenate([anon_vmas.num_children, anon_vmas.num_active_vmas])
            if len(_cut(table)) or (said == UNKNOWN).any():
                break
            if hidden(dump.graph) == (0, 0) and not dump.broken and not findings(dump.graph):
                return dump
            new = set(dump.graph.processes.parent.tolist()) - seen - {0}
        return self.dump()

    def dump_only(self, pids: Collection[int]) -> Dump:
        """The graph of these processes, which stand still, and of nobody else: counters may count more than it shows.

        O(n log n) of what they have, and 0.2 ms for each process, whatever else the machine runs (from Linux 6.1 on).
        """
        rows, resumed, _ = self._read(pids)
        return replace(decode(rows), resumed=resumed)

    def rows(self) -> int:
        """How many rows a dump has now, only read: what no reader of the graph can do without."""
        return len(self._read()[0])

    def files_of(self, pid: int) -> I64:
        """(address_space, device, inode) of every file that a process maps; of all processes, where it cannot be asked alone."""
        rows = _as_rows(self._iterator.read([pid]))
        return _files(rows[_kinds(rows) == VMA_MORE])[0]

    def _read(self, pids: Collection[int] | None = None) -> tuple[I64, int, int]:
        """All rows of one dump, the rest of chains that were cut behind them; how many VMAs were resumed, and how many in vain."""
        rows = _as_rows(self._iterator.read(pids))
        cut = _cut(rows)
        parts, resumed, lost = [rows], len(cut), 0
        while len(cut):
            with Iterator("task_vma", program="resume") as again:  # its map begins empty
                now, cut = cut[:RESUME_AT_ONCE], cut[RESUME_AT_ONCE:]
                resume = again.maps["resume"]
                for vma, place in now.tolist():
                    update_map(resume, vma, place)
                more = _as_rows(again.read(pids))
            lost += len(now) - len(np.intersect1d(now[:, 0], more[_kinds(more) == RESUMED, 1]))
            parts.append(more)
            cut = np.concatenate([cut, _cut(more)])
        return (np.concatenate(parts) if resumed else rows), resumed, lost


def _as_rows(data: memoryview) -> I64:
    return np.frombuffer(data, np.int64).reshape(-1, 8)


def _kinds(rows: I64) -> I64:
    return rows[:, 0] & 0xFFFFFFFF


def _cut(rows: I64) -> I64:
    """(VMA, place) of each chain that was cut. A process that was shown twice, by threads, is so with the same VMA."""
    cut = rows[_kinds(rows) == CUT][:, 1:3]
    return np.unique(cut, axis=0) if cut.size else cut


def decode(rows: I64) -> Dump:
    """A graph from the rows of one dump. `broken` says what the rows alone show to be wrong. O(n log n)."""
    kinds = _kinds(rows)
    first, more, chains = rows[kinds == VMA], rows[kinds == VMA_MORE], np.flatnonzero(kinds == CHAIN)
    if len(first) != len(more):
        raise BpfUnavailable("what our BPF program wrote makes no sense: rebuild it with make bpf")
    tasks = _tasks(first, more)
    processes, page_tables = _processes(first, more, tasks)

    # tasks that share an mm all show its VMAs: a VMA is the row where it was shown first
    pointers, shown, which = numbered(first[:, 2])
    of_first = shown[which]
    changed = (first[:, 1:] != first[of_first, 1:]).any(axis=1)

    # a chain is in the list of the VMA that was begun last; every anon_vma_chain is in one list only
    begins = np.flatnonzero((kinds == VMA) | (kinds == RESUMED))
    begun = np.empty(len(begins), np.int64)
    anew = kinds[begins] == VMA
    begun[anew] = of_first
    begun[~anew] = np.append(shown, NONE)[find_rows(rows[begins[~anew], 1], pointers)]
    nth = np.searchsorted(begins, chains) - 1
    if len(shown) < len(first) and len(chains):
        once = np.sort(numbered(rows[chains, 7])[1])
        chains, nth = chains[once], nth[once]
    vma = begun[nth]
    chain = rows[chains]
    stray = (vma == NONE) | (chain[:, 2] != first[vma, 2])

    names, said, which = numbered(chain[:, 1])
    anon = chain[said]
    # root, parent, num_children, num_active_vmas
    unlike = (chain[:, 3:7] != anon[which, 3:7]).any(axis=1)
    files, file = _files(more)
    kept = np.sort(shown)
    row_of = np.full(len(first) + 1, NONE)  # the last one is that of NONE
    row_of[kept] = np.arange(len(kept))
    built = build(
        processes,
        Vmas(*(*(first[kept, column] for column in (1, 3, 4, 5, 6, 7)), file[kept])),
        AnonVmas(anon[:, 3], anon[:, 4], anon[:, 5], anon[:, 6], anon[:, 0] >> 32),
        Chains(row_of[vma], which),
        Files(files[:, 1], files[:, 2]),
        names,
    )
    of_chain = np.where(vma == NONE, 0, first[vma, 1])
    lost_roots = ~(among(anon[:, 3], names) & among(anon[:, 4], names))
    of_rows = {
        "VMAs changed between two readings": changed,
        "VMAs do not hang on their own anon_vma": (first[:, 7] != 0) & ~among(first[:, 7], names),
        "VMAs are of an address space that its process has left": _left(first, tasks, processes),
    }
    of_chains = {
        "anon_vma_chains were found in another VMA's list": stray,
        "anon_vma_chains saw their anon_vma changed since another did": unlike,
        "anon_vma_chains hang on an anon_vma whose root or parent no VMA hangs on": lost_roots[which],
    }
    found = [(what, bad, first[bad, 1]) for what, bad in of_rows.items()]
    found += [(what, bad, of_chain[bad]) for what, bad in of_chains.items()]
    broken = [Finding(what, int(bad.sum()), find_rows(mms, built.mms)) for what, bad, mms in found if bad.any()]
    return Dump(built.graph, names[built.anon_vmas], files[:, 0], broken=broken, page_tables=page_tables)


def _tasks(first: I64, more: I64) -> I64:
    """The rows with which a task, or another address space of it, begins. A task's VMAs come one after another."""
    tid, mm = more[:, 3] >> 32, first[:, 1]
    new = np.ones(len(mm), np.bool_)
    new[1:] = (tid[1:] != tid[:-1]) | (mm[1:] != mm[:-1])
    return np.flatnonzero(new)


def _processes(first: I64, more: I64, tasks: I64) -> tuple[Processes, I64]:
    """A row per pid, ascending: its first task; and the bytes of its page tables."""
    pid, mm = first[:, 0] >> 32, first[:, 1]
    order = ascending_order(more[tasks, 6], pid[tasks])
    at = tasks[order[np.unique(pid[tasks][order], return_index=True)[1]]]
    comm = np.ascontiguousarray(more[at, 4:6]).view("S16").reshape(-1)
    return Processes(pid[at], more[at, 0] >> 32, comm, more[at, 6], mm[at]), more[at, 7]


def _left(first: I64, tasks: I64, processes: Processes) -> Bools:
    """By VMA, whether no process has its address space any more: asked once for each task."""
    left = ~among(first[tasks, 1], np.sort(processes.mm))
    return np.repeat(left, np.diff(tasks, append=len(first)))


def _files(more: I64) -> tuple[I64, I64]:
    """Mapped files as rows (address_space, device, inode), and by VMA which of them it maps, or NONE."""
    named = np.stack([more[:, 1], more[:, 3] & 0xFFFFFFFF, more[:, 2]], axis=1)
    maps = np.flatnonzero(more[:, 1])
    _, at, which = numbered(named[maps, 0])
    file = np.full(len(more), NONE)
    file[maps] = which
    return named[maps][at], file
