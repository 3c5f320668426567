"""A census of the reverse map of a real machine: who holds it, how long its walks are, what else it could be.

    snapshot (host/snapshot.py) --group by address space--> a CensusRow per process
                                --group by family---------> a CensusRow per fork tree: address spaces that share root anon_vmas
                                --pages x stretches-------> Walk: candidates and useful visits per page
                                --size rules of designs---> what the same machine would hold under each (lab/census/designs.py)

A walk for a page visits every VMA that hangs on its anon_vma and covers its index: those are the candidates, and they follow from
the graph alone. Useful is a visit that finds the page mapped; that takes the page's mapcount. Everything is NumPy over columns.
"""

from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.host.snapshot import TITLES, Rung, Snapshot
from rmaplab.lab.census.designs import Held, held_under_designs
from rmaplab.lab.census.rows import CensusRow, FileRow
from rmaplab.lab.census.visits import Quantiles, Walk, quantiles
from rmaplab.machine.arrays import I64, Bools
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, UNKNOWN, unique_pairs

NR_FILES = 10
FACTS = ("roots", "largest_root_vmas", "anon_vmas", "chains", "rmap_bytes", "depth", "longest_walk")
"""What a row has from the graph: none of it on a rung that knows of no anon_vmas."""


class NobodyThere(UsageError):
    """No process is of the kind asked for: an error at first, no news in a watch."""


