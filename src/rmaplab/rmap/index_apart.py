"""A file's index of VMAs with its nonlinear ones on a list beside it: 2.6.7's i_mmap_nonlinear, in front of whatever index the file has.

    i_mmap             VMAs by the pages that they show          search by pages
    i_mmap_nonlinear   A B C, in order of coming                 what a nonlinear one shows, its page tables say alone

Once there a VMA never comes back (VM_NONLINEAR is never cleared); a fork's child goes right behind its parent.

Source: 2.6.7 include/linux/fs.h, struct address_space; mm/fremap.c, sys_remap_file_pages; mm/prio_tree.c, vma_prio_tree_add; files.md A7.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

from rmaplab.objects.flags import VM_NONLINEAR
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.file_index import FileIndex


class NonlinearApart:
    """A VmaIndex: `index`, and the list `apart`."""

    def __init__(self, index: FileIndex) -> None:
        self.index = index
        self._apart: list[VmArea] = []

    @classmethod
    def beside(cls, make: Callable[[], FileIndex]) -> Self:
        """One beside a new index."""
        return cls(make())

    @property
    def name(self) -> str:
        """That of the index."""
        return self.index.name

    @property
    def looked_at(self) -> int:
        """By its last search."""
        return self.index.looked_at

    @property
    def apart(self) -> Sequence[VmArea]:
        """The list."""
        return self._apart

    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """As the index does; O(VMAs that are nonlinear) for one that is."""
        if not vma.flags & VM_NONLINEAR:
            self.index.link(vma, parent)
        elif parent is None:
            self._apart.append(vma)
        else:
            self._apart.insert(self._apart.index(parent) + 1, vma)

    def unlink(self, vma: VmArea) -> None:
        """Likewise."""
        if vma.flags & VM_NONLINEAR:
            self._apart.remove(vma)
        else:
            self.index.unlink(vma)

    def pre_update(self, vma: VmArea) -> None:
        """On the list it stays where it is."""
        if not vma.flags & VM_NONLINEAR:
            self.index.pre_update(vma)

    def post_update(self, vma: VmArea) -> None:
        """Likewise."""
        if not vma.flags & VM_NONLINEAR:
            self.index.post_update(vma)

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Of the index alone."""
        return self.index.candidates(first, last)

    def __iter__(self) -> Iterator[VmArea]:
        yield from self.index
        yield from self._apart

    def check(self) -> str | None:
        """The index, and that all on the list are nonlinear and no others."""
        wrong = [vma for vma in self._apart if not vma.flags & VM_NONLINEAR]
        wrong += [vma for vma in self.index if vma.flags & VM_NONLINEAR]
        return f"{wrong[0]} is on the wrong list" if wrong else self.index.check()
