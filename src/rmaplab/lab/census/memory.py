"""Whose total is it: memory that processes say they have beside what the machine says, objects on VMAs beside objects in slabs.

What a process calls shared it has with others, and each of them says so: summed over processes it can be many times the machine.
Sources: Documentation/filesystems/proc.rst (smaps_rollup, meminfo); Documentation/admin-guide/mm/ksm.rst; mm/slub.c, get_slabinfo.
"""

from collections.abc import Mapping

from rmaplab.host.snapshot import Snapshot
from rmaplab.lab.census.rows import MemoryRow, ObjectRow
from rmaplab.lab.census.visits import Walk
from rmaplab.units import PAGE_SHIFT

_KINDS = (
    ("private", "private_bytes", None, "mapped by one process only"),
    ("shared", "shared_bytes", None, "each process counts all of it: no memory of a machine"),
    ("PSS", "pss_bytes", "ram", "shared pages divided among those who map them; the machine: all RAM"),
    ("page tables", "page_tables_bytes", "page_tables", "the machine counts its upper levels too"),
    ("swap", "swap_bytes", "swap", "a slot that several processes have counts in each"),
    ("hugetlb", "hugetlb_bytes", "hugetlb", "shared pages count in each process; the machine's pool has free ones too"),
    ("KSM", "ksm_bytes", "ksm", "what merged pages stand for"),
)


def memory_rows(totals: Mapping[str, int | None], walk: Walk | None, machine: Mapping[str, int]) -> list[MemoryRow]:
    """By kind: `totals` of processes, `machine`'s own; pages of the `walk`, each once, beside AnonPages."""
    rows = [MemoryRow(kind, totals[ours], machine.get(its or ""), why) for kind, ours, its, why in _KINDS]
    if walk is not None and walk.candidates is not None:
        found = walk.pages << PAGE_SHIFT
        rows.insert(3, MemoryRow("anonymous pages, each once", found, machine.get("anonymous"), "the walk's pages"))
    return rows


def object_rows(totals: Mapping[str, int | None], snapshot: Snapshot) -> list[ObjectRow]:
    """anon_vmas and chains of everybody that was seen, beside the slab caches; nothing where no graph was read."""
    sizes, found = snapshot.sizes, {"anon_vma": totals["anon_vmas"], "anon_vma_chain": totals["chains"]}
    return [
        ObjectRow(cache, nr, sizes.in_use.get(cache), sizes.slots.get(cache), sizes.merged.get(cache, 0))
        for cache, nr in found.items()
        if nr is not None
    ]
