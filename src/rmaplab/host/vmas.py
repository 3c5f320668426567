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
from typing import NamedTuple

import numpy as np

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.bpf.syscall import update_map
from rmaplab.host.closing import Closing
from rmaplab.host.rights import proc_is_of_our_namespace
from rmaplab.host.walked import EVERY_WINDOW, MEMORY, PAGE, PageReader, WalkedTables, walked
from rmaplab.machine.arrays import I64, Bools, Whereabouts, among, ascending_order, distinct, numbered
from rmaplab.objects.graph import (
    NONE,
    UNKNOWN,
    AnonVmas,
    Built,
    Chains,
    Files,
    Graph,
    Processes,
    Vmas,
    arrange,
    find_rows,
)
from rmaplab.objects.graph_check import Finding, findings, hidden
from rmaplab.units import PAGE_SIZE

TRIES, BUDGET_S = 5, 0.8
FEW = 64  # processes read one by one: 0.2 ms each, where all of a machine may take a second
RESUME_AT_ONCE = 60_000  # the map holds 65,536
_AT_ONCE = 1 << 12  # rows of 64 bytes
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
    mm_pointers: I64 | None = None
    """The kernel's addresses of mm_structs, by mm; None where it was not asked."""
    walked: WalkedTables | None = None
    """What the iterator has read of page tables; None where it reads none."""


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
        self._walk: PageReader | None = None

    def close(self) -> None:
        """Let go of the program."""
        self._iterator.close()

    def read_pages_by(self, walk: PageReader | None) -> None:
        """From now on dumps have what is in the page tables of small VMAs (None: as at first). It is closed by whoever has opened it."""
        self._walk = walk

    def dump(self, *, windows: int = EVERY_WINDOW) -> Dump:
        """The graph as it is now: the first dump that is not torn, or the last of TRIES. O(n log n).

        Of so many small VMAs it has the pages too, if it reads pages. Tries end after BUDGET_S: a large dump of a busy machine would be torn again, and is reported as it is.
        """
        began = time.monotonic()
        for torn in range(TRIES):
            rows, resumed, lost = self._read(windows=windows)
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
            rows.append(_as_rows(self._run(sorted(new))))
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

    def rows(self, *, windows: int = 0) -> int:
        """How many rows a dump of the graph has now, only read: what no reader of it can do without; with the pages of so many VMAs."""
        return len(self._read(windows=windows)[0])

    def files_of(self, pid: int) -> I64:
        """(address_space, device, inode) of every file that a process maps; of all processes, where it cannot be asked alone."""
        table = _DumpRows(_as_rows(self._iterator.read([pid])))
        return _files(table, *table.columns(table.first + 1, 1))[0]

    def _run(self, pids: Collection[int] | None, windows: int = EVERY_WINDOW) -> memoryview:
        return self._iterator.read(pids) if self._walk is None else self._walk.read(pids, windows=windows)

    def _read(self, pids: Collection[int] | None = None, *, windows: int = EVERY_WINDOW) -> tuple[I64, int, int]:
        """All rows of one dump, the rest of chains that were cut behind them; how many VMAs were resumed, and how many in vain."""
        rows = _as_rows(self._run(pids, windows))
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
    cut = rows[rows[:, 0].astype(np.int8) == CUT, 1:3]
    return np.unique(cut, axis=0) if cut.size else cut


class _DumpRows:
    """The rows of a dump, by kind: where they are, and their columns."""

    def __init__(self, rows: I64) -> None:
        self._rows = rows
        self.kinds = rows[:, 0].astype(np.int8)
        self.first = self.at(VMA)
        self.begins = (
            np.flatnonzero((self.kinds == VMA) | (self.kinds == RESUMED)) if RESUMED in self.kinds else self.first
        )
        more = self.first + 1
        if self.at(VMA_MORE).tobytes() != more.tobytes():
            raise BpfUnavailable("what our BPF program wrote makes no sense: rebuild it with make bpf")

    def at(self, kind: int) -> I64:
        """Where rows of a kind are."""
        return np.flatnonzero(self.kinds == kind)

    def columns(self, at: I64, *which: int) -> list[I64]:
        """Some of the eight words of rows, as columns."""
        return list(self.block(at, which))

    def block(self, at: I64, which: Sequence[int]) -> I64:
        """The same as one array: so many rows at a time that they stay in a CPU's cache."""
        found = np.empty((len(which), len(at)), np.int64)
        for begin in range(0, len(at), _AT_ONCE):
            part = self._rows[at[begin : begin + _AT_ONCE]]
            for column, word in zip(found, which, strict=True):
                column[begin : begin + len(part)] = part[:, word]
        return found


