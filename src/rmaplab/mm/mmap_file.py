"""mmap of a file: what its vm_flags are, and what is refused, in the order of do_mmap_pgoff.

    shared      VM_SHARED, VM_MAYSHARE        opened for reading alone: VM_MAYSHARE stays, VM_SHARED and VM_MAYWRITE go. So it lies among
                                              the private VMAs of its file, and can never be made writable
    private     neither

Source: mm/mmap.c, do_mmap_pgoff of 2.4.27, 2.6.2; 6.18 mm/mmap.c, do_mmap, file_mmap_ok; files.md A3, B1, G9.
"""

import errno

from rmaplab.errors import NotModelled, SyscallError
from rmaplab.mm.dev_zero import is_dev_zero
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.seals import sealed_flags
from rmaplab.objects.flags import (
    MAP_LEGACY,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    VM_GROWSDOWN,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_SHARED,
    VM_WRITE,
)
from rmaplab.objects.mm_types import File
from rmaplab.units import PAGE_SHIFT

MAX_LFS_FILESIZE = (1 << 63) - 1


def check_pgoff(k: Kernel, pgoff: int, nr_pages: int) -> None:
    """A page offset that wraps. Raises SyscallError: EINVAL, since 2.6.34 EOVERFLOW."""
    if not 0 <= pgoff < (1 << (8 * k.machine.paging.word_bytes)) - nr_pages:
        code = errno.EOVERFLOW if k.rules.pgoff_wrap_is_eoverflow else errno.EINVAL
        raise SyscallError(code, "mmap", "the page offset wraps")


def file_flags(k: Kernel, file: File, pgoff: int, nr_pages: int, flags: int, vm_flags: int) -> int:
    """The vm_flags of a mapping of `file`, that were to be `vm_flags`.

    Raises SyscallError: EOVERFLOW, EINVAL (type), EOPNOTSUPP, EACCES, EPERM (seals).
    """
    kind = flags & MAP_TYPE
    most = (1 << 64) - 1 if file.mapping.driver is not None or is_dev_zero(k, file) else MAX_LFS_FILESIZE
    if k.rules.file_size_limits_mappings and pgoff > (most - (nr_pages << PAGE_SHIFT)) >> PAGE_SHIFT:
        raise SyscallError(errno.EOVERFLOW, "mmap", "no file is as long as that")
    if kind == MAP_SHARED_VALIDATE and k.rules.shared_validate_known:
        if unknown := flags & ~MAP_LEGACY:
            raise SyscallError(
                errno.EOPNOTSUPP, "mmap", f"MAP_SHARED_VALIDATE, and nobody knows the flags {unknown:#x}"
            )
        kind = MAP_SHARED
    if kind == MAP_SHARED:
        if vm_flags & VM_WRITE and not file.writable:
            raise SyscallError(errno.EACCES, "mmap", "shared and writable, and the file was not opened for writing")
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not file.writable:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    elif kind != MAP_PRIVATE:
        raise SyscallError(errno.EINVAL, "mmap", "neither shared nor private")
    if not file.readable:
        raise SyscallError(errno.EACCES, "mmap", "the file was not opened for reading")
    if not k.rules.file_growth_refused_late:
        refuse_growth(vm_flags)
    return sealed_flags(file.mapping, vm_flags)


def anonymous_flags(k: Kernel, flags: int, vm_flags: int, *, droppable: bool) -> int:
    """The same of memory without a file. Raises SyscallError(EINVAL); NotModelled: shared memory that grows down."""
    if flags & MAP_TYPE == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN and k.rules.file_growth_refused_late:
            raise NotModelled("shared memory without a file that grows down is not modelled: leave MAP_GROWSDOWN out")
        refuse_growth(vm_flags)
        return vm_flags | VM_SHARED | VM_MAYSHARE
    if flags & MAP_TYPE != MAP_PRIVATE and not droppable:
        raise SyscallError(errno.EINVAL, "mmap", "neither shared nor private")
    return vm_flags


def refuse_growth(vm_flags: int) -> None:
    """Raises SyscallError: EINVAL, for what shows a file and is to grow down."""
    if vm_flags & VM_GROWSDOWN:
        raise SyscallError(errno.EINVAL, "mmap", "what is shared, or a file, does not grow down")
