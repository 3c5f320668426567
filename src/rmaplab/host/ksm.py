"""Who may map a page that KSM has merged, as the kernel's own walk finds out: by the page's rmap_items.

    folio->mapping | 3 --> stable node --hlist--> rmap_item --> rmap_item ...      an item per place that was merged
                                                    |
                                                    +-- anon_vma, address:  every VMA on it that has the address is visited

Read from the running kernel by BPF, a step along all lists at once. Sources: mm/ksm.c (struct ksm_stable_node, struct ksm_rmap_item, rmap_walk_ksm).
"""

from typing import NamedTuple

import numpy as np

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.pages import MAPPING_FLAGS, PagePeeker
from rmaplab.host.procfs import PAGE_BYTES
from rmaplab.machine.arrays import I64, Bools

MAPPING_KSM = 3
LONGEST = 1 << 16  # max_page_sharing is 256; a list that has no end changes while it is read


class RmapItems(NamedTuple):
    """A row each: which of the pages asked about, the pointer to the anon_vma, the address. `whole` by page: its list was read to the end."""

    page: I64
    anon_vma: I64
    address: I64
    whole: Bools


def is_merged(mapping: I64) -> Bools:
    """By folio->mapping: whether KSM has merged the page."""
    merged: Bools = mapping & MAPPING_FLAGS == MAPPING_KSM
    return merged


def read_rmap_items(peeker: PagePeeker, mapping: I64) -> RmapItems:
    """Those of the merged pages among these, by folio->mapping. O(items), a thousand steps a second at most."""
    whole, none = ~is_merged(mapping), np.zeros(0, np.int64)
    if whole.all():
        return RmapItems(none, none, none, whole)
    btf = kernel_btf()
    node = btf.locate("ksm_stable_node", "hlist")
    fields = [btf.locate("ksm_rmap_item", name) for name in ("anon_vma", "address", "hlist")]
    parts: list[tuple[I64, I64, I64]] = [(none, none, none)]
    page = np.flatnonzero(~whole)
    if node is None or None in fields:
        return RmapItems(none, none, none, whole)
    anon_vma, address, link = (field[0] // 8 for field in fields if field is not None)
    lists, good = peeker.peek((mapping[page] & ~MAPPING_FLAGS) + node[0])
    page, at = page[good], lists[good, 0]
    for _ in range(LONGEST):
        whole[page[at == 0]] = True
        page, at = page[at != 0], at[at != 0]
        if not len(page):
            break
        items, good = peeker.peek(at - 8 * link)
        page, items = page[good], items[good]
        parts.append((page, items[:, anon_vma], items[:, address] & -PAGE_BYTES))  # its low bits are flags
        at = items[:, link]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return RmapItems(columns[0], columns[1], columns[2], whole)