class _ShownVmas(NamedTuple):
    """Of the VMAs in a dump: the row where it was shown first, and whether it was otherwise there; which rows those are, ascending."""

    of_first: I64
    changed: Bools
    kept: I64


def decode(rows: I64) -> Dump:
    """A graph from the rows of one dump. `broken` says what the rows alone show to be wrong. O(n), and O(n log n) where it is out of order."""
    table = _DumpRows(rows)
    head, mm, vma, start, end, pgoff, flags, anon_vma = table.columns(table.first, *range(8))
    mapping, words = table.columns(table.first + 1, 1, 3)
    tasks = _tasks(words >> 32, mm)
    processes, page_tables = _processes(table, head, mm, tasks)
    shown = _shown(table, mm[tasks], vma)
    chain_at, owner = _chains(table, shown, vma)
    refcount, names, its_vma, root, parent, nr_children, nr_active = table.columns(chain_at, *range(7))
    stray = (owner == NONE) | (its_vma != vma[owner])

    places = Whereabouts(names)
    said, which = _each_once(places.first)
    unlike = np.zeros(len(which), np.bool_)
    for column in (root, parent, nr_children, nr_active):
        unlike |= column != column[places.first]
    place = np.append(which, NONE)
    own, roots, parents = (place[places.find(wanted)] for wanted in (anon_vma, root[said], parent[said]))
    files, file = _files(table, mapping)
    row_of = np.full(len(vma) + 1, NONE)  # the last one is that of NONE
    row_of[shown.kept] = np.arange(len(shown.kept))
    vmas = Vmas(mm, start, end, pgoff, flags, own, file)
    if len(shown.kept) < len(vma):
        vmas = Vmas(*(column[shown.kept] for column in vmas))
    built = arrange(
        processes,
        vmas,
        AnonVmas(roots, parents, nr_children[said], nr_active[said], refcount[said] >> 32),
        Chains(row_of[owner], which),
        Files(files[:, 1], files[:, 2]),
    )
    of_chain = np.where(owner == NONE, 0, mm[owner])
    lost = (roots == NONE) | (parents == NONE)
    of_rows = {
        "VMAs changed between two readings": shown.changed,
        "VMAs do not hang on their own anon_vma": (anon_vma != 0) & (own == NONE),
        "VMAs are of an address space that its process has left": _left(mm, tasks, processes),
    }
    of_chains = {
        "anon_vma_chains were found in another VMA's list": stray,
        "anon_vma_chains saw their anon_vma changed since another did": unlike,
        "anon_vma_chains hang on an anon_vma whose root or parent no VMA hangs on": lost[which],
    }
    found = [(what, bad, mm) for what, bad in of_rows.items()]
    found += [(what, bad, of_chain) for what, bad in of_chains.items()]
    broken = [Finding(what, int(bad.sum()), find_rows(mms[bad], built.mms)) for what, bad, mms in found if bad.any()]
    return Dump(
        built.graph,
        names[said][built.anon_vmas],
        files[:, 0],
        broken=broken,
        page_tables=page_tables,
        mm_pointers=built.mms,
        walked=_walked(table, shown, built, len(vma)),
    )


def _walked(table: _DumpRows, shown: _ShownVmas, built: Built, nr: int) -> WalkedTables | None:
    """What was read of the page tables of each VMA of the graph, when it was shown first."""
    memory = table.at(MEMORY)
    if not len(memory):
        return None
    row_of = np.full(nr, NONE)
    row_of[shown.kept[built.vmas]] = np.arange(len(built.vmas))
    pages, page_vma = _those_of(table, table.at(PAGE), row_of, 6)
    sums, sums_vma = _those_of(table, memory, row_of, 5)
    return walked(pages, page_vma, sums, sums_vma, built.graph.vmas.mm)


