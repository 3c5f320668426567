"""A census of the reverse map of a real machine: who holds it, how long its walks are, what else it could be.

    snapshot (host/snapshot.py) --group by address space--> a CensusRow per process
                                --group by family---------> a CensusRow per fork tree: address spaces that share root anon_vmas
                                --pages x stretches-------> Walk: candidates and useful visits per page
                                --size rules of designs---> what the same machine would hold under each (lab/census/designs.py)

A walk for a page visits every VMA that hangs on its anon_vma and covers its index: those are the candidates, and they follow from
the graph alone. Useful is a visit that finds the page mapped; that takes the page's mapcount. Everything is NumPy over columns.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host.snapshot import TITLES, Rung, Snapshot
from rmaplab.host.wanted import Wanted, as_name, commonest
from rmaplab.lab.census.designs import Held, held_under_designs
from rmaplab.lab.census.memory import memory_rows, object_rows
from rmaplab.lab.census.rows import CensusRow, FileRow
from rmaplab.lab.census.visits import Quantiles, quantiles
from rmaplab.lab.census.walks import CensusWalks
from rmaplab.machine.arrays import I64, Bools, distinct
from rmaplab.objects.graph import NONE, UNKNOWN, Pages, unique_pairs

NR_FILES = 10
FACTS = ("roots", "largest_root_vmas", "anon_vmas", "chains", "rmap_bytes", "depth", "longest_walk")
"""What a row has from the graph: none of it on a rung that knows of no anon_vmas."""


MEMORY = ("page_tables", "private", "shared", "pss", "swap", "hugetlb", "ksm")
"""What a row has from /proc, in bytes."""


class NobodyThere(UsageError):
    """No process is of the kind asked for: an error at first, no news in a watch."""


class Census(CensusWalks):
    """What a snapshot says. Nothing is computed before it is asked for, and everything once."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self.of_mm: I64 = np.full(self.graph.nr_mms, NONE)
        self._totals: dict[bytes | None, dict[str, int | None]] = {}
        self.of_mm[self.graph.processes.mm[::-1]] = np.arange(len(self.graph.processes.mm))[::-1]

    @cached_property
    def torn_mms(self) -> Bools:
        """By mm: whether its tree was caught changing."""
        return np.isin(self.families, self.families[np.array(self.snapshot.torn_mms, np.int64)])

    @cached_property
    def _depths(self) -> I64:
        return self.graph.depths

    # -- rows --------------------------------------------------------------------------------------------------------

    def processes(self) -> list[CensusRow]:
        """A row per address space, named by its first process."""
        return self._rows(np.arange(self.graph.nr_mms), whole_trees=False)

    def trees(self) -> list[CensusRow]:
        """A row per fork tree. Raises UsageError on a rung that knows of no anon_vmas."""
        if not self.snapshot.knows_anon_vmas:
            raise UsageError(
                f"fork trees need the anon_vma graph, and this is rung {int(self.snapshot.rung)} ({'; '.join(self.snapshot.missing)}): "
                "run as root, or leave --tree out"
            )
        return self._rows(self.families, whole_trees=True)

    def select(
        self, *, trees: bool, pid: int | None, comm: str | None, sort: str | None, where: str, cgroup: str | None = None
    ) -> tuple[list[CensusRow], I64 | None]:
        """Rows of processes or `trees`, and the mms they are about (None: all): all, or those of `pid`, `cgroup`, a name like `comm`.

        The most of column `sort` comes first (None: of rmap, or page tables), but the lowest PID. Raises UsageError for trees
        on a rung that knows of none, and NobodyThere, which says `where`.
        """
        rows, chosen = self.trees() if trees else self.processes(), None
        wanted = Wanted(pid, comm, cgroup, trees)
        if not wanted.everybody or self.snapshot.scope is not None:
            processes = self.graph.processes
            cgroups = self.snapshot.cgroups or [""] * len(processes.pid)
            meant = self.meant[processes.mm]
            each = zip(meant.tolist(), processes.pid.tolist(), map(as_name, processes.comm), cgroups, strict=True)
            there = np.array([mine and wanted.matches(*who) for mine, *who in each], np.bool_)
            if not there.any():
                raise NobodyThere(self._nobody(wanted, where))
            group = self.families if trees else np.arange(self.graph.nr_mms)
            groups = distinct(group[processes.mm[there]])
            chosen = np.flatnonzero(np.isin(group, groups))
            rows = [rows[i] for i in groups.tolist()]
        key = sort or ("rmap_bytes" if self.snapshot.knows_anon_vmas else "page_tables_bytes")
        rows.sort(key=lambda row: (getattr(row, key) is None, -(getattr(row, key) or 0), row.pid))
        if key == "pid":
            rows.reverse()
        return rows, chosen

    def estimated(self, rows: Sequence[CensusRow], *, trees: bool) -> list[CensusRow]:
        """The rows, with intervals in those whose pages were not all looked at."""
        if not self.sample.left_pages.any() or self.graph.pages is None:
            return list(rows)
        mm_of = dict(zip(self.graph.processes.pid.tolist(), self.graph.processes.mm.tolist(), strict=True))
        return [self._estimated(row, mm_of[row.pid], trees=trees) for row in rows]

    def _estimated(self, row: CensusRow, mm: int, *, trees: bool) -> CensusRow:
        mms = np.flatnonzero(self.families == self.families[mm]) if trees else np.array([mm])
        found = self.estimator(mms)
        if found is None or found.complete or row.useful is None:
            return row
        each = found.once if trees else np.ones(len(found.rows))
        top = int(self.sample.left_cover[mms].max())
        known = self.snapshot.knows_anon_vmas
        return replace(
            row,
            candidates=found.quantiles(self.page_candidates, each, top) if known else None,
            useful=found.quantiles(found.pages.mapcount, each, top if known else None),
        )

    def _nobody(self, wanted: Wanted, where: str) -> str:
        """Why there is nobody to show, and what to try."""
        if wanted.cgroup is not None and self.snapshot.scope is None and not any(self.snapshot.cgroups):
            return f"{where} says of no process in which cgroup it is: leave --cgroup out"
        if wanted.pid is None:
            said = {"name": wanted.comm, "cgroup": wanted.cgroup}
            asked = " and ".join(f"{what} {value!r}" for what, value in said.items() if value is not None)
            others = self._others(wanted) or "nobody that we see"
            return f"no process of {asked or 'those it is about'} with memory of its own on {where}: there are {others}"
        if any(text.startswith(f"{wanted.pid} ") for text in self.snapshot.unseen):
            rung = int(self.snapshot.rung)
            return f"process {wanted.pid} is there, but on rung {rung} the kernel does not show it: try another --pid"
        named = f" of name {wanted.comm}" if wanted.comm is not None else ""
        return f"no process {wanted.pid}{named} with memory of its own on {where}: it may have ended (see: ps -e)"

    def _others(self, wanted: Wanted) -> str:
        """The commonest names, or cgroups, of those it is about; of this machine's where a look found nobody to be about."""
        of_processes = self.meant[self.graph.processes.mm]
        if not of_processes.any():
            return wanted.others_there()
        names = self.snapshot.cgroups if wanted.only_cgroup else list(map(as_name, self.graph.processes.comm))
        return commonest(name for name, mine in zip(names, of_processes.tolist(), strict=False) if mine)

    def _rows(self, group: I64, *, whole_trees: bool) -> list[CensusRow]:
        graph, vmas, chains = self.graph, self.graph.vmas, self.graph.chains
        nr = int(group.max(initial=-1)) + 1
        of_vma = group[vmas.mm]
        head, torn = self._heads(group, nr), np.zeros(nr, np.bool_)
        torn[group[self.torn_mms]] = True
        memory = {
            figure: _sum_known(column[self.of_mm], group, nr)
            for figure, column in self.snapshot.footprints._asdict().items()
        }
        count = np.bincount(of_vma, minlength=nr)
        people = np.bincount(group[graph.processes.mm], minlength=nr)
        facts: dict[str, I64] = {}
        if self.snapshot.knows_anon_vmas:
            facts = self._anon_facts(group, of_vma[chains.vma], nr, whole_trees=whole_trees)
        quantiles = self._page_quantiles(group, nr, whole_trees=whole_trees)
        return [
            CensusRow(
                pid=int(graph.processes.pid[head[i]]),
                comm=as_name(graph.processes.comm[head[i]]),
                torn=bool(torn[i]) if self.snapshot.knows_anon_vmas else None,
                processes=int(people[i]),
                vmas=int(count[i]),
                candidates=quantiles[0][i],
                useful=quantiles[1][i],
                start_time_ns=int(graph.processes.start_time_ns[head[i]]),
                **{f"{figure}_bytes": memory[figure][i] for figure in MEMORY},
                **{fact: int(facts[fact][i]) if fact in facts else None for fact in FACTS},
            )
            for i in range(nr)
        ]

    def _heads(self, group: I64, nr: int) -> I64:
        """By group, the row of its oldest process."""
        processes = self.graph.processes
        order = np.lexsort((processes.pid, processes.start_time_ns))[::-1]
        head = np.zeros(nr, np.int64)
        head[group[processes.mm[order]]] = order
        return head

    def _anon_facts(self, group: I64, of_chain: I64, nr: int, *, whole_trees: bool) -> dict[str, I64]:
        """What the graph says of each group: counts, bytes, depth, the longest walk, roots and the root with most VMAs."""
        vmas, anon_vmas, chains = self.graph.vmas, self.graph.anon_vmas, self.graph.chains
        owned = vmas.anon_vma != NONE
        owner = group[vmas.mm[owned]]
        own = vmas.anon_vma[owned]
        of_anon = np.full(len(anon_vmas.root), NONE)
        if whole_trees:  # also those that no VMA owns any more
            of_anon[chains.anon_vma] = of_chain
        else:
            of_anon[own] = owner
        depth, longest = np.zeros(nr, np.int64), np.zeros(nr, np.int64)
        np.maximum.at(depth, owner, self._depths[own])
        anons, _, _, cover = self.graph.stretches
        most = np.zeros(len(anon_vmas.root), np.int64)
        np.maximum.at(most, anons, cover)
        np.maximum.at(longest, of_chain, most[chains.anon_vma])
        roots = unique_pairs(owner, anon_vmas.root[own])
        largest = np.zeros(nr, np.int64)
        all_of_root = np.bincount(anon_vmas.root[own], minlength=len(anon_vmas.root))
        np.maximum.at(largest, roots[0], all_of_root[roots[1]])
        nr_chains = np.bincount(of_chain, minlength=nr)
        nr_anon = np.bincount(of_anon[of_anon != NONE], minlength=nr)
        size = self.snapshot.sizes.by_cache
        facts = {
            "roots": np.bincount(roots[0], minlength=nr),
            "largest_root_vmas": largest,
            "anon_vmas": nr_anon,
            "chains": nr_chains,
            "depth": depth,
            "longest_walk": longest,
        }
        if "anon_vma" in size and "anon_vma_chain" in size:
            facts["rmap_bytes"] = nr_anon * size["anon_vma"] + nr_chains * size["anon_vma_chain"]
        return facts

    def _page_quantiles(
        self, group: I64, nr: int, *, whole_trees: bool
    ) -> tuple[list[Quantiles | None], list[Quantiles | None]]:
        """Of candidates and of useful visits, by group. In a tree a page weighs once; in one process each entry is a page."""
        pages = self.graph.pages
        if pages is None:
            return [None] * nr, [None] * nr
        used = np.flatnonzero(self.usable)
        pages = Pages._make(column[used] for column in pages)
        of_page = group[pages.mm]
        weight = pages.weight if whole_trees else pages.weight * pages.mapcount
        useful = quantiles(of_page, pages.mapcount, weight, nr)
        if not self.snapshot.knows_anon_vmas:
            return [None] * nr, useful
        return quantiles(of_page, self.page_candidates[used], weight, nr), useful

    # -- the rest ----------------------------------------------------------------------------------------------------

    def files(self, mms: I64 | None = None) -> list[FileRow]:
        """The files with most VMAs."""
        vmas, files = self.graph.vmas, self.graph.files
        chosen = (vmas.file != NONE) & self.those(mms)[vmas.mm]
        counts = np.bincount(vmas.file[chosen], minlength=len(files.inode))
        pairs = unique_pairs(vmas.file[chosen], vmas.mm[chosen])
        spaces = np.bincount(pairs[0], minlength=len(files.inode))
        rows = []
        for file in np.argsort(-counts, kind="stable")[:NR_FILES].tolist():
            device = int(files.device[file])
            where = f"{device >> 20:02x}:{device & 0xFFFFF:02x}"
            text = self.snapshot.file_names.get(file, f"inode {files.inode[file]} on {where}")
            if counts[file]:
                rows.append(FileRow(text, where, int(files.inode[file]), int(counts[file]), int(spaces[file])))
        return rows

    def designs(self, mms: I64 | None = None) -> list[Held]:
        """What the same machine, or these address spaces, would hold under each design, and do hold under their own."""
        return held_under_designs(self, mms)

    def totals(self, mms: I64 | None = None) -> dict[str, int | None]:
        """Of the whole machine, as far as it was seen, or of some address spaces. Memory is what each process says, added up."""
        key = None if mms is None else mms.tobytes()
        if key not in self._totals:
            self._totals[key] = self._add_up(mms)
        return dict(self._totals[key])

    def _add_up(self, mms: I64 | None) -> dict[str, int | None]:
        graph, those = self.graph, self.those(mms)
        known, size = self.snapshot.knows_anon_vmas, self.snapshot.sizes.by_cache
        on = those[graph.vmas.mm[graph.chains.vma]]
        nr_anon, nr_chains = len(distinct(graph.chains.anon_vma[on])), int(on.sum())
        sized = known and "anon_vma" in size and "anon_vma_chain" in size
        of_them = np.flatnonzero(those)
        one = np.zeros(len(of_them), np.int64)
        memory = self.snapshot.footprints._asdict()
        return {
            "processes": int(those[graph.processes.mm].sum()),
            "address_spaces": len(of_them),
            "trees": len(distinct(self.families[of_them])) if known else None,
            "vmas": int(those[graph.vmas.mm].sum()),
            "anon_vmas": nr_anon if known else None,
            "chains": nr_chains if known else None,
            "rmap_bytes": nr_anon * size["anon_vma"] + nr_chains * size["anon_vma_chain"] if sized else None,
            **{f"{figure}_bytes": _sum_known(memory[figure][self.of_mm[of_them]], one, 1)[0] for figure in MEMORY},
        }

    def as_json(
        self, rows: Sequence[CensusRow], what: str, mms: I64 | None = None, left_out: int = 0
    ) -> dict[str, Any]:
        """One JSON object: circumstances, totals, `rows` under the name `what`, walk, memory, objects, files, designs."""
        walk = self.walk(mms)
        return {
            **circumstances(self.snapshot),
            "totals_of": "the machine" if mms is None and self.snapshot.scope is None else "these address spaces",
            "totals": self.totals(mms),
            what: [row.as_json() for row in rows],
            "rows_left_out": left_out,
            "walk": walk.as_json() if walk else None,
            "memory": [asdict(row) for row in memory_rows(self.totals(mms), walk, self.snapshot.machine)],
            "objects": [asdict(row) for row in object_rows(self.totals(), self.snapshot)],
            "files": [asdict(row) for row in self.files(mms)],
            "designs": [held.as_json() for held in self.designs(mms)],
        }


