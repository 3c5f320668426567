"""The judge: who maps this page, found by reading every entry of every page table.

    for each mm:  pgd -> tables -> entries:   (pfn, mm, address) ...

It knows nothing of VMAs, reverse maps or the kernels that built the tables, and shares no loop with them (table_reader.py).
It is slow and it is right; everything else is measured against it.

A walk takes as long as the page has mappings, or more. So it is made only where it shows what no other has shown yet (alike.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.machine import Machine
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.alike import ALONE, Alike
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
    O(entries log pages), and a walk for each page that is mapped where no walk of its kind has been.
    """
    wanted: I64 = np.array(sorted(set(pfns)), np.int64)
    unfindable = rmap.declared_unfindable() | nobodys
    truth = _truth(rmap, mms, wanted, unfindable)
    order = np.argsort(-np.diff(truth.first), kind="stable").tolist()  # who is mapped most often shows most places
    try:
        all_is_well = not any(_compare(rmap, mms, truth, row, unfindable) for row in _to_be_walked(truth, order))
    except KernelBug:  # a walk has tripped over something
        all_is_well = False
    for row in () if all_is_well else range(wanted.size):  # the first of them is told, by its number
        if wrong := _compare(rmap, mms, truth, row, unfindable):
            raise KernelBug("judge", wrong)


def _to_be_walked(truth: "_Truth", order: list[int]) -> Iterator[int]:
    """Those of these pages that are mapped at a place that no walk of their kind has answered by then. Who asks for one walks from the last that he has got."""
    answered, same = set[tuple[int, int, int]](), set[tuple[int, bytes]]()
    for row in order:
        kind, where = int(truth.kinds[row]), truth.where[truth.first[row] : truth.first[row + 1]]
        if kind == ALONE:
            yield row
            continue
        answer = kind, where.tobytes()
        if answer in same:
            continue
        same.add(answer)
        places = {(kind, owner, place) for owner, place in where.tolist()}
        if not places <= answered:
            yield row
            answered |= places


def _compare(rmap: Rmap, mms: list[MmStruct], truth: "_Truth", row: int, unfindable: AbstractSet[int]) -> str:
    """Walk from one page: how the answer differs, in words; "" if it does not."""
    pfn, part = int(truth.pfns[row]), slice(truth.first[row], truth.first[row + 1])
    owners, addresses = truth.where[part, 0].tolist(), truth.addresses[part].tolist()
    real = {(mms[owner].address, address) for owner, address in zip(owners, addresses, strict=True)}
    answer = [(m.mm.address, m.address) for m in rmap.walk(pfn)]
    found = set(answer)
    missed, invented = real - found, found - real
    if not invented and len(found) == len(answer) and (not missed or pfn in unfindable):
        return ""
    return (
        f"{rmap.design.name}, page {pfn}: {len(missed)} mappings missed, {len(invented)} invented, "
        f"{len(answer) - len(found)} told twice, of {len(real)}"
    )


class _Truth(NamedTuple):
    """What maps some pages, a row per entry, page by page: those of pfns[i] from first[i] on, in order of mms and addresses.

    `kinds` of the pages; `where`: (which mm, at which place, both of alike.py).
    """

    pfns: I64
    kinds: I64
    first: I64
    where: I64
    addresses: I64


def _truth(rmap: Rmap, mms: Sequence[MmStruct], wanted: I64, unfindable: AbstractSet[int]) -> _Truth:
    """Of `wanted`, which ascend. Alone is also what is not mapped as often as it says, or need not be found."""
    alike = Alike(rmap)
    pages, owners, places, addresses = ([np.empty(0, np.int64)] for _ in range(4))
    for number, mm in enumerate(mms):
        present, _ = read_page_tables(rmap.machine, mm.pgd)
        row = np.searchsorted(wanted, present.pfns)
        named = wanted[row.clip(max=wanted.size - 1)] == present.pfns if wanted.size else np.zeros(row.size, np.bool_)
        if named.any():
            pages.append(row[named])
            owners.append(np.full(len(pages[-1]), number, np.int64))
            addresses.append(present.addresses[named])
            places.append(alike.places(mm, present.pfns[named], addresses[-1]))
    page = np.concatenate(pages)
    order = np.argsort(page.astype(np.uint16 if wanted.size < 1 << 16 else np.int64), kind="stable")
    where = np.stack([np.concatenate(owners)[order], np.concatenate(places)[order]], axis=1)
    first = np.searchsorted(page[order], np.arange(wanted.size + 1))
    kinds = alike.kinds(wanted)
    kinds[np.diff(first) != rmap.frames.mapcount[wanted]] = ALONE
    kinds[np.isin(wanted, np.fromiter(unfindable, np.int64))] = ALONE
    return _Truth(wanted, kinds, first, where, np.concatenate(addresses)[order])
