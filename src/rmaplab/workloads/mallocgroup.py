"""mallocgroup: a thousand children with a thousand pages each, as Rik van Riel described them in January 2010.

    parent      [1][2][3] ... [1000]       written, then forked 1000 times
    child 1     [1'][2'] ...               every page written again: a copy of its own
    child 2     [1"][2"] ...
    ...                                    a million pages, each mapped once

With one anon_vma for the whole family (2.6.7 to 2.6.33) a walk from any of them visits a VMA in every process. "1000 processes and
1000 pages" is why anon_vma_chain exists: LKML, 21 January 2010; commit 5beb49305251; AIM7 with ten thousand processes.

Memory is what it takes and nothing more: all processes live until the walks have been made.
"""

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.units import PAGE_SIZE

MOST_CHILDREN = 30_000
MOST_PAGES_IN_ALL = 16 << 20  # 64 GiB


class MallocGroup:
    """`children` processes that each write `pages` pages which they have inherited."""

    name = "mallocgroup"

    def __init__(self, children: int, pages: int) -> None:
        if not (1 <= children <= MOST_CHILDREN and pages >= 1 and (children + 1) * pages <= MOST_PAGES_IN_ALL):
            raise UsageError(
                f"{children:,} children with {pages:,} pages: choose 1 to {MOST_CHILDREN:,} children and at most "
                f"{MOST_PAGES_IN_ALL:,} pages in all, such as --children 1000 --pages 1000"
            )
        self.children, self.pages = children, pages

    def ram_bytes(self, spare_bytes: int) -> int:
        """What a box needs for it: pages, page tables, stacks and struct pages, beside `spare_bytes` for the kernel."""
        pages = (self.children + 1) * self.pages * PAGE_SIZE
        return pages * 17 // 16 + (self.children + 1) * 96 * 1024 + spare_bytes

    def run(self, system: System) -> tuple[Task, list[Task]]:
        """The parent and its children, all alive, every page written by all. Raises SyscallError, NoMemory."""
        parent = system.spawn()
        length = self.pages * PAGE_SIZE
        memory = parent.mmap(length)
        parent.touch(memory, length, write=True)
        children = []
        for _ in range(self.children):
            child = parent.fork()
            child.touch(memory, length, write=True)
            children.append(child)
        return parent, children
