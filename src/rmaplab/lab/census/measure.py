"""One machine that has lived through a history, measured: what came out alike, and walks for the same pages under every design.

    pages of the census --in strata by what their walks cost--> a sample, the same for every design, each page with its weight
    page tables of all tasks, read once --beside the census--> alike
                                        --beside each walk --> nothing missed, nothing invented, nothing told twice

A page is alike if whoever the census found mapping it maps one page in the model too, at the same address, and as many entries map
that as the census says.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug
from rmaplab.kernels.system import System
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.fork_history import FoundEntries, History
from rmaplab.machine.arrays import F64, I64, Bools
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.graph import NONE, Pages

VISITS = 2 << 20
"""Trees whose pages would take more visits under some design are sampled: some seconds of walks."""
LEAST = 32
"""Pages of each kind that are walked, if there are so many."""


class PagesToWalk(NamedTuple):
    """Pages to be walked, by number, a row of graph.pages for each, and for how many pages it stands."""

    page: I64
    row: I64
    weight: F64
    rows: I64
    """A row of graph.pages for every page that there is, walked or not."""


class Present(NamedTuple):
    """Every entry of every task's page tables, by frame: (PFN, node, address)."""

    pfn: I64
    node: I64
    address: I64


def sample_of(census: Census, history: History, pages: Pages) -> PagesToWalk:
    """All pages if VISITS allow; else so many of each kind, by visits and mappings, that none is left out. O(n log n)."""
    entries = history.entries
    nr = int(entries.page.max(initial=-1)) + 1
    row = np.zeros(nr, np.int64)
    row[entries.page[::-1]] = entries.row[::-1]
    weight = np.bincount(entries.page, pages.weight[entries.row], nr).astype(np.float64)
    vmas, root_of = census.graph.vmas, census.graph.anon_vmas.root
    on_root = np.bincount(root_of[vmas.anon_vma[vmas.anon_vma != NONE]], minlength=len(root_of))
    in_tree = np.bincount(census.families, minlength=1)
    visits, found, most = census.page_candidates[row], pages.mapcount[row], on_root[root_of[pages.anon_vma[row]]]
    cost = int((most + in_tree[census.families[pages.mm[row]]]).sum()) + 1
    if cost <= VISITS:
        return PagesToWalk(np.arange(nr), row, weight, row)
    kind = sum(
        (np.frexp(each)[1].astype(np.int64) << shift for each, shift in ((visits, 0), (found, 8), (most, 16))), row * 0
    )
    order = np.lexsort((pages.pgoff[row], pages.anon_vma[row], found, visits, kind))
    taken, weights = [], []
    for stratum in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        wanted = min(max(LEAST, len(stratum) * VISITS // cost), len(stratum))
        some = stratum[(np.arange(wanted) * 2 + 1) * len(stratum) // (2 * wanted)]
        taken.append(some)
        weights.append(weight[some] * (weight[stratum].sum() / weight[some].sum()))
    page = np.concatenate(taken)
    return PagesToWalk(page, row[page], np.concatenate(weights), row)


def read_all(system: System, tasks: Sequence[Task]) -> Present:
    """What everybody maps, but for the zero page."""
    none = np.empty(0, np.int64)
    found = [(none, none, none)]
    for i, task in enumerate(tasks):
        if task.mm is not None:
            there = read_page_tables(system.machine, task.mm.pgd)[0]
            real = there.pfns != ZERO_PFN
            found.append((there.pfns[real], np.full(int(real.sum()), i), there.addresses[real]))
    pfn, node, address = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((address, node, pfn))
    return Present(pfn[order], node[order], address[order])


def compare(there: Present, entries: FoundEntries, mapcount: I64) -> tuple[I64, Bools]:
    """By page of the census: the model's frame, 0 if none, and whether it is alike; `mapcount` is that of the census, by entry."""
    nr = int(entries.page.max(initial=-1)) + 1
    by_place = np.lexsort((there.address, there.node))
    places = np.stack([there.node, there.address >> 12])[:, by_place]
    key, wanted = places[0] << 40 | places[1], entries.node << 40 | entries.address >> 12
    at = np.searchsorted(key, wanted).clip(max=max(len(key) - 1, 0))
    found = np.zeros(len(wanted), np.int64)
    if len(key):
        found = np.where(key[at] == wanted, there.pfn[by_place][at], 0)
    count = np.searchsorted(there.pfn, found, side="right") - np.searchsorted(there.pfn, found)
    pfns = np.zeros(nr, np.int64)
    pfns[entries.page] = found
    wrong = (found != pfns[entries.page]) | (found == 0) | (count != mapcount)
    like = np.ones(nr, np.bool_)
    like[entries.page[wrong]] = False
    return pfns, like


def walk_all(system: System, tasks: Sequence[Task], there: Present, pfns: I64) -> tuple[I64, I64]:
    """(visits, mappings found) by page; a slot or an entry found is a visit too. KernelBug if a walk is wrong: `there` is the judge."""
    ledger = system.machine.ledger
    node_of = {task.mm.address: i for i, task in enumerate(tasks) if task.mm is not None}
    unfindable = system.kernel.rmap.declared_unfindable()
    visits, useful = np.zeros(len(pfns), np.int64), np.zeros(len(pfns), np.int64)
    first, last = np.searchsorted(there.pfn, pfns), np.searchsorted(there.pfn, pfns, side="right")
    for i, (pfn, low, high) in enumerate(zip(pfns.tolist(), first.tolist(), last.tolist(), strict=True)):
        before = ledger.visits
        answer = sorted((node_of[found.mm.address], found.address) for found in system.kernel.rmap.walk(pfn))
        visits[i], useful[i] = max(ledger.visits - before, len(answer)), len(answer)
        real = list(zip(there.node[low:high].tolist(), there.address[low:high].tolist(), strict=True))
        if answer != real and not (pfn in unfindable and set(answer) <= set(real)):
            raise KernelBug(
                "rebuild", f"page {pfn} is mapped {len(real)} times, and the walk finds {len(answer)} mappings"
            )
    return visits, useful
