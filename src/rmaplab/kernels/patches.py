"""The patches of 2004: the eight that the announcement lists, and those of 2.6.5-rc2-aa2 and 2.6.5-rc3-aa3, in the two weeks after it.

    2.6.5-rc1                                              2.6.5-rc3
      + 00000_extraversion-1      the name                   + extraversion
      + 00000_twofish-2.6         loop devices               + objrmap-core            as 00100
      + 00100_objrmap-core-1      pages of files             + anon-vma                as 00101, repaired; nonlinear VMAs are walked whole
      + 00101_anon_vma-1          anonymous pages            + prio-tree               which VMAs of a file
      + 00200_kgdb-ga-1 and                                  + gfp-no-compound         not modelled
        three of 00201            a debugger                 + mprotect-vma-merging    what March had switched off
    = 2.6.5-rc1-aa1                                          + disable-cap-mlock       a sysctl
                                                           = 2.6.5-rc3-aa3
    2.6.5-rc2
      + extraversion, objrmap-core, anon-vma as of rc3       + nonlinear-can-do-mlock  of 2.6.5-aa5: remap_file_pages too is for who may lock
    = 2.6.5-rc2-aa2

Nonlinear swapping is of 24 March 2004: "2.6.5-rc2-aa2", on top of 2.6.5-rc2-aa1 of the 21st, which has none yet.

Sources: the announcement; Andrea Arcangeli, 3 April 2004, <20040403015427.GA2307@dualathlon.random> (the list of 2.6.5-rc3-aa3) and
<20040403012612.GY21341@dualathlon.random> (mprotect-vma-merging); 24 March 2004, <20040324060020.GA2065@dualathlon.random> (2.6.5-rc2-aa2); 2 April 2004,
<20040402043132.GB2251@dualathlon.random> (disable-cap-mlock); 8 April 2004, <20040408170759.GI31667@dualathlon.random> (nonlinear-can-do-mlock);
history.md 1.5.9 to 1.5.11, 4.3.
"""

from dataclasses import replace

from rmaplab.kernels.figures_walks import AA_WALKS
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.spec import Patch
from rmaplab.mm.file_rules import DriverPages, FileMerging
from rmaplab.rmap.file_index import IndexKind
from rmaplab.rmap.walk_rules import IfReserved, IfYoung, Nonlinear, Unowned

V, B = Status.VALIDATED, Status.BELIEVED

PTE_CHAIN_ANON = "rmaplab.rmap.pte_chain_anon:AnonPteChain"
ANON_VMA = "rmaplab.rmap.anon_vma:AnonVmaMap"
ANON_VMA_EARLY = "rmaplab.rmap.anon_vma_shared:SharedAtMmap"

ANDREA = "Andrea Arcangeli"
_NO_MERGING = Figure(0, 'the announcement: "vma merging for mprotect and mremap is disabled for now"', V)
_KGDB = "from Andrew Morton's -mm tree"

