"""The judge: who maps this page, found by reading every entry of every page table.

    for each mm:  pgd -> tables -> entries:   (pfn, mm, address) ...

It knows nothing of VMAs, reverse maps or the kernels that built the tables, and shares no loop with them (table_reader.py).
It is slow and it is right; everything else is measured against it.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from rmaplab.errors import KernelBug
from rmaplab.machine.machine import Machine
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import Mapping


def mappings_of(machine: Machine, mms: Iterable[MmStruct], pfn: int) -> Iterator[Mapping]:
    """The judge's answer for one page."""
    for mm in mms:
        present, _ = read_page_tables(machine, mm.pgd)
        for address in present.addresses[present.pfns == pfn].tolist():
            yield Mapping(mm, address)


def judge(rmap: Rmap, mms: list[MmStruct], pfns: Iterable[int], nobodys: AbstractSet[int] = frozenset()) -> None:
    """walk(pfn) must answer what the page tables say: all of it, nothing else, nothing twice, for each of `pfns`.

    A page the design declares unfindable may be answered in part, and what is `nobodys`: drivers' pages that name no owner. Raises KernelBug with the difference.
    """
    truth: dict[int, set[tuple[int, int]]] = {}
    wanted = set(pfns)
    for mm in mms:
        present, _ = read_page_tables(rmap.machine, mm.pgd)
        for pfn, address in zip(present.pfns.tolist(), present.addresses.tolist(), strict=True):
            if pfn in wanted:
                truth.setdefault(pfn, set()).add((mm.address, address))
    unfindable = rmap.declared_unfindable() | nobodys
    for pfn in sorted(wanted):
        answer = [(m.mm.address, m.address) for m in rmap.walk(pfn)]
        found, real = set(answer), truth.get(pfn, set())
        missed, invented = real - found, found - real
        if invented or len(found) < len(answer) or (missed and pfn not in unfindable):
            raise KernelBug(
                "judge",
                f"{rmap.design.name}, page {pfn}: {len(missed)} mappings missed, {len(invented)} invented, "
                f"{len(answer) - len(found)} told twice, of {len(real)}",
            )
