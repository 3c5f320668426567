"""A write to a page that may only be read: is it the task's alone, or must it be copied? can_share_swap_page, wp_can_reuse_anon_folio.

    count 1                               nobody else has a reference: the entry becomes writable
    count 2, one of them the swap         nobody else's entry names its slot: the same; the page stays in the cache, and in its slot
      cache's, and its slot used once
    anything else                         a copy; whoever holds the other reference keeps the page: another entry, a pagevec ...

Source: 2.4 to 2.6.7 mm/swapfile.c, can_share_swap_page; 6.18 mm/memory.c, wp_can_reuse_anon_folio, where a page marked exclusive has
count 1 too as long as nobody pins it; eras.md 2.2.
"""

from rmaplab.machine.arrays import I8, I32, I64, U32
from rmaplab.machine.frames import PG_SWAPCACHE
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable_fault import COPY, EMPTY, NEW, REUSE, SHARED, ZERO, ZERO_PAGE


@kernel
def decide(
    codes: I8, nr: int, pfns: I64, write: bool, count: I32, flags: U32, private: I64, users: I32
) -> tuple[int, int, int]:  # fmt: skip
    """What is to be done (`install`) where `nr` codes of `classify` say what was found; `pfns` are the SHARED ones.

    `users` are the uses of slots in swap, `private` the slot of a page in the swap cache. Returns (copies, reuses, zero pages replaced).
    """
    copies = reuses = zeros = 0
    for i in range(nr):
        if codes[i] in (EMPTY, ZERO):
            zeros += codes[i] == ZERO
            codes[i] = NEW if write else ZERO_PAGE
        elif codes[i] == SHARED:
            pfn = pfns[copies + reuses]
            in_cache = flags[pfn] & PG_SWAPCACHE and users[private[pfn]] == 1
            if count[pfn] == 1 + in_cache:
                codes[i] = REUSE
                reuses += 1
            else:
                codes[i] = COPY
                copies += 1
    return copies, reuses, zeros
