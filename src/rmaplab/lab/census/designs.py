"""What the same machine would hold under the designs we have: their own object sizes times what the snapshot counts.

    design          objects on this machine                            and in every
    virtual_scan    -                                                  -
    pte_chain       blocks, by the mapcounts of its anonymous pages    struct page
    anonmm          one per address space                              struct page, mm
    anon_vma        one per root anon_vma: 2004's had no children      struct page, VMA
    this kernel     its anon_vmas and chains, by its own slabs

Sizes come from the classes, for x86-64; counts from the live graph. A design that we have no counting rule for says so.

Where pages are known, so is what a walk for each would visit: chains, the entries there are; this kernel, the VMAs on the
page's anon_vma that cover it; anon_vma, all VMAs of the root; anonmm, one mm if the page is its own, else at most the
family's.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rmaplab.host.snapshot import Snapshot
from rmaplab.kernels.designs import OURS, load_design
from rmaplab.lab.census.visits import Quantiles, candidates_of, quantiles
from rmaplab.machine.arrays import I64
from rmaplab.machine.paging import paging_format
from rmaplab.objects.graph import NONE, Graph, Pages

PAGING = "x86-64"


@dataclass(frozen=True)
class Held:
    """Objects by kind, their bytes, and bytes in struct page, vm_area_struct and mm_struct. None: not known, and `note` says why."""

    design: str
    objects: dict[str, int]
    objects_bytes: int | None
    vma_bytes: int | None
    mm_bytes: int | None
    page_bytes: int | None
    note: str = ""
    visits: Quantiles | None = None
    """Per walk, over pages; None where pages or the design's walk are not known."""

    @property
    def total_bytes(self) -> int | None:
        """All but struct page, which is there from boot on; None if the objects are not known."""
        parts = (self.objects_bytes, self.vma_bytes, self.mm_bytes)
        return None if None in parts else sum(part for part in parts if part is not None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def held_under_designs(snapshot: Snapshot) -> list[Held]:
    """This kernel's own, then our designs."""
    designs = {name: path for name, path in OURS.items() if name not in VARIANTS}
    found = [_own(snapshot), *(_under(name, path, snapshot) for name, path in designs.items())]
    pages = snapshot.graph.pages
    if pages is None or not snapshot.knows_anon_vmas:
        return found
    known = pages.anon_vma != NONE
    pages = Pages(*(column[known] for column in pages))
    one_group = np.zeros(len(pages.pfn), np.int64)
    visits = {
        name: quantiles(one_group, rule(snapshot.graph, pages), pages.weight, 1)[0] for name, rule in VISITING.items()
    }
    return [replace(held, visits=visits.get(held.design, visits[OWN] if held is found[0] else None)) for held in found]


def _own(snapshot: Snapshot) -> Held:
    design = f"Linux {snapshot.kernel.partition('-')[0]} as it is"
    size, graph = snapshot.sizes.by_cache, snapshot.graph
    if not snapshot.knows_anon_vmas or not {"anon_vma", "anon_vma_chain"} <= size.keys():
        return Held(design, {}, None, None, None, None, "needs the anon_vma graph")
    objects = {"anon_vma": len(graph.anon_vmas.root), "anon_vma_chain": len(graph.chains.vma)}
    # in vm_area_struct: anon_vma and the head of the list of chains; in struct page: _mapcount, and
    # what follows it to the next word, as the designs count it
    return Held(
        design,
        objects,
        sum(count * size[cache] for cache, count in objects.items()),
        vma_bytes=len(graph.vmas.mm) * (8 + 16),
        mm_bytes=0,
        page_bytes=snapshot.nr_pages * 8,
        note=f"object sizes: {snapshot.sizes.source}",
    )


def _under(name: str, path: str, snapshot: Snapshot) -> Held:
    design, paging, graph = load_design(path), paging_format(PAGING), snapshot.graph
    fields: dict[str, Any] = {
        "vma_bytes": len(graph.vmas.mm) * design.vma_bytes(paging),
        "mm_bytes": graph.nr_mms * design.mm_bytes(paging),
        "page_bytes": snapshot.nr_pages * design.page_bytes(paging, highpte=False),
    }
    rule = COUNTING.get(name)
    if rule is None:
        return Held(name, {}, None, **fields, note="no rule yet that counts its objects on a live machine")
    counted = rule(snapshot)
    if isinstance(counted, str):
        return Held(name, {}, None, **fields, note=counted)
    sizes = {**design.object_bytes(paging, highpte=False), "pte_chain": snapshot.cache_line_bytes}
    total = sum(count * sizes[kind] for kind, count in counted.items())
    return Held(name, counted, total, **fields, note=NOTES.get(name, ""))


def _blocks(snapshot: Snapshot) -> dict[str, int] | str:
    """A block holds a next-and-index word and the rest of a cache line in slots; a page mapped once has none."""
    pages = snapshot.graph.pages
    if pages is None:
        return "needs pages: CAP_SYS_ADMIN"
    slots = snapshot.cache_line_bytes // 8 - 1
    blocks = np.where(pages.mapcount > 1, -(-pages.mapcount // slots), 0)
    return {"pte_chain": round(float((blocks * pages.weight).sum()))}


def _roots(snapshot: Snapshot) -> dict[str, int] | str:
    if not snapshot.knows_anon_vmas:
        return "needs the anon_vma graph"
    return {"anon_vma": len(np.unique(snapshot.graph.anon_vmas.root))}


def _anon_vmas_and_chains(snapshot: Snapshot) -> dict[str, int] | str:
    if not snapshot.knows_anon_vmas:
        return "needs the anon_vma graph"
    return {"anon_vma": len(snapshot.graph.anon_vmas.root), "anon_vma_chain": len(snapshot.graph.chains.vma)}


def _visits_of_roots(graph: Graph, pages: Pages) -> I64:
    """2.6.5-rc1-aa1 walks a plain list: also VMAs that do not cover the index are visited."""
    owned = graph.vmas.anon_vma[graph.vmas.anon_vma != NONE]
    root = graph.anon_vmas.root
    return np.bincount(root[owned], minlength=len(root))[root[pages.anon_vma]]


def _visits_of_family(graph: Graph, pages: Pages) -> I64:
    """A page that its anon_vma's owner maps, and nobody else, is found at once; for others the family is tried."""
    owner = np.full(len(graph.anon_vmas.root), NONE)
    owned = np.flatnonzero(graph.vmas.anon_vma != NONE)
    owner[graph.vmas.anon_vma[owned]] = graph.vmas.mm[owned]
    family = graph.families()
    at_most = np.bincount(family)[family[pages.mm]]
    return np.where((pages.mapcount == 1) & (owner[pages.anon_vma] == pages.mm), 1, at_most)


OWN = "anon_vma_chain"
VISITING: dict[str, Callable[[Graph, Pages], I64]] = {
    "pte_chain": lambda _, pages: pages.mapcount,
    "anonmm": _visits_of_family,
    "anon_vma": _visits_of_roots,
    OWN: lambda graph, pages: candidates_of(pages, graph.candidates()),
}
COUNTING: dict[str, Callable[[Snapshot], dict[str, int] | str]] = {
    "virtual_scan": lambda _: {},
    "pte_chain": _blocks,
    "anonmm": lambda snapshot: {"anonmm": snapshot.graph.nr_mms},
    "anon_vma": _roots,
    "anon_vma_chain": _anon_vmas_and_chains,
}
VARIANTS = ("anon_vma_chain_newest",)
"""Left out: the objects of another design, another one chosen for reuse. What differs by that is in the history, not in a snapshot."""
NOTES = {
    "virtual_scan": "searches instead",
    "pte_chain": "for anonymous pages only; it would hold blocks for file pages too",
    "anonmm": "address spaces alive; one that ended stays while its pages do",
    "anon_vma": "one per root: a child shared its parent's",
    "anon_vma_chain": "sizeof; a slot of the slab may be larger",
}
