"""memfd_create(2): a file without a name, that lives in memory and can be sealed (mm/seals.py)."""

import errno

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.inode import Mount
from rmaplab.cpu.files.open_file import O_RDWR
from rmaplab.cpu.files.regular import OpenRegular, RegularInode
from rmaplab.errors import SyscallError
from rmaplab.mm.open_file import get_file
from rmaplab.mm.seals import add_seals, get_seals, memfd_create, sanitize_flags
from rmaplab.objects.flags import MFD_NOEXEC_SEAL

MEMFD = Mount(0x1, b"tmpfs", 0x0102_1994)
MOST_NAME = 249


class MemoryFile(OpenRegular):
    """An open file of that kind. Raises SyscallError: ENOSYS, EINVAL, ENOMEM and the like."""

    def __init__(self, fs: FileSystem, name: bytes, flags: int) -> None:
        if len(name) > MOST_NAME:
            raise SyscallError(errno.EINVAL, "memfd_create")
        with fs.errnos("memfd_create"):
            sanitize_flags(fs.kernel, flags)
            file = memfd_create(fs.kernel, flags)
        inode = RegularInode(fs, MEMFD, fs.new_ino(), 0o666 if flags & MFD_NOEXEC_SEAL else 0o777)
        inode.nlink, inode.mapping = 0, file.mapping
        fs.by_mapping[file.mapping.address] = inode
        super().__init__(inode, O_RDWR, get_file(file))
        self.label = b"/memfd:" + name + b" (deleted)"

    def add_seals(self, seals: int) -> None:
        """fcntl(F_ADD_SEALS). Raises SyscallError."""
        add_seals(self.node.fs.kernel, self.mappable(), seals)

    def seals(self) -> int:
        """fcntl(F_GET_SEALS). Raises SyscallError."""
        return get_seals(self.node.fs.kernel, self.mappable())
