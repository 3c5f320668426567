"""At which address of its process a page of a census is: a census knows its index only.

    VMAs of one process and root     index 10 ------ 20      first come, mapped at 10000
                                     index 15 ------ 18      what was there has moved here, and something new is in its place
    a page of index 16               may be in either

Mostly one VMA covers the index. Where several do, it is in one that hangs on the page's anon_vma, and no two pages are in one place;
of what is left, the place where most others have the page too. A page that finds none free is nowhere: it changed while it was read.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, Graph, Pages


def coverers(owner: I64, index: I64, owners: I64, first: I64, nr: I64) -> tuple[I64, I64]:
    """Every (query, stretch) such that the stretch [first, first + nr) of `owners` covers the query's `index` of `owner`.

    In order of queries; of one query the stretch that begins last comes first. Stretches may overlap, in any order.
    O((n + found) log n), and once more for each stretch that lies between.
    """
    order = np.lexsort((first, owners))
    owners, first, last = owners[order], first[order], (first + nr)[order]
    top = _furthest(owners, last)
    starts = np.searchsorted(owners, owner)
    at = starts + _count_begun(owner, index, owners, first) - 1
    query = np.arange(len(owner))
    found: list[tuple[I64, I64]] = []
    while True:
        kept = at >= starts[query]
        query, at = query[kept], at[kept]
        kept = top[at] > index[query]
        query, at = query[kept], at[kept]
        if not len(query):
            break
        hit = last[at] > index[query]
        found.append((query[hit], order[at[hit]]))
        at = at - 1
    queries, stretches = (np.concatenate([part[i] for part in found] or [_NOTHING]) for i in (0, 1))
    by_query = np.argsort(queries, kind="stable")
    return queries[by_query], stretches[by_query]


_NOTHING: I64 = np.empty(0, np.int64)


def _furthest(owners: I64, last: I64) -> I64:
    """By stretch, the furthest end of those of its owner up to it."""
    group = np.cumsum(np.concatenate([[0], np.diff(owners) != 0])) if len(owners) else owners
    width = int(last.max(initial=0)) + 1
    if len(owners) and (int(group[-1]) + 1) * width < 1 << 62:
        return np.maximum.accumulate(group * width + last) - group * width
    top = last.copy()  # an index near 2^52 in thousands of groups
    for i in range(1, len(top)):
        if group[i] == group[i - 1]:
            top[i] = max(top[i], top[i - 1])
    return top


def _count_begun(owner: I64, index: I64, owners: I64, first: I64) -> I64:
    """By query: how many stretches of its owner begin at its index or before."""
    nr = len(owners)
    kinds = np.concatenate([np.zeros(nr, np.int64), np.ones(len(owner), np.int64)])
    order = np.lexsort((kinds, np.concatenate([first, index]), np.concatenate([owners, owner])))
    begun = np.empty(len(order), np.int64)
    begun[order] = np.cumsum(order < nr)
    return begun[nr:] - np.searchsorted(owners, owner)


def place(graph: Graph, pages: Pages, row: I64) -> I64:
    """The address of each of these rows of `pages` in its process, NONE where there is none. No two are in one place. O(n log n)."""
    vmas, root_of = graph.vmas, graph.anon_vmas.root
    anons = np.flatnonzero(vmas.anon_vma != NONE)
    width = len(root_of)
    keys = vmas.mm[anons] * width + root_of[vmas.anon_vma[anons]]
    wanted = pages.mm[row] * width + root_of[pages.anon_vma[row]]
    query, stretch = coverers(wanted, pages.pgoff[row], keys, vmas.pgoff[anons], vmas.nr_pages[anons])
    vma = anons[stretch]
    there = vmas.start[vma] + (pages.pgoff[row[query]] - vmas.pgoff[vma] << 12)
    address = np.full(len(row), NONE)
    address[query[::-1]] = there[::-1]  # the last to begin
    often = np.bincount(query, minlength=len(row)) > 1
    unsure = often[query]
    if unsure.any():
        hang = _hanging(graph, vma[unsure], pages.anon_vma[row[query[unsure]]])
        _choose(pages.pfn[row], pages.mm[row], address, query[unsure], there[unsure], hang)
    _, one = np.unique(np.stack([pages.mm[row], address]), axis=1, return_index=True)
    alone = np.zeros(len(row), np.bool_)
    alone[one] = True
    return np.where(alone, address, NONE)


def _hanging(graph: Graph, vma: I64, anon_vma: I64) -> list[bool]:
    """Whether each VMA hangs on the anon_vma beside it."""
    chains = graph.chains
    there = np.isin(chains.vma, vma)
    pairs = set(zip(chains.vma[there].tolist(), chains.anon_vma[there].tolist(), strict=True))
    return [pair in pairs for pair in zip(vma.tolist(), anon_vma.tolist(), strict=True)]


def _choose(pfn: I64, mm: I64, address: I64, query: I64, there: I64, hang: Iterable[bool]) -> None:
    """Set the address of each query, of which several are to be had: page by page, those first that most have, where most can have it."""
    unsure = np.unique(query)
    sure = np.ones(len(address), np.bool_)
    sure[unsure] = False
    sure &= np.isin(pfn, pfn[unsure]) | np.isin(mm, mm[unsure])
    taken = set(zip(mm[sure].tolist(), address[sure].tolist(), strict=True))
    votes: dict[int, Counter[int]] = {}
    for page, where in zip(pfn[sure].tolist(), address[sure].tolist(), strict=True):
        votes.setdefault(page, Counter())[where] += 1
    ways: dict[int, dict[int, bool]] = {}
    for i, where, hangs in zip(query.tolist(), there.tolist(), hang, strict=True):
        ways.setdefault(i, {})[where] = hangs
    of_page: dict[int, dict[int, list[int]]] = {}
    for i, hanging in ways.items():
        places = [where for where, hangs in hanging.items() if hangs] or list(hanging)
        if len(places) > 1:
            of_page.setdefault(int(pfn[i]), {})[i] = places
        else:
            address[i] = places[0]
            taken.add((int(mm[i]), places[0]))
            votes.setdefault(int(pfn[i]), Counter())[places[0]] += 1
    for page in sorted(of_page, key=lambda page: (-len(of_page[page]), page)):
        liked = votes.get(page, Counter())
        for i, places in of_page[page].items():
            liked.update(where for where in places if (int(mm[i]), where) not in taken)
        for i, places in of_page[page].items():
            free = [where for where in places if (int(mm[i]), where) not in taken]
            address[i] = max(free, key=lambda where: (liked[where], -where), default=NONE)
            taken.add((int(mm[i]), int(address[i])))
