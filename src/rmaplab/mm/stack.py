"""A mapping that grows down: a stack, or what MAP_GROWSDOWN made.

    |--- neighbour ---|   256 pages stay free   |= VMA, VM_GROWSDOWN =|
                                            ^
                                            an access here: the VMA begins at this page from now on

Up to 4.19 x86 also asks whether the stack pointer is near (32 bytes): here a task's is where it touches.

Source: 2.4.27 include/linux/mm.h, expand_stack; 2.6.2, 2.6.7 mm/mmap.c, expand_stack; arch/i386/mm/fault.c; 6.18 mm/vma.c, expand_downwards, acct_stack_growth; the guard gap is Hugh Dickins' 1be7107fbe18 (4.12).
"""

from rmaplab.errors import SegmentationFault
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.vma import set_range
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.objects.flags import VM_ACCESS, VM_ACCOUNT, VM_GROWSDOWN, VM_LOCKED
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def expand_stack(k: Kernel, vma: VmArea, address: int, limits: Limits) -> None:
    """Let `vma` begin at the page of `address`, which lies below it. Raises SegmentationFault where it may not; as an allocation."""
    mm = vma.mm
    start = address & -PAGE_SIZE
    before, _ = mm.neighbours(vma)
    gap = k.rules.stack_guard_gap_pages << PAGE_SHIFT
    if before is not None and start - before.end < gap and before.flags & VM_ACCESS and not before.flags & VM_GROWSDOWN:
        raise SegmentationFault(address, f"{vma} may not grow so near to {before}")
    if k.rules.stack_prepares:  # whoever walks must not see the borders move: that needs an anon_vma's lock
        k.design.vma_prepare(vma)
    vma_start_write(k, vma)
    if vma.start <= start:  # another thread has been faster while this one slept
        return
    grow = (vma.start - start) >> PAGE_SHIFT
    locked = mm.locked_vm + grow if vma.flags & VM_LOCKED else 0
    if mm.total_vm + grow > limits.address_space >> PAGE_SHIFT:
        raise SegmentationFault(address, f"{vma} may not grow further: RLIMIT_AS")
    if vma.end - start > limits.stack:
        raise SegmentationFault(address, f"{vma} may not grow further: RLIMIT_STACK is {limits.stack:,} bytes")
    if k.rules.stack_minds_memlock and locked > limits.memlock >> PAGE_SHIFT and not limits.may_lock:
        raise SegmentationFault(address, f"{vma} is locked and may not grow further: RLIMIT_MEMLOCK")
    if vma.flags & VM_ACCOUNT or k.rules.stack_growth_is_charged:
        if not k.vm_enough_memory(grow):
            raise SegmentationFault(address, f"{vma} may not grow: overcommit")
        if not vma.flags & VM_ACCOUNT:
            k.committed_drift -= grow
    set_range(k, vma, start, vma.end)
    mm.total_vm += grow
    if vma.flags & VM_LOCKED:
        mm.locked_vm += grow
    k.machine.charge("stack_growth")
