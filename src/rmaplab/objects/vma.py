"""vm_area_struct: one stretch of an address space whose pages are treated alike.

    address space   0 ........ start =============== end ........ TASK_SIZE
    object          . . . . .  pgoff   pgoff + 1 ...               (in pages)

`pgoff` says which page of the object behind the VMA its first page is. For anonymous memory there is no object, and a
kernel either ignores it (2.6.2) or sets it to start / 4096 when the VMA is made, so that a page's index outlives a move
of the VMA (anon_vma).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmaplab.objects.flags import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from rmaplab.units import PAGE_SHIFT

if TYPE_CHECKING:
    from rmaplab.objects.mm import MmStruct


class VmArea:
    """[start, end) of `mm`. `address` is where its bytes lie in the slab; `anon_vma` belongs to the reverse-mapping design."""

    __slots__ = ("address", "anon_vma", "end", "flags", "mm", "pgoff", "start")

    def __init__(self, mm: MmStruct, start: int, end: int, flags: int, pgoff: int, address: int = 0) -> None:
        self.mm = mm
        self.start = start
        self.end = end
        self.flags = flags
        self.pgoff = pgoff
        self.address = address
        self.anon_vma: object = None

    @property
    def nr_pages(self) -> int:
        """Length in pages."""
        return (self.end - self.start) >> PAGE_SHIFT

    def address_of(self, index: int) -> int:
        """The virtual address of the object's page `index`; outside [start, end) if this VMA does not cover it."""
        return self.start + ((index - self.pgoff) << PAGE_SHIFT)

    def __repr__(self) -> str:
        """As a line of /proc/PID/maps."""
        rwx = "".join(
            letter if self.flags & bit else "-" for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
        )
        return f"{self.start:08x}-{self.end:08x} {rwx}{'s' if self.flags & VM_SHARED else 'p'} {self.pgoff << PAGE_SHIFT:08x}"
