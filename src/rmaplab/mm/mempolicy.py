"""mbind: from which nodes a range's pages shall come. This machine has one, node 0; what is left is how VMAs split and merge by it.

    before    |---------- no policy ----------|
    mbind              |--------|                   BIND to node 0
    after     |--------|= BIND =|-------------|     policies are compared by value: bound again, it is one VMA with what is bound alike

In this order: flags, alignment, the range, the mode and its nodes (EINVAL); then VMA by VMA a hole (EFAULT, but for DEFAULT) and, with STRICT,
a page that is not where it should be (EIO). Only then anything changes.

Not modelled: MOVE where pages would move.

Source: 6.18 mm/mempolicy.c, sanitize_mpol_flags, do_mbind, mpol_new, mpol_set_nodemask, queue_pages_test_walk, mbind_range, __mpol_equal.
"""

import errno

import numpy as np

from rmaplab.errors import NoMemory, NotModelled, SyscallError
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import vma_modify
from rmaplab.objects.flags import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_NUMA_BALANCING,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_LOCAL,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SIZE, page_align

NODES = 1  # those that there are: node 0
USERS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES
MODE_FLAGS = USERS | MPOL_F_NUMA_BALANCING
MOVES = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL
Policy = tuple[int, int, int, int]


def do_mbind(
    k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int, mode: int, nodes: int, flags: int
) -> None:
    """The policy of a range; `nodes` is a mask. Raises SyscallError: EINVAL, EPERM (MOVE_ALL), EFAULT (a hole), EIO, ENOMEM; NotModelled."""
    mode_flags, mode = mode & MODE_FLAGS, mode & ~MODE_FLAGS
    balancing = mode_flags & MPOL_F_NUMA_BALANCING and mode not in (MPOL_BIND, MPOL_PREFERRED_MANY)
    if mode > MPOL_WEIGHTED_INTERLEAVE or mode_flags & USERS == USERS or balancing or flags & ~(MPOL_MF_STRICT | MOVES):
        raise SyscallError(errno.EINVAL, "mbind", "an unknown mode, or flags")
    if flags & MPOL_MF_MOVE_ALL and limits.uid:
        raise SyscallError(errno.EPERM, "mbind", "CAP_SYS_NICE is not there")
    end = start + page_align(length)
    if start % PAGE_SIZE or end >= k.machine.paging.wraps_at:  # a length that wraps when it is rounded up is 0
        end %= k.machine.paging.wraps_at
        if start % PAGE_SIZE or end < start:
            raise SyscallError(errno.EINVAL, "mbind")
    if end == start:
        return
    policy = _new_policy(mode, mode_flags, nodes)
    if policy is None:
        flags &= ~MPOL_MF_STRICT
    _check_pages(k, mm, start, end, policy, flags if not nodes & NODES else 0)
    for vma, address, stop in mm.stretches(start, end):
        if vma is None or vma.traits.policy == policy:
            continue
        try:
            vma_modify(k, vma, address, stop, vma.flags, "mbind", traits=vma.traits._replace(policy=policy))
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, "mbind", "no memory for a VMA") from None


def _new_policy(mode: int, mode_flags: int, nodes: int) -> Policy | None:
    """mpol_new and mpol_set_nodemask; None is the default. Raises SyscallError(EINVAL)."""
    wrong = SyscallError(errno.EINVAL, "mbind", "nodes that do not go with this mode, or are not there")
    if mode == MPOL_DEFAULT:
        if nodes:
            raise wrong
        return None
    if mode in (MPOL_PREFERRED, MPOL_LOCAL) and not nodes:
        if mode_flags & USERS:
            raise wrong
        return MPOL_LOCAL, mode_flags, 0, 0
    if mode == MPOL_LOCAL or not nodes:
        raise wrong
    there = NODES if mode_flags & MPOL_F_RELATIVE_NODES else nodes & NODES
    if not there:
        raise wrong
    return mode, mode_flags, there, nodes if mode_flags & USERS else 0


def _check_pages(k: Kernel, mm: MmStruct, start: int, end: int, policy: Policy | None, flags: int) -> None:
    """queue_pages_range: holes; and if there are `flags`, pages: none is where it should be then. Raises SyscallError, NotModelled."""
    if not mm.overlapping(start, end):
        raise SyscallError(errno.EFAULT, "mbind", "nothing is mapped there")
    present = read_page_tables(k.machine, mm.pgd)[0] if flags else None
    stretches = list(mm.stretches(start, end))
    for (vma, address, stop), behind in zip(stretches, [*stretches[1:], (mm, end, end)], strict=True):
        if policy is not None and (vma is None or behind[0] is None):
            raise SyscallError(errno.EFAULT, "mbind", f"nothing is mapped behind {stop:#x}, or at {address:#x}")
        if present is None or vma is None:
            continue
        inside = (present.addresses >= address) & (present.addresses < stop) & (present.pfns != ZERO_PFN)
        if np.any(inside) and flags & MOVES:
            raise NotModelled("mbind with MOVE of pages that would move: leave MOVE out")
        if np.any(inside):
            raise SyscallError(errno.EIO, "mbind", "a page is not on one of these nodes")
