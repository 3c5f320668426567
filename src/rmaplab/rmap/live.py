"""What a design would hold on a live machine, and how much its walks would visit there: read off the graph of the machine's own reverse map.

    design          objects                                            visits for a page
    pte_chain       blocks, by the mapcounts of anonymous pages        as many as entries map it
    anonmm          one per address space                              one if the page is its own mm's, else at most the family's
    anon_vma        one per root anon_vma: 2004's had no children      all VMAs of the root, whether or not they cover it
    anon_vma_chain  its anon_vmas and chains                           the VMAs on the page's anon_vma that cover it

A design says by `live` which of these is its own; for the census (`rmaplab live`). One that says nothing is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64, distinct
from rmaplab.machine.hardware import Hardware
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, Graph, Pages


class Sight(NamedTuple):
    """A live machine: its graph, as far as somebody looked, whether that has anon_vmas, and what the machine is."""

    graph: Graph
    knows_anon_vmas: bool
    hardware: Hardware


class Live(NamedTuple):
    """`held` counts objects by name, or says what it would have to know; `visits` are those of a walk from each of these pages.

    `of_pages`, where the count is a sum over pages: how many objects each has.
    """

    held: Callable[[Sight], dict[str, int] | str]
    visits: Callable[[Graph, Pages], I64] | None
    note: str = ""
    of_pages: Callable[[Pages, Hardware], I64] | None = None


NO_GRAPH = "needs the anon_vma graph"


def _nothing(sight: Sight) -> dict[str, int]:
    return {}


def _blocks_of(pages: Pages, hardware: Hardware) -> I64:
    """A block holds a next-and-index word and the rest of a cache line in slots; a page mapped once has none."""
    slots = hardware.l1_cache_bytes // 8 - 1
    return np.where(pages.mapcount > 1, -(-pages.mapcount // slots), 0)


def _blocks(sight: Sight) -> dict[str, int] | str:
    pages = sight.graph.pages
    if pages is None:
        return "needs pages: CAP_SYS_ADMIN"
    return {"pte_chain": round(float((_blocks_of(pages, sight.hardware) * pages.weight).sum()))}


def _one_per_mm(sight: Sight) -> dict[str, int]:
    return {"anonmm": sight.graph.nr_mms}


def _roots(sight: Sight) -> dict[str, int] | str:
    return {"anon_vma": len(distinct(sight.graph.anon_vmas.root))} if sight.knows_anon_vmas else NO_GRAPH


def _anon_vmas_and_chains(sight: Sight) -> dict[str, int] | str:
    if not sight.knows_anon_vmas:
        return NO_GRAPH
    return {"anon_vma": len(sight.graph.anon_vmas.root), "anon_vma_chain": len(sight.graph.chains.vma)}


def _entries(graph: Graph, pages: Pages) -> I64:
    return pages.mapcount


def _family(graph: Graph, pages: Pages) -> I64:
    """A page that its anon_vma's owner maps, and nobody else, is found at once; for others the family is tried."""
    owner = np.full(len(graph.anon_vmas.root), NONE)
    owned = np.flatnonzero(graph.vmas.anon_vma != NONE)
    owner[graph.vmas.anon_vma[owned]] = graph.vmas.mm[owned]
    family = graph.families
    at_most = np.bincount(family)[family[pages.mm]]
    return np.where((pages.mapcount == 1) & (owner[pages.anon_vma] == pages.mm), 1, at_most)


def _vmas_of_root(graph: Graph, pages: Pages) -> I64:
    """2.6.5-rc1-aa1 walks a plain list: also VMAs that do not cover the index are visited."""
    owned = graph.vmas.anon_vma[graph.vmas.anon_vma != NONE]
    root = graph.anon_vmas.root
    return np.bincount(root[owned], minlength=len(root))[root[pages.anon_vma]]


def _who_covers(graph: Graph, pages: Pages) -> I64:
    return candidates_of(pages, graph.stretches)


SEARCHES = Live(_nothing, None, "searches instead")
CHAINS = Live(_blocks, _entries, "for anonymous pages only; it would hold blocks for file pages too", _blocks_of)
FAMILIES = Live(_one_per_mm, _family, "address spaces alive; one that ended stays while its pages do")
ROOTS = Live(_roots, _vmas_of_root, "one per root: a child shared its parent's")
ANON_VMAS = Live(_anon_vmas_and_chains, _who_covers, "sizeof; a slot of the slab may be larger")
