"""The mmlist: all address spaces, in the order in which swapoff goes round them.

    init_mm --> m3 --> m1 --> m2 --> m4 --> init_mm      m1 has forked m4 and then m2; m3 is a program that was started later

A child comes right behind its parent, so that a family is together; what execve makes comes behind init_mm.

Source: kernel/fork.c, dup_mmap, mmput; fs/exec.c, exec_mmap of 2.6.2.
"""

from collections.abc import Iterator

INIT_MM = 0


class MmList:
    """By addresses of mm_structs; INIT_MM is always there, and not among those that iteration gives."""

    def __init__(self) -> None:
        self._next, self._prev = {INIT_MM: INIT_MM}, {INIT_MM: INIT_MM}

    def add(self, address: int, behind: int = INIT_MM) -> None:
        """O(1)."""
        after = self._next[behind]
        self._next[behind] = self._prev[after] = address
        self._next[address], self._prev[address] = after, behind

    def remove(self, address: int) -> None:
        """O(1)."""
        before, after = self._prev.pop(address), self._next.pop(address)
        self._next[before], self._prev[after] = after, before

    def __iter__(self) -> Iterator[int]:
        address = self._next[INIT_MM]
        while address != INIT_MM:
            yield address
            address = self._next[address]

    def __contains__(self, address: int) -> bool:
        return address in self._next

    def __len__(self) -> int:
        return len(self._next) - 1
