"""Price lists: what an operation takes, in nanoseconds of simulated time."""

from rmaplab.machine.ledger import PriceList

PROVISIONAL_2004 = PriceList(
    name="provisional-2004",
    source=(
        "set by hand near the announcement's seconds, not fitted: user time per page read 0.60-0.66 us, system time per "
        "entry copied and torn down 1.32-1.45 us on 2.6.5-rc1-aa1, 0.7-1.0 us more on 2.6.2; the split is a guess"
    ),
    ns={
        # user mode
        "page_touch": 620,
        # faults
        "anon_fault": 2600,
        "zero_fault": 1200,
        "cow_copy": 3200,
        "cow_reuse": 900,
        # fork and exit, per entry
        "pte_copy": 800,
        "pte_zap": 520,
        "page_free": 100,
        # page tables, VMAs, address spaces, tasks
        "table_alloc": 600,
        "table_free": 200,
        "vma_alloc": 400,
        "vma_copy": 500,
        "vma_split": 800,
        "vma_merge": 300,
        "mm_alloc": 4000,
        "mm_free": 2000,
        "fork": 60000,
        "exit": 40000,
        "syscall": 300,
        # pte_chain: an insertion, a cache line searched on removal, a block from or to the slab
        "chain_add": 200,
        "chain_line_visit": 100,
        "chain_block_alloc": 100,
        "chain_block_free": 60,
        # anon_vma: the 12-byte object, a VMA on its list
        "anon_vma_alloc": 150,
        "anon_vma_link": 60,
    },
)
