"""A saved census, lived through again in the model, under any design: its walks, its objects, and how much of it came out alike.

    census --lab/census/fork_history.py--> history --lab/census/relive.py, on 6.18+DESIGN--> tasks --walk(pfn)--> visits
                                                                                 `--beside the census: pages, VMAs alike

VMAs without an anon_vma are left out: no walk for an anonymous page meets them. A page is alike if whoever the census found
mapping it maps one page in the model too, at the same addresses, and as many entries map that as the census says. Every
machine is checked, its walks against the judge, before it is measured.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import find_design
from rmaplab.kernels.system import System
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.fork_history import FoundEntries, History, history_of
from rmaplab.lab.census.relive import KERNEL, relive
from rmaplab.lab.census.visits import Quantiles, quantiles
from rmaplab.machine.arrays import I64
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.graph import NONE, Pages

MAX_ENTRIES = 1 << 18  # a GiB if nothing is shared; trees beyond that are left out, and it is said
WALKS = 2000


@dataclass(frozen=True)
class Chosen:
    """What of a census is lived through again, whole trees, and what is left out.

    `vmas` are those with an anon_vma, `ended` processes of which only anon_vmas were left; `unplaced` entries are of pages whose anon_vma
    is not in the census. `complete`: the census has every entry, and is no sample.
    """

    mms: I64
    trees: int
    trees_left_out: int
    entries_left_out: int
    vmas: int
    pages: int
    entries: int
    ended: int
    unplaced: int
    complete: bool

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**{name: value for name, value in vars(self).items() if name != "mms"}, "address_spaces": len(self.mms)}


@dataclass(frozen=True)
class WalkedUnder:
    """One design's row. `vmas` and `pages` are those that are as in the census.

    `like_live`, for the design of the live kernel: walks that made as many visits as its graph says. `copied` pages mremap had to copy.
    """

    design: str
    vmas: int
    pages: int
    walks: int
    visits: Quantiles | None
    useful: Quantiles | None
    wasted_share: float | None
    like_live: int | None
    objects: dict[str, int]
    objects_bytes: int | None
    copied: int
    wall_s: float

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def check_census(census: Census, source: str) -> None:
    """Raises UsageError for a census that does not have what it takes."""
    snapshot = census.snapshot
    if not snapshot.knows_anon_vmas or census.graph.pages is None:
        rung = int(snapshot.rung)
        raise UsageError(
            f"{source} was taken on rung {rung} of 4 and does not say who shares which page: save a census as root"
        )
    if snapshot.arch != "x86_64":
        raise UsageError(f"{source} is of {snapshot.arch}, and the model lives through x86_64 only: save one there")


def choose(census: Census, heads: Sequence[int], top: int = 0) -> tuple[Chosen, History, Pages]:
    """Trees in the order of `heads` (their pids), the first `top` (0: all), as many as MAX_ENTRIES allow; and their history.

    The census is one that check_census() lets pass. Raises UsageError if every tree is too large.
    """
    pages = census.graph.pages
    if pages is None:
        raise KernelBug("rebuild", "a census without pages was let pass")
    row_of = dict(zip(census.graph.processes.pid.tolist(), census.graph.processes.mm.tolist(), strict=True))
    of_page = np.bincount(census.families[pages.mm], minlength=int(census.families.max(initial=-1)) + 1)
    trees = [int(census.families[row_of[pid]]) for pid in heads]
    taken: list[int] = []
    for tree in trees[: top or len(trees)]:
        if of_page[taken].sum() + of_page[tree] <= MAX_ENTRIES:
            taken.append(tree)
    if not taken:
        raise UsageError(
            f"each of these trees maps more than {MAX_ENTRIES:,} pages, too many to be lived through: choose another with --pid"
        )
    mms = np.flatnonzero(np.isin(census.families, taken))
    history = history_of(census.graph, pages, mms)
    vmas = census.graph.vmas
    chosen = Chosen(
        mms=mms,
        trees=len(taken),
        trees_left_out=len(trees) - len(taken),
        entries_left_out=int(of_page[trees].sum() - of_page[taken].sum()),
        vmas=int(((vmas.anon_vma != NONE) & np.isin(vmas.mm, mms)).sum()),
        pages=len(np.unique(pages.pfn[np.isin(pages.mm, mms)])),
        entries=int(of_page[taken].sum()),
        ended=sum(node.mm == NONE for node in history.nodes),
        unplaced=int(of_page[taken].sum()) - len(history.entries.row),
        complete=_is_complete(pages, history.entries),
    )
    return chosen, history, pages


def walk_under(design: str, census: Census, chosen: Chosen, history: History, pages: Pages) -> WalkedUnder:
    """Live through the history under a design, check everything, then walk. Raises as relive()."""
    began = time.perf_counter()
    own = find_design(design).path == find_kernel(KERNEL).design
    system, tasks = relive(design, history, complete=chosen.complete)
    system.check()
    pfns, like = _compare(system, history.entries, pages, tasks)
    alike = np.flatnonzero(like)
    first = np.unique(history.entries.page, return_index=True)[1]
    sample = alike[np.unique(np.linspace(0, max(len(alike) - 1, 0), min(WALKS, len(alike))).astype(np.int64))]
    visits, useful = _walk(system, pfns[sample])
    rows = history.entries.row[first[sample]]
    weight = np.bincount(history.entries.page, pages.weight[history.entries.row], len(like))[sample].astype(np.float64)
    one = np.zeros(len(sample), np.int64)
    caches = system.kernel.design.caches()
    total = float((visits * weight).sum())
    as_live = int((visits == census.page_candidates[rows]).sum()) if own else None
    return WalkedUnder(
        design=design,
        vmas=_vmas_alike(history, tasks),
        pages=len(alike),
        walks=len(sample),
        visits=quantiles(one, visits, weight, 1)[0],
        useful=quantiles(one, useful, weight, 1)[0],
        wasted_share=1 - float((useful * weight).sum()) / total if total else None,
        like_live=as_live,
        objects={cache.name: cache.nr_objects for cache in caches},
        objects_bytes=sum(cache.bytes for cache in caches),
        copied=system.machine.ledger.counts.get("mremap_copy", 0),
        wall_s=time.perf_counter() - began,
    )


def on_the_machine(census: Census, chosen: Chosen, history: History, pages: Pages) -> WalkedUnder:
    """The same row as it was on the live machine, over all pages of these trees."""
    row = history.entries.row
    one = np.zeros(len(row), np.int64)
    visits, useful, weight = census.page_candidates[row], pages.mapcount[row], pages.weight[row]
    chains, size = census.graph.chains, census.snapshot.sizes.by_cache
    of_them = np.isin(census.graph.vmas.mm[chains.vma], chosen.mms)
    objects = {"anon_vma": len(np.unique(chains.anon_vma[of_them])), "anon_vma_chain": int(of_them.sum())}
    known = all(name in size for name in objects)
    total = float((visits * weight).sum())
    return WalkedUnder(
        design="on the live machine",
        vmas=chosen.vmas,
        pages=chosen.pages,
        walks=0,
        visits=quantiles(one, visits, weight, 1)[0],
        useful=quantiles(one, useful, weight, 1)[0],
        wasted_share=max(1 - float((useful * weight).sum()) / total, 0.0) if total else None,
        like_live=None,
        objects=objects,
        objects_bytes=sum(size[name] * nr for name, nr in objects.items()) if known else None,
        copied=0,
        wall_s=0.0,
    )


def _is_complete(pages: Pages, entries: FoundEntries) -> bool:
    """Whether the census has every entry: else what it lacks may have been there."""
    return bool(np.allclose(pages.weight[entries.row] * pages.mapcount[entries.row], 1))


def _vmas_alike(history: History, tasks: Sequence[Task]) -> int:
    """How many VMAs of the census are there, between the same addresses."""
    nr = 0
    for node, task in zip(history.nodes, tasks, strict=True):
        there = {(vma.start, vma.end) for vma in task.mm.vmas} if task.mm else set()
        nr += sum((piece.address, piece.end) in there for piece in (*node.kept, *node.late))
    return nr


def _compare(system: System, entries: FoundEntries, pages: Pages, tasks: list[Task]) -> tuple[I64, Any]:
    """By page of the census: the model's frame, and whether it is mapped by all whom the census found, and as often as it says."""
    found = np.zeros(len(entries.page), np.int64)
    mapcount = np.zeros(system.machine.frames.nr, np.int64)
    for i, task in enumerate(tasks):
        if task.mm is None:
            continue
        present = read_page_tables(system.machine, task.mm.pgd)[0]
        mapcount += np.bincount(present.pfns, minlength=len(mapcount))
        mine = np.flatnonzero(entries.node == i)
        if len(mine) and len(present.pfns):
            at = np.searchsorted(present.addresses, entries.address[mine]).clip(max=len(present.pfns) - 1)
            found[mine] = np.where(present.addresses[at] == entries.address[mine], present.pfns[at], 0)
    nr = int(entries.page.max(initial=-1)) + 1
    pfns = np.zeros(nr, np.int64)
    pfns[entries.page] = found
    wrong = (found != pfns[entries.page]) | (found == 0) | (mapcount[found] != pages.mapcount[entries.row])
    like = np.ones(nr, np.bool_)
    like[entries.page[wrong]] = False
    return pfns, like


def _walk(system: System, pfns: I64) -> tuple[I64, I64]:
    """(visits, mappings found) by page; a slot or an entry found is a visit too."""
    ledger = system.machine.ledger
    visits, useful = np.empty(len(pfns), np.int64), np.empty(len(pfns), np.int64)
    for i, pfn in enumerate(pfns.tolist()):
        before = ledger.visits
        useful[i] = len(list(system.kernel.rmap.walk(pfn)))
        visits[i] = max(ledger.visits - before, useful[i])
        if not useful[i]:
            raise KernelBug("rebuild", f"page {pfn} is mapped, and the walk finds nothing")
    return visits, useful
