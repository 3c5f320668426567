"""Names of anonymous VMAs (prctl PR_SET_VMA_ANON_NAME): /proc/PID/maps shows them, and VMAs of different names do not merge.

    before    |---------- no name ----------|
    name               |--------|                  "heap"
    after     |--------|= heap =|-----------|      taken back, it is one VMA again

fork and mremap take the name along; who is new has none. The range goes as madvise's: a hole does not stop it, and then is ENOMEM.

Source: 6.18 kernel/sys.c, prctl_set_vma; mm/madvise.c, set_anon_vma_name, madvise_update_vma; from memory. The hosts at hand have no
CONFIG_ANON_VMA_NAME, so nothing of it was compared.
"""

import errno

from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import vma_modify
from rmaplab.mm.shmem import is_anon_shmem
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SIZE, page_align

MOST = 79  # ANON_VMA_NAME_MAX_LEN, with the 0 behind it
FORBIDDEN = set("\\`$[]")


def do_set_anon_name(k: Kernel, mm: MmStruct, start: int, length: int, name: str | None) -> None:
    """Name a range, or take its name back (None). Raises SyscallError: EINVAL (name, alignment, a range that wraps), EBADF, ENOMEM, EAGAIN."""
    if name is not None and (len(name) > MOST or any(not " " <= each <= "~" or each in FORBIDDEN for each in name)):
        raise SyscallError(errno.EINVAL, "prctl", "a name that no VMA may have")
    end = start + page_align(length)
    if start % PAGE_SIZE or end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.EINVAL, "prctl")
    hole = False
    for vma, address, stop in mm.stretches(start, end):
        if vma is None:
            hole = True
            continue
        if vma.zero is not None or (vma.file is not None and not is_anon_shmem(vma.file)):
            raise SyscallError(errno.EBADF, "prctl", f"{vma} shows a file")
        if vma.traits.name == name:
            continue
        try:
            vma_modify(k, vma, address, stop, vma.flags, "prctl", traits=vma.traits._replace(name=name))
        except NoMemory as failure:
            raise failure.or_errno(errno.EAGAIN, "prctl", "no memory for a VMA") from None
        except SyscallError:
            raise SyscallError(errno.EAGAIN, "prctl", "too many mappings") from None
    if hole:
        raise SyscallError(errno.ENOMEM, "prctl", "a part of the range is not mapped; the rest is done")
