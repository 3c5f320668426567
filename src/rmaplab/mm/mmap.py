"""mmap and brk: a range is chosen, charged for, and covered. What is different for a file is in mmap_file.py.

    before    |--- A ---|          |--- B ---|          same flags, page offsets that continue, A's and B's
    mmap          |-----hole-----|                      reverse maps agree
    after     |------------- A --------------|          one VMA: A has grown over the hole and over B

MAP_DROPPABLE, in the place of MAP_PRIVATE (6.11): the kernel may drop its pages at any time, so they are not charged for, locked, inherited
or dumped.

What MAP_FIXED replaces goes first in 2004, whatever comes of the rest; 6.18 takes it away when nothing can fail any more. brk maps
or unmaps what lies between the old end of the heap and the new one. Both say what is to be faulted in when mmap_sem is free again.

Where a range comes from is unmapped_area.py; who covers it, merge.py; unmapping, munmap.py.

Source: 2.6.2 mm/mmap.c, do_mmap_pgoff, do_brk; for 2.6.5-rc1-aa1 mm/mmap.c of the -aa tree (history.md 4.1, 4.2); 6.18 mm/mmap.c,
do_mmap, mlock_future_ok, and mm/vma.c, mmap_region, do_brk_flags.
"""

import errno
from collections.abc import Sequence

