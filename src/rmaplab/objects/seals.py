"""Whether the seals of a file in memory allow what is about to be done. A file on a disk has none."""

import errno

from rmaplab.errors import SyscallError
from rmaplab.objects.flags import F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE
from rmaplab.objects.mm_types import AddressSpace


def refuse_size(file: AddressSpace, size: int, call: str) -> None:
    """Raises SyscallError(EPERM): it may not become longer, or shorter, and would."""
    seal = F_SEAL_GROW if size > file.size else F_SEAL_SHRINK if size < file.size else 0
    if file.shmem is not None and file.shmem.seals & seal:
        raise SyscallError(errno.EPERM, call, "the file is sealed against that")


def refuse_growth_to(file: AddressSpace, end: int, call: str) -> None:
    """Raises SyscallError(EPERM): it would be longer than it may become."""
    refuse_size(file, max(end, file.size), call)


def refuse_writing(file: AddressSpace, call: str) -> None:
    """Raises SyscallError(EPERM): its bytes may not change."""
    if file.shmem is not None and file.shmem.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        raise SyscallError(errno.EPERM, call, "the file is sealed against writing")
