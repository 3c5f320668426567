"""A snapshot of the machine for a census, from the highest rung of the ladder that we may stand on.

    rung                                  needs                               knows
    1  everything                         CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN   the anon_vma graph, and pages by PFN
    2  the graph, no pages                CAP_BPF, CAP_PERFMON, BTF             the anon_vma graph
    3  pagemap, no graph                  CAP_SYS_ADMIN, CAP_SYS_PTRACE         VMAs, and how often pages are mapped
    4  own processes                      nothing                               VMAs and memory of what is ours

Why a rung could not be had is kept beside the rung: every output says it. What a rung does not know is UNKNOWN or absent, never 0.
Nothing is written anywhere: no pin in bpffs, no setting.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.closing import Closing
from rmaplab.host.draw import Drawn, Sample
from rmaplab.host.footprint import (
    Footprints,
    KnownMemory,
    graph_of_maps,
    is_something_swapped_out,
    names_of_mappings,
    read_footprints,
    read_machine,
    read_task,
)
from rmaplab.host.heap import keep_freed_memory
from rmaplab.host.page_walk import WalkingIterator
from rmaplab.host.pages import PagePeeker
from rmaplab.host.procfs import processes, read_fields
from rmaplab.host.rights import proc_is_mounted, what_is_hidden, why_no_counts, why_no_pages
from rmaplab.host.sample import WINDOWS, hidden_ones, mapped_since, sample_pages
from rmaplab.host.slabs import Sizes, read_sizes
from rmaplab.host.vmas import Dump, VmaDumper
from rmaplab.host.walked import EVERY_WINDOW
from rmaplab.host.wanted import Wanted, read_cgroups
from rmaplab.machine.arrays import I64, Bools, distinct
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, Graph
from rmaplab.objects.graph_check import Finding

ASKED_FOR_NAMES = 64
TRIES, BUDGET_S = 3, 2.0
"""Looks, the first included, and the time for them, until no page is mapped more often than the graph allows."""
EVERYBODY, NOTHING_DRAWN = Wanted(), Drawn()


class Rung(IntEnum):
    """Where on the ladder of privileges a snapshot was taken."""

    EVERYTHING = 1
    GRAPH = 2
    PAGEMAP = 3
    OWN = 4


TITLES = {
    Rung.EVERYTHING: "everything: the anon_vma graph, and pages by PFN",
    Rung.GRAPH: "the anon_vma graph, no pages",
    Rung.PAGEMAP: "VMAs and pages, no anon_vma graph",
    Rung.OWN: "processes that are ours to read only, from maps and smaps",
}


@dataclass(frozen=True)
class Snapshot:
    """What was seen, and under which circumstances.

    `missing` says why the rungs above could not be had. `torn` dumps were thrown away, `broken` is what is wrong with this one, and `torn_mms`
    where; `hidden` (children, VMAs) what anon_vmas count and nobody shows. `unseen` are processes with memory that are not in the graph.
    `scope` are the address spaces that were asked for (None: all): memory and pages of others were not looked at, and the graph may lack
    those that are no kin. `sample` and `drawn` say how pages were found, `machine` are its own totals in bytes, by name; `cgroups` are
    by process, "" where nobody asked.
    """

    graph: Graph
    footprints: Footprints
    sizes: Sizes
    rung: Rung
    missing: Sequence[str]
    kernel: str
    arch: str
    taken_at: float
    nr_pages: int
    cache_line_bytes: int
    file_names: dict[int, str]
    torn: int = 0
    broken: Sequence[str] = ()
    torn_mms: Sequence[int] = ()
    hidden: tuple[int, int] = (0, 0)
    resumed: int = 0
    unseen: Sequence[str] = ()
    scope: Sequence[int] | None = None
    sample: Sample | None = None
    drawn: Drawn = NOTHING_DRAWN
    machine: Mapping[str, int] = field(default_factory=dict)
    cgroups: Sequence[str] = ()

    @property
    def knows_anon_vmas(self) -> bool:
        """Whether the graph has anon_vmas and chains."""
        return self.rung <= Rung.GRAPH


class CensusTaker(Closing):
    """Finds its rung once, then looks as often as asked. A context manager."""

    def __init__(self) -> None:
        keep_freed_memory()
        self.missing: list[str] = []
        self._dumper: VmaDumper | None = None
        self._peeker: PagePeeker | None = None
        no_pages, of_some = why_no_pages()
        try:
            self._dumper = VmaDumper()
            self._peeker = None if no_pages else PagePeeker(self._dumper)
        except BpfUnavailable as error:
            self.missing.append(str(error))
        self._walk: WalkingIterator | None = None
        self._may_walk = self._dumper is not None and self._peeker is not None
        if self._dumper is None and not no_pages:
            no_pages = why_no_counts()
        self.missing += no_pages
        if self._dumper is not None:
            self.rung = Rung.EVERYTHING if self._peeker else Rung.GRAPH
        else:
            self.rung = Rung.OWN if no_pages else Rung.PAGEMAP
        if not proc_is_mounted() and self._dumper is None:
            raise UsageError(f"nothing of this machine can be seen: {'; '.join(self.missing)}")
        self.missing += what_is_hidden() + ([] if no_pages else of_some)

    def close(self) -> None:
        """Let go of the BPF programs."""
        for part in (self._dumper, self._peeker, self._walk):
            if part is not None:
                part.close()

    def _find_page_tables(self) -> None:
        """Have dumps read page tables too, if that can be; once, and for those who look at everybody: it takes as long as a look at a few."""
        if self._may_walk and self._dumper is not None and self._peeker is not None:
            self._may_walk = False
            with suppress(BpfUnavailable):  # pagemap and smaps_rollup say the same, and take longer
                self._walk = WalkingIterator(self._peeker)
                self._dumper.read_pages_by(self._walk)

    def read_rows(self) -> int:
        """How many rows a full dump has now, only read: the kernel's part of a look, as far as processes are small. 0 without BPF."""
        if self._dumper is None:
            return 0
        self._find_page_tables()
        return self._dumper.rows(windows=EVERY_WINDOW)

    def look(
        self,
        wanted: Wanted = EVERYBODY,
        *,
        pages: bool = True,
        full: bool = False,
        seed: int | None = None,
        cgroups: bool = False,
    ) -> Snapshot:
        """The machine, or those who are `wanted`, as they are now.

        `pages` False leaves out the pages, `full` reads all of them, `seed` draws those of a sample (None: another one each time).
        `cgroups` are read if wanted here, or by `wanted`: a file of each process.
        """
        began, torn = time.monotonic(), 0
        limit = None if full or not wanted.everybody else WINDOWS
        if wanted.everybody:
            self._find_page_tables()
        for nth in range(TRIES):
            dump, unseen, scope = self._look_at_vmas(wanted, limit if pages else 0)
            torn += dump.torn
            graph, sample, drawn, since = dump.graph, None, NOTHING_DRAWN, []
            if pages and (self._peeker is not None or self.rung == Rung.PAGEMAP):
                chosen = _by_mm(graph, scope)
                seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
                tables = None if self._walk is None else self._walk.tables
                found, sample, drawn = sample_pages(dump, self._peeker, chosen, limit=limit, seed=seed, tables=tables)
                graph = graph.with_pages(found)
                since = _mapped_since(graph) if self._peeker is not None else []
            if not any(again for _, again in since) or nth + 1 == TRIES or time.monotonic() - began > BUDGET_S:
                break
            torn += 1
        broken = [*dump.broken, *(finding for finding, _ in since)]
        uname, pids = platform.uname(), graph.processes.pid.tolist()
        meant = _by_mm(graph, scope)[graph.processes.mm]
        return Snapshot(
            graph=graph,
            footprints=read_footprints(pids, meant, dump.page_tables, _memory_of(dump)),
            sizes=read_sizes(),
            rung=self.rung,
            missing=tuple(self.missing),
            kernel=uname.release,
            arch=uname.machine,
            taken_at=time.time(),
            nr_pages=_ram_pages(),
            cache_line_bytes=_cache_line_bytes(),
            file_names=_name_files(graph, _by_mm(graph, scope)),
            torn=torn,
            broken=tuple(map(str, broken)),
            torn_mms=tuple(sorted({mm for finding in broken for mm in finding.mms.tolist() if mm != NONE})),
            hidden=dump.hidden,
            resumed=dump.resumed,
            unseen=tuple(unseen),
            scope=None if scope is None else tuple(scope.tolist()),
            sample=sample,
            drawn=drawn,
            machine=read_machine(),
            cgroups=tuple(read_cgroups(pids, meant)) if cgroups or wanted.cgroup is not None else (),
        )

    def _look_at_vmas(self, wanted: Wanted, limit: int | None) -> tuple[Dump, list[str], I64 | None]:
        """The graph of this rung; the processes with memory that it does not have, of those asked about; the mms that are wanted (None: all)."""
        pids = processes() if wanted.everybody else wanted.find()
        if self._dumper is not None:
            windows = EVERY_WINDOW if limit is None else limit
            dump = self._dumper.dump(windows=windows) if wanted.everybody else self._dumper.dump_of(pids)
            unseen = sorted(set(pids) - set(dump.graph.processes.pid.tolist()))
        else:
            graph, unseen = graph_of_maps(pids)
            none = np.zeros(0, np.int64)
            dump = Dump(graph, none, none)
        if wanted.everybody:
            return dump, _names(unseen), None
        there = dump.graph.processes
        scope = distinct(there.mm[np.isin(there.pid, np.array(pids, np.int64))])
        if wanted.trees:
            family = dump.graph.families
            scope = np.flatnonzero(np.isin(family, family[scope]))
        return dump, _names(unseen), scope


