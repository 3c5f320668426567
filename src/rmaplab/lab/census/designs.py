"""What the same machine would hold under the designs we have: their own object sizes times what the snapshot counts.

    this kernel     its anon_vmas and chains, by its own slabs, and what they add to struct page and vm_area_struct
    each of ours    its objects, and what it adds to struct page, vm_area_struct and mm_struct

Sizes come from the classes, for x86-64; counts from the live graph, as each design counts (rmap/live.py). Where pages are known, so is
what a walk for each would visit.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rmaplab.host.snapshot import Snapshot
from rmaplab.kernels.designs import OURS, load_design
from rmaplab.lab.census.estimate import Estimator
from rmaplab.lab.census.visits import Quantiles
from rmaplab.lab.census.walks import CensusWalks
from rmaplab.machine.arrays import I64
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.paging import paging_format
from rmaplab.objects.graph import Pages
from rmaplab.rmap.live import Sight
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.units import PAGE_SHIFT

PAGING = "x86-64"
OWN = "anon_vma_chain"
"""How a kernel of today counts and walks. The catalogue of kernels says so too, and takes a quarter of a second to import."""


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
    objects_within: tuple[int, int] | None = None
    """Between what their number is, with 95 %, where it follows from a sample of pages."""

    @property
    def total_bytes(self) -> int | None:
        """All but struct page, which is there from boot on; None if the objects are not known."""
        parts = (self.objects_bytes, self.vma_bytes, self.mm_bytes)
        return None if None in parts else sum(part for part in parts if part is not None)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "total_bytes": self.total_bytes}


def held_under_designs(walks: CensusWalks, mms: I64 | None) -> list[Held]:
    """This kernel's own, then our designs; those that count as another does are left out. Of the machine, or of some address spaces."""
    snapshot = walks.snapshot
    if not walks.those(mms).all():
        people = snapshot.graph.processes
        part = snapshot.graph.part(people.pid[walks.those(mms)[people.mm]].tolist(), 0, np.iinfo(np.int64).max)
        snapshot = replace(snapshot, graph=part)
    designs = {name: load_design(path) for name, path in OURS.items()}
    counted = {name: design for name, design in designs.items() if "live" in vars(design)}
    found = walks.estimator(mms)
    pages = None if found is None else Pages._make(column[found.rows] for column in found.pages)
    snapshot = replace(snapshot, graph=snapshot.graph.with_pages(pages))
    held = [_own(snapshot), *(_under(name, design, snapshot, found) for name, design in counted.items())]
    if found is None or not snapshot.knows_anon_vmas:
        return held
    walked = [designs[OWN], *counted.values()]
    return [replace(each, visits=_visits(design, walks, found)) for each, design in zip(held, walked, strict=True)]


def _visits(design: type[ReverseMap], walks: CensusWalks, found: Estimator) -> Quantiles | None:
    if design.live is None or design.live.visits is None:
        return None
    values = np.zeros(len(found.rows), np.int64)
    usable = Pages._make(column[found.rows] for column in found.pages)
    values[found.rows] = design.live.visits(walks.graph, usable)
    return found.quantiles(values, found.once, None)


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


def _under(name: str, design: type[ReverseMap], snapshot: Snapshot, found: Estimator | None) -> Held:
    ram_bytes = snapshot.nr_pages << PAGE_SHIFT
    hardware = Hardware(ram_bytes, 0, 1, paging_format(PAGING), snapshot.cache_line_bytes, highpte=False)
    graph, paging = snapshot.graph, hardware.paging
    fields: dict[str, Any] = {
        "vma_bytes": len(graph.vmas.mm) * design.vma_bytes(paging),
        "mm_bytes": graph.nr_mms * design.mm_bytes(paging),
        "page_bytes": snapshot.nr_pages * design.page_bytes(hardware),
    }
    if design.live is None:
        return Held(name, {}, None, **fields, note="no rule yet that counts its objects on a live machine")
    counted = design.live.held(Sight(graph, snapshot.knows_anon_vmas, hardware))
    if isinstance(counted, str):
        return Held(name, {}, None, **fields, note=counted)
    sizes = design.object_bytes(hardware)
    total = sum(count * sizes[kind] for kind, count in counted.items())
    within = None
    if design.live.of_pages is not None and found is not None and not found.complete:
        each = found.total(design.live.of_pages(found.pages, hardware) * found.once)
        within = (round(each.low), round(each.high))
    return Held(name, counted, total, **fields, note=design.live.note, objects_within=within)