def _those_of(table: _DumpRows, at: I64, row_of: I64, nr: int) -> tuple[I64, I64]:
    """The first `nr` words of these rows as columns, and whose they are by `row_of` VMAs; nobody's are left out."""
    vma = row_of[np.searchsorted(table.first, at) - 1]
    kept = vma != NONE
    if not kept.all():
        at, vma = at[kept], vma[kept]
    return table.block(at, range(nr)), vma


def _each_once(first: I64) -> tuple[I64, I64]:
    """Of Whereabouts.first: where something stands that was not there before, and by place which of these it is."""
    new = first == np.arange(len(first))
    return np.flatnonzero(new), (np.cumsum(new) - 1)[first]


def _tasks(tid: I64, mm: I64) -> I64:
    """The rows with which a task, or another address space of it, begins. A task's VMAs come one after another."""
    new = np.ones(len(mm), np.bool_)
    new[1:] = (tid[1:] != tid[:-1]) | (mm[1:] != mm[:-1])
    return np.flatnonzero(new)


def _processes(table: _DumpRows, head: I64, mm: I64, tasks: I64) -> tuple[Processes, I64]:
    """A row per pid, ascending: its first task; and the bytes of its page tables."""
    pid = head[tasks] >> 32
    said, *name, began, page_tables = table.columns(table.first[tasks] + 1, 0, 4, 5, 6, 7)
    order = ascending_order(began, pid)
    at = order[np.unique(pid[order], return_index=True)[1]]
    comm = np.stack(name, axis=1)[at].view("S16").reshape(-1)
    return Processes(pid[at], said[at] >> 32, comm, began[at], mm[tasks[at]]), page_tables[at]


def _shown(table: _DumpRows, spaces: I64, vma: I64) -> _ShownVmas:
    """Tasks that share an mm all show its VMAs: a VMA is the row where it was shown first. `spaces` are the tasks' mms."""
    if len(distinct(spaces)) == len(spaces):
        every = np.arange(len(vma))
        return _ShownVmas(every, np.zeros(len(vma), np.bool_), every)
    of_first = Whereabouts(vma).first
    again = np.flatnonzero(of_first != np.arange(len(vma)))
    changed = np.zeros(len(vma), np.bool_)
    then, now = (np.stack(table.columns(table.first[at], *range(1, 8))) for at in (of_first[again], again))
    changed[again] = (then != now).any(axis=0)
    return _ShownVmas(of_first, changed, np.flatnonzero(of_first == np.arange(len(vma))))


def _chains(table: _DumpRows, shown: _ShownVmas, vma: I64) -> tuple[I64, I64]:
    """Where the chains are, each once, and whose they are: a chain is in the list of the VMA that was begun last."""
    chains = table.at(CHAIN)
    begun = shown.of_first
    if len(table.begins) > len(table.first):
        anew = table.kinds[table.begins] == VMA
        begun = np.empty(len(table.begins), np.int64)
        begun[anew] = shown.of_first
        begun[~anew] = find_rows(table.columns(table.begins[~anew], 1)[0], vma)
    if len(shown.kept) < len(vma) and len(chains):
        (avc,) = table.columns(chains, 7)
        chains = chains[_each_once(Whereabouts(avc).first)[0]]
    return chains, begun[np.searchsorted(table.begins, chains) - 1]


def _left(mm: I64, tasks: I64, processes: Processes) -> Bools:
    """By VMA, whether no process has its address space any more: asked once for each task."""
    left = ~among(mm[tasks], np.sort(processes.mm))
    return np.repeat(left, np.diff(tasks, append=len(mm)))


def _files(table: _DumpRows, mapping: I64) -> tuple[I64, I64]:
    """Mapped files as rows (address_space, device, inode), and by VMA which of them it maps, or NONE."""
    maps = np.flatnonzero(mapping)
    _, at, which = numbered(mapping[maps])
    file = np.full(len(mapping), NONE)
    file[maps] = which
    inode, device = table.columns(table.first[maps[at]] + 1, 2, 3)
    return np.stack([mapping[maps[at]], device & 0xFFFFFFFF, inode], axis=1), file