EXTRAVERSION = Patch("00000_extraversion-1", ANDREA, "the name", "uname says -aa1", extraversion="-aa1")
OBJRMAP_CORE = Patch(
    "00100_objrmap-core-1",
    f"Dave McCracken, {ANDREA}",
    "file pages are found through the file's list of VMAs; anonymous ones still by pte chains",
    "struct page counts its mappings, PG_anon says which pages have chains, a driver's among them; VM_RESERVED is minded; a page that remap_file_pages places elsewhere is converted: it goes on a chain, until 00101 takes chains away",
    figures={
        "list_moved_to_tail": Figure(1, "objrmap-core-1 mm/mmap.c, move_vma_start: off its list, and to the tail", B),
        "split_holds_page_table_lock": Figure(0, "objrmap-core-1 mm/mmap.c, split_vma: i_shared_sem alone", B),
        "anon_mapping_dies_at_free": Figure(1, "objrmap-core-1 mm/page_alloc.c, free_pages_check: PG_anon", B),
        "referenced_busy": Figure(1, "objrmap-core-1 mm/rmap.c, page_referenced_obj: 1 if a trylock fails", B),
        "unmap_reserved": Figure(
            IfReserved.FAILS, "objrmap-core-1 mm/rmap.c, try_to_unmap_obj_one, try_to_unmap_one", B
        ),
        "driver_pages": Figure(DriverPages.AS_ANON, "objrmap-core-1 mm/memory.c, do_no_page: SetPageAnon", B),
    },
    design=PTE_CHAIN_ANON,
)
ANON_VMA_1 = Patch(
    "00101_anon_vma-1",
    ANDREA,
    "anonymous pages are found through a 12-byte object per group of related VMAs; pte chains are gone",
    "all of it; it also switches off merging by mprotect and mremap, and checks what a driver's nopage returns",
    figures={
        **AA_WALKS,
        "list_moved_to_tail": Figure(0, "the -aa tree's mm/mmap.c, vma_merge, split_vma: in place", B),
        "anon_mapping_dies_at_free": Figure(0, "the -aa tree's mm/objrmap.c, page_remove_rmap: clear_page_anon", B),
        "referenced_busy": Figure(0, "the -aa tree's mm/objrmap.c, page_referenced_inode; LKML, 17 March 2004", B),
        "unmap_reserved": Figure(IfReserved.IS_A_BUG, "the -aa tree's mm/objrmap.c, try_to_unmap_one", B),
        "unowned": Figure(Unowned.IS_A_BUG, "the -aa tree's mm/objrmap.c, page_remove_rmap, page_add_rmap", B),
        "driver_pages": Figure(DriverPages.BY_VMA, "the -aa tree's mm/memory.c, do_no_page, copy_page_range", B),
        "nopage_is_checked": Figure(1, "<20040320133025.GH9009@dualathlon.random>; the -aa tree's mm/memory.c", B),
        "videobuf_is_reserved": Figure(1, 'the announcement: "a fix in bttv that didn\'t set VM_RESERVE"', B),
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
KGDB = Patch(
    "00200_kgdb-ga-1",
    _KGDB,
    "the kernel debugger",
    "run --gdb, exec --gdb, System.gdb(): gdb attaches, tasks are threads, the kernel's functions have breakpoints; here to every kernel (docs/gdb.md)",
)
OF_MARCH_2004 = (
    EXTRAVERSION,
    Patch(
        "00000_twofish-2.6",
        "not said",
        "twofish as old encrypted loop devices need it",
        "loop_fish2 is there: swap and files behind crypt=twofish-compat and twofishSL92. 2.6's own cryptoloop, crypt=twofish, is there without it",
        figures={
            "has_loop_fish2": Figure(
                1, "its name; the -aa tree's drivers/block/loop_fish2.c, from which the rest is taken", B
            )
        },
    ),
    OBJRMAP_CORE,
    ANON_VMA_1,
    KGDB,
    Patch(
        "00201_kgdb-ga-recent-gcc-fix-1",
        _KGDB,
        "the debugger with newer compilers",
        "none: nothing is compiled here",
        needs=KGDB.name,
    ),
    Patch(
        "00201_kgdb-THREAD_SIZE-fixes-1",
        _KGDB,
        "the debugger and the size of kernel stacks",
        "monitor tasks: each task's kernel stack, of as many bytes as the figure thread_stack_bytes says",
        needs=KGDB.name,
    ),
    Patch(
        "00201_kgdb-x86_64-support-1",
        _KGDB,
        "the debugger on x86-64",
        "gdb is told the registers of x86-64 where page tables are (--paging x86-64)",
        needs=KGDB.name,
    ),
)
"""In the announcement's order."""

_OBJRMAP_OF_APRIL = replace(OBJRMAP_CORE, name="objrmap-core")
_ANON_VMA_OF_APRIL = replace(
    ANON_VMA_1,
    name="anon-vma",
    here="all of it, told of a page before page_table_lock is dropped; nonlinear VMAs are walked whole; merging by mprotect and mremap is off",
    figures={
        **{name: figure for name, figure in (ANON_VMA_1.figures or {}).items() if name != "anon_rmap_after_unlock"},
        "driver_pages": Figure(DriverPages.BY_PAGE, "<20040320174857.GA9009@dualathlon.random>: pageable", B),
        "nopage_is_checked": Figure(0, "the -aa tree's mm/memory.c, 24 March 2004: a message is left of it", B),
        "nonlinear": Figure(Nonlinear.WHOLE, "<20040324060020.GA2065@dualathlon.random>; later -aa, mm/objrmap.c", B),
        "unmap_young": Figure(IfYoung.SPARED, "later -aa, mm/objrmap.c, try_to_unmap_one", B),
        "unowned": Figure(Unowned.WARNS, "later -aa, mm/objrmap.c, page_remove_rmap: WARN_ON", B),
        "page_struct_bytes": Figure(28, "include/linux/mm.h of the -aa tree: page->list is gone", B, value64=48),
    },
    published={"anon_vma": (ANON_VMA_1.published or {})["anon_vma"]},
    needs=_OBJRMAP_OF_APRIL.name,
)
_PRIO_TREE = Patch(
    "prio-tree",
    "Rajesh Venkatasubramanian",
    "the VMAs of a file in priority search trees, by page offset",
    "two words more in each VMA; one tree for a file's VMAs, where this patch had one for the shared ones and one for the others",
    figures={
        "file_index": Figure(IndexKind.PRIO_TREE, "<Pine.GSO.4.58.0403211634350.10248@azure.engin.umich.edu>", B),
        "vm_area_struct_bytes": Figure(
            72, "<Pine.GSO.4.58.0403211634350.10248@azure.engin.umich.edu>: two words more", B, value64=144
        ),
    },
    needs=_ANON_VMA_OF_APRIL.name,
)
MPROTECT_MERGING = Patch(
    "mprotect-vma-merging",
    ANDREA,
    "mprotect merges again, anonymous memory and, for the first time, files",
    "all of it; a new mapping shares the anon_vma of a neighbour whose flags alone differ",
    figures={
        "mprotect_merges": Figure(1, "<20040403012612.GY21341@dualathlon.random>, mprotect_attempt_merge", B),
        "file_merging": Figure(FileMerging.ALWAYS, "<20040403012612.GY21341@dualathlon.random>: files too", B),
    },
    design=ANON_VMA_EARLY,
    needs=_PRIO_TREE.name,
)
DISABLE_CAP_MLOCK = Patch(
    "disable-cap-mlock",
    "Ken Chen, Andrew Morton",
    "vm.disable_cap_mlock: everybody may lock memory, within RLIMIT_MEMLOCK",
    "all of it but for huge pages; RLIMIT_MEMLOCK holds as before",
    figures={
        "cap_mlock_disablable": Figure(1, "<20040401184907.5026906b.akpm@osdl.org>: can_do_mlock", B),
    },
)
NONLINEAR_CAN_DO_MLOCK = Patch(
    "nonlinear-can-do-mlock",
    ANDREA,
    "remap_file_pages is for those who may lock memory: with truncate it locks pages as mlock does",
    "all of it; its source is not at hand, the errno is taken to be mlock's",
    figures={"remap_minds_mlock": Figure(1, "<20040408170759.GI31667@dualathlon.random>", B)},
    needs=DISABLE_CAP_MLOCK.name,
)
OF_24_MARCH_2004 = (
    Patch("extraversion", ANDREA, "the name", "uname says -aa2", extraversion="-aa2"),
    _OBJRMAP_OF_APRIL,
    _ANON_VMA_OF_APRIL,
)
"""Its memory patches: the mail names no order, and others that take lists out of struct page. anon-vma was called anon_vma until 2.6.5-rc2-aa3."""
OF_APRIL_2004 = (
    Patch("extraversion", ANDREA, "the name", "uname says -aa3", extraversion="-aa3"),
    _OBJRMAP_OF_APRIL,
    _ANON_VMA_OF_APRIL,
    _PRIO_TREE,
    Patch(
        "gfp-no-compound",
        ANDREA,
        "pages of a block that is not compound are freed without warnings",
        "none: no block of several pages is taken apart here",
    ),
    MPROTECT_MERGING,
    DISABLE_CAP_MLOCK,
)
"""Its memory patches, in its order: the rest of the list was not mailed."""
