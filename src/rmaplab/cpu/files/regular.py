"""Regular files: their bytes are in the page cache of the simulated kernel, so that read, write and mappings show the same.

    RegularInode ---> AddressSpace      made when it is first opened: reads what the host has, keeps what is written (host_root.py, DiskFile)
         ^
         +--- OpenRegular ---> File      the struct file of mm/, which mappings of it share

One writer at a time has the file (i_mutex), so that O_APPEND appends.

Source: fs/read_write.c; mm/filemap.c, generic_write_checks; fs/ext4/file.c, SEEK_HOLE of a file without holes, 6.18.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.host_root import DiskFile, HostRoot, Parts
from rmaplab.cpu.files.inode import BLOCK, ROOT, Inode, Mount, Who
from rmaplab.cpu.files.open_file import (
    O_APPEND,
    O_PATH,
    POLLIN,
    POLLOUT,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
    OpenFile,
    sought,
)
from rmaplab.cpu.waiting import Sleeper, WaitQueue
from rmaplab.errors import SyscallError
from rmaplab.mm.fallocate import vfs_fallocate
from rmaplab.mm.file_io import LAST, file_read, file_write, max_bytes, write_out
from rmaplab.mm.open_file import fput, get_file, iput, open_file
from rmaplab.mm.truncate import remove_pages, vmtruncate
from rmaplab.objects.flags import FALLOC_FL_KEEP_SIZE
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.units import PAGE_SIZE

PRIVILEGES = 0o6000
"""S_ISUID and S_ISGID: a write takes them away."""


class RegularInode(Inode):
    """One regular file. `host` and `parts` say where the host has it; None: programs have made it."""

    kind = stat.S_IFREG

    def __init__(self, fs: FileSystem, mount: Mount, ino: int, mode: int, owner: Who = ROOT) -> None:
        super().__init__(mount, ino, mode, fs.now_ns, owner)
        self.fs = fs
        self.mapping: AddressSpace | None = None
        self.opens = 0
        self.place: tuple[Inode, bytes] | None = None
        """The name that it was opened by last."""
        self._host: HostRoot | None = None
        self._parts: Parts = ()
        self._identity = 0, 0
        self._host_size = self._host_blocks = 0
        self._writer: Sleeper | None = None
        self._writers = WaitQueue()

    def shows(self, host: HostRoot, parts: Parts, found: os.stat_result) -> None:
        """It is this one of the host's."""
        self.is_like(found)
        self._host, self._parts, self._identity = host, parts, (found.st_dev, found.st_ino)
        self._host_size, self._host_blocks = found.st_size, found.st_blocks

    @property
    def size(self) -> int:
        """Bytes."""
        return self._host_size if self.mapping is None else self.mapping.size

    @property
    def blocks(self) -> int:
        """Of 512 bytes: those of the host, as long as nobody has written."""
        mapping = self.mapping
        if mapping is None or (self._host is not None and not self.changed):
            return self._host_blocks
        if mapping.on_disk:
            return mapping.nr_pages * (PAGE_SIZE // BLOCK)
        return mapping.nr_blocks * (PAGE_SIZE // BLOCK)

    @property
    def disk(self) -> DiskFile | None:
        """What the disk has of it, if it is on one and somebody has opened it."""
        store = None if self.mapping is None else self.mapping.store
        return store if isinstance(store, DiskFile) else None

    def space(self) -> AddressSpace:
        """Its inode in the simulated kernel. Raises SyscallError: ENOMEM; EACCES and the like: the host does not let us read it."""
        if self.mapping is not None:
            return self.mapping
        if self._host is not None:
            self._host.may_read(self._parts, self._identity)
        with self.fs.errnos("open"):
            kernel = self.fs.kernel
            if self.mount.on_disk:
                mapping = kernel.page_cache.new_file(size=self._host_size)
                nr_pages = -(-self._host_size // PAGE_SIZE)
                mapping.store = DiskFile(self.fs.space, self._host, self._parts, nr_pages, self._identity)
            else:
                mapping = kernel.new_file(on_disk=False)
        self.mapping = mapping
        self.fs.by_mapping[mapping.address] = self
        return mapping

    def truncate(self, size: int) -> None:
        """truncate(2). Raises SyscallError: EFBIG, ENOMEM, EPERM."""
        mapping, kernel = self.space(), self.fs.kernel
        if size > max_bytes(kernel, on_disk=mapping.on_disk):
            raise SyscallError(errno.EFBIG, "truncate")
        with self.fs.errnos("truncate"):
            vmtruncate(kernel, mapping, size)
        if (disk := self.disk) is not None:
            disk.forget(mapping.nr_pages)
        self.modified(self.fs.now_ns)

    @contextmanager
    def writing(self, thread: Sleeper) -> Iterator[None]:
        """Nobody else writes meanwhile. May sleep. Raises Interrupted."""
        while self._writer is not None:
            thread.sleep(self._writers)
        self._writer = thread
        try:
            yield
        finally:
            self._writer = None
            self._writers.wake(1)

    def unlinked(self) -> None:
        """A name less."""
        super().unlinked()
        self.goes_if_unused()

    def goes_if_unused(self) -> None:
        """Without a name and without anybody who has it open or mapped, its bytes are no more. May wait for the disk.

        What is on a disk goes here, once the disk has none of its pages any more; what lives in memory goes with its last open file, in mm/.
        """
        mapping, kernel = self.mapping, self.fs.kernel
        if self.nlink or mapping is None:
            return
        if not mapping.on_disk:
            mapping.named = False
        if self.opens or mapping.opens:
            self.fs.nameless[self] = None  # who maps it last does not tell
            return
        self.fs.nameless.pop(self, None)
        self.fs.by_mapping.pop(mapping.address, None)
        disk, self.mapping = self.disk, None
        if mapping.on_disk:
            remove_pages(kernel, mapping, 0, LAST)
            mapping.named = False
        if kernel.page_cache.files.get(mapping.address) is mapping:
            iput(kernel, mapping)
        if disk is not None:
            disk.close()


class OpenRegular(OpenFile):
    """An open regular file."""

    in_pieces = True

    def __init__(self, inode: RegularInode, flags: int, file: File | None = None) -> None:
        super().__init__(flags, inode)
        self._node = inode
        self.position = 0
        self._file = file
        if file is None and not flags & O_PATH:
            mapping = inode.space()
            self._file = get_file(open_file(inode.fs.kernel, mapping, readable=self.readable, writable=self.writable))
        inode.opens += 1

    @property
    def node(self) -> RegularInode:
        """Its inode."""
        return self._node

    def mappable(self) -> File:
        """What mmap(2) maps."""
        if self._file is None:
            raise SyscallError(errno.EBADF, "mmap")
        return self._file

    def read(self, thread: Sleeper, length: int) -> bytes:
        """From its position on."""
        data = self.pread(thread, length, self.position)
        self.position += len(data)
        return data

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """Less where it ends."""
        fs = self._node.fs
        if length <= 0 or offset >= self._node.size:
            return b""
        with fs.errnos("read"):
            return file_read(fs.kernel, self.mappable(), offset, length)

    def write(self, thread: Sleeper, data: bytes) -> int:
        """At its position, or with O_APPEND at the end."""
        if not data:
            return 0
        with self._node.writing(thread):
            offset = self._node.size if self.flags & O_APPEND else self.position
            done = self._write(data, offset)
            self.position = offset + done
        return done

    def pwrite(self, thread: Sleeper, data: bytes, offset: int) -> int:
        """With O_APPEND at the end all the same, as on Linux."""
        with self._node.writing(thread):
            return self._write(data, self._node.size if self.flags & O_APPEND else offset)

    def _write(self, data: bytes, offset: int) -> int:
        node, fs = self._node, self._node.fs
        mapping = node.space()
        most = max_bytes(fs.kernel, on_disk=mapping.on_disk)
        if not data:
            return 0
        if offset >= most:
            raise SyscallError(errno.EFBIG, "write")
        data = data[: most - offset]
        with fs.errnos("write"):
            if (disk := node.disk) is not None:
                disk.promise(offset // PAGE_SIZE, (offset + len(data) - 1) // PAGE_SIZE)
            done = file_write(fs.kernel, mapping, offset, data)
        node.mode &= ~PRIVILEGES
        node.modified(fs.now_ns)
        return done

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2)."""
        size = self._node.size
        if whence in (SEEK_DATA, SEEK_HOLE):
            if not 0 <= offset < size:
                raise SyscallError(errno.ENXIO, "lseek")
            self.position = offset if whence == SEEK_DATA else size
        else:
            self.position = sought(offset, whence, {SEEK_SET: 0, SEEK_CUR: self.position, SEEK_END: size})
        return self.position

    def truncate(self, thread: Sleeper, size: int) -> None:
        """ftruncate(2)."""
        if not self.writable:
            raise SyscallError(errno.EINVAL, "ftruncate")
        with self._node.writing(thread):
            self._node.truncate(size)

    def allocate(self, thread: Sleeper, mode: int, offset: int, length: int) -> None:
        """fallocate(2). Raises SyscallError; of a file on a disk EOPNOTSUPP, but for modes 0 and KEEP_SIZE."""
        node, fs = self._node, self._node.fs
        with node.writing(thread), fs.errnos("fallocate"):
            disk = node.disk
            if disk is None:
                vfs_fallocate(fs.kernel, self.mappable(), mode, offset, length)
            elif mode & ~FALLOC_FL_KEEP_SIZE:
                raise SyscallError(errno.EOPNOTSUPP, "fallocate")
            elif not length or offset + length > max_bytes(fs.kernel, on_disk=True):
                raise SyscallError(errno.EFBIG if length else errno.EINVAL, "fallocate")
            else:
                disk.promise(offset // PAGE_SIZE, (offset + length - 1) // PAGE_SIZE)
                if not mode and offset + length > node.size:
                    node.truncate(offset + length)
            node.modified(fs.now_ns)

    def sync(self, thread: Sleeper) -> None:
        """fsync(2)."""
        if (mapping := self._node.mapping) is not None:
            with self._node.fs.errnos("fsync"):
                write_out(self._node.fs.kernel, mapping, 0, LAST)

    def available(self) -> int:
        """Bytes behind its position."""
        return max(self._node.size - self.position, 0)

    def poll(self) -> int:
        """Always ready."""
        return POLLIN | POLLOUT

    def close(self) -> None:
        """Its struct file goes, unless somebody maps it."""
        node, file = self._node, self._file
        node.opens -= 1
        if file is not None:
            self._file = None
            fput(node.fs.kernel, file)
        node.fs.sweep()
        node.goes_if_unused()