from rmaplab.errors import NoMemory, NotModelled, SyscallError, as_errno
from rmaplab.mm.dev_zero import is_dev_zero, zeromap_page_range
from rmaplab.mm.file_rules import Populate
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import break_is_limited, can_do_mlock, check_expand_vm
from rmaplab.mm.merge import merge_new_range
from rmaplab.mm.mmap_file import anonymous_flags, check_pgoff, file_flags, refuse_growth
from rmaplab.mm.munmap import do_munmap, split_ends
from rmaplab.mm.open_file import get_file
from rmaplab.mm.shmem import shmem_zero_setup
from rmaplab.mm.unmapped_area import get_unmapped_area
from rmaplab.mm.vma import link_vma, too_many_mappings, vm_area_alloc, vm_area_free
from rmaplab.mm.zap import zap_unlinked
from rmaplab.objects import flags as flags_of_linux
from rmaplab.objects.flags import (
    MAP_32BIT,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_SHARED,
    MAP_STACK,
    MAP_TYPE,
    VM_ACCESS,
    VM_ACCOUNT,
    VM_DATA_DEFAULT_FLAGS,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYACCESS,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_SHARED,
    VM_WIPEONFORK,
    VM_WRITE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import File, MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

MAP_NAMES = {name: bit for name, bit in vars(flags_of_linux).items() if name.startswith("MAP_")}
AS_FLAGS = ((MAP_GROWSDOWN, VM_GROWSDOWN), (MAP_LOCKED, VM_LOCKED), (MAP_STACK, VM_NOHUGEPAGE))


def do_mmap(
    k: Kernel,
    mm: MmStruct,
    limits: Limits,
    address: int,
    length: int,
    prot: int,
    flags: int,
    file: File | None = None,
    pgoff: int = 0,
) -> tuple[int, Range | tuple[int, int, bool] | None]:
    """Map `length` bytes of anonymous memory, private or shared, or of `file` from page `pgoff` on: (the address it got, what mm_populate is to do next).

    `address` is a hint, or an order with MAP_FIXED.

    Raises SyscallError: EINVAL (length, type, unaligned MAP_FIXED), EEXIST (MAP_FIXED_NOREPLACE), ENOMEM (no hole, too many VMAs,
    overcommit), EPERM and EAGAIN (MAP_LOCKED); of files also EACCES, EOVERFLOW, EOPNOTSUPP; of shared memory ENFILE, ENOSPC. NotModelled: what the kernel knows of
    the flags and this version does not.
    """
    rules, paging = k.rules, k.machine.paging
    if length == 0 and rules.mmap_of_nothing_succeeds:
        return address, None
    known = flags & rules.mmap_flags
    if not_modelled := known & rules.mmap_flags_not_modelled:
        raise _not_modelled(not_modelled)
    length = page_align(length)
    too_long = rules.mmap_too_long_is_enomem and length > paging.task_size
    if length <= 0 or (length > paging.task_size and not too_long):
        raise SyscallError(errno.EINVAL, "mmap", "beyond the address space" if length > 0 else "a length of 0")
    shared = flags & MAP_TYPE == MAP_SHARED and (file is None or is_dev_zero(k, file))
    droppable = known & MAP_TYPE == MAP_DROPPABLE and flags & MAP_TYPE == MAP_DROPPABLE and file is None
    check_pgoff(k, pgoff, length >> PAGE_SHIFT)
    if too_long or mm.map_count > rules.max_map_count:
        why = "beyond the address space" if too_long else too_many_mappings(k, mm)
        raise SyscallError(errno.ENOMEM, "mmap", why)
    fixed = bool(flags & MAP_FIXED or known & MAP_FIXED_NOREPLACE)
    start = get_unmapped_area(
        k, mm, address, length, fixed=fixed, low=bool(known & MAP_32BIT), file=file, pgoff=pgoff, shared=shared
    )
    end = start + length
    if known & MAP_FIXED_NOREPLACE and mm.overlapping(start, end):
        raise SyscallError(errno.EEXIST, "mmap", "MAP_FIXED_NOREPLACE, and something is mapped there")
    vm_flags = prot & VM_ACCESS | VM_MAYACCESS | mm.def_flags
    if known:
        vm_flags |= _calc_vm_flag_bits(k, known)
    if vm_flags & VM_LOCKED:
        check_lock_limit(k, mm, limits, vm_flags, length >> PAGE_SHIFT, "mmap", asked=bool(known & MAP_LOCKED))
    if file is not None:
        vm_flags = file_flags(k, file, pgoff, length >> PAGE_SHIFT, flags, vm_flags)
    else:
        vm_flags = anonymous_flags(k, flags, vm_flags, droppable=droppable)
    if droppable and (known & MAP_LOCKED or vm_flags & VM_GROWSDOWN):
        raise SyscallError(errno.EINVAL, "mmap", "what may be dropped is neither locked nor a stack")
    vm_flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP if droppable else 0
    replaced = _replace(k, mm, start, end) if flags & MAP_FIXED and mm.overlapping(start, end) else []
    reserve = (not known & MAP_NORESERVE or k.overcommit.counts_noreserve) and not droppable
    map_region(k, mm, limits, start, end, vm_flags, replaced, reserve=reserve, call="mmap", file=file, pgoff=pgoff)
    return start, _to_populate(k, start, end, known, prot, vm_flags, file)


def _to_populate(
    k: Kernel, start: int, end: int, known: int, prot: int, vm_flags: int, file: File | None
) -> Range | tuple[int, int, bool] | None:
    """What mm_populate is to do: fault in; or with MAP_POPULATE, on kernels that left it to remap_file_pages, that, perhaps without reading."""
    if known & MAP_POPULATE and k.rules.map_populate is not Populate.ALL:
        asks = vm_flags & VM_SHARED and (k.rules.map_populate is Populate.SHARED or not prot)
        if asks and (file is None or file.mapping.driver is None):
            return start, end, bool(known & MAP_NONBLOCK)
    elif known & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        return start, end
    return (start, end) if vm_flags & VM_LOCKED else None


def _replace(k: Kernel, mm: MmStruct, start: int, end: int) -> list[VmArea]:
    """What MAP_FIXED is to replace, if that goes last; else it goes now."""
    if k.rules.mmap_replaces_last:
        return split_ends(k, mm, start, end, "mmap")
    do_munmap(k, mm, start, end - start, "mmap")
    return []


def _not_modelled(bits: int) -> NotModelled:
    names = " and ".join(name for name, bit in MAP_NAMES.items() if bits & bit and bit & (bit - 1) == 0)
    return NotModelled(f"mmap with {names} is not modelled on this kernel yet: leave it out")


def _calc_vm_flag_bits(k: Kernel, known: int) -> int:
    """The vm_flags of MAP_ bits that the kernel knows."""
    vm_flags = 0
    for flag, vm_flag in AS_FLAGS:
        if known & flag:
            vm_flags |= vm_flag
    as_flag = k.rules.noreserve_is_a_flag and not k.overcommit.counts_noreserve
    return vm_flags | (VM_NORESERVE if known & MAP_NORESERVE and as_flag else 0)


def check_lock_limit(
    k: Kernel, mm: MmStruct, limits: Limits, flags: int, nr_pages: int, call: str, *, asked: bool = False
) -> None:
    """can_do_mlock (if it was `asked` for by name) and mlock_future_ok. Raises SyscallError: EPERM, EAGAIN."""
    if asked and k.rules.mlock_needs_capability and not can_do_mlock(k, limits):
        raise SyscallError(errno.EPERM, call, "CAP_IPC_LOCK is not there")
    if limits.may_lock and not k.rules.memlock_limits_all:
        return
    if asked and not limits.memlock and not k.rules.mlock_needs_capability:
        raise SyscallError(errno.EPERM, call, "RLIMIT_MEMLOCK is 0, and CAP_IPC_LOCK is not there")
    if flags & VM_LOCKED and mm.locked_vm + nr_pages > limits.memlock >> PAGE_SHIFT:
        why = f"{mm.locked_vm + nr_pages:,} pages would be locked, more than RLIMIT_MEMLOCK: {limits.memlock >> PAGE_SHIFT:,}"
        raise SyscallError(errno.EAGAIN, call, why)


def map_region(
    k: Kernel,
    mm: MmStruct,
    limits: Limits,
    start: int,
    end: int,
    flags: int,
    replaced: Sequence[VmArea],
    *,
    reserve: bool,
    call: str,
    file: File | None = None,
    pgoff: int = 0,
) -> None:
    """Charge for [start, end) and cover it: by a neighbour that grows, or by a new VMA, that shows `file` from `pgoff` on. `replaced` are there, and go.

    What is shared without a file gets an object of its own. Raises SyscallError: ENOMEM (RLIMIT_AS or RLIMIT_DATA, overcommit, no memory for the
    VMA); ENFILE and ENOSPC of such an object.
    """
    nr_pages = (end - start) >> PAGE_SHIFT
    lost = sum(vma.nr_pages for vma in replaced) if replaced else 0
    check_expand_vm(k, mm, limits, flags, nr_pages, call, lost=lost)
    charged = 0
    if flags & (VM_WRITE | VM_SHARED) == VM_WRITE and reserve:
        refund = sum(vma.nr_pages for vma in replaced if vma.flags & VM_ACCOUNT) if replaced else 0
        k.charge_memory(max(nr_pages - refund, 0), call)
        if k.rules.commit_is_accounted:
            flags |= VM_ACCOUNT
            charged = nr_pages
            k.committed_pages += min(refund, nr_pages)  # what was there gives back all of it below
    if file is None and flags & VM_SHARED:
        pgoff = pgoff if k.rules.shared_anon_keeps_pgoff else 0
    elif file is None:
        pgoff = start >> PAGE_SHIFT
    try:
        if replaced:
            do_munmap(k, mm, start, end - start, call)
        if file is not None:
            refuse_growth(flags)
        vma = _cover(k, mm, start, end, flags, pgoff, file, account=reserve)
    except (NoMemory, SyscallError) as failure:
        k.vm_unacct_memory(charged)
        raise as_errno(failure, errno.ENOMEM, call) from None
    mm.total_vm += nr_pages
    if flags & VM_LOCKED and flags & k.rules.mlock_leaves:  # __mmap_complete: only now, when nobody has merged with it
        vma.flags &= ~VM_LOCKED_MASK
    elif flags & VM_LOCKED:
        mm.locked_vm += nr_pages


def _cover(
    k: Kernel, mm: MmStruct, start: int, end: int, flags: int, pgoff: int, file: File | None, *, account: bool
) -> VmArea:
    """A neighbour grows, or there is a new VMA: of `file`, or of an object of its own if it is shared and has none. Raises as an allocation, and what f_op->mmap raises."""
    zero = file if is_dev_zero(k, file) else None
    file = None if zero is not None else file
    owns = file is None and bool(flags & VM_SHARED)
    device = None if file is None else file.mapping.driver
    fills, new = zero is not None and not owns and k.rules.dev_zero_is_filled, None
    try:
        if fills:
            new = vm_area_alloc(k, mm, start, end, flags, pgoff)
            zeromap_page_range(k, mm, start, end, flags)
        if not owns and device is None:
            merged, _ = merge_new_range(k, mm, None, start, end, flags, pgoff, file=file, zero=zero)
            if merged is not None:
                if new is not None:
                    vm_area_free(k, new)
                return merged
        new = new or vm_area_alloc(k, mm, start, end, flags, pgoff)
        k.machine.charge("vma_alloc")
        if owns:
            shmem_zero_setup(k, new, account=account)
        elif zero is not None:
            new.zero = get_file(zero)
        elif file is not None:
            new.file = get_file(file)
        if (hook := device if file is None else file.ops or device) is not None:
            hook.mmap(new)
    except Exception:
        if fills:
            zap_unlinked(k, mm, start, end)
        if new is not None:
            vm_area_free(k, new)
        raise
    link_vma(k, new)
    k.design.vma_new(new)
    return new


def do_brk(k: Kernel, mm: MmStruct, limits: Limits, address: int) -> tuple[int, Range | None]:
    """Move the end of the heap to `address`; 0 asks where it is: (where it is now, what is to be faulted in next).

    Raises SyscallError(ENOMEM), and the heap is as before.
    """
    old_end, new_end = page_align(mm.brk), page_align(address)
    populate: Range | None = None
    if address < mm.start_brk:
        return mm.brk, None
    limited = break_is_limited(mm, limits, address)
    if limited and address <= mm.brk and k.rules.data_limit_stops_shrinking:
        return mm.brk, None
    if limited and (new_end > old_end or k.rules.data_limit_stops_shrinking):
        raise SyscallError(errno.ENOMEM, "brk", "RLIMIT_DATA")
    if new_end < old_end:
        try:
            do_munmap(k, mm, new_end, old_end - new_end, "brk")
        except SyscallError:  # it cannot be split, or is sealed
            return mm.brk, None
    elif new_end > old_end:
        beyond = new_end > k.machine.paging.task_size and k.rules.brk_minds_task_size
        if beyond or mm.overlapping(old_end, new_end + PAGE_SIZE):
            why = "beyond the address space" if beyond else "something else is mapped there"
            raise SyscallError(errno.ENOMEM, "brk", why)
        if mm.map_count > k.rules.max_map_count:
            raise SyscallError(errno.ENOMEM, "brk", too_many_mappings(k, mm))
        flags = VM_DATA_DEFAULT_FLAGS | mm.def_flags
        if not k.rules.heap_is_executable:
            flags &= ~VM_EXEC
        try:
            check_lock_limit(k, mm, limits, flags, (new_end - old_end) >> PAGE_SHIFT, "brk")
        except SyscallError as failure:
            raise SyscallError(errno.ENOMEM, "brk", failure.why) from None
        map_region(k, mm, limits, old_end, new_end, flags, (), reserve=True, call="brk")
        if flags & VM_LOCKED:
            populate = old_end, new_end
    mm.brk = address
    return address, populate