class Census:
    """What a snapshot says. Nothing is computed before it is asked for, and everything once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.graph = snapshot.graph
        self.of_mm: I64 = np.full(self.graph.nr_mms, NONE)
        self.of_mm[self.graph.processes.mm[::-1]] = np.arange(len(self.graph.processes.mm))[::-1]

    # -- the graph, once ---------------------------------------------------------------------------------------------

    @cached_property
    def families(self) -> I64:
        """By mm: its fork tree."""
        return self.graph.families()

    @cached_property
    def torn_mms(self) -> Bools:
        """By mm: whether its tree was caught changing."""
        return np.isin(self.families, self.families[np.array(self.snapshot.torn_mms, np.int64)])

    @cached_property
    def _depths(self) -> I64:
        return self.graph.depths()

    @cached_property
    def stretches(self) -> tuple[I64, I64, I64, I64]:
        """Graph.candidates()."""
        return self.graph.candidates()

    @cached_property
    def page_candidates(self) -> I64:
        """By page of the sample: the VMAs a walk for it visits; 0 if its anon_vma is not in the graph."""
        pages = self.graph.pages
        return np.zeros(0, np.int64) if pages is None else candidates_of(pages, self.stretches)

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
        self, *, trees: bool, pid: int | None, comm: str | None, sort: str | None, where: str
    ) -> tuple[list[CensusRow], I64 | None]:
        """Rows of processes or `trees`, and the mms they are about (None: all): all, or those of `pid` and of a name like `comm`.

        The most of column `sort` comes first (None: of rmap, or page tables), but the lowest PID. Raises UsageError for trees
        on a rung that knows of none, and NobodyThere, which says `where`.
        """
        rows, chosen = self.trees() if trees else self.processes(), None
        if pid is not None or comm is not None:
            processes = self.graph.processes
            wanted = np.ones(len(processes.pid), np.bool_)
            if pid is not None:
                wanted &= processes.pid == pid
            if comm is not None:
                wanted &= np.array([fnmatchcase(name(each), comm) for each in processes.comm], np.bool_)
            if not wanted.any():
                raise NobodyThere(self._nobody(pid, comm, where))
            group = self.families if trees else np.arange(self.graph.nr_mms)
            groups = np.unique(group[processes.mm[wanted]])
            chosen = np.flatnonzero(np.isin(group, groups))
            rows = [rows[i] for i in groups.tolist()]
        key = sort or ("rmap_bytes" if self.snapshot.knows_anon_vmas else "page_tables_bytes")
        rows.sort(key=lambda row: (getattr(row, key) is None, -(getattr(row, key) or 0), row.pid))
        if key == "pid":
            rows.reverse()
        return rows, chosen

    def _nobody(self, pid: int | None, comm: str | None, where: str) -> str:
        """Why there is nobody to show, and what to try."""
        if pid is None:
            return f"no process of name {comm!r} with memory of its own on {where}: try a pattern such as 'redis*'"
        if any(text.startswith(f"{pid} ") for text in self.snapshot.unseen):
            rung = int(self.snapshot.rung)
            return f"process {pid} is there, but on rung {rung} the kernel does not show it: try another --pid"
        named = f" of name {comm}" if comm is not None else ""
        return f"no process {pid}{named} with memory of its own on {where}: it may have ended (see: ps -e)"

    def _rows(self, group: I64, *, whole_trees: bool) -> list[CensusRow]:
        graph, vmas, chains = self.graph, self.graph.vmas, self.graph.chains
        nr = int(group.max(initial=-1)) + 1
        of_vma = group[vmas.mm]
        head, torn = self._heads(group, nr), np.zeros(nr, np.bool_)
        torn[group[self.torn_mms]] = True
        memory = [_sum_known(column[self.of_mm], group, nr) for column in self.snapshot.footprints]
        count = np.bincount(of_vma, minlength=nr)
        people = np.bincount(group[graph.processes.mm], minlength=nr)
        facts: dict[str, I64] = {}
        if self.snapshot.knows_anon_vmas:
            facts = self._anon_facts(group, of_vma[chains.vma], nr, whole_trees=whole_trees)
        quantiles = self._page_quantiles(group, nr, whole_trees=whole_trees)
        return [
            CensusRow(
                pid=int(graph.processes.pid[head[i]]),
                comm=name(graph.processes.comm[head[i]]),
                torn=bool(torn[i]) if self.snapshot.knows_anon_vmas else None,
                processes=int(people[i]),
                vmas=int(count[i]),
                candidates=quantiles[0][i],
                useful=quantiles[1][i],
                page_tables_bytes=memory[0][i],
                pss_bytes=memory[2][i],
                private_bytes=memory[3][i],
                shared_bytes=memory[4][i],
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
        anons, _, _, cover = self.stretches
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

    # -- walks -------------------------------------------------------------------------------------------------------

    def _page_quantiles(
        self, group: I64, nr: int, *, whole_trees: bool
    ) -> tuple[list[Quantiles | None], list[Quantiles | None]]:
        """Of candidates and of useful visits, by group. In a tree a page weighs once; in one process each entry is a page."""
        pages = self.graph.pages
        if pages is None:
            return [None] * nr, [None] * nr
        of_page = group[pages.mm]
        weight = pages.weight if whole_trees else pages.weight * pages.mapcount
        useful = quantiles(of_page, pages.mapcount, weight, nr)
        if not self.snapshot.knows_anon_vmas:
            return [None] * nr, useful
        known = pages.anon_vma != NONE
        return quantiles(of_page[known], self.page_candidates[known], weight[known], nr), useful

    def walk(self, mms: I64 | None = None) -> Walk | None:
        """Over all pages, or over those found in some address spaces; None where nothing is known."""
        pages = self.graph.pages
        if pages is not None:
            chosen = np.ones(len(pages.pfn), np.bool_) if mms is None else np.isin(pages.mm, mms)
            if self.snapshot.knows_anon_vmas:
                chosen &= pages.anon_vma != NONE
            weight, useful = pages.weight[chosen], pages.mapcount[chosen]
            zero = np.zeros(len(weight), np.int64)
            total, sampled = round(float(weight.sum())), len(np.unique(pages.pfn[chosen]))
            useful_q = quantiles(zero, useful, weight, 1)[0]
            if not self.snapshot.knows_anon_vmas:
                return Walk("pages of private memory", total, sampled, None, useful_q, None)
            visits = self.page_candidates[chosen]
            wasted = 1 - float((useful * weight).sum() / max((visits * weight).sum(), 1e-9)) if len(weight) else None
            wasted = None if wasted is None else max(wasted, 0.0)
            return Walk("anonymous pages", total, sampled, quantiles(zero, visits, weight, 1)[0], useful_q, wasted)
        if not self.snapshot.knows_anon_vmas:
            return None
        owner, _, length, cover = self.stretches
        if mms is not None:
            of_them = np.isin(self.graph.vmas.mm[self.graph.chains.vma], mms)
            chosen = np.isin(owner, self.graph.chains.anon_vma[of_them])
            length, cover = length[chosen], cover[chosen]
        zero, total = np.zeros(len(length), np.int64), int(length.sum())
        found = quantiles(zero, cover, length.astype(np.float64), 1)[0]
        return Walk("indexes that anon_vmas cover, a page there or not", total, total, found, None, None)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def files(self, mms: I64 | None = None) -> list[FileRow]:
        """The files with most VMAs."""
        vmas, files = self.graph.vmas, self.graph.files
        chosen = vmas.file != NONE
        if mms is not None:
            chosen &= np.isin(vmas.mm, mms)
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

    def designs(self) -> list[Held]:
        """What the same machine would hold under each design, and does hold under its own."""
        return held_under_designs(self.snapshot)

    def totals(self) -> dict[str, int | None]:
        """Of the whole machine, as far as it was seen."""
        graph, snapshot = self.graph, self.snapshot
        known = snapshot.knows_anon_vmas
        size, first = snapshot.sizes.by_cache, snapshot.footprints
        nr_anon, nr_chains = len(graph.anon_vmas.root), len(graph.chains.vma)
        sized = known and "anon_vma" in size and "anon_vma_chain" in size
        one = np.zeros(graph.nr_mms, np.int64)
        memory = {
            name: _sum_known(getattr(first, name)[self.of_mm], one, 1)[0] for name in ("page_tables", "private", "pss")
        }
        return {
            "processes": len(graph.processes.pid),
            "address_spaces": graph.nr_mms,
            "trees": int(self.families.max(initial=-1)) + 1 if known else None,
            "vmas": len(graph.vmas.mm),
            "anon_vmas": nr_anon if known else None,
            "chains": nr_chains if known else None,
            "rmap_bytes": nr_anon * size["anon_vma"] + nr_chains * size["anon_vma_chain"] if sized else None,
            "page_tables_bytes": memory["page_tables"],
            "private_bytes": memory["private"],
            "pss_bytes": memory["pss"],
        }

    def as_json(self, rows: Sequence[CensusRow], what: str, mms: I64 | None = None) -> dict[str, Any]:
        """One JSON object: circumstances, totals, `rows` under the name `what`, walk, files, designs."""
        snapshot, walk = self.snapshot, self.walk(mms)
        return {
            **circumstances(snapshot),
            "totals": self.totals(),
            what: [row.as_json() for row in rows],
            "walk": walk.as_json() if walk else None,
            "files": [asdict(row) for row in self.files(mms)],
            "designs": [held.as_json() for held in self.designs()],
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
        "ended": int((snapshot.footprints.page_tables == UNKNOWN).sum()),
        "object_sizes": {
            **{f"{name}_bytes": size for name, size in snapshot.sizes.by_cache.items()},
            "source": snapshot.sizes.source,
        },
    }


def name(comm: bytes) -> str:
    """A process's name, fit to print."""
    return printable(comm.split(b"\0")[0].decode(errors="surrogateescape"))


def _sum_known(values: I64, group: I64, nr: int) -> list[int | None]:
    """By group, the sum of what is known; None where nothing is."""
    known = values != UNKNOWN
    sums, counts = np.zeros(nr, np.int64), np.bincount(group[known], minlength=nr)
    np.add.at(sums, group[known], values[known])
    return [int(total) if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]
