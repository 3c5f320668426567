"""What a task can ask of files, by descriptors. dup and fork share an open file, another open does not.

Bytes that are read and written here are the caller's own, not in the task's memory. Mapping a file is mmap (calls/memory.py).
"""

import errno
from collections.abc import Callable
from typing import TypeVar

from rmaplab.calls.memory import MemoryCalls
from rmaplab.errors import DiskError, NoMemory, NoSpace, NotModelled, Oops, SyscallError, UsageError
from rmaplab.harmless import printable
from rmaplab.mm.dev_zero import dev_zero, is_dev_zero
from rmaplab.mm.fallocate import vfs_fallocate
from rmaplab.mm.file_io import LAST, LONGEST, file_read, file_write, max_bytes, write_out
from rmaplab.mm.open_file import close_fd, install, open_file
from rmaplab.mm.process import oops
from rmaplab.mm.seals import add_seals, get_seals, memfd_create, sanitize_flags
from rmaplab.mm.truncate import vmtruncate
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.units import PAGE_SIZE

R = TypeVar("R")
MAX_RW_COUNT = 0x7FFF_F000
"""No read takes more bytes, of any kernel here: in 2004 there was no such bound. Source: 6.18 include/linux/fs.h."""
MOST_FDS = 1024
"""RLIMIT_NOFILE, as programs begin with it: no descriptor is asked for from there on."""


