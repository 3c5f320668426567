"""memfd: a file that never had a name, and seals: what nobody may do with it any more.

    F_SEAL_SHRINK, _GROW         ftruncate; a write or fallocate beyond the end                       EPERM
    F_SEAL_WRITE                 write, holes, a mapping that is shared and writable                  EPERM; there must be none yet: EBUSY
    F_SEAL_FUTURE_WRITE          the same, but that mappings which are there may go on
    F_SEAL_EXEC                  its mode; of what may be executed the whole of it
    F_SEAL_SEAL                  another seal

A shared mapping that is only to be read can be made of a file sealed against writing, and can never be made writable (VM_MAYWRITE goes). Who stands
in the way of F_SEAL_WRITE is asked of the VMAs that map the file.

Source: 6.18 mm/memfd.c, memfd_add_seals (of 6.18.44 is, live, that F_SEAL_EXEC of what may be executed can be EBUSY), check_write_seal, sanitize_flags, alloc_file; mm/shmem.c, shmem_setattr, shmem_write_begin; files.md A3, G10.
"""

import errno

from rmaplab.errors import NotModelled, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem import shmem_file_setup
from rmaplab.objects.flags import (
    F_SEAL_EXEC,
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    MFD_ALLOW_SEALING,
    MFD_EXEC,
    MFD_HUGETLB,
    MFD_NOEXEC_SEAL,
    VM_MAYWRITE,
    VM_SHARED,
    VM_WRITE,
)
from rmaplab.objects.mm_types import AddressSpace, File

NO_WRITES = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE


def sanitize_flags(k: Kernel, flags: int) -> None:
    """Raises SyscallError: ENOSYS, EINVAL; NotModelled: MFD_HUGETLB."""
    known = k.rules.memfd_flags
    if not known:
        raise SyscallError(errno.ENOSYS, "memfd_create")
    if flags & ~known or (flags & MFD_EXEC and flags & MFD_NOEXEC_SEAL):
        raise SyscallError(errno.EINVAL, "memfd_create", "flags that are unknown, or say two things")
    if flags & MFD_HUGETLB:
        raise NotModelled("memfd_create with MFD_HUGETLB: huge pages are not modelled; leave it out")


def memfd_create(k: Kernel, flags: int) -> File:
    """An open file that nobody refers to yet, where vm.memfd_noexec is 0. Raises SyscallError: ENOMEM, ENOSPC, ENFILE; and as an allocation."""
    file = shmem_file_setup(k, 0, account=False, call="memfd_create")
    if (info := file.mapping.shmem) is not None:
        info.executable = not flags & MFD_NOEXEC_SEAL
        if flags & (MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING):
            info.seals &= ~F_SEAL_SEAL
        if flags & MFD_NOEXEC_SEAL:
            info.seals |= F_SEAL_EXEC
    return file


def add_seals(k: Kernel, file: File, seals: int) -> None:
    """fcntl(F_ADD_SEALS). Raises SyscallError: EINVAL, EPERM, EBUSY. O(VMAs that map it)."""
    if not k.rules.seals_known:
        raise SyscallError(errno.EINVAL, "fcntl", "seals are not known")
    if not file.writable:
        raise SyscallError(errno.EPERM, "fcntl", "the file was not opened for writing")
    info = file.mapping.shmem
    if seals & ~k.rules.seals_known or info is None:
        raise SyscallError(errno.EINVAL, "fcntl", "unknown seals" if info is not None else "a file that has no seals")
    if info.seals & F_SEAL_SEAL:
        raise SyscallError(errno.EPERM, "fcntl", "it is sealed against more seals (F_SEAL_SEAL)")
    if seals & F_SEAL_EXEC and info.executable:
        seals |= F_SEAL_SHRINK | F_SEAL_GROW | NO_WRITES
    if seals & F_SEAL_WRITE and not info.seals & F_SEAL_WRITE and _has_writers(k, file.mapping):
        raise SyscallError(errno.EBUSY, "fcntl", "somebody maps it who may write to it")
    info.seals |= seals


def get_seals(k: Kernel, file: File) -> int:
    """fcntl(F_GET_SEALS). Raises SyscallError(EINVAL)."""
    if not k.rules.seals_known or file.mapping.shmem is None:
        raise SyscallError(errno.EINVAL, "fcntl", "seals are not known, or the file has none")
    return file.mapping.shmem.seals


def _has_writers(k: Kernel, mapping: AddressSpace) -> bool:
    """Whether i_mmap_writable is above 0."""
    mask = VM_SHARED if k.rules.readers_may_become_writers else VM_SHARED | VM_MAYWRITE
    return any(vma.flags & mask == mask for vma in mapping.i_mmap)


def sealed_flags(mapping: AddressSpace, vm_flags: int) -> int:
    """memfd_check_seals_mmap: the vm_flags of a mapping that was to have these. Raises SyscallError(EPERM)."""
    if mapping.shmem is None or not mapping.shmem.seals & NO_WRITES or not vm_flags & VM_SHARED:
        return vm_flags
    if vm_flags & VM_WRITE:
        raise SyscallError(errno.EPERM, "mmap", "the file is sealed against writing")
    return vm_flags & ~VM_MAYWRITE
