"""struct file: made by open, shared by descriptors and VMAs, gone with the last of them.

    descriptor 3, of a parent and its child ---+
    descriptor 4, by dup ----------------------+--> struct file (count 4) --> inode
    a VMA -------------------------------------+

So a file that is mapped stays open when its descriptors are closed. Its inode is kept by its name, which nobody takes away; one that never had a name
(shared memory, a memfd) goes with its last open file, and its pages and what overcommit has promised for it go too.

Source: 2.6.2 fs/file_table.c, get_empty_filp, fput; fs/inode.c, iput; mm/shmem.c, shmem_delete_inode; kernel/fork.c, copy_files, dup_mmap; mm/mmap.c, do_mmap_pgoff; 6.18 fs/file_table.c.
"""

import errno

from rmaplab.errors import KernelBug, NoMemory, SyscallError
from rmaplab.mm.file_io import LAST
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_swap import free_slots, free_vector, recalc_inode
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.objects.readahead import ReadaheadState
from rmaplab.objects.task import FilesStruct


def open_file(k: Kernel, mapping: AddressSpace, *, readable: bool, writable: bool) -> File:
    """A struct file that nobody refers to yet. Raises SyscallError: EROFS; ENFILE, since 2.6.34 ENOMEM, where there is no memory for it."""
    if writable and mapping.read_only:
        raise SyscallError(errno.EROFS, "open")
    return set_up(k, get_empty_filp(k, "open"), mapping, readable=readable, writable=writable)


def get_empty_filp(k: Kernel, call: str) -> int:
    """The bytes of one. Raises SyscallError: ENFILE, since 2.6.34 ENOMEM."""
    try:
        return k.file_cache.alloc()
    except NoMemory as failure:
        raise failure.or_errno(errno.ENFILE if k.rules.no_file_is_enfile else errno.ENOMEM, call) from None


def set_up(k: Kernel, address: int, mapping: AddressSpace, *, readable: bool, writable: bool) -> File:
    """A struct file at `address`, that nobody refers to yet."""
    file = k.open_files[address] = File(mapping, readable=readable, writable=writable)
    file.address = address
    mapping.opens += 1
    file.ra = ReadaheadState(k.machine.hardware.readahead_pages)
    return file


def get_file(file: File) -> File:
    """One more refers to it."""
    file.count += 1
    return file


def fput(k: Kernel, file: File) -> None:
    """One less does; the last one closes it."""
    file.count -= 1
    if not file.address:
        return
    if file.count < 0:
        raise KernelBug("fput", "an open file is let go of once too often")
    if not file.count:
        del k.open_files[file.address]
        k.file_cache.free(file.address)
        file.address = 0
        if file.ops is not None:
            file.ops.release()
        file.mapping.opens -= 1
        iput(k, file.mapping)


def iput(k: Kernel, mapping: AddressSpace) -> None:
    """The inode goes, if it has no name and nobody has it open."""
    if mapping.named or mapping.opens:
        return
    recalc_inode(k, mapping)
    k.vm_unacct_memory(mapping.nr_charged)
    pages = k.page_cache.remove_range(mapping, 0, LAST)
    k.machine.allocator.free(pages)
    k.machine.charge("page_free", pages.size)
    free_slots(k, mapping, 0)
    free_vector(k, mapping, 0)
    k.page_cache.forget(mapping)
    k.inode_cache.free(mapping.address)


def install(k: Kernel, files: FilesStruct, file: File, fd: int | None = None) -> int:
    """fd_install, dup2: a descriptor refers to it now, which one FilesStruct.install says; what it has meant before is closed."""
    before = files.fd.get(fd) if fd is not None else None
    got = files.install(get_file(file), fd)
    if before is not None:
        fput(k, before)
    return got


def close_fd(k: Kernel, files: FilesStruct, fd: int) -> None:
    """A descriptor means nothing any more."""
    fput(k, files.fd.pop(fd))


def copy_fds(files: FilesStruct) -> FilesStruct:
    """dup_fd: as many descriptors of the same open files."""
    for file in files.fd.values():
        get_file(file)
    return FilesStruct(dict(files.fd))


def put_files(k: Kernel, files: FilesStruct) -> None:
    """put_files_struct: a task less has these descriptors; with the last one they are closed."""
    files.users -= 1
    if not files.users:
        for fd in list(files.fd):
            close_fd(k, files, fd)