def _memory_of(dump: Dump) -> KnownMemory | None:
    """What the dump says of the memory of processes. Shared memory that is swapped out it does not see."""
    if dump.walked is None:
        return None
    *sums, known, shmem = dump.walked.memory
    if shmem.any() and is_something_swapped_out():
        known = known & ~shmem
    mm = dump.graph.processes.mm
    return KnownMemory(known[mm], *(column[mm] for column in sums))


def _by_mm(graph: Graph, scope: I64 | None) -> Bools:
    """Whether an address space is in scope (None: all are)."""
    chosen = np.zeros(graph.nr_mms, np.bool_)
    chosen[slice(None) if scope is None else scope] = True
    return chosen


def _mapped_since(graph: Graph) -> list[tuple[Finding, bool]]:
    """Pages mapped more often than the graph allows; and whether that may be otherwise in another look."""
    if graph.pages is None:
        return []
    since = mapped_since(graph, graph.pages, candidates_of(graph.pages, graph.stretches))
    if not since.any():
        return []
    hidden = hidden_ones(graph, graph.pages)
    found = (
        ("pages were mapped since the graph was read", since & ~hidden, True),
        ("pages are mapped by processes that nobody shows", since & hidden, False),
    )
    return [
        (Finding(what, len(distinct(graph.pages.pfn[bad])), distinct(graph.pages.mm[bad])), again)
        for what, bad, again in found
        if bad.any()
    ]


