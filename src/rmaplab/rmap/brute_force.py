"""The judge: who maps this page, found by reading every entry of every page table.

    for each mm:  pgd -> tables -> entries:   (pfn, mm, address) ...

It knows nothing of VMAs, reverse maps or the kernels that built the tables, and shares no loop with them: rows of RAM are
read as NumPy arrays, table by table. It is slow and it is right; everything else is measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.rmap.protocol import Mapping, ReverseMap

if TYPE_CHECKING:
    from rmaplab.machine.machine import Machine
    from rmaplab.objects.mm_types import MmStruct


class Entries(NamedTuple):
    """Leaf entries that map a page, as columns, in address order: the entry itself, its PFN, the virtual address it maps."""

    entries: I64
    pfns: I64
    addresses: I64


def read_page_tables(machine: Machine, pgd: int) -> tuple[Entries, list[int]]:
    """All present leaf entries under `pgd`, and the frames of all tables below it."""
    paging = machine.paging
    words, width = machine.words, 1 << paging.bits
    tables: list[int] = []
    found: list[tuple[I64, I64]] = []

    def descend(first_word: int, nr_words: int, base: int, level: int) -> None:
        row = words[first_word : first_word + nr_words].astype(np.int64)
        present = np.flatnonzero(row & (1 if level else 0x81))  # a PROT_NONE page is mapped too
        span = 4096 << (paging.bits * level)
        if level == 0:
            found.append((row[present], base + present * span))
            return
        for i in present.tolist():
            frame = int(row[i]) >> 12
            tables.append(frame)
            descend(frame * 4096 // paging.entry_bytes, width, base + i * span, level - 1)

    descend(pgd // paging.entry_bytes, paging.pgd_bytes // paging.entry_bytes, 0, paging.levels - 1)
    entries = np.concatenate([e for e, _ in found]) if found else np.empty(0, np.int64)
    addresses = np.concatenate([a for _, a in found]) if found else np.empty(0, np.int64)
    return Entries(entries, entries >> 12, addresses), tables


def mappings_of(machine: Machine, mms: Iterable[MmStruct], pfn: int) -> Iterator[Mapping]:
    """The judge's answer for one page."""
    for mm in mms:
        present, _ = read_page_tables(machine, mm.pgd)
        for address in present.addresses[present.pfns == pfn].tolist():
            yield Mapping(mm, address)


def judge(design: ReverseMap, mms: list[MmStruct], pfns: Iterable[int]) -> None:
    """walk(pfn) must answer what the page tables say: all of it, nothing else, nothing twice, for each of `pfns`.

    A page the design declares unfindable may be answered in part. Raises KernelBug with the difference.
    """
    truth: dict[int, set[tuple[int, int]]] = {}
    wanted = set(pfns)
    for mm in mms:
        present, _ = read_page_tables(design.machine, mm.pgd)
        for pfn, address in zip(present.pfns.tolist(), present.addresses.tolist(), strict=True):
            if pfn in wanted:
                truth.setdefault(pfn, set()).add((mm.address, address))
    unfindable = design.declared_unfindable()
    for pfn in sorted(wanted):
        answer = [(m.mm.address, m.address) for m in design.walk(pfn)]
        found, real = set(answer), truth.get(pfn, set())
        missed, invented = real - found, found - real
        if invented or len(found) < len(answer) or (missed and pfn not in unfindable):
            raise KernelBug(
                "judge",
                f"{design.name}, page {pfn}: {len(missed)} mappings missed, {len(invented)} invented, "
                f"{len(answer) - len(found)} told twice, of {len(real)}",
            )
