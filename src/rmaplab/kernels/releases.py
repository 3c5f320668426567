"""The kernels that can be booted: points in time, and two of them with the patches of their day.

    2.4.21             the announcement's baseline: no reverse map. No tree of it or of the -aa kernel that Andrea Arcangeli measured is at
                       hand; its figures are those of 2.4.27, whose memory manager came from -aa for the greater part
    2.6.2              the announcement's "last non-objrmap kernel"
    2.6.5-rc1          what its patches go on
    2.6.5-rc1-aa1      the announcement itself
    2.6.5-rc2, -aa2    a week later: nonlinear mappings are swapped
    2.6.5-rc3          and what two weeks later the same patches went on
    2.6.5-rc3-aa3      where mprotect merges again
    2.6.7              mainline has anon_vma; mremap merges again too
    6.18               today's

What each of them does is read off the histories at its version. Between these points the histories say something too, but a kernel
needs its design and its bodies as well before it can be booted.
"""

from rmaplab.kernels.figures_box import SCHEDULER, SIZES
from rmaplab.kernels.figures_exec import EXEC
from rmaplab.kernels.figures_files import FILES, INDEXES
from rmaplab.kernels.figures_ipc import IPC
from rmaplab.kernels.figures_mapping import MAPPING
from rmaplab.kernels.figures_mm import RULES
from rmaplab.kernels.figures_nonlinear import NONLINEAR
from rmaplab.kernels.figures_proc import PROC
from rmaplab.kernels.figures_reclaim import RECLAIM
from rmaplab.kernels.figures_shmem import SHMEM
from rmaplab.kernels.figures_swap import SWAP
from rmaplab.kernels.figures_tlb import TLB
from rmaplab.kernels.figures_walks import WALKS
from rmaplab.kernels.history import Figure, Status, figures_at
from rmaplab.kernels.patches import NONLINEAR_CAN_DO_MLOCK, OF_24_MARCH_2004, OF_APRIL_2004, OF_MARCH_2004
from rmaplab.kernels.spec import KernelSpec

V = Status.VALIDATED
HISTORIES = (
    SIZES
    | RULES
    | MAPPING
    | INDEXES
    | FILES
    | NONLINEAR
    | SHMEM
    | IPC
    | WALKS
    | RECLAIM
    | PROC
    | SWAP
    | TLB
    | SCHEDULER
    | EXEC
)

VIRTUAL_SCAN = "rmaplab.rmap.virtual_scan:VirtualScan"
PTE_CHAIN = "rmaplab.rmap.pte_chain:PteChain"
ANON_VMA_LATE = "rmaplab.rmap.anon_vma_shared:SharedAtFault"
ANON_VMA_CHAIN = "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap"

BY_ADDRESS = "rmaplab.reclaim.virtual:VirtualReclaim"
BY_PAGE = "rmaplab.reclaim.kswapd:PageReclaim"

LINUX_2_4_21 = KernelSpec(
    name="2.4.21",
    released="2003-06-13",
    about="2.4.21 as the stored 2.4.27 shows it: no reverse map, page tables are searched",
    design=VIRTUAL_SCAN,
    reclaim=BY_ADDRESS,
    software="2.4",
    figures=figures_at(HISTORIES, "2.4.21"),
)

LINUX_2_6_2 = KernelSpec(
    name="2.6.2",
    released="2004-02-04",
    about='mainline with reverse mapping by pte chains; the announcement\'s "last non-objrmap kernel"',
    design=PTE_CHAIN,
    reclaim=BY_PAGE,
    figures=figures_at(HISTORIES, "2.6.2"),
)

LINUX_2_6_5_RC1 = KernelSpec(
    name="2.6.5-rc1",
    released="2004-03-16",
    about="mainline, the base of the announcement's kernel; reverse mapping as in 2.6.2",
    design=PTE_CHAIN,
    reclaim=BY_PAGE,
    figures=figures_at(HISTORIES, "2.6.5-rc1"),
)

LINUX_2_6_5_RC1_AA1 = LINUX_2_6_5_RC1.patched(
    "2.6.5-rc1-aa1",
    "2004-03-18",
    "the kernel of the announcement: objrmap for files, anon_vma for anonymous memory",
    *OF_MARCH_2004,
)

LINUX_2_6_5_RC2 = KernelSpec(
    name="2.6.5-rc2",
    released="2004-03-20",
    about="mainline, the base of 2.6.5-rc2-aa2; reverse mapping as in 2.6.2",
    design=PTE_CHAIN,
    reclaim=BY_PAGE,
    figures=figures_at(HISTORIES, "2.6.5-rc2"),
)

LINUX_2_6_5_RC2_AA2 = LINUX_2_6_5_RC2.patched(
    "2.6.5-rc2-aa2",
    "2004-03-24",
    "objrmap and anon_vma six days after the announcement: nonlinear mappings are walked whole",
    *OF_24_MARCH_2004,
)

LINUX_2_6_5_RC3 = KernelSpec(
    name="2.6.5-rc3",
    released="2004-03-29",
    about="mainline two weeks later, the base of 2.6.5-rc3-aa3; reverse mapping as in 2.6.2",
    design=PTE_CHAIN,
    reclaim=BY_PAGE,
    figures=figures_at(HISTORIES, "2.6.5-rc3"),
)

LINUX_2_6_5_RC3_AA3 = LINUX_2_6_5_RC3.patched(
    "2.6.5-rc3-aa3",
    "2004-04-03",
    "objrmap and anon_vma two weeks after the announcement: mprotect merges again",
    *OF_APRIL_2004,
)
PATCHES = {
    LINUX_2_6_5_RC1.name: OF_MARCH_2004,
    LINUX_2_6_5_RC2.name: OF_24_MARCH_2004,
    LINUX_2_6_5_RC3.name: (*OF_APRIL_2004, NONLINEAR_CAN_DO_MLOCK),
}
"""By the kernel they go on, in their order; the last one came later, for 2.6.5-aa5."""

LINUX_2_6_7 = KernelSpec(
    name="2.6.7",
    released="2004-06-15",
    about="mainline with anon_vma: mprotect and mremap merge; memory calls, and not its scheduler",
    design=ANON_VMA_LATE,
    reclaim=BY_PAGE,
    figures=figures_at(HISTORIES, "2.6.7"),
)

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