def _names(pids: Sequence[int]) -> list[str]:
    """PID and name of those that have memory; others are kernel threads, zombies, or gone."""
    tasks = [(pid, read_task(pid)) for pid in pids]
    return [f"{pid} ({task.comm})" for pid, task in tasks if task is not None and task.has_memory]


def _name_files(graph: Graph, chosen: Bools) -> dict[int, str]:
    """Names of files by row, as a process that maps them sees them; from the processes that map most, not more than ASKED_FOR_NAMES."""
    vmas = np.flatnonzero((graph.vmas.file != NONE) & chosen[graph.vmas.mm])
    shown: dict[int, str] = {}
    _, first = np.unique(graph.vmas.file[vmas], return_index=True)
    one_each = vmas[first]
    spaces, counts = np.unique(graph.vmas.mm[one_each], return_counts=True)
    for mm in spaces[np.argsort(-counts, kind="stable")][:ASKED_FOR_NAMES].tolist():
        names = names_of_mappings(int(graph.processes.pid[np.argmax(graph.processes.mm == mm)]))
        for vma in one_each[graph.vmas.mm[one_each] == mm].tolist():
            name = names.get(int(graph.vmas.start[vma]))
            if name is not None:
                shown[int(graph.vmas.file[vma])] = name
    return shown


def _ram_pages() -> int:
    total = read_fields("meminfo").get("MemTotal")
    return (int(total.split()[0]) << 10) // os.sysconf("SC_PAGE_SIZE") if total else os.sysconf("SC_PHYS_PAGES")


def _cache_line_bytes() -> int:
    try:
        return os.sysconf("SC_LEVEL1_DCACHE_LINESIZE") or 64
    except (OSError, ValueError):
        return 64
