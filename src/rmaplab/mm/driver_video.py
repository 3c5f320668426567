"""Two drivers of a TV card, as there were in 2004. A task maps the card's buffers, and the card writes its pictures there.

    Videobuf    bttv and saa7134 in 2.6     memory comes at the first touch (nopage): a page that nobody else refers to. To capture, the
                                            driver asks for the task's pages (get_user_pages), and refers to them until the capture ends
    Rvmalloc    video drivers since 2.2     memory is there before (vmalloc), each page PG_reserved; mmap maps all of it (remap_page_range)

Source: 2.6.2 drivers/media/video/video-buf.c, videobuf_mmap_mapper, videobuf_vm_nopage, videobuf_vm_open, videobuf_vm_close, videobuf_iolock,
videobuf_dma_init_user; rvmalloc and rvfree of 2.4's and 2.6's video drivers (from memory); files.md C6.
"""

import errno

import numpy as np

from rmaplab.errors import SyscallError
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.mm.driver import get_user_pages, register_chrdev, remap_page_range
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.flags import VM_DONTEXPAND, VM_IO, VM_RESERVED, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import VmArea

_NOTHING: I64 = np.empty(0, np.int64)


class Videobuf:
    """A queue of buffers of `nr_pages` pages together. `file` is /dev/video0. `reserved`: whether its VMAs get VM_RESERVED; else as the kernel's own does.

    It is its VMAs' vm_ops too.
    """

    def __init__(self, k: Kernel, nr_pages: int, *, reserved: bool | None = None) -> None:
        self._k, self.nr_pages = k, nr_pages
        self.reserved = k.rules.videobuf_is_reserved if reserved is None else reserved
        self.nr_vmas = 0
        """map->count: VMAs that show the buffers."""
        self.dma: I64 = _NOTHING
        """The pages that the card writes to."""
        self.file = register_chrdev(k, self)

    def mmap(self, vma: VmArea) -> None:
        """videobuf_mmap_mapper: all buffers, shared and writable, by one mapping. Raises SyscallError: EINVAL, EBUSY."""
        if not vma.flags & VM_WRITE or not vma.flags & VM_SHARED or (vma.pgoff, vma.nr_pages) != (0, self.nr_pages):
            raise SyscallError(errno.EINVAL, "mmap", "buffers are mapped whole, shared and writable")
        if self.nr_vmas:
            raise SyscallError(errno.EBUSY, "mmap", "the buffers are mapped already")
        self.nr_vmas = 1
        vma.ops = self
        vma.flags = (vma.flags | VM_DONTEXPAND | (VM_RESERVED if self.reserved else 0)) & ~VM_IO

    def open(self, vma: VmArea) -> None:
        """videobuf_vm_open."""
        del vma
        self.nr_vmas += 1

    def close(self, vma: VmArea) -> None:
        """videobuf_vm_close: with the last one the capture ends."""
        del vma
        self.nr_vmas -= 1
        if not self.nr_vmas:
            self.stop()

    def nopage(self, vma: VmArea, address: int) -> int:
        """videobuf_vm_nopage: a zeroed page of low memory. It compares with vm_end, so that a whole page too many is let through."""
        if address > vma.end:
            return -1
        return int(self._k.machine.allocator.alloc(1, Gfp.KERNEL, zeroed=True)[0])

    def start(self, vma: VmArea) -> None:
        """videobuf_dma_init_user: the card may write to what `vma` maps, all of it touched before."""
        self.dma = get_user_pages(self._k, vma.mm, vma.start, vma.end)

    def capture(self, picture: bytes) -> None:
        """A picture: the card writes `picture` to the beginning of each page."""
        frames = self._k.machine.frames
        self._k.machine.ram.bytes[self.dma, : len(picture)] = np.frombuffer(picture, np.uint8)
        frames.scribbled[self.dma] = 1

    def stop(self) -> None:
        """buf_release, videobuf_dma_free: the card writes no more, and refers to nothing."""
        dma, self.dma = self.dma, _NOTHING
        for page in dma.tolist():
            put_page(self._k, page)

    def references(self) -> I64:
        """DMA's. Those of the entries are not its."""
        return self.dma


class Rvmalloc:
    """Buffers of `nr_pages` pages that are there from the beginning. `reserved`: whether its VMAs get VM_RESERVED."""

    def __init__(self, k: Kernel, nr_pages: int, *, reserved: bool = True, marks_pages: bool = True) -> None:
        self._k, self.reserved = k, reserved
        self.pages = k.machine.allocator.alloc(nr_pages, Gfp.KERNEL, zeroed=True)
        if marks_pages:
            k.machine.frames.flags[self.pages] |= np.uint32(PG_RESERVED)
        self.file = register_chrdev(k, self)

    def mmap(self, vma: VmArea) -> None:
        """All of it, shared. Raises SyscallError: EINVAL; as an allocation."""
        if not vma.flags & VM_SHARED or (vma.pgoff, vma.nr_pages) != (0, self.pages.size):
            raise SyscallError(errno.EINVAL, "mmap", "buffers are mapped whole and shared")
        vma.flags |= VM_DONTEXPAND | (VM_RESERVED if self.reserved else 0)
        remap_page_range(self._k, vma, self.pages)

    def capture(self, picture: bytes) -> None:
        """A picture, as Videobuf.capture()."""
        self._k.machine.ram.bytes[self.pages, : len(picture)] = np.frombuffer(picture, np.uint8)
        self._k.machine.frames.scribbled[self.pages] = 1

    def free(self) -> None:
        """rvfree, when nobody maps it any more."""
        pages, self.pages = self.pages, _NOTHING
        self._k.machine.frames.flags[pages] &= ~np.uint32(PG_RESERVED)
        for page in pages.tolist():
            put_page(self._k, page)

    def references(self) -> I64:
        """Its own."""
        return self.pages
