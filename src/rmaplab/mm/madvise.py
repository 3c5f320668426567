"""madvise: what a task says about its memory. Some of it is a flag on VMAs, some of it is done at once to the pages.

    a flag, with splits and merges      DONTFORK, WIPEONFORK, DONTDUMP, NOHUGEPAGE, MERGEABLE, RANDOM, SEQUENTIAL, and their undo
    entries go                          DONTNEED (zeros from now on); FREE marks them clean, for reclaim to drop
    entries look old                    COLD
    pages come                          POPULATE_READ, POPULATE_WRITE (mm/populate.py)
    nobody may touch it, and again      GUARD_INSTALL, GUARD_REMOVE (mm/guard.py)
    of files                            WILLNEED reads, PAGEOUT drops, REMOVE makes a hole (mm/file_advice.py)
    nothing, in anonymous memory        WILLNEED without swap

The range goes VMA by VMA. A hole does not stop it: the rest is done, and then the answer is ENOMEM. A VMA that cannot take the advice
does stop it.

Not modelled: HUGEPAGE and COLLAPSE (huge pages), and what needs reclaim when there is swap.

Source: 2.4.27 mm/filemap.c, mm/madvise.c of 2.6.2 (both: advice 0 to 4) and 6.18, madvise_vma_behavior, madvise_dontneed_free, madvise_walk_vmas, vector_madvise, process_madvise_remote_valid; eras.md 6.3.
"""

import errno
from collections.abc import Sequence

from rmaplab.errors import NoMemory, NotModelled, SyscallError
from rmaplab.machine.entries import ACCESSED, DIRTY
from rmaplab.machine.pagetable_edit import clear_bits, read_range
from rmaplab.mm.file_advice import madvise_remove, pageout, willneed
from rmaplab.mm.file_io import LAST
from rmaplab.mm.guard import guard_install, guard_remove
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import vma_modify
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.mseal import refuse_discard
from rmaplab.mm.unmap_mapping import unmap_nonlinear
from rmaplab.mm.zap import zap_page_range
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_IO,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_NONLINEAR,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, Range, VmArea
from rmaplab.units import PAGE_SIZE, page_align

MADV_HWPOISON, MADV_SOFT_OFFLINE = 100, 101

FLAGS = {  # advice: (vm_flags that go, vm_flags that come)
    MADV_NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    MADV_RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    MADV_SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    MADV_DONTFORK: (0, VM_DONTCOPY),
    MADV_DOFORK: (VM_DONTCOPY, 0),
    MADV_MERGEABLE: (0, VM_MERGEABLE),
    MADV_UNMERGEABLE: (VM_MERGEABLE, 0),
    MADV_NOHUGEPAGE: (0, VM_NOHUGEPAGE),
    MADV_DONTDUMP: (0, VM_DONTDUMP),
    MADV_DODUMP: (VM_DONTDUMP, 0),
    MADV_WIPEONFORK: (0, VM_WIPEONFORK),
    MADV_KEEPONFORK: (VM_WIPEONFORK, 0),
}
NOT_MODELLED = dict.fromkeys((MADV_HUGEPAGE, MADV_COLLAPSE), "huge pages") | dict.fromkeys(
    (MADV_HWPOISON, MADV_SOFT_OFFLINE), "poisoned pages"
)
OF_OTHERS = (MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE)
MAX_RW_COUNT = 0x7FFF_F000
NOT_ON_LOCKED = (MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_REMOVE)


def is_known(k: Kernel, advice: int) -> bool:
    """Whether the kernel knows the advice at all. Raises NotModelled where it does and this version does not."""
    known = advice >= 0 and bool(k.rules.madvise_advice >> advice & 1)
    if known and advice in NOT_MODELLED:
        raise NotModelled(f"madvise({advice}): {NOT_MODELLED[advice]} are not modelled yet; leave it out")
    return known


def check_range(k: Kernel, start: int, length: int, advice: int) -> int:
    """Where the range ends. Raises SyscallError(EINVAL): advice, where it is looked at first; alignment, a range that wraps."""
    end = start + page_align(length)
    unknown = k.rules.madvise_checks_advice_first and not is_known(k, advice)
    if unknown or start % PAGE_SIZE or length < 0 or end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.EINVAL, "madvise")
    return end


def import_ranges(k: Kernel, ranges: Sequence[Range]) -> list[Range]:
    """import_iovec: what the kernel takes of a vector of (address, bytes). Raises SyscallError: EINVAL (a length), EFAULT."""
    taken, left = list[Range](), MAX_RW_COUNT
    for address, length in ranges:
        if length >= k.machine.paging.wraps_at // 2 and len(ranges) > 1:
            raise SyscallError(errno.EINVAL, "process_madvise", "a length beyond all lengths")
        nr_bytes = min(length, left)
        if address + (nr_bytes if len(ranges) == 1 else length) > k.machine.paging.task_size:
            raise SyscallError(errno.EFAULT, "process_madvise", "an address beyond all addresses")
        left -= nr_bytes
        if nr_bytes or not taken:
            taken.append((address, nr_bytes))
    return taken if left < MAX_RW_COUNT else []  # iov_iter_advance passes over empty ones, but the first is looked at


