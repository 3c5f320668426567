"""What a task can ask of files. An open file is a File, which stands for its descriptor: dup and fork share it, another open does not.

Bytes that are read and written here are the caller's own, not in the task's memory. Mapping a file is mmap (calls/memory.py).
"""

import errno
from collections.abc import Callable
from typing import TypeVar

from rmaplab.calls.memory import MemoryCalls
from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.file_io import LAST, file_read, file_write, write_out
from rmaplab.mm.truncate import vmtruncate
from rmaplab.objects.mm_types import AddressSpace, File

R = TypeVar("R")


class FileCalls(MemoryCalls):
    """The file calls of a task."""

    def open(self, file: AddressSpace, *, readable: bool = True, writable: bool = False) -> File:
        """open(2) of a file that System.new_file() has made."""
        self._mm()
        return File(file, readable=readable, writable=writable)

    def dup(self, file: File) -> File:
        """dup(2): the same open file."""
        self._mm()
        return file

    def pread(self, file: File, length: int, offset: int) -> bytes:
        """pread(2): less than `length` bytes where the file ends. Raises SyscallError: EBADF, EINVAL, ENOMEM."""
        self._check("pread", file.readable, errno.EBADF)
        self._check("pread", min(length, offset) >= 0, errno.EINVAL)
        return self._file_call("pread", file_read, file.mapping, offset, length)

    def pwrite(self, file: File, data: bytes, offset: int) -> int:
        """pwrite(2): bytes written. Raises SyscallError: EBADF, EINVAL, ENOMEM."""
        self._check("pwrite", file.writable, errno.EBADF)
        self._check("pwrite", offset >= 0, errno.EINVAL)
        return self._file_call("pwrite", file_write, file.mapping, offset, data)

    def read_file(self, file: File, length: int) -> bytes:
        """read(2), from where the last one ended. Raises as pread()."""
        data = self.pread(file, length, file.position)
        file.position += len(data)
        return data

    def write_file(self, file: File, data: bytes) -> int:
        """write(2), from where the last one ended. Raises as pwrite()."""
        written = self.pwrite(file, data, file.position)
        file.position += written
        return written

    def ftruncate(self, file: File, size: int) -> None:
        """ftruncate(2): the file is `size` bytes long. Raises SyscallError(EINVAL)."""
        self._check("ftruncate", file.writable and size >= 0, errno.EINVAL)
        self._file_call("ftruncate", vmtruncate, file.mapping, size)

    def fsync(self, file: File) -> None:
        """fsync(2)."""
        self._mm()
        self._file_call("fsync", write_out, file.mapping, 0, LAST)

    def _check(self, call: str, holds: bool, code: int) -> None:
        self._mm()
        if not holds:
            raise SyscallError(code, call)

    def _file_call(self, name: str, call: Callable[..., R], *arguments: AddressSpace | int | bytes) -> R:
        try:
            return call(self.kernel, *arguments)
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, name) from None
        finally:
            self.kernel.machine.end_call()
