"""The kernels that can be booted: five points in time, and the patches of 18 March 2004.

    2.4.21             the announcement's baseline: no reverse map. No tree of it or of the -aa kernel that Andrea Arcangeli measured is at
                       hand; its figures are those of 2.4.27, whose memory manager came from -aa for the greater part
    2.6.2              the announcement's "last non-objrmap kernel"
    2.6.5-rc1          what its patches go on
    2.6.5-rc1-aa1      the announcement itself
    6.18               today's

What each of them does is read off the histories at its version. Between these points the histories say something too, but a kernel
needs its design and its bodies as well before it can be booted.
"""

from rmaplab.kernels.figures_box import SCHEDULER, SIZES
from rmaplab.kernels.figures_files import FILES, INDEXES
from rmaplab.kernels.figures_mapping import MAPPING
from rmaplab.kernels.figures_mm import RULES
from rmaplab.kernels.figures_tlb import TLB
from rmaplab.kernels.figures_walks import AA_WALKS, WALKS
from rmaplab.kernels.history import Figure, Status, figures_at
from rmaplab.kernels.spec import KernelSpec, Patch

V, B = Status.VALIDATED, Status.BELIEVED
HISTORIES = SIZES | RULES | MAPPING | INDEXES | FILES | WALKS | TLB | SCHEDULER

VIRTUAL_SCAN = "rmaplab.rmap.virtual_scan:VirtualScan"
PTE_CHAIN = "rmaplab.rmap.pte_chain:PteChain"
PTE_CHAIN_ANON = "rmaplab.rmap.pte_chain_anon:AnonPteChain"
ANON_VMA = "rmaplab.rmap.anon_vma:AnonVmaMap"
ANON_VMA_CHAIN = "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap"

_NO_MERGING = Figure(0, 'the announcement: "vma merging for mprotect and mremap is disabled for now"', V)

EXTRAVERSION = Patch("00000_extraversion-1", "Andrea Arcangeli", "the name")
OBJRMAP_CORE = Patch(
    "00100_objrmap-core-1",
    "Dave McCracken, Andrea Arcangeli",
    "file pages are found through the file's list of VMAs; anonymous ones still by pte chains",
    figures={
        "list_moved_to_tail": Figure(1, "objrmap-core-1 mm/mmap.c, move_vma_start: off its list, and to the tail", B),
        "split_holds_page_table_lock": Figure(0, "objrmap-core-1 mm/mmap.c, split_vma: i_shared_sem alone", B),
        "anon_mapping_dies_at_free": Figure(1, "objrmap-core-1 mm/page_alloc.c, free_pages_check: PG_anon", B),
        "referenced_busy": Figure(1, "objrmap-core-1 mm/rmap.c, page_referenced_obj: 1 if a trylock fails", B),
    },
    design=PTE_CHAIN_ANON,
)
ANON_VMA_1 = Patch(
    "00101_anon_vma-1",
    "Andrea Arcangeli",
    "anonymous pages are found through a 12-byte object per group of related VMAs; pte chains are gone",
    figures={
        **AA_WALKS,
        "list_moved_to_tail": Figure(0, "the -aa tree's mm/mmap.c, vma_merge, split_vma: in place", B),
        "anon_mapping_dies_at_free": Figure(0, "the -aa tree's mm/objrmap.c, page_remove_rmap: clear_page_anon", B),
        "referenced_busy": Figure(0, "the -aa tree's mm/objrmap.c, page_referenced_inode; LKML, 17 March 2004", B),
        "anon_rmap_after_unlock": Figure(1, "mm/memory.c, do_anonymous_page, until 24 March 2004 (eras.md 2.1)", B),
        "mprotect_merges": _NO_MERGING,
        "mremap_merges": _NO_MERGING,
        "fork_cond_resched": Figure(
            1,
            "the -aa tree's mm/memory.c, copy_page_range; mainline's 369bfc8a8a does so too",
            B,
        ),
    },
    published={
        "anon_vma": Figure(12, 'the announcement: "an anon_vma is only 12 bytes"; slabinfo in LKML: 250 a page', V),
        "struct vm_area_struct": Figure(76, "slabinfo in LKML, March 2004: 50 a page, which 73 to 76 bytes give", V),
        "struct page": Figure(40, 'the announcement: "releases 4byte of page_t", from 44 with PAE and HIGHPTE', V),
    },
    design=ANON_VMA,
    needs=OBJRMAP_CORE.name,
)
_OF_MARCH_2004 = EXTRAVERSION, OBJRMAP_CORE, ANON_VMA_1

LINUX_2_4_21 = KernelSpec(
    name="2.4.21",
    released="2003-06-13",
    about="2.4.21 as the stored 2.4.27 shows it: no reverse map, page tables are searched",
    design=VIRTUAL_SCAN,
    software="2.4",
    figures=figures_at(HISTORIES, "2.4.21"),
)

LINUX_2_6_2 = KernelSpec(
    name="2.6.2",
    released="2004-02-04",
    about='mainline with reverse mapping by pte chains; the announcement\'s "last non-objrmap kernel"',
    design=PTE_CHAIN,
    figures=figures_at(HISTORIES, "2.6.2"),
)

LINUX_2_6_5_RC1 = KernelSpec(
    name="2.6.5-rc1",
    released="2004-03-16",
    about="mainline, the base of the announcement's kernel; reverse mapping as in 2.6.2",
    design=PTE_CHAIN,
    figures=figures_at(HISTORIES, "2.6.5-rc1"),
)

LINUX_2_6_5_RC1_AA1 = LINUX_2_6_5_RC1.patched(
    "2.6.5-rc1-aa1",
    "2004-03-18",
    "the kernel of the announcement: objrmap for files, anon_vma for anonymous memory",
    *_OF_MARCH_2004,
)
PATCHES = {LINUX_2_6_5_RC1.name: _OF_MARCH_2004}
"""By the kernel they go on: those of the announcement, under its numbers. Its cryptoloop and its debugger are not here."""

LINUX_6_18 = KernelSpec(
    name="6.18",
    released="2025-11-30",
    about="mainline of today's long-term series: an anon_vma per generation, chained",
    design=ANON_VMA_CHAIN,
    architectures=("x86-64",),
    figures=figures_at(HISTORIES, "6.18"),
    published={
        "struct page": Figure(64, "BTF of 6.18.44", V),
        "struct vm_area_struct": Figure(192, "BTF and slabinfo of 6.18.44: 21 a page", V),
        "anon_vma": Figure(96, "BTF of 6.18.44; a slot of 104 in slabinfo, 39 a page", V),
        "anon_vma_chain": Figure(64, "BTF of 6.18.44; 64 a page", V),
    },
)
