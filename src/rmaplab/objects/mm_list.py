"""The mmlist: all address spaces in a ring, and the place where 2.4's swap_out has come to.

    init_mm --> exec'd last --> ... --> parent --> its youngest child --> its older child --> ... --> init_mm
                                          ^
                                          swap_mm

A fork's child comes directly behind its parent, what execve makes behind init_mm (believed of execve). So what belongs to one family is near each other.
init_mm, the kernel's own, is None here: it has no pages, and is the end of the list. Who leaves the list while swap_mm stands on him moves it on.

Source: 2.4.27 kernel/fork.c, dup_mmap, mmput; fs/exec.c, exec_mmap; mm/vmscan.c, swap_mm; reclaim.md C.4.
"""

from collections.abc import Iterator

from rmaplab.objects.mm_types import MmStruct


class MmList:
    """One for a kernel, under mmlist_lock. All O(1)."""

    def __init__(self) -> None:
        self.first: MmStruct | None = None
        self.swap_mm: MmStruct | None = None
        self.nr = 0
        """mmlist_nr: all but init_mm."""

    def add(self, mm: MmStruct, behind: MmStruct | None = None) -> None:
        """One more, behind its parent, or behind init_mm."""
        after = self.next(behind)
        self._link(behind, mm)
        self._link(mm, after)
        self.nr += 1

    def remove(self, mm: MmStruct) -> None:
        """One less."""
        if self.swap_mm is mm:
            self.swap_mm = mm.mmlist_next
        self._link(mm.mmlist_prev, mm.mmlist_next)
        mm.mmlist_next = mm.mmlist_prev = None
        self.nr -= 1

    def next(self, mm: MmStruct | None) -> MmStruct | None:
        """Who comes behind `mm`; behind init_mm the first."""
        return self.first if mm is None else mm.mmlist_next

    def __iter__(self) -> Iterator[MmStruct]:
        """All but init_mm."""
        mm = self.first
        while mm is not None:
            yield mm
            mm = mm.mmlist_next

    def _link(self, mm: MmStruct | None, after: MmStruct | None) -> None:
        if mm is None:
            self.first = after
        else:
            mm.mmlist_next = after
        if after is not None:
            after.mmlist_prev = mm
