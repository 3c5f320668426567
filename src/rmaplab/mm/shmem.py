"""Memory that processes share, as an object: an inode of tmpfs that never had a name, and an open file of it.

    mmap(MAP_SHARED | MAP_ANONYMOUS)    VMA ---+
    its child's, after fork             VMA ---+--> struct file --> inode: its pages, and what overcommit has promised for it
    a part, after munmap of another     VMA ---+

The promise is the object's, not the VMAs': neither fork nor munmap of a part changes it. All of it goes with the last reference (open_file.py, iput).

Source: 2.4.27, 2.6.2, 2.6.7 and 6.18 mm/shmem.c, shmem_file_setup, shmem_zero_setup; files.md B2, B3.
"""

import errno

from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.file_io import max_bytes
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.open_file import get_empty_filp, get_file, iput, set_up
from rmaplab.objects.mm_types import AddressSpace, File, VmArea
from rmaplab.objects.shmem import Account
from rmaplab.units import PAGE_SHIFT, page_align


def shmem_file_setup(k: Kernel, size: int, *, account: bool, call: str = "mmap") -> File:
    """An unlinked file of `size` bytes that lives in memory, and an open file of it that nobody refers to yet. `account`: it is charged by its size.

    Raises SyscallError: EINVAL (no file is as long as that), ENOMEM (overcommit), ENOSPC and ENFILE where it gets no memory; NoMemory where the kernel would wait.
    """
    if size > max_bytes(k, on_disk=False):
        raise SyscallError(errno.EINVAL, call, "no file is as long as that")
    charged = page_align(size) >> PAGE_SHIFT if account else 0
    if charged:
        k.charge_memory(charged, call)
    try:
        mapping, filp = _make(k, size, call)
    except (NoMemory, SyscallError):
        k.vm_unacct_memory(charged)
        raise
    if mapping.shmem is not None and account and k.rules.commit_is_accounted:
        mapping.shmem.account = Account.SIZE
    return set_up(k, filp, mapping, readable=True, writable=True)


def _make(k: Kernel, size: int, call: str) -> tuple[AddressSpace, int]:
    """(The inode, the bytes of its struct file), in the order of the day. Raises SyscallError, NoMemory, with neither."""
    if not k.rules.shmem_makes_inode_first:
        filp = get_empty_filp(k, call)
        try:
            return _new_inode(k, size, call), filp
        except (NoMemory, SyscallError):
            k.file_cache.free(filp)
            raise
    mapping = _new_inode(k, size, call)
    try:
        return mapping, get_empty_filp(k, call)
    except (NoMemory, SyscallError):
        iput(k, mapping)
        raise


def _new_inode(k: Kernel, size: int, call: str) -> AddressSpace:
    try:
        mapping = k.page_cache.new_file(size=size, on_disk=False)
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOSPC, call) from None
    mapping.named = False
    return mapping


def shmem_zero_setup(k: Kernel, vma: VmArea, *, account: bool) -> None:
    """`vma`, which nobody knows of yet, shows an object of its own, exactly as long as itself. Raises as shmem_file_setup."""
    account = account or not k.rules.shared_anon_minds_noreserve
    vma.file = get_file(shmem_file_setup(k, vma.nr_pages << PAGE_SHIFT, account=account))