def check_access(limits: Limits, its: Limits, mm: MmStruct) -> None:
    """mm_access, by ptrace_may_access: of the same user, where it may be dumped; root may always. Raises SyscallError(EACCES)."""
    if limits.uid and (its.uid != limits.uid or not mm.dumpable):
        raise SyscallError(errno.EACCES, "process_madvise", "the process is not ours to look at")


def check_remote(k: Kernel, limits: Limits, advice: int, *, other: bool) -> None:
    """What may be said of another's memory, and by whom (CAP_SYS_NICE). Raises SyscallError: EINVAL, EPERM."""
    if advice not in OF_OTHERS:
        raise SyscallError(errno.EINVAL, "process_madvise", "not of another's memory")
    if other and limits.uid:
        raise SyscallError(errno.EPERM, "process_madvise", "CAP_SYS_NICE is not there")


def do_madvise(k: Kernel, mm: MmStruct, start: int, length: int, advice: int) -> None:
    """Raises SyscallError: EINVAL (unknown advice; not for this VMA), ENOMEM (a hole, though the rest is done), EAGAIN (no VMA)."""
    end = check_range(k, start, length, advice)
    hole = False
    with MmuGather(k, mm) as tlb:
        for vma, address, stop in mm.stretches(start, end):
            if vma is None:
                hole = True
                continue
            _advise_vma(k, tlb, vma, address, stop, advice)
    if hole:
        raise SyscallError(errno.ENOMEM, "madvise", "a part of the range is not mapped; the rest is done")


def _advise_vma(k: Kernel, tlb: MmuGather, vma: VmArea, start: int, end: int, advice: int) -> None:
    if not is_known(k, advice):
        raise SyscallError(errno.EINVAL, "madvise", "unknown advice")
    refuse_discard(vma, advice)
    if advice in NOT_ON_LOCKED and vma.flags & VM_LOCKED:
        raise SyscallError(errno.EINVAL, "madvise", f"not for {vma}")
    if (vma.vm_file is not None and _refuse_of_file(vma, advice)) or (advice == MADV_REMOVE and vma.vm_file is None):
        raise SyscallError(errno.EINVAL, "madvise", f"not for {vma}")
    if advice == MADV_REMOVE:
        madvise_remove(k, vma, start, end)
        return
    if advice == MADV_MERGEABLE and vma.flags & VM_MAYSHARE:
        return
    if advice in FLAGS:
        go, come = FLAGS[advice]
        keeps = advice in (MADV_KEEPONFORK, MADV_DODUMP) and vma.flags & VM_DROPPABLE
        if keeps or (advice == MADV_DOFORK and vma.flags & VM_IO):
            raise SyscallError(errno.EINVAL, "madvise", f"not for {vma}")
        flags = vma.flags & ~go | come
        if flags != vma.flags or not k.rules.madvise_skips_unchanged:
            try:
                vma_modify(k, vma, start, end, flags, "madvise", merge=k.rules.madvise_merges)
            except NoMemory as failure:
                raise failure.or_errno(errno.EAGAIN, "madvise", "no memory for a VMA") from None
            except SyscallError as failure:
                raise SyscallError(errno.EAGAIN, "madvise", failure.why) from None
            k.machine.charge("vma_advise")
    elif advice == MADV_DONTNEED and vma.flags & VM_NONLINEAR and k.rules.dontneed_keeps_nonlinear:
        unmap_nonlinear(k, vma, 0, LAST, (start, end))
    elif advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        zap_page_range(k, tlb, start, end)
        if not k.rules.madvise_gathers_once:
            tlb.flush()
    elif advice in (MADV_FREE, MADV_COLD):
        _mark(k, tlb, start, end, DIRTY | ACCESSED if advice == MADV_FREE else ACCESSED)
    elif advice == MADV_GUARD_INSTALL:
        guard_install(k, tlb, vma, start, end)
    elif advice == MADV_GUARD_REMOVE:
        guard_remove(k, vma, start, end)
    elif vma.file is not None and advice == MADV_WILLNEED:
        willneed(k, vma, vma.file, start, end)
    elif vma.file is not None and advice == MADV_PAGEOUT:
        pageout(k, vma, start, end)
    elif advice == MADV_PAGEOUT and k.machine.swap_pages:
        raise NoMemory("MADV_PAGEOUT: this version does not swap", waiting_helps=True)
    elif advice == MADV_WILLNEED and k.rules.willneed_needs_file and vma.zero is None:
        raise SyscallError(errno.EBADF, "madvise", "MADV_WILLNEED is for files")


def _refuse_of_file(vma: VmArea, advice: int) -> bool:
    """Whether advice is not for a file's mapping."""
    return advice == MADV_WIPEONFORK or (advice == MADV_FREE and vma.file is not None)


def _mark(k: Kernel, tlb: MmuGather, start: int, end: int, bits: int) -> None:
    """Entries lose `bits`. Only reclaim will see it: a page that is clean then goes without being written anywhere."""
    machine = k.machine
    address = start
    while address < end:
        stop = k.burst_end(address, end)
        with k.batch() as batch:
            batch.runs, batch.nr, _ = read_range(
                *machine.geometry, tlb.mm.pgd, machine.mapped, address, stop, batch.columns, batch.others
            )
            tlb.need_flush |= batch.nr > 0
            clear_bits(machine.words, machine.paging.bits, batch.columns, batch.runs, bits)
        machine.charge("pte_mark", batch.nr)
        machine.end_burst()
        address = stop