def circumstances(snapshot: Snapshot) -> dict[str, Any]:
    """How the snapshot came about: it stands in every output. None for what is known of a graph only, where none was read."""
    known = snapshot.knows_anon_vmas
    return {
        "kernel": snapshot.kernel,
        "arch": snapshot.arch,
        "taken_at": snapshot.taken_at,
        "rung": int(snapshot.rung),
        "rung_means": TITLES[Rung(snapshot.rung)],
        "missing": list(snapshot.missing),
        "torn_dumps": snapshot.torn if known else None,
        "broken": list(snapshot.broken) if known else None,
        "hidden": {"children": snapshot.hidden[0], "vmas": snapshot.hidden[1]} if known else None,
        "unseen": list(snapshot.unseen),
        "ended": _nr_ended(snapshot),
        "pages": {
            "windows_read": snapshot.drawn.windows,
            "windows": snapshot.drawn.of,
            "seed": snapshot.drawn.seed,
            "confidence": None if snapshot.drawn.seed is None else 0.95,
        },
        "machine": dict(snapshot.machine),
        "object_sizes": {
            **{f"{name}_bytes": size for name, size in snapshot.sizes.by_cache.items()},
            "source": snapshot.sizes.source,
        },
    }


def _nr_ended(snapshot: Snapshot) -> int:
    """Processes that were asked for, and whose memory nobody knows."""
    meant = slice(None) if snapshot.scope is None else np.isin(snapshot.graph.processes.mm, snapshot.scope)
    return int((snapshot.footprints.page_tables[meant] == UNKNOWN).sum())


def _sum_known(values: I64, group: I64, nr: int) -> list[int | None]:
    """By group, the sum of what is known; None where nothing is."""
    known = values != UNKNOWN
    sums, counts = np.zeros(nr, np.int64), np.bincount(group[known], minlength=nr)
    np.add.at(sums, group[known], values[known])
    return [int(total) if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]