class FileCalls(MemoryCalls):
    """The file calls of a task."""

    def open(self, file: AddressSpace, *, readable: bool = True, writable: bool = False, fd: int | None = None) -> int:
        """open(2) of a file that System.new_file() has made: a descriptor, the lowest that is free, or `fd`. Raises SyscallError: EMFILE, ENFILE, ENOMEM, EBADF."""
        self._mm()
        if not isinstance(file, AddressSpace):
            raise UsageError(f"open of {printable(repr(file))}: give a file that System.new_file() has made")
        if file.driver is None and file not in (self.kernel.page_cache.files.get(file.address), self.kernel.dev_zero):
            raise UsageError("open of a file that another system has made: give one of this system's new_file()")
        self._check_fd("open", fd)
        return install(self.kernel, self.files, open_file(self.kernel, file, readable=readable, writable=writable), fd)

    def open_zero(self, *, readable: bool = True, writable: bool = True, fd: int | None = None) -> int:
        """open(2) of /dev/zero: a descriptor. Raises as open()."""
        self._mm()
        try:
            zero = dev_zero(self.kernel)
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, "open") from None
        return self.open(zero, readable=readable, writable=writable, fd=fd)

    def memfd_create(self, flags: int = 0, fd: int | None = None) -> int:
        """memfd_create(2) with MFD_ bits: a descriptor. Raises SyscallError: ENOSYS (before 3.17), EINVAL, EMFILE, EBADF (`fd`), ENOSPC, ENOMEM; NotModelled: huge pages."""
        self._mm()
        sanitize_flags(self.kernel, flags)
        self._check_fd("memfd_create", fd)
        return install(self.kernel, self.files, memfd_create(self.kernel, flags), fd)

    def add_seals(self, fd: int, seals: int) -> None:
        """fcntl(F_ADD_SEALS). Raises SyscallError: EBADF, EPERM, EINVAL, EBUSY."""
        add_seals(self.kernel, self.opened("fcntl", fd), seals)

    def get_seals(self, fd: int) -> int:
        """fcntl(F_GET_SEALS). Raises SyscallError: EBADF, EINVAL."""
        return get_seals(self.kernel, self.opened("fcntl", fd))

    def dup(self, fd: int, to: int | None = None) -> int:
        """dup(2), or dup2(2): one more descriptor of the same open file. Raises SyscallError: EBADF, EMFILE."""
        file = self.opened("dup", fd)
        self._check_fd("dup", to)
        return install(self.kernel, self.files, file, to)

    def close(self, fd: int) -> None:
        """close(2). What is mapped stays so. Raises SyscallError(EBADF)."""
        self.opened("close", fd)
        close_fd(self.kernel, self.files, fd)

    def file_size(self, fd: int) -> int:
        """st_size of fstat(2), in bytes. Raises SyscallError(EBADF)."""
        return self.opened("fstat", fd).mapping.size

    def file_blocks(self, fd: int) -> int:
        """st_blocks of fstat(2), of a file that lives in memory: its pages and those of its swap vector, in units of 512 bytes. Raises SyscallError(EBADF), NotModelled."""
        mapping = self.opened("fstat", fd).mapping
        if mapping is self.kernel.dev_zero:
            return 0
        if mapping.on_disk:
            raise NotModelled("the blocks of a file on a disk are not modelled: ask for those of one on tmpfs")
        return mapping.nr_blocks * (PAGE_SIZE // 512)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """pread(2): less than `length` bytes where the file ends. Raises SyscallError: EBADF, EINVAL, ENOMEM, EIO."""
        _demand_numbers("pread", length, offset)
        self._check("pread", 0 <= offset <= LONGEST, errno.EINVAL)
        file = self.opened("pread", fd)
        self._check("pread", file.readable, errno.EBADF)
        self._check("pread", length >= 0, errno.EINVAL)
        self._check_end("pread", offset + length)
        length = min(length, MAX_RW_COUNT)
        if is_dev_zero(self.kernel, file):
            return bytes(length)
        return self._file_call("pread", file_read, file, offset, length)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """pwrite(2): bytes written. Raises SyscallError: EBADF, EINVAL, EFBIG, EPERM, ENOMEM, ENOSPC, EIO."""
        _demand_numbers("pwrite", offset)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"pwrite of {type(data).__name__}: give bytes, such as b'...'")
        self._check("pwrite", 0 <= offset <= LONGEST, errno.EINVAL)
        file = self.opened("pwrite", fd)
        self._check("pwrite", file.writable, errno.EBADF)
        self._check_end("pwrite", offset + len(data))
        if is_dev_zero(self.kernel, file):
            return len(data)
        longest = max_bytes(self.kernel, on_disk=file.mapping.on_disk)
        self._check("pwrite", not data or offset < longest, errno.EFBIG)
        return self._file_call("pwrite", file_write, file.mapping, offset, data)

    def read_file(self, fd: int, length: int) -> bytes:
        """read(2), from where the last one ended. Raises as pread()."""
        file = self.opened("read", fd)
        data = self.pread(fd, length, file.position)
        file.position += len(data)
        return data

    def write_file(self, fd: int, data: bytes) -> int:
        """write(2), from where the last one ended. Raises as pwrite()."""
        file = self.opened("write", fd)
        written = self.pwrite(fd, data, file.position)
        file.position += written
        return written

    def ftruncate(self, fd: int, size: int) -> None:
        """ftruncate(2): the file is `size` bytes long. Raises SyscallError: EINVAL, EBADF, EFBIG, EPERM, ENOMEM."""
        _demand_numbers("ftruncate", size)
        self._check("ftruncate", 0 <= size <= LONGEST, errno.EINVAL)
        file = self._regular("ftruncate", fd)
        self._check("ftruncate", file.writable, errno.EINVAL)
        self._check("ftruncate", size <= max_bytes(self.kernel, on_disk=file.mapping.on_disk), errno.EFBIG)
        self._file_call("ftruncate", vmtruncate, file.mapping, size)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """fallocate(2), with FALLOC_FL_ bits, of a file that lives in memory.

        Raises SyscallError: ENOSYS (before 2.6.23), EBADF, EINVAL, EOPNOTSUPP, ENODEV, EFBIG, EPERM, ENOSPC, ENOMEM; NotModelled: of a file on a disk.
        """
        _demand_numbers("fallocate", mode, offset, length)
        self._check("fallocate", self.kernel.rules.fallocate_known, errno.ENOSYS)
        file = self.opened("fallocate", fd)
        self._file_call("fallocate", vfs_fallocate, file, mode, offset, length)

    def fsync(self, fd: int) -> None:
        """fsync(2). Raises SyscallError: EBADF, EINVAL, EIO."""
        self._file_call("fsync", write_out, self._regular("fsync", fd).mapping, 0, LAST)

    def _regular(self, call: str, fd: int) -> File:
        """An open file that is no device's: what else is refused (do_sys_ftruncate: S_ISREG; do_fsync: no ->fsync). Raises SyscallError: EBADF, EINVAL."""
        file = self.opened(call, fd)
        self._check(call, not is_dev_zero(self.kernel, file), errno.EINVAL)
        return file

    def _check_end(self, call: str, end: int) -> None:
        self._check(call, end <= LONGEST or not self.kernel.rules.rw_end_may_not_wrap, errno.EINVAL)

    def _check_fd(self, call: str, fd: int | None) -> None:
        """Whether there can be one descriptor more, or this one. Raises SyscallError: EBADF, EMFILE."""
        self._check(call, fd is None or 0 <= fd < MOST_FDS, errno.EBADF)
        self._check(call, fd is not None or self.files.lowest() < MOST_FDS, errno.EMFILE)

    def _check(self, call: str, holds: bool, code: int) -> None:
        self._mm()
        if not holds:
            raise SyscallError(code, call)

    def _file_call(self, name: str, call: Callable[..., R], *arguments: AddressSpace | File | int | bytes) -> R:
        try:
            return call(self.kernel, *arguments)
        except Oops:
            oops(self.kernel, self)
            raise
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, name) from None
        except NoSpace as failure:
            raise SyscallError(errno.ENOSPC, name, str(failure)) from None
        except DiskError:
            raise SyscallError(errno.EIO, name) from None
        finally:
            self.kernel.machine.end_call()


def _demand_numbers(call: str, *numbers: object) -> None:
    """Raises UsageError where one is none: a file must not get half a byte."""
    if not all(isinstance(number, int) for number in numbers):
        raise UsageError(f"{call}: offsets, lengths and sizes are whole numbers")
